// What a run is asked to do, and what is to be written of it. The command line makes one
// (options.h), and everything reads it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/types.h"
#include "tools/pulseload/run/pace.h"
#include "tools/pulseload/run/scenario.h"
#include "tools/pulseload/run/target.h"

namespace pulse::load {

// An IPv4 range that clients bind to in turn, both ends among them.
struct SourceRange {
    uint32_t first = 0;  // host order; 0: chosen by itself
    uint32_t last = 0;
};

struct LoadOptions {
    std::vector<Target> targets;
    std::vector<std::string> headers;  // of WebSocket handshakes
    std::string subprotocol;           // that they offer; empty: none
    uint32_t connections = 1'000;
    PaceSpec connect_rate;
    // With both defaults each client beats twice.
    Nanos heartbeat_interval = 10 * kSecond;  // 0: none pings
    Nanos duration = 20 * kSecond;            // of the hold
    std::optional<Mix> mix;                   // none: as the first target's scheme has it
    std::optional<Behaviours> behaviours;     // none: all beat
    std::vector<StormPlan> storms;
    std::optional<PaceSpec> message_rate;
    size_t message_bytes = 128;
    // Of so many heartbeats of a client the last asks for an answer.
    uint32_t answer_every = 1;
    bool hello = false;        // of every client
    uint32_t users = 0;        // that all clients log in as, in turn; 0: each as its own
    uint32_t devices = 1;      // of each user, in turn
    bool no_hello = false;     // of no client, not even the one that asks for the timeout
    bool tcp_only = false;     // not a byte is sent
    std::string profile;       // that a hello names
    Nanos expect_timeout = 0;  // 0: ask the server
    Nanos tolerance = kSecond;
    Nanos flap_interval = 5 * kSecond;
    Reconnect reconnect = Reconnect::never;  // of clients that the server closed
    Nanos reconnect_base = kSecond;
    Nanos reconnect_cap = 30 * kSecond;
    SourceRange sources;
    uint32_t threads = 0;  // at least so many
    uint32_t connecting_max = 1'024;
    // Of clients over TLS, of all threads together.
    uint32_t tls_handshakes_max = 1'024;
    bool tls_verify = false;
    std::string tls_authorities;  // a file in PEM; empty: the system's
    std::string tls_server_name;  // asked for instead of the target's
    bool tls_frozen = false;      // after the handshake no object of OpenSSL's is kept
    uint32_t tls_resume = 0;      // percent of the handshakes that offer a session, if there is one
    Nanos connect_timeout = 30 * kSecond;
    uint64_t seed = 1;

    std::string json_file;
    std::string csv_file;
    std::string hlog_file;
    std::string report_file;
    std::string server_stats_file;
    int server_pid = 0;
    std::string slo;
    std::string find_max;    // an objective; empty: one run
    bool find_rate = false;  // search for a message rate, not for connections
    uint32_t repeat = 0;     // rounds; 0: one run, and --find-max tries each load up to 3 times
    bool quiet = false;
    bool progress = false;
    std::string command_line;  // for reports

    // Whether clients on this wire ask for it, in their hello; over WebSocket's own frames a client
    // that wants no answer sends a pong, which needs no asking.
    bool asks_answer_every(Wire wire) const { return answer_every > 1 && wire != Wire::ws; }
    // Whether any client speaks TLS.
    bool speaks_tls() const;
    Mix effective_mix() const;
    Behaviours effective_behaviours() const;
};

}  // namespace pulse::load
