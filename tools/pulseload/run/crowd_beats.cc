// What an open client does: pings and messages, and which are outstanding; silence; misbehaviour.
#include <algorithm>
#include <cstring>
#include <string>

#include "tools/pulseload/run/crowd.h"

namespace pulse::load {
namespace {

constexpr uint32_t kMessagesPerTurn = 512;
constexpr Nanos kDripInterval = kSecond;  // of a slowloris
constexpr size_t kGarbageBytes = 64;
constexpr size_t kDemandBytes = 16'384;  // that a slow reader asks for with each beat
// A mebibyte a beat: kernels take a few (tcp_wmem) before a server has to queue.
constexpr uint32_t kDemandsPerBeat = 64;

}  // namespace

// At its instant each message goes to the next talker that is open, in turn.
void Crowd::start_messages() {
    if (!options_.message_rate || draining()) return;
    if (messages_began_ == kNever) {
        const Nanos hold = conductor_.hold_began.load(std::memory_order_relaxed);
        if (hold == kNever) return;
        messages_began_ = hold;
    }
    const Nanos now = io_.clock();
    const bool all_talk = behaviours_.of[static_cast<size_t>(Behaviour::chatty)] == 0;
    for (uint32_t budget = kMessagesPerTurn; budget > 0; --budget) {
        const Nanos intended_at = messages_began_ + messages_.next();
        if (intended_at > now) return;
        messages_.advance();
        ++messages_begun_;
        Index talker = kNoIndex;
        for (uint32_t looked = 0; looked < started_ && talker == kNoIndex; ++looked) {
            const Index index = next_talker_++ % started_;
            const Client& client = clients_[index];
            const bool talks = client.behaviour == Behaviour::chatty ||
                               (all_talk && client.behaviour == Behaviour::beat);
            if (client.stage == Stage::open && talks && answers(client)) talker = index;
        }
        if (talker == kNoIndex) {
            bump(counts_.messages_skipped);
            continue;
        }
        const Nanos began = io_.clock();
        record_lateness(intended_at, began);
        if (!speech(talker).data({intended_at, began}, options_.message_bytes)) {
            bump(counts_.messages_skipped);
            continue;
        }
        bump(counts_.messages);
        awaited_messages_.add({intended_at, began, talker, clients_[talker].life},
                              [&](const auto& oldest) { finish_message(oldest); });
        flush(talker);
    }
}

// Only what is outstanding is timed: the instant is the peer's word.
void Crowd::echo(Index index, Nanos intended_at) {
    const OutstandingMessages::Message* message = awaited_messages_.answer(index, intended_at);
    if (message == nullptr) return;
    bump(counts_.messages_returned);
    record(Timed::message, io_.now() - message->intended_at);
    record(Timed::message_service, io_.now() - message->began);
}

// -------------------------------------------------------------------------------------- being open

// Pings that were due intervals ago go out as one, and each is timed from its own instant.
void Crowd::beat(Index index, Tick reached) {
    Client& client = clients_[index];
    const Tick first = client.beat;
    const uint32_t interval = clock_.ticks(options_.heartbeat_interval);
    uint32_t due = 0;
    for (; client.beat <= reached; client.beat += interval) ++due;
    if (client.stage == Stage::open && beats(client)) ping(index, first, due);
}

void Crowd::ping(Index index, Tick first, uint32_t due) {
    Client& client = clients_[index];
    const Nanos now = io_.clock();
    const uint32_t interval = clock_.ticks(options_.heartbeat_interval);
    const uint32_t sequence = ++client.sequence;
    record_lateness(clock_.begins(first), now);
    now_recording().skipped += due - 1;
    // A slow reader would not see the pong, and what falls due behind the hold is not timed.
    const bool timed = client.behaviour != Behaviour::slow_reader && !draining();
    const bool one_way = is_one_way(client, sequence);
    if (timed && one_way) bump(counts_.one_way);
    if (timed && !one_way) {
        bump(counts_.pings, due);
        bump(counts_.pings_skipped, due - 1);
        for (uint32_t i = 0; i < due; ++i) {
            const Nanos intended_at = clock_.begins(first + Tick{i} * interval);
            if (!pings_.add(client.pings, {intended_at, now, sequence})) ++now_recording().untimed;
        }
    }
    if (one_way) {
        speech(index).one_way(sequence);
    } else {
        speech(index).ping(sequence);
    }
    if (client.behaviour == Behaviour::slow_reader) {
        for (uint32_t i = 0; i < kDemandsPerBeat; ++i) {
            if (!speech(index).data({now, now}, kDemandBytes)) break;
        }
    }
    flush(index);
}

void Crowd::pong(Index index, uint32_t sequence) {
    Client& client = clients_[index];
    if (client.stage == Stage::greeting) {
        if (client.awaited == 0 || sequence != client.awaited) return;
        client.awaited = 0;
        return open(index);
    }
    if (static_cast<int32_t>(client.sequence - sequence) < 0) return;  // it was never sent
    if (is_one_way(client, sequence)) {
        return broke_the_protocol(index, "it answered a heartbeat that --answer-every " +
                                             std::to_string(options_.answer_every) +
                                             " leaves without an answer");
    }
    const Nanos now = io_.now();
    const auto take = [&](const Due& due) {
        bump(counts_.pongs);
        record(Timed::heartbeat, now - due.intended_at);
        record(Timed::heartbeat_service, now - due.began);
        if (due.began > client.silent_since) client.silent_since = 0;
    };
    if (asks_answer_every(client)) {
        pings_.answer_only(client.pings, sequence, take);
    } else {
        pings_.answer(client.pings, sequence, take);
    }
}

void Crowd::forget_pings(Index index, std::atomic<uint64_t>& unanswered) {
    pings_.clear(clients_[index].pings, [&](const Due&) { bump(unanswered); });
}

// The server judges by the silence before these bytes, until it has answered one of them.
void Crowd::note_speech(Index index) {
    Client& client = clients_[index];
    const Nanos now = io_.clock();
    const Nanos timeout = conductor_.timeout.load(std::memory_order_relaxed);
    const bool overdue = timeout > 0 && client.last_sent > 0 && now - client.last_sent >= timeout;
    if (overdue && client.silent_since == 0) client.silent_since = client.last_sent;
    client.last_sent = now;
}

void Crowd::flush(Index index) {
    Connection& connection = table_[index];
    if (connection.stage == pulse::Stage::closed || outboxes_.in_flight(connection)) return;
    if (tls_.has(index)) return flush_records(index);
    if (!outboxes_.queued(connection)) return;
    const std::span<const uint8_t> bytes = outboxes_.begin_flight(connection);
    bump(counts_.bytes_sent, bytes.size());
    note_speech(index);
    if (io_.send(index, bytes)) outboxes_.end_flight(connection);
}

void Crowd::on_sent(Index index, IoError error) {
    outboxes_.end_flight(table_[index]);
    if (error != 0) return ended_by_server(index, error);
    flush(index);
}

void Crowd::silence(Index index, Behaviour as) {
    Client& client = clients_[index];
    client.flags |= kSilenced;
    client.behaviour = as;
    client.beat = client.other = kNoTick;
    ++detection_.rows[static_cast<size_t>(as)].silenced;
    if (as != Behaviour::vanish) return;
    forget_pings(index, counts_.pings_abandoned);
    io_.stop_reading(index);
}

// A byte more of a greeting that never ends, or a mouthful of nothing; not before the last went.
void Crowd::misbehave(Index index) {
    Client& client = clients_[index];
    uint8_t bytes[kGarbageBytes];
    size_t count = 1;
    if (client.behaviour == Behaviour::slowloris) {
        constexpr std::string_view kGreeting = "GET / HTTP/1.1\r\nX: ";
        const uint8_t frame[] = {binary::kMagic, 5, 0xFF, 0xFF, 0, 0, 0, 0};
        const size_t at = client.sequence++;
        bytes[0] = 'x';
        if (client.wire == Wire::tcp && at < sizeof frame) bytes[0] = frame[at];
        if (client.wire == Wire::jsonl && at == 0) bytes[0] = '{';
        if (client.wire <= Wire::ws_json && at < kGreeting.size()) {
            bytes[0] = static_cast<uint8_t>(kGreeting[at]);
        }
        after(index, kDripInterval);
    } else {
        if (client.sequence++ > 0) return;
        count = kGarbageBytes;
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random_.next());
    }
    if (uint8_t* to = Out{*this, index}.claim(count)) std::memcpy(to, bytes, count);
    flush(index);
}

}  // namespace pulse::load
