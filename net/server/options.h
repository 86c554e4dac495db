// What an operator can ask of the server: one plain field a flag, already parsed and checked. What
// reactors read of it is LoopOptions (net/loop/loop_options.h); the rest is the main thread's.
//
// Filled by tools/pulsewheel/flags.h from a config file, the environment and the command line;
// tests fill it by hand. A field's default is the flag's default. Durations are in nanoseconds,
// sizes in bytes, rates per second; where 0 is said to mean something, it means only that.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/types.h"
#include "net/loop/loop_options.h"
#include "net/server/limits.h"

namespace pulse {

enum class BackendChoice : uint8_t { automatic, io_uring, epoll };

// automatic: text on a terminal and for the journal, JSON otherwise.
enum class LogFormat : uint8_t { automatic, text, json };

// What is done about an anomaly of the server's own series (core/anomaly/).
enum class OnAnomaly : uint8_t { off, log, degrade };

struct ServerOptions : LoopOptions {
    // Listening.
    bool share_port = false;             // with other programs that share it too
    uint64_t max_connections = 100'000;  // of all reactors together
    bool max_connections_given = false;  // else the default, which may shrink

    // Process.
    BackendChoice backend = BackendChoice::automatic;
    uint32_t reactors = 0;  // 0: one a core, and more where descriptors demand it
    bool pin = false;       // each reactor to a core

    size_t heartbeat_profile = kStandardProfile;  // index into kNamedProfiles

    // Administration.
    std::string admin;             // HOST:PORT or unix:PATH; empty: off
    std::string admin_token_file;  // empty: none

    OnAnomaly on_anomaly = OnAnomaly::off;
    Nanos anomaly_interval = kAnomalyIntervalDefault;  // between two samples

    // Traces.
    std::string otlp_endpoint;  // http://HOST:PORT/PATH; empty: off

    // Log and statistics.
    std::string log_file;  // empty: stderr
    LogFormat log_format = LogFormat::automatic;
    RateLimit log_rate{.events = 10, .period = kSecond, .burst = 100};  // of each message
    Nanos stats_interval = 0;  // between lines of figures and objects of stats_json; 0: off
    std::string stats_json;    // a file; empty: none
    // What --stats-json calls these settings, and their values as text. Known to what parses them.
    using Texts = std::vector<std::pair<std::string, std::string>>;
    Texts (*texts)(const ServerOptions& options) = nullptr;
};

}  // namespace pulse
