// One thread's clients: they connect on schedule, speak their protocol, beat or misbehave, and time
// what comes back from the instant at which it was intended to begin.
//
//   waiting --(schedule)--> connecting --> greeting --> open --> ending --> waiting | gone
//                                          TLS; upgrade, or
//                                          the first ping's pong
//
// A client is an index of the thread's ConnectionTable, for the whole run; what it keeps beside the
// record is a Client. One timing wheel, of the finest tick, holds what each has to do next: a beat,
// and one other thing (give up a connect, come back, leave, send the next byte).
//
// Everything belongs to the thread that calls turn(), but for counts() and the exchange of
// readings, which are for one observer on any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/connection_table.h"
#include "core/limits.h"
#include "core/random.h"
#include "core/time.h"
#include "core/timing_wheel.h"
#include "net/client/upgrade.h"
#include "net/io/epoll_backend.h"
#include "net/loop/outbox.h"
#include "net/tls/tls_connections.h"
#include "proto/deflate.h"
#include "proto/json.h"
#include "tools/pulseload/run/client_speech.h"
#include "tools/pulseload/run/load_options.h"
#include "tools/pulseload/run/outstanding.h"
#include "tools/pulseload/run/pace.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

using client::judge_upgrade;
using client::upgrade_text;
using client::UpgradeOutcome;
using client::UpgradePlan;

// Offered by the client that asks what a server promises: a server that chooses the second one is
// Pulsewheel, which passes over the first. Others choose the first, or none.
inline constexpr std::string_view kIdentifyingOffers[] = {"pulseload.v1", "pulse.v1.json"};

// What all threads of a run share.
struct Conductor {
    std::atomic<Nanos> hold_began{kNever};  // storms are counted from it
    std::atomic<bool> draining{false};      // nothing new is timed; what is outstanding may come
    std::atomic<bool> stop{false};          // close everything and end
    // What the server announced (to a client that sent a hello), or --expect-timeout; 0: not known.
    std::atomic<Nanos> interval{0};
    std::atomic<Nanos> timeout{0};
    std::atomic<bool> announced{false};
    // A WebSocket target that does not know Pulsewheel's subprotocol.
    std::atomic<bool> foreign{false};
};

// One thread's part of a run.
struct CrowdPlan {
    const LoadOptions* options = nullptr;  // outlives the crowd
    Conductor* conductor = nullptr;
    const TlsClientContext* tls = nullptr;  // outlives the crowd; nullptr: no client speaks it
    uint32_t worker = 0;
    uint32_t workers = 1;
    uint32_t clients = 0;
    std::vector<SocketAddress> sources;  // bound in turn; empty: the kernel chooses
};

struct AtomicCounts {
#define PULSE_LOAD_ATOMIC(name) std::atomic<uint64_t> name{0};
    PULSE_LOAD_COUNTS(PULSE_LOAD_ATOMIC)
#undef PULSE_LOAD_ATOMIC
    Counts read() const {
        Counts counts;
#define PULSE_LOAD_READ(name) counts.name = name.load(std::memory_order_relaxed);
        PULSE_LOAD_COUNTS(PULSE_LOAD_READ)
#undef PULSE_LOAD_READ
        return counts;
    }
};

// What is measured between two looks of the observer.
struct Readings {
    Latencies latency;
    Histogram lateness;    // of the crowd's own doing behind the schedule
    uint64_t made = 0;     // of what came due
    uint64_t skipped = 0;  // beats that were a whole interval late, and given up
    int64_t backlog = 0;   // by how much that which waits has grown
    Nanos cpu = 0;         // of the thread, so far
    Nanos gap_max = 0;     // longest time without a turn, beyond what one sleeps
    Nanos gap_ended = 0;   // when that one was over
    uint64_t untimed = 0;  // pings beyond what is remembered of outstanding ones

    void merge(const Readings& other);
    void reset();
};

// Of one storm, on this thread.
struct StormCount {
    Nanos at = 0;  // when it broke; 0: it has not yet
    uint64_t killed = 0;
    uint64_t recovered = 0;
    uint64_t refusals = 0;
    uint64_t tries = 0;
    uint32_t tries_max = 0;
    std::vector<Nanos> recoveries;  // when each was back
};

class Crowd {
  public:
    // On the thread that will turn it.
    Crowd(const CrowdPlan& plan, PageSource& pages, ConnectionTable& table);

    const Result<void>& ready() const { return io_.ready(); }
    // One pass; returns within 100 ms where nothing holds it up.
    void turn();
    // While draining: nothing is outstanding. On any thread.
    bool quiet() const { return quiet_.load(std::memory_order_relaxed); }
    // Every client had its try.
    bool settled() const { return settled_.load(std::memory_order_relaxed) == plan_.clients; }
    // Closes all of them; true when all are closed.
    bool leave();

    // --- for the observer ------------------------------------------------------------------------
    const AtomicCounts& counts() const { return counts_; }
    // Asks for the readings since the last ask(). They may be read once collected(), and until
    // the next ask().
    void ask() { asked_.fetch_add(1, std::memory_order_release); }
    bool collected() const {
        return answered_.load(std::memory_order_acquire) == asked_.load(std::memory_order_relaxed);
    }
    Readings& readings() { return readings_[(answered_.load(std::memory_order_relaxed) + 1) % 2]; }

    // --- when the thread has ended ---------------------------------------------------------------
    // Times what is outstanding by its wait so far, judges the silent ones that are still held, and
    // counts where each client is.
    void finish_detection();
    // All that were not asked for yet.
    std::span<const Readings> rest() const { return readings_; }
    const Detection& detection() const { return detection_; }
    const ConnectionOutcome& ends() const { return ends_; }
    Nanos unanswered_max() const { return unanswered_max_; }
    const std::map<uint16_t, uint64_t>& codes() const { return codes_; }
    const std::vector<StormCount>& storms() const { return storms_; }
    const std::map<std::string, uint64_t>& errors() const { return errors_; }
    const std::map<std::string, uint64_t>& tls_suites() const { return tls_suites_; }
    const std::map<std::string, uint64_t>& tls_failures() const { return tls_failures_; }

    // --- what the backend calls ------------------------------------------------------------------
    void on_accept(const Accepted&) { PULSE_ASSERT(false && "a client does not accept"); }
    void on_connected(Index index, IoError error);
    void on_bytes(Index index, std::span<uint8_t> bytes);
    void on_end(Index index, IoError error);
    void on_sent(Index index, IoError error);
    void on_closed(Index index);

  private:
    friend class ClientSession;

    enum class Stage : uint8_t { waiting, connecting, greeting, misbehaving, open, ending, gone };
    enum Flag : uint16_t {
        kUpgraded = 1 << 0,   // WebSocket frames follow
        kSilenced = 1 << 2,   // it is to be evicted
        kJudged = 1 << 3,     // the server has closed it, and that was counted
        kVictim = 1 << 4,     // of the storm number `storm`, and not back yet
        kSettled = 1 << 5,    // had its first try
        kComesBack = 1 << 6,  // after on_closed
        kSaysHello = 1 << 7,
        kIdentifies = 1 << 8,  // asks first whether the target is Pulsewheel, by its handshake
        kUnanswered = 1 << 9,  // the kernel had no room for a Unix connect: it is tried again
        kTakenOver = 1 << 10,  // another client has logged in as its user and device
    };
    struct Client {
        Nanos intended_at = 0;  // the connect
        Nanos began = 0;        // when that was done
        Nanos tls_began = 0;    // its handshake
        Nanos last_sent = 0;    // the server may count from here
        // When it spoke before a silence of its own past the deadline that nothing has ended yet in
        // the server's eyes, as far as is known; 0: there was none.
        Nanos silent_since = 0;
        PingList pings;
        Tick beat = kNoTick;
        Tick other = kNoTick;
        uint32_t sequence = 0;
        uint32_t counted_from = 0;    // the sequence of before its heartbeats are counted
        uint32_t life = 0;            // of its connections, the one it has
        uint32_t awaited = 0;         // of the ping that a greeting waits for; 0: none
        uint32_t tries = 0;           // connects since it last was open
        uint32_t retry_after_ms = 0;  // the server's hint
        uint16_t flags = 0;
        uint8_t storm = 0;
        Stage stage = Stage::waiting;
        Wire wire = Wire::tcp;
        Behaviour behaviour = Behaviour::beat;
        Reconnect reconnect = Reconnect::never;
    };
    struct Out {
        Crowd& crowd;
        Index index;
        uint8_t* claim(size_t bytes);
    };

    ClientSpeech<Out> speech(Index index) {
        return ClientSpeech<Out>(Out{*this, index}, clients_[index].wire, random_);
    }
    static void bump(std::atomic<uint64_t>& counter, uint64_t by = 1) {
        counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }
    Readings& now_recording() { return readings_[answered_.load(std::memory_order_relaxed) % 2]; }
    void record(Timed timed, Nanos duration) {
        now_recording().latency[static_cast<size_t>(timed)].record(duration);
    }
    bool has(Index index, Flag flag) const { return (clients_[index].flags & flag) != 0; }
    uint64_t global(Index index) const { return uint64_t{index} * plan_.workers + plan_.worker; }
    bool answers(const Client& client) const;
    bool beats(const Client& client) const;

    // --- what happens when -----------------------------------------------------------------------
    void hand_over_readings();
    void complete(Readings& readings);
    Nanos next_due() const;
    void start_connects();
    void start_waiting();
    void start_messages();
    void break_storms();
    void serve_due();
    void serve(Index index, Tick reached);
    void serve_other(Index index, Nanos intended_at);
    void rearm(Index index);
    void after(Index index, Nanos delay);  // sets `other`
    void record_lateness(Nanos intended_at, Nanos at);
    void echo(Index index, Nanos intended_at);
    bool draining() const { return conductor_.draining.load(std::memory_order_relaxed); }

    // --- one client ------------------------------------------------------------------------------
    void connect(Index index, Nanos intended_at);
    void greet(Index index);
    void send_hello(Index index);
    void send_login(Index index, uint64_t number, uint32_t answer_every);
    void misbehave(Index index);
    void open(Index index);
    void beat(Index index, Tick reached);
    void ping(Index index, Tick first, uint32_t due);
    bool asks_answer_every(const Client& client) const {
        return options_.asks_answer_every(client.wire) && beats(client);
    }
    bool is_one_way(const Client& client, uint32_t sequence) const {
        return (sequence - client.counted_from) % options_.answer_every != 0;
    }
    void broke_the_protocol(Index index, std::string how);
    void refused_answer_every(Index index, std::string why);
    void pong(Index index, uint32_t sequence);
    void flush(Index index);
    void silence(Index index, Behaviour as);
    void strike(Index index, const StormPlan& plan, uint8_t number);
    void settle(Index index);
    void recovered(Index index);
    void closed_by_server(Index index, uint16_t code, std::string_view reason);
    void judge(Index index, uint16_t code);
    void refused(Index index, std::string why);
    void give_up_try(Index index);
    void leave_connecting(Index index);
    // `unanswered` counts the pings that will not be answered any more.
    void leave_open(Index index, std::atomic<uint64_t>& unanswered);
    void forget_pings(Index index, std::atomic<uint64_t>& unanswered);
    void note_speech(Index index);
    void notice_gap();
    void finish_outstanding();
    void finish_message(const OutstandingMessages::Message& message);
    void finish_silenced();
    void count_ends();
    void note_error(std::string what);
    void ended_by_server(Index index, IoError error);
    void failed(Index index, std::string why, CloseMode mode = CloseMode::reset);
    void close(Index index, CloseMode mode);
    Nanos reconnect_delay(const Client& client);
    const Target& target_of(Index index) const {
        return options_.targets[global(index) % options_.targets.size()];
    }
    UpgradePlan upgrade_plan(Index index) const;
    void connect_unix(Index index);
    void send_upgrade(Index index);
    void refused_upgrade(Index index, const UpgradeOutcome& outcome);

    // --- TLS -------------------------------------------------------------------------------------
    bool speaks_tls(Index index) const { return plan_.tls != nullptr && target_of(index).tls; }
    void begin_tls(Index index);
    void read_records(Index index, std::span<uint8_t> records);
    void on_tls_opened(Index index);
    void fail_tls(Index index, const std::string& reason);
    void flush_records(Index index);
    bool queue_records(Index index);
    bool hold_records(Index index, std::span<uint8_t>& records);
    void say_end_of_tls(Index index);
    void note_tls_failure(std::string_view why);

    // --- bytes in --------------------------------------------------------------------------------
    void take(Index index, std::span<uint8_t> bytes);
    void continue_handshake(Index index, std::span<uint8_t> bytes);
    void decode(Index index, std::span<uint8_t> bytes);

    const CrowdPlan plan_;
    const LoadOptions& options_;
    Conductor& conductor_;
    ConnectionTable& table_;
    const TickClock clock_{kTickShiftMin};
    EpollBackend io_;
    TimingWheel<Connection> wheel_;
    BufferPool buffers_;
    Outboxes outboxes_;
    std::vector<TlsSessions> tls_sessions_;  // by target
    TlsConnections tls_;
    JsonParser json_;
    Inflater inflater_;
    Random random_;
    std::vector<Client> clients_;
    const Mix mix_;
    const Behaviours behaviours_;
    Pace connects_;
    Pace messages_;
    OutstandingPings pings_;
    OutstandingMessages awaited_messages_;
    Nanos began_ = 0;
    Nanos messages_began_ = kNever;
    uint32_t started_ = 0;
    std::atomic<uint32_t> settled_{0};
    uint64_t messages_begun_ = 0;
    int64_t backlog_ = 0;
    bool held_back_ = false;  // connects wait for the server, not for us
    uint32_t connecting_ = 0;
    const uint32_t connecting_max_;
    // Clients over TLS that come back when as many connect as may.
    struct Waiting {
        Index index;
        Nanos intended_at;
    };
    std::deque<Waiting> waiting_;
    Index decoding_ = kNoIndex;              // whose plaintext is being read
    Index next_talker_ = 0;
    Index leaving_ = 0;
    uint32_t taken_ = 0;  // indices that the backend has and has not closed
    std::vector<StormCount> storms_;
    Nanos last_turn_ = 0;
    std::atomic<bool> quiet_{false};
    Nanos unanswered_max_ = 0;
    ConnectionOutcome ends_;
    AtomicCounts counts_;
    Readings readings_[2];
    std::atomic<uint32_t> asked_{0};
    std::atomic<uint32_t> answered_{0};
    Detection detection_;
    std::map<uint16_t, uint64_t> codes_;
    std::map<std::string, uint64_t> errors_;
    std::map<std::string, uint64_t> tls_suites_;
    std::map<std::string, uint64_t> tls_failures_;
};

}  // namespace pulse::load
