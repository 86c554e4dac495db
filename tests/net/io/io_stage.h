// What the contract suite plays on: a handler that writes down every event and objects to any that
// the contract forbids, and a stage that polls a backend until a condition is true or time is up.
//
// Every test that uses the stage therefore checks C1 (inside poll, on its thread, no call back from
// an operation), C4 and C5 (one last event, and none after it), C7 and the two bounds of C8.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/connection.h"
#include "net/io/io_backend.h"

namespace pulse::test {

inline std::span<const uint8_t> as_bytes(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// `bytes` bytes that differ by seed and place, so that a lost, doubled or foreign one shows.
inline std::string pattern(uint32_t seed, size_t bytes) {
    std::string text(bytes, '\0');
    uint32_t state = seed * 2654435761u + 1;
    for (char& c : text) {
        state = state * 1664525u + 1013904223u;
        c = static_cast<char>(state >> 24);
    }
    return text;
}

// What one connection lived through, from its attach (or connect) to its on_closed.
struct Seen {
    Index index = kNoIndex;
    uint8_t listener = 0;
    SocketAddress peer;
    std::string bytes;
    int reads = 0;  // calls of on_bytes
    int connects = 0, ends = 0, sents = 0, closes = 0;
    int sents_at_once = 0;  // of them those that send() reported
    IoError connect_error = 0, end_error = 0, sent_error = 0;
    bool sending = false;
    bool close_called = false;
    std::unique_ptr<std::vector<uint8_t>> outgoing;  // what the send in flight points at
};

template <class Io>
class Recorder {
  public:
    Recorder(Io& io, Connection* records, uint32_t places) : io_(io), records_(records) {
        owners_.resize(places, nullptr);
        for (Index index = places; index > 0; --index) free_.push_back(index - 1);
    }

    // What a test does inside an event, after it was written down.
    std::function<bool(const Accepted&)> accept_hook;  // true: it has attached or refused by itself
    std::function<void(Seen&)> attached_hook, connected_hook, bytes_hook, end_hook, sent_hook,
        closed_hook;
    std::function<void(std::span<uint8_t>)> raw_bytes_hook;
    std::string refusal_message = "full";
    std::deque<Seen> all;  // in the order of attach and connect
    int accepts = 0, refusals = 0, exhausted = 0;
    int live = 0;
    bool in_poll = false;

    Seen& attach(const Accepted& accepted) {
        Seen& seen = take();
        seen.listener = accepted.listener;
        seen.peer = accepted.peer;
        io_.attach(seen.index, accepted);
        return seen;
    }
    void refuse(const Accepted& accepted) {
        ++refusals;
        io_.refuse(accepted, as_bytes(refusal_message));
    }
    Seen& connect(const SocketAddress& to, const SocketAddress& source) {
        Seen& seen = take();
        io_.connect(seen.index, to, source);
        return seen;
    }
    void send(Seen& seen, std::string_view text) {
        ASSERT_FALSE(seen.sending) << "the test broke C3";
        seen.sending = true;
        seen.outgoing = std::make_unique<std::vector<uint8_t>>(text.begin(), text.end());
        if (!io_.send(seen.index, *seen.outgoing)) return;
        ++seen.sents_at_once;
        sent(seen, 0);
    }
    void close(Seen& seen, CloseMode mode) {
        ASSERT_FALSE(seen.close_called) << "the test closed twice";
        seen.close_called = true;
        io_.close(seen.index, mode);
    }

    void on_accept(const Accepted& accepted) {
        const Event event(*this);
        ++accepts;
        if (accepted.exhausted) ++exhausted;
        if (accept_hook && accept_hook(accepted)) return;
        if (accepted.exhausted || free_.empty()) return refuse(accepted);
        Seen& seen = attach(accepted);
        if (attached_hook) attached_hook(seen);
    }
    void on_connected(Index index, IoError error) {
        const Event event(*this);
        Seen* seen = expect_open(index, "on_connected");
        if (seen == nullptr) return;
        EXPECT_EQ(++seen->connects, 1);
        seen->connect_error = error;
        if (connected_hook) connected_hook(*seen);
    }
    void on_bytes(Index index, std::span<uint8_t> bytes) {
        const Event event(*this);
        EXPECT_FALSE(bytes.empty()) << "on_bytes is never empty";
        Seen* seen = expect_open(index, "on_bytes");
        if (seen == nullptr) return;
        EXPECT_EQ(seen->ends, 0) << "bytes after on_end";
        ++seen->reads;
        seen->bytes.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (raw_bytes_hook) raw_bytes_hook(bytes);
        if (bytes_hook) bytes_hook(*seen);
    }
    void on_end(Index index, IoError error) {
        const Event event(*this);
        Seen* seen = expect_open(index, "on_end");
        if (seen == nullptr) return;
        EXPECT_EQ(++seen->ends, 1) << "on_end comes once";
        seen->end_error = error;
        if (end_hook) end_hook(*seen);
    }
    void on_sent(Index index, IoError error) {
        const Event event(*this);
        Seen* seen = expect_open(index, "on_sent");
        if (seen == nullptr) return;
        EXPECT_TRUE(seen->sending) << "C3: on_sent without a send in flight";
        sent(*seen, error);
    }
    void on_closed(Index index) {
        const Event event(*this);
        ASSERT_LT(index, owners_.size());
        Seen* seen = owners_[index];
        ASSERT_NE(seen, nullptr) << "C4: on_closed for a place without an owner";
        EXPECT_TRUE(seen->close_called) << "C4: on_closed without close()";
        EXPECT_EQ(++seen->closes, 1);
        seen->sending = false;
        spoil(*seen);
        owners_[index] = nullptr;
        free_.push_back(index);
        --live;
        if (closed_hook) closed_hook(*seen);
    }

  private:
    // C1: in force while an event is being handled.
    struct Event {
        explicit Event(Recorder& owner) : recorder(owner) {
            EXPECT_TRUE(recorder.in_poll) << "C1: an event outside poll()";
            EXPECT_EQ(std::this_thread::get_id(), recorder.thread_)
                << "C1: an event on another thread";
            EXPECT_EQ(recorder.depth_, 0) << "C1: an operation called the handler back";
            ++recorder.depth_;
        }
        ~Event() { --recorder.depth_; }
        Recorder& recorder;
    };

    // A send is over, at once or later.
    void sent(Seen& seen, IoError error) {
        seen.sending = false;
        ++seen.sents;
        if (error != 0) seen.sent_error = error;
        spoil(seen);
        if (sent_hook) sent_hook(seen);
    }
    Seen& take() {
        PULSE_ASSERT(!free_.empty());
        const Index index = free_.back();
        free_.pop_back();
        records_[index] = Connection{};
        all.emplace_back().index = index;
        owners_[index] = &all.back();
        ++live;
        return all.back();
    }
    Seen* expect_open(Index index, const char* event) {
        EXPECT_LT(index, owners_.size()) << event;
        Seen* seen = index < owners_.size() ? owners_[index] : nullptr;
        EXPECT_NE(seen, nullptr) << "C4: " << event << " for a place without an owner";
        if (seen != nullptr) {
            EXPECT_FALSE(seen->close_called) << "C5: " << event << " after close()";
        }
        return seen;
    }
    // The bytes are the handler's again: a later read sends rubbish, or ASan reports it.
    static void spoil(Seen& seen) {
        if (!seen.outgoing) return;
        std::fill(seen.outgoing->begin(), seen.outgoing->end(), uint8_t{0xee});
        seen.outgoing.reset();
    }

    Io& io_;
    Connection* records_;
    std::vector<Seen*> owners_;
    std::vector<Index> free_;
    std::thread::id thread_ = std::this_thread::get_id();
    int depth_ = 0;
};

// A bound against hangs: longer than any success takes on a busy machine under sanitizers.
inline constexpr std::chrono::seconds kPatience{20};

template <class World>
class Stage {
    // The records come first and go last: the backend's destructor may look at them.
    std::unique_ptr<Connection[]> records_;

  public:
    using Io = typename World::Io;
    using Peer = typename World::Peer;
    struct Joined {
        Peer peer;
        Seen* seen;
    };

    explicit Stage(uint32_t places = 64)
        : records_(new Connection[places]()),
          world(records_.get(), places),
          io(world.io()),
          seen(io, records_.get(), places) {}

    World world;
    Io& io;
    Recorder<Io> seen;
    ListenAddress address;  // set by listen()

    // One poll of at most `most`, with the bounds that C7 and C8 set on the readings.
    void turn(Nanos most = kMillisecond) {
        const Nanos before = io.now();
        const Nanos drained_before = io.drained_until();
        seen.in_poll = true;
        io.poll(before + most, seen);
        seen.in_poll = false;
        EXPECT_GE(io.now(), before) << "C7: now() went back";
        EXPECT_GE(io.drained_until(), drained_before) << "C8: drained_until() went back";
        EXPECT_LE(io.drained_until(), io.now()) << "C8: drained_until() passed now()";
    }
    // Polls until `come_true`; false when patience ran out.
    template <class Condition>
    [[nodiscard]] bool until(Condition come_true) {
        const auto give_up = std::chrono::steady_clock::now() + kPatience;
        while (!come_true()) {
            if (std::chrono::steady_clock::now() > give_up) return false;
            turn();
        }
        return true;
    }
    // Polls for so long on the backend's own clock, whatever comes.
    void settle(Nanos duration = 20 * kMillisecond) {
        const Nanos end = io.now() + duration;
        while (io.now() < end) turn(end - io.now());
    }
    // Polls that it takes to sit through `duration`; one that finds nothing should sleep.
    uint64_t polls_within(Nanos duration) {
        settle();  // what is still on its way arrives
        const uint64_t before = io.counters().polls;
        settle(duration);
        return io.counters().polls - before;
    }

    void listen() {
        address = world.free_address();
        const Result<void> listening = io.listen(std::span(&address, 1));
        ASSERT_TRUE(listening) << listening.error();
    }
    Peer connect() { return world.connect(address.address); }
    // A peer that is connected, accepted and attached.
    Joined join() {
        const size_t count = seen.all.size();
        Joined joined{connect(), nullptr};
        EXPECT_TRUE(until([&] { return seen.all.size() > count; })) << "no peer was accepted";
        PULSE_ASSERT(seen.all.size() > count);
        joined.seen = &seen.all.back();
        return joined;
    }
    // The peer writes all of it, while we poll.
    [[nodiscard]] bool peer_writes(Peer& peer, std::string_view text) {
        return until([&] {
            text.remove_prefix(peer.write(as_bytes(text)));
            return text.empty();
        });
    }
    // The peer reads on until it has `bytes` in `into`, or its side ended; while we poll.
    [[nodiscard]] bool peer_reads(Peer& peer, std::string& into, size_t bytes) {
        return until([&] {
            peer.read(into);
            return into.size() >= bytes || peer.ended() || peer.error() != 0;
        });
    }
    // The peer reads to the end of its stream.
    [[nodiscard]] bool peer_reads_to_end(Peer& peer, std::string& into) {
        return peer_reads(peer, into, SIZE_MAX);
    }
    // Closes whatever is still open, and sees every last word.
    void close_all(CloseMode mode = CloseMode::reset) {
        for (Seen& each : seen.all)
            if (!each.close_called && each.closes == 0) seen.close(each, mode);
        EXPECT_TRUE(until([&] { return seen.live == 0; })) << "C4: an on_closed is missing";
        settle(5 * kMillisecond);
        for (const Seen& each : seen.all) EXPECT_EQ(each.closes, 1) << "C4";
    }
};

}  // namespace pulse::test
