// How the treatment of each peer is judged: by what had arrived, and what the server was given.
#include <algorithm>
#include <string>
#include <utility>

#include "net/loop/connection_flags.h"
#include "net/loop/connections.h"
#include "net/sim/clients.h"

namespace pulse {
namespace {

constexpr uint32_t kNoLine = UINT32_MAX;
// A deadline is rounded up twice (the proof's tick, the timeout's ticks), and the probe of a first
// interval is cut to a whole one.
constexpr Nanos kTicksOfRounding = 3;
constexpr Nanos kFlowSteps = 64;  // of a timeout, in which a flow is remembered
constexpr Nanos kFlowParts = 8;   // and in each of which enough of it must pass

constexpr std::string_view kBehaviourNames[] = {
#define X(name, text) #name,
    PULSE_SIM_BEHAVIOURS(X)
#undef X
};
constexpr std::string_view kWireNames[] = {"binary", "jsonl", "ws_json", "ws_binary"};

std::string ms(Nanos span) { return std::to_string(span / kMillisecond) + " ms"; }

}  // namespace

// ---------------------------------------------------------------------------- what is witnessed
void SimClients::on_attached(Index index, SimSocket far) {
    const uint32_t id = line_of_slot_[far.slot];
    Line& line = lines_[id];
    line_of_index_[index] = id;
    line.server_holds = line.attached = true;
    line.attached_at = line.heard_at = line.maybe_heard_at = network_.clock();
    line.read_at = line.written_at = network_.clock();
    line.promised_until = line.heard_at + known_timeout(line);
    line.behind_at = line.written_behind_at = io_.behind_total();
}

SimClients::Line* SimClients::line_at(Index index) {
    const uint32_t id = line_of_index_[index];
    return id == kNoLine ? nullptr : &lines_[id];
}

void SimClients::on_delivered(Index index, uint64_t offset) {
    Line* line = line_at(index);
    if (line == nullptr) return;
    line->read_at = network_.clock();
    // The first bytes tell the protocol, and bytes of a message in progress may prove life.
    bool maybe = line->delivered == 0;
    while (!line->marks.empty() && line->marks.front().end <= offset) {
        const Mark mark = line->marks.front();
        line->marks.pop_front();
        // The first message ends the greeting, and the silence begins anew.
        maybe |= mark.answer || mark.profile != 0 || line->whole == 0;
        line->answered |= mark.answer || clients_[line->client].behaviour == Behaviour::ponger;
        line->whole = mark.end;
        if (mark.profile != 0 && mark.profile != line->profile) {
            // By its name the client knows what it asked for; the welcome says it.
            line->profile = mark.profile;
            line->told_timeout = 0;
            line->awaits_welcome = true;
            const Nanos asked = line->heard_at + known_timeout(*line);
            line->promised_until = std::min(line->promised_until, asked);
        }
        if (mark.awaits_pong) {
            ++line->pongs_owed;
            line->pongs_owed_at = network_.clock();
            line->way_free_at = 0;
        }
        if (!counts_as_life(mark)) continue;
        line->heard_at = network_.clock();
        line->promised_until = line->heard_at + known_timeout(*line);
        maybe = true;
    }
    line->piled_up |= offset - line->delivered > kBufferSmallBytes / 2;
    line->filled_a_buffer |= offset - line->delivered == kReceiveBufferBytes;
    line->delivered = offset;
    line->uploaded.add(network_.clock(), offset, facts_.timeout_max[line->profile]);
    if (!maybe && offset == line->whole) return;
    line->maybe_heard_at = network_.clock();
    line->behind_at = io_.behind_total();
}

// What a turn's share did not reach may be a proof of life for as long as it waits.
void SimClients::on_resumed(Index index) {
    Line* line = line_at(index);
    if (line == nullptr) return;
    line->maybe_heard_at = network_.clock();
    line->behind_at = io_.behind_total();
}

// An answer waits behind the send in flight, and for no other.
void SimClients::on_sent(Index index) {
    note_written(index);
    Line* line = line_at(index);
    if (line != nullptr && line->way_free_at == 0) line->way_free_at = network_.clock();
}

void SimClients::on_begin_close(Index index) {
    Line* line = line_at(index);
    if (line == nullptr) return;
    line->closed_for = records_[index].close_reason;
    line->closed_unknown = line->delivered == 0;
    const size_t flight_bytes = io_.flight_bytes(index);
    line->gave_way = flight_bytes > 0 && facts_.pool->written_off_bytes() >= flight_bytes;
    if (line->closed_for == CloseReason::hard_stop && !facts_.stops_hard)
        broken("goodbye_unsaid", *line, "a drain ended before it was its turn");
    if (line->closed_for == CloseReason::going_away) judge_goodbye(*line);
    if (line->closed_for == CloseReason::handshake_timeout) judge_handshake(*line);
    if (line->closed_for == CloseReason::out_of_memory ||
        line->closed_for == CloseReason::slow_reader) {
        judge_memory(*line);
    }
}

void SimClients::judge_goodbye(const Line& line) {
    const Nanos now = network_.clock();
    if (now < facts_.drain_at) broken("drain_rate", line, "a goodbye came within the delay");
    ++goodbyes_begun_;
    if (facts_.goodbyes_per_second == 0 || now >= facts_.paced_until) return;
    const auto rate = 1.1 * static_cast<double>(facts_.goodbyes_per_second);
    const auto elapsed = static_cast<double>(now - facts_.drain_at + kSecond / 20);
    if (static_cast<double>(goodbyes_begun_) > 2 + rate * elapsed / kSecond)
        broken("drain_rate", line, "so many goodbyes came too soon");
}

void SimClients::on_closed(Index index) {
    const uint32_t id = std::exchange(line_of_index_[index], kNoLine);
    if (id == kNoLine) return;
    lines_[id].server_holds = false;
    if (!lines_[id].client_holds) free_lines_.push_back(id);
}

// By what a client takes itself to be judged. One that was told nothing, or has not read all of it,
// may be judged by any that its profile has.
Nanos SimClients::known_timeout(const Line& line) const {
    const bool knows = line.told_timeout != 0 && !line.went_unread;
    return knows ? line.told_timeout : facts_.timeout_min[line.profile];
}

// The client was told. A longer timeout holds for the silence that goes on, a shorter one from now
// on at the soonest, and not for longer than the one before it.
void SimClients::note_told(Line& line, Nanos timeout, bool by_welcome) {
    line.awaits_welcome &= !by_welcome;
    // What comes before the welcome is older than what was asked for.
    if (line.went_unread || line.awaits_welcome) return;
    const bool shorter = timeout < known_timeout(line);
    line.told_timeout = timeout;
    line.told_at = network_.clock();
    line.promised_until = shorter ? std::min(line.promised_until, network_.clock() + timeout)
                                  : std::max(line.promised_until, line.heard_at + timeout);
}

void SimClients::note_judged(Line& line, const Connection& connection) {
    if (is_greeting(connection)) line.greeting_at = network_.clock();
    if (!is_live(connection.stage) || is_greeting(connection)) return;
    const HeartbeatConfig& heartbeat = facts_.config->profiles[connection.profile];
    const Nanos timeout = facts_.tick_ns * heartbeat.timeout_ticks;
    line.answer_span = pulse::answer_time(facts_.tick_ns * heartbeat.interval_ticks);
    line.closes_after =
        line.answer_span + facts_.tick_ns * (heartbeat.interval_ticks + heartbeat.grace_ticks);
    if (std::exchange(line.judged_timeout, timeout) != timeout)
        line.judged_since = network_.clock();
}

// ---------------------------------------------------------------------------------------- verdicts
std::string SimClients::who(const Line& line) const {
    const Client& client = clients_[line.client];
    return std::string(kBehaviourNames[static_cast<size_t>(client.behaviour)]) + " peer " +
           std::to_string(line.client) + " (" +
           std::string(kWireNames[static_cast<size_t>(client.wire)]) + ")";
}

void SimClients::broken(std::string_view rule, const Line& line, std::string_view what) {
    log_.broken(network_.clock(), rule, who(line) + ": " + std::string(what));
}

// After a deadline: rounding, and what the server has been behind since then.
Nanos SimClients::lateness_allowed(Nanos behind_at) const {
    return kTicksOfRounding * facts_.tick_ns + (io_.behind_total() - behind_at);
}

// A retune begins the silence of its profile's peers anew. Bytes that the peer's host accepts
// count as life.
Nanos SimClients::silence_began(Index index, const Line& line) const {
    Nanos began = line.maybe_heard_at;
    began = std::max(began, facts_.stretched_at);
    if (line.profile == kProfileDefault) began = std::max(began, facts_.retuned_at);
    if (io_.is_held_off(index)) return io_.now();
    return std::max(began, line.bulk_taken_at);
}

void SimClients::judge_evictions(const ConnectionTable& table, Nanos judged) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        Line* line = line_at(index);
        if (line == nullptr || line->evicted) continue;
        const Connection& connection = table[index];
        if (connection.stage < Stage::closing ||
            (connection.close_reason != CloseReason::idle_timeout &&
             connection.close_reason != CloseReason::slow_upload)) {
            continue;
        }
        line->evicted = true;
        ++counts_.evictions;
        log_.note(network_.clock(), "evicted", index, line->client);
        judge_one(index, *line, judged);
    }
}

// A server that evicts by `deadline` has been given whatever had reached its kernel before.
void SimClients::judge_unheard(const Line& line, Nanos deadline) {
    if (line.filled_a_buffer) return;  // C8 leaves it out
    const SimSocket server =
        network_.valid(line.socket) ? network_.far_end(line.socket) : SimSocket{};
    const auto life =
        std::ranges::find_if(line.marks, [this](const Mark& mark) { return counts_as_life(mark); });
    if (life == line.marks.end() || !network_.valid(server)) return;
    const Nanos arrival = network_.arrival_of_offset(server, life->end);
    if (arrival >= deadline) return;
    broken("punctual_peer_evicted", line,
           "its heartbeat was in the kernel " + ms(deadline - arrival) + " before the deadline");
}

void SimClients::Flow::add(Nanos now, uint64_t offset, Nanos timeout) {
    if (passed.size() > 1 &&
        passed.back().at - passed[passed.size() - 2].at < timeout / kFlowSteps) {
        passed.pop_back();
    }
    passed.push_back({now, offset});
    while (passed.size() > 1 && passed[1].at <= now - timeout) passed.pop_front();
}

uint64_t SimClients::Flow::offset_at(Nanos at) const {
    const auto after = std::ranges::upper_bound(passed, at, {}, &Passed::at);
    return after == passed.begin() ? passed.front().offset : std::prev(after)->offset;
}

bool SimClients::Flow::is_above(uint64_t rate, Nanos now, Nanos timeout) const {
    if (passed.empty() || passed.front().at > now - timeout) return false;
    const Nanos part = timeout / kFlowParts;
    const uint64_t wanted = rate * static_cast<uint64_t>(part / kMillisecond) / 1'000;
    for (Nanos end = now; end > now - timeout + part; end -= part) {
        if (offset_at(end) - offset_at(end - part) < std::max<uint64_t>(wanted, 1)) return false;
    }
    return true;
}

// A peer whose bytes flow is alive, whatever is behind them: at twice the minimum rate, since the
// server looks at times of its own. It does not ask for less than kBulkBytes of its own.
void SimClients::judge_flow(const Line& line, Nanos judged) {
    const Nanos timeout = facts_.timeout_max[line.profile];
    const uint64_t rate = 2 * kProgressBytesPerSecondMin;
    // Of one message: whole ones are judged by what they are.
    const bool in_one =
        !line.uploaded.passed.empty() && line.whole <= line.uploaded.offset_at(judged - timeout);
    if (in_one && line.uploaded.is_above(rate, judged, timeout)) {
        broken("flowing_peer_evicted", line, "it was sending");
    }
    // Through small buffers less than that waits as long.
    if (faults_.has(Fault::small_buffers) && line.bulk_taken_at == 0) return;
    if (line.downloaded.is_above(rate, judged, timeout)) {
        broken("flowing_peer_evicted", line, "it was receiving");
    }
}

void SimClients::judge_handshake(const Line& line) {
    if (!line.innocent) return;
    const Nanos deadline = line.attached_at + facts_.handshake_timeout;
    if (io_.drained_until() < deadline) {
        broken("evicted_early", line, "in its handshake, by " + ms(deadline - io_.drained_until()));
    }
    judge_unheard(line, deadline);
}

// The largest holder of buffers gives way, and not who asks for a little: heartbeats and their
// answers are all that these send and get.
void SimClients::judge_memory(const Line& line) {
    switch (clients_[line.client].behaviour) {
        case Behaviour::beat:
        case Behaviour::idle:
        case Behaviour::mute:
        case Behaviour::vanish:
        case Behaviour::half_closer:
        case Behaviour::dribbler:
        case Behaviour::tardy:
        case Behaviour::ponger:
            break;
        default:
            return;
    }
    if (line.was_cut || line.went_unread || line.piled_up || !line.innocent) return;
    // Where the queue or the sockets hold little, heartbeats that waited for the server fill them.
    const bool narrow =
        faults_.has(Fault::small_buffers) || facts_.send_queue_bytes < kSendQueueBytesDefault;
    if (line.closed_for == CloseReason::slow_reader && narrow) return;
    broken("small_holder_closed", line, "for " + std::string(describe(line.closed_for).name));
}

// What is to be answered is answered at once: over a link that loses nothing, to a peer that reads,
// the answer to what the server was given is there within a round trip, counted from when nothing
// waits before it.
void SimClients::judge_answers(Index index, Line& line) {
    const bool sends = records_[index].outbox != 0;
    if (std::exchange(line.was_sending, sends) || sends) line.sending_at = io_.now();
    if (line.pongs_owed == 0 || facts_.round_trip_max == kNever || io_.is_held_off(index)) return;
    if (!line.innocent || !line.client_holds || line.went_unread || line.was_cut) return;
    const Nanos since =
        std::max({line.pongs_owed_at, line.maybe_heard_at, line.way_free_at, line.sending_at});
    const Nanos waits = io_.now() - since;
    if (waits <= facts_.round_trip_max + lateness_allowed(line.behind_at)) return;
    broken("answer_every", line,
           std::to_string(line.pongs_owed) + " heartbeats have no answer after " + ms(waits));
}

// The server ended a connection, and its peer has read all that came.
void SimClients::judge_end(uint32_t number) {
    const Client& client = clients_[number];
    const Line& line = lines_[client.line];
    const CloseReasonInfo& reason = describe(line.closed_for);
    // Through small buffers a goodbye may wait for longer than the linger; behind a queue that the
    // pool has no more room for it is not said, and a flight that takes memory is reset, whatever
    // the connection was closing for.
    const bool late = faults_.has(Fault::small_buffers) || line.gave_way ||
                      line.closed_for == CloseReason::out_of_memory;
    const bool gone = late || line.was_cut || line.went_unread || !line.innocent;
    if (gone || line.closed_unknown || network_.clock() >= facts_.hard_stop_at) return;
    const bool answers = client.said_goodbye && client.codec.is_websocket();
    if (answers && line.closed_for == CloseReason::peer_goodbye && !client.got_goodbye) {
        return broken("goodbye_unsaid", line, "its own goodbye has no close frame in answer");
    }
    if (reason.code == 1000) return;
    if (!client.got_goodbye) {
        return broken("goodbye_unsaid", line, "closed for " + std::string(reason.name));
    }
    if (client.goodbye_code == 0 || client.goodbye_code == reason.code) return;
    broken("goodbye_unsaid", line,
           "closed for " + std::string(reason.name) + " with the code " +
               std::to_string(client.goodbye_code));
}

// Before when none is evicted: what it was promised, or where the server has changed that since,
// and what it was told has not reached it, one timeout of before later. What comes for a program
// that is gone its host acknowledges, and none hears of it.
Nanos SimClients::soonest_end(const Line& line) const {
    const Nanos at_least = line.heard_at + facts_.timeout_min[line.profile];
    if (!line.client_holds) return std::min(line.promised_until, at_least);
    const Nanos changed_at =
        std::max({facts_.stretched_at, facts_.retuned_at, facts_.regrouped_at});
    if (changed_at <= line.told_at) return line.promised_until;
    const Nanos later = std::max(at_least, changed_at + known_timeout(line));
    return std::min(line.promised_until, later);
}

// By when a silent one is gone, but for what the server was behind: by the timeout that it has,
// from when that began where it had another before.
Nanos SimClients::latest_end(Index index, const Line& line) const {
    const Nanos began = silence_began(index, line);
    if (line.judged_timeout == 0) return began + facts_.timeout_max[line.profile];
    return std::min(misses_end(index, line),
                    std::max(began, line.judged_since) + line.judged_timeout);
}

// By when misses have ended a silence in which nothing excuses its peer; kNever: something may. The
// server was on time all the while, and each send of it was done before the next probe.
Nanos SimClients::misses_end(Index index, const Line& line) const {
    const Connection& connection = records_[index];
    const HeartbeatConfig& heartbeat = facts_.config->profiles[connection.profile];
    if (heartbeat.misses == 0 || !heartbeat.probe || !is_live(connection.stage)) return kNever;
    const Connections& connections = *facts_.connections;
    const bool answers =
        connections.round_trip(index).known() || clients_[line.client].codec.is_websocket();
    const bool on_its_way = line.delivered != line.whole || line.bulk_waits ||
                            line.bulk_taken_at > 0 || line.went_unread || line.piled_up ||
                            io_.is_held_off(index) || faults_.has(Fault::small_buffers);
    const bool is_late = io_.behind_total() != line.behind_at;
    if (!answers || on_its_way || is_late || facts_.stretches) return kNever;
    // Other heartbeats than those by which its probes left, or none that are its own yet.
    const Nanos changed_at =
        std::max({facts_.stretched_at, facts_.retuned_at, facts_.regrouped_at, line.judged_since});
    if (changed_at >= line.heard_at) return kNever;
    const AnswerWait wait = connections.answer_wait(index);
    const uint32_t soonest = std::min<uint32_t>(wait, heartbeat.quick_ticks);
    if (faults_.completion_max >= facts_.tick_ns * soonest / 4) return kNever;
    const uint64_t ticks =
        heartbeat.interval_ticks + heartbeat.grace_ticks + detail::misses_take(heartbeat, wait);
    return line.maybe_heard_at + facts_.tick_ns * static_cast<Nanos>(ticks);
}

// Its heartbeats come within an interval and what a link takes that loses nothing.
bool SimClients::beats_in_time(const Line& line) const {
    const Client& client = clients_[line.client];
    if (client.behaviour != Behaviour::beat || client.stopped || client.finished) return false;
    if (!line.client_holds || !client.introduced || line.was_cut || line.went_unread) return false;
    return facts_.round_trip_max != kNever &&
           client.gap + facts_.round_trip_max < known_timeout(line);
}

// Before its timeout a peer goes that is known to answer and did not: not sooner than so many
// probes take, and their answers, and not while something else explains that.
void SimClients::judge_misses(Index index, const Line& line, const Evidence& end, Nanos judged) {
    const Client& client = clients_[line.client];
    const Nanos wait = std::min(kAnswerWaitNsMin, end.interval);
    const Nanos quick = std::min(facts_.suspect_probe, end.interval);
    const Nanos least =
        std::max(wait + Nanos{facts_.misses - 2} * quick + std::max(wait, quick) / 4 * 3,
                 3 * wait - wait / 4) -
        kTicksOfRounding * facts_.tick_ns;
    if (end.probes_sent < facts_.misses || judged - line.heard_at < least)
        broken("evicted_early", line, "by misses, after " + ms(judged - line.heard_at));
    if (!line.answered && !client.codec.is_websocket())
        broken("evicted_early", line, "by misses, and it never answered a probe");
    // Less is in the codec's memory: the beginning of a header.
    if (line.delivered > line.whole + kCodecStateBytes || line.bulk_waits)
        broken("flowing_peer_evicted", line, "by misses, and bytes were on their way");
    if (facts_.stretches) broken("evicted_early", line, "by misses, in a stretch");
    judge_unheard(line, end.deadline);
    const bool answers = client.behaviour != Behaviour::mute &&
                         client.behaviour != Behaviour::ponger &&
                         client.behaviour != Behaviour::dribbler && line.client_holds &&
                         !client.stopped && !client.finished && !line.went_unread && !line.was_cut;
    if (answers && facts_.round_trip_max < least)
        broken("answering_peer_evicted", line, "by misses, and it answers every probe at once");
    const Nanos latest = latest_end(index, line) + lateness_allowed(line.behind_at);
    if (io_.now() > latest) broken("evicted_late", line, "by misses, by " + ms(io_.now() - latest));
    if (beats_in_time(line) && client.gap + facts_.round_trip_max < end.interval)
        broken("living_peer_evicted", line, "by misses, and it beat as it was told to");
}

void SimClients::judge_one(Index index, Line& line, Nanos judged) {
    if (!line.innocent) return;
    const Evidence end = facts_.connections->evidence(index);
    if (end.reason == CloseReason::idle_timeout && end.deadline < end.heard_at + end.timeout)
        return judge_misses(index, line, end, judged);
    const Nanos deadline = soonest_end(line);
    if (judged < deadline) {
        broken("evicted_early", line,
               "by " + ms(deadline - judged) + ", after " + ms(judged - line.heard_at) +
                   ", having been told " + ms(line.told_timeout) +
                   (line.client_holds ? "" : ", and gone"));
    }
    judge_unheard(line, deadline);
    judge_flow(line, judged);
    const Nanos latest = latest_end(index, line) + lateness_allowed(line.behind_at);
    if (io_.now() > latest)
        broken("evicted_late", line,
               "by " + ms(io_.now() - latest) + ", judged by " + ms(line.judged_timeout));
    if (beats_in_time(line)) broken("living_peer_evicted", line, "it beat as it was told to");
    const Client& client = clients_[line.client];
    const bool answers =
        client.behaviour == Behaviour::idle && line.client_holds && !client.stopped;
    // What answers at once is heard in time exactly if its link is faster than what an answer has:
    // then nothing excuses the server, and otherwise it cannot know.
    if (answers && facts_.round_trip_max < facts_.answer_time_min[line.profile]) {
        broken("answering_peer_evicted", line, "it answers every probe at once");
    }
}

// After each turn. Of whom bytes are parked nothing is judged.
void SimClients::watch_bulk(const ConnectionTable& table) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        const bool bulk = (table[index].flags & kBulkOut) != 0;
        const bool held_off = io_.is_held_off(index);
        const bool watched = bulk || held_off;
        Line* line = line_at(index);
        if (line != nullptr) note_judged(*line, table[index]);
        if (!std::exchange(watched_[index], watched) && !watched) continue;
        if (line == nullptr) continue;
        if ((std::exchange(line->bulk_waits, bulk) || bulk) && network_.valid(line->socket)) {
            line->bulk_taken_at = network_.newest_arrival(line->socket);
        }
        if (std::exchange(line->was_held_off, held_off) && !held_off) {
            line->maybe_heard_at = io_.now();
        }
        if (watched && table[index].stage == Stage::closing) {
            line->closed_on_bulk = true;
        }
    }
}

void SimClients::judge_the_living(const ConnectionTable& table) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        Line* line = line_at(index);
        if (line == nullptr) continue;
        const Connection& connection = table[index];
        const Stage stage = connection.stage;
        if (is_live(stage) && !is_greeting(connection) && line->innocent) {
            const Nanos latest = latest_end(index, *line) + lateness_allowed(line->behind_at);
            if (io_.now() > latest)
                broken("silent_peer_kept", *line, ms(io_.now() - silence_began(index, *line)));
            judge_idle_kept(index, *line);
        }
        if (is_live(stage)) judge_answers(index, *line);
        if (stage != Stage::closing && stage != Stage::closed) continue;
        if (line->closing_seen_at == 0) {
            line->closing_seen_at = network_.clock();
            line->closing_behind_at = io_.behind_total();
            continue;
        }
        const Nanos closing = io_.now() - line->closing_seen_at;
        // What is on its way is waited for, in a drain until its window ends.
        const bool bulk = line->closed_on_bulk;
        if (bulk && facts_.hard_stop_at != kNever) continue;
        // Through small buffers each of its three steps may wait for the one before.
        const Nanos steps = faults_.has(Fault::small_buffers) ? 3 : 1;
        // It begins anew where this server was away while words were left.
        const bool was_away = io_.behind_total() > line->closing_behind_at;
        const Nanos linger = (was_away ? kLingersMax : 0) * kCloseLingerNs +
                             steps * kCloseLingerNs +
                             (bulk ? kCloseLingerMaxNs + kCloseLingerNs : 0);
        const Nanos patience = linger + 4 * faults_.completion_max;
        if (closing > patience + lateness_allowed(line->closing_behind_at)) {
            broken("close_hangs", *line, ms(closing));
        }
    }
}

// ---------------------------------------------------------------------------------------- sessions
void SimClients::judge_sessions(const ConnectionTable& table, const Directory& directory) {
    directory.validate();
    judge_presence(directory);
    uint32_t logged_in = 0;
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        const Line* const line = line_at(index);
        if (line == nullptr || !is_live(table[index].stage) || !is_logged_in(table[index]))
            continue;
        ++logged_in;
        judge_session(*line, {table.id(index), 0}, directory);
    }
    if (directory.counts().sessions <= logged_in) return;
    log_.broken(network_.clock(), "session_kept",
                std::to_string(directory.counts().sessions) + " sessions of " +
                    std::to_string(logged_in) + " connections that are logged in");
}

void SimClients::judge_session(const Line& line, const ConnectionRef& connection,
                               const Directory& directory) {
    const std::string name = name_of_user(clients_[line.client].user);
    const Directory::User* const user = directory.find(name);
    if (user == nullptr || user->presence != Directory::Presence::online)
        return broken("user_offline", line, "while it is connected as " + name);
    SessionHandle session = user->first;
    while (session != 0 && directory.session(session).ref() != connection)
        session = directory.session(session).next;
    if (session == 0) broken("session_lost", line, "it is connected as " + name);
}

// A stay that has ended is over: its user is not online in it.
void SimClients::judge_presence(const Directory& directory) {
    const PresenceStream& stream = directory.stream();
    for (uint64_t at = std::max(presence_judged_, stream.first()); at < stream.end(); ++at) {
        const PresenceChange& change = stream.at(at);
        if (change.kind != PresenceChange::Kind::offline) continue;
        const std::string_view name = directory.text(change.user);
        const Directory::User* const user = directory.find(name);
        if (user == nullptr || user->presence != Directory::Presence::online) continue;
        if (user->generation == change.generation)
            log_.broken(change.at, "user_offline", std::string(name) + " is online in that stay");
    }
    presence_judged_ = stream.end();
}

}  // namespace pulse
