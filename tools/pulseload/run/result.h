// What one run of pulseload saw: facts, before they are judged or shown.
//
// Filled by the run (run.h) and read by everything that reports it: the live line, the summary,
// JSON, CSV, .hlog, the page, the verdict and the objectives. Durations are Nanos, instants are
// seconds since the run began; counts are totals since then.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/close_reason.h"
#include "core/histogram.h"
#include "core/types.h"

namespace pulse::load {

// What a client does once it is connected; drawn for each by weight.
enum class Behaviour : uint8_t {
    beat,             // pings every interval, answers probes
    idle,             // only answers probes
    mute,             // reads, sends nothing and answers nothing: to be evicted
    vanish,           // stops reading and writing without FIN or RST: to be evicted
    slow_reader,      // beats, and asks for more than it reads
    flapper,          // disconnects and comes back, again and again
    chatty,           // beats, and sends messages that come back
    slowloris,        // sends a greeting a byte a second, never to its end
    garbage,          // sends what no protocol allows
    duplicate_login,  // sends a hello as a user that is already here
};
inline constexpr size_t kBehaviours = 10;
constexpr std::string_view name_of(Behaviour behaviour) {
    constexpr std::string_view kNames[kBehaviours] = {
        "beat",    "idle",   "mute",      "vanish",  "slow-reader",
        "flapper", "chatty", "slowloris", "garbage", "duplicate-login"};
    return kNames[static_cast<size_t>(behaviour)];
}

// What is timed. The first three are counted from the instant at which it was *meant* to begin, so
// that a stalled generator or server cannot hide the waiting of those it kept from beginning; the
// others from when it did begin.
enum class Timed : uint8_t {
    connect,    // connect to open, handshake and all
    heartbeat,  // ping to pong
    message,    // data to its echo
    connect_service,
    heartbeat_service,
    message_service,
    tls_handshake,  // from when TCP was there
};
inline constexpr size_t kTimed = 7;
constexpr std::string_view name_of(Timed timed) {
    constexpr std::string_view kNames[kTimed] = {"connect",           "heartbeat",
                                                 "message",           "connect_service",
                                                 "heartbeat_service", "message_service",
                                                 "tls_handshake"};
    return kNames[static_cast<size_t>(timed)];
}

using Latencies = std::array<Histogram, kTimed>;

#define PULSE_LOAD_COUNTS(X)                                                            \
    X(open)             /* now: connected and spoken to */                              \
    X(connecting)       /* now: on the way */                                           \
    X(connects)         /* begun */                                                     \
    X(connected)        /* became open */                                               \
    X(connect_failures) /* by the operating system: refused, reset, timed out */        \
    X(refusals)         /* by the server, with a reason: full, forbidden, no upgrade */ \
    X(server_closes)    /* open ones that the server ended */                           \
    X(taken_over)       /* of those, another client logged in as the same user */       \
    X(cut_off)          /* of those, without a goodbye, while they spoke in time */     \
    X(client_closes)    /* open ones that the client ended: flappers, storms */         \
    X(protocol_errors)  /* the server sent what no server may */                        \
    X(pings)            /* that fell due, to be answered */                             \
    X(pongs)            /* of those, answered */                                        \
    X(pings_skipped)    /* of those, sent as one with a later one: due intervals ago */ \
    X(pings_lost)       /* of those, the server ended their connection first */         \
    X(pings_abandoned)  /* of those, the client ended its connection first */           \
    X(one_way)          /* heartbeats that ask for no answer (--answer-every) */        \
    X(probes)           /* pings that the server sent */                                \
    X(probes_answered)                                                                  \
    X(messages)          /* sent */                                                     \
    X(messages_returned) /* of those, echoed */                                         \
    X(messages_lost)     /* of those, not echoed: known when the run has ended */       \
    X(messages_skipped)  /* due, but no talker was open, or the one before is unsent */ \
    X(error_frames)      /* the server reported an error */                             \
    X(bytes_sent)                                                                       \
    X(bytes_received)                                                                   \
    X(tls_full)    /* handshakes with a certificate */                                  \
    X(tls_resumed) /* handshakes with a session of one before, without a certificate */ \
    X(tls_offered) /* handshakes that offered a session */                              \
    X(tls_failed)  /* handshakes that failed, and connections whose records did */

struct Counts {
#define PULSE_LOAD_FIELD(name) uint64_t name = 0;
    PULSE_LOAD_COUNTS(PULSE_LOAD_FIELD)
#undef PULSE_LOAD_FIELD
    template <class Visit>  // visit(name, value)
    void visit(Visit&& visit) const {
#define PULSE_LOAD_VISIT(name) visit(std::string_view(#name), name);
        PULSE_LOAD_COUNTS(PULSE_LOAD_VISIT)
#undef PULSE_LOAD_VISIT
    } Counts& operator+=(const Counts& other) {
#define PULSE_LOAD_ADD(name) name += other.name;
        PULSE_LOAD_COUNTS(PULSE_LOAD_ADD)
#undef PULSE_LOAD_ADD
        return *this;
    }
};

// One histogram in short.
struct LatencyPoint {
    uint64_t count = 0;
    Nanos p50 = 0, p90 = 0, p99 = 0, p999 = 0, max = 0;
};
inline LatencyPoint point_of(const Histogram& histogram) {
    return {histogram.count(),        histogram.percentile(50),   histogram.percentile(90),
            histogram.percentile(99), histogram.percentile(99.9), histogram.max()};
}

// The server process as /proc shows it (--server-pid).
struct ServerReading {
    bool present = false;
    double cpu_seconds = 0;  // used so far, user and system
    uint64_t rss_bytes = 0;
    uint64_t rss_empty_bytes = 0;  // before the first connect
    // Charged to the memory cgroup that the server has for itself, above what was charged before
    // the first connect. Nothing where it shares its cgroup.
    std::optional<uint64_t> kernel_bytes;
};

enum class Phase : uint8_t { ramp, hold, drain };
constexpr std::string_view name_of(Phase phase) {
    constexpr std::string_view kNames[] = {"ramp", "hold", "drain"};
    return kNames[static_cast<size_t>(phase)];
}

// About one second of it.
struct Sample {
    double at_s = 0;  // its end
    Phase phase = Phase::ramp;
    Counts counts;                             // totals up to at_s
    std::array<LatencyPoint, kTimed> latency;  // of this second
    Nanos lateness_max = 0;                    // of the generator's own sends, this second
    double generator_cpu_seconds = 0;          // used so far
    ServerReading server;
};

// Whether the server evicts the silent, and no others. A peer's deadline is the instant of the last
// byte it sent plus the server's timeout; the server has evicted it when its goodbye, FIN or
// reset arrives (for those that read no more: when the kernel knows).
struct Detection {
    Nanos interval = 0;  // as the server announced them, or as --expect-timeout has it
    Nanos timeout = 0;   // 0: unknown, and nothing below is judged
    bool announced = false;
    Nanos tolerance = 0;  // an eviction up to this late is neither missed nor remarked on
    struct Row {
        uint64_t silenced = 0;  // peers that stopped
        uint64_t evicted = 0;   // of those: closed at or after the deadline
        uint64_t early = 0;     // closed before it
        uint64_t missed = 0;    // still held a tolerance after it
        uint64_t waiting = 0;   // the run ended before their deadline (and tolerance)
        Histogram late_by;      // evicted: behind the deadline
        Histogram early_by;     // early: before it
    };
    std::array<Row, kBehaviours> rows;  // by Behaviour; those that are silent, idle ones not
    uint64_t false_evictions = 0;       // peers that beat on time, or answered, and were evicted
    // Peers that spoke in time and whose connection ended without a goodbye while the target went
    // away: a crash is not an eviction.
    uint64_t cut_off = 0;
    // Peers that the generator itself kept silent past their deadline, and that were evicted.
    uint64_t own_silences = 0;
    // Of everything that the server ended: the code it gave (binary goodbye, JSON goodbye,
    // WebSocket close), counted; 0 is none, an end without a goodbye.
    std::vector<std::pair<uint16_t, uint64_t>> codes;
    // The server's own counts, where --server-stats named its --stats-json file: closes by reason
    // during the run.
    bool server_account = false;
    std::vector<std::pair<std::string, uint64_t>> server_closes;
};

// Where the connections that were asked for are at the end of the hold.
struct ConnectionOutcome {
    uint64_t there = 0;    // open, or on the way back
    uint64_t evicted = 0;  // silenced, and closed by the server
    uint64_t by_kind = 0;  // gone, as their behaviour, a storm or a takeover has it
    uint64_t lost = 0;     // the rest
};

struct StormResult {
    double at_s = 0;
    std::string what;  // as given: kill=50%@30s,reconnect=full-jitter
    uint64_t killed = 0;
    uint64_t recovered = 0;  // came back before the run ended
    double recovery_s = 0;   // until 99 % of them were back; 0: they were not
    double peak_accepts_per_s = 0;
    uint64_t refusals = 0;
    uint64_t tries = 0;      // connects that they made in all
    uint32_t tries_max = 0;  // of one client
};

// The generator about itself.
struct Generator {
    uint32_t threads = 0;
    uint32_t cores = 0;
    double cpu_seconds = 0;
    double busiest_thread = 0;  // share of one core, over the hold
    uint64_t rss_empty_bytes = 0;  // before the first connect
    uint64_t rss_bytes = 0;        // at the end of the hold
    Histogram lateness;         // of each send and connect, behind the instant it was meant for
    // Sends and connects that the schedule had for the time that passed, and how many were made.
    uint64_t intended = 0;
    uint64_t made = 0;
    // The longest time in which one of its threads did not look at its connections, beyond what it
    // sleeps by itself, and when that ended.
    Nanos gap_max = 0;
    double gap_at_s = 0;
    uint64_t untimed = 0;  // pings that fell due when more were outstanding than it remembers
};

// The server about itself, from its --stats-json (--server-stats).
struct ServerIdentity {
    std::string version;
    std::string backend;
    uint64_t pid = 0;
    std::string started_at;
    std::vector<std::pair<std::string, std::string>> settings;
};

// What clients over TLS agreed on, and why they failed; counted.
struct TlsResult {
    std::vector<std::pair<std::string, uint64_t>> suites;  // "TLSv1.3 TLS_AES_256_GCM_SHA384"
    std::vector<std::pair<std::string, uint64_t>> failures;
};

struct RunResult {
    std::string version;  // pulseload's
    std::string command_line;
    std::string started_at;  // UTC, ISO 8601
    std::string machine;     // "2 cores, 23 GiB, Linux 6.18.5"
    // Every flag that has a value in this run: name, value.
    std::vector<std::pair<std::string, std::string>> settings;
    std::vector<std::pair<std::string, std::string>> environment;  // name, value
    std::optional<ServerIdentity> server;
    std::string target;
    bool foreign = false;                   // the target speaks WebSocket and is not Pulsewheel
    bool cut_short = false;                 // by a signal
    std::string cut_short_by;               // its name, "SIGINT"
    uint32_t wanted = 0;                    // connections asked for
    double connected_s = 0;                 // when each had its first try; 0: never
    uint64_t connected_all = 0;             // that had opened by then
    double target_gone_s = 0;               // when the target went away; 0: it did not
    std::string target_gone;                // how that is known
    std::optional<ConnectionOutcome> ends;  // where they are at the end of the hold
    Nanos unanswered_max = 0;  // of the pings not answered when the run ended, the oldest's wait
    double held_s = 0;         // length of the hold
    double ended_s = 0;
    Counts counts;
    Latencies latency;       // of the whole run
    Latencies hold_latency;  // of the hold alone: without the storm of connecting
    std::vector<std::pair<std::string, uint64_t>> protocols;   // connections by protocol
    std::vector<std::pair<std::string, uint64_t>> behaviours;  // and by behaviour
    Detection detection;
    std::optional<TlsResult> tls;  // nothing where no client speaks it
    std::vector<StormResult> storms;
    Generator generator;
    std::vector<Sample> samples;
    std::vector<std::string> errors;  // what went wrong, each kind once, with its count
    // What was written of this run: "page", "JSON", "CSV", "interval log" and the file's path.
    std::vector<std::pair<std::string, std::string>> files;
};

}  // namespace pulse::load
