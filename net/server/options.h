// What an operator can ask of the server: one plain field a flag, already parsed and checked.
//
// Filled by tools/pulsewheel/flags.h from a config file, the environment and the command line;
// tests fill it by hand. A field's default is the flag's default. Durations are in nanoseconds,
// sizes in bytes, rates per second; where 0 is said to mean something, it means only that.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/heartbeat_policy.h"
#include "core/limits.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/loop/limits.h"
#include "net/loop/reactor_config.h"
#include "proto/limits.h"

namespace pulse {

enum class BackendChoice : uint8_t { automatic, io_uring, epoll };

enum class LogLevel : uint8_t { debug, info, warning, error };
enum class LogFormat : uint8_t { text, json };

// A pace of heartbeats by name: what --heartbeat-profile and a hello may say.
struct NamedProfile {
    std::string_view name;
    Nanos interval;
    Nanos timeout;
};
inline constexpr NamedProfile kNamedProfiles[] = {
    {"realtime", 15 * kSecond, 45 * kSecond},
    {"standard", 30 * kSecond, 90 * kSecond},
    {"mobile", 60 * kSecond, 120 * kSecond},
    {"powersave", 300 * kSecond, 600 * kSecond},
};
inline constexpr size_t kStandardProfile = 1;

// What the send queue must take for one message to come back whole: its content, which deflate may
// make a little longer, and headers.
inline constexpr size_t kEchoBytesMore = 256;
constexpr size_t echo_bytes(size_t message_bytes) {
    return message_bytes + message_bytes / 1'024 + kEchoBytesMore;
}
// The longest message whose echo fits.
constexpr size_t echoed_by(size_t send_queue_bytes) {
    const size_t content = send_queue_bytes - std::min(send_queue_bytes, kEchoBytesMore);
    return content - (content + 1'023) / 1'024;
}
static_assert(echo_bytes(echoed_by(65'536)) <= 65'536);
// What the buffers of a reactor must have room for, so that one connection can have the longest
// message: the message itself while it comes, its echo, and a copy of what a turn left of its
// frames. Each is in a block that doubles, and the last block may take half of what is free.
constexpr size_t buffers_for(size_t message_bytes, OnMessage on_message) {
    const size_t blocks = on_message == OnMessage::echo ? 4 : 3;
    return blocks * std::bit_ceil(echo_bytes(message_bytes));
}
static_assert(buffers_for(kMessageBytesDefault, OnMessage::echo) <= kBufferedBytesDefault);

struct ServerOptions {
    // Listening. Never empty once parsed; the default is in flags.h.
    std::vector<ListenAddress> listen;
    // Who may connect to listeners that expect a PROXY header.
    std::vector<AddressPrefix> proxy_trusted = loopback_prefixes();
    bool share_port = false;             // with other programs that share it too
    uint64_t max_connections = 100'000;  // of all reactors together
    bool max_connections_given = false;  // else the default, which may shrink
    uint64_t accept_rate = 0;            // accepts a second of all reactors together; 0: no limit
    Nanos handshake_timeout = 10 * kSecond;
    Nanos tcp_keepalive = 0;     // silence before the kernel probes; 0: off
    Nanos tcp_user_timeout = 0;  // how long sent bytes may stay unacknowledged; 0: the kernel's

    // Running.
    BackendChoice backend = BackendChoice::automatic;
    uint32_t reactors = 0;               // 0: one a core, and more where descriptors demand it
    bool pin = false;                    // each reactor to a core
    Nanos drain_timeout = 10 * kSecond;  // over which a stop spreads its goodbyes

    // Heartbeats: the profile of those who name none. timeout >= interval.
    size_t heartbeat_profile = kStandardProfile;  // index into kNamedProfiles
    Nanos heartbeat_interval = kNamedProfiles[kStandardProfile].interval;
    Nanos heartbeat_timeout = kNamedProfiles[kStandardProfile].timeout;
    bool heartbeat_probe = true;
    Liveness liveness = Liveness::any;        // any or roundtrip
    uint32_t tick_shift = kTickShiftDefault;  // a tick is 2^tick_shift ns

    // Messages.
    OnMessage on_message = OnMessage::discard;
    size_t max_message_bytes = kMessageBytesDefault;
    size_t buffer_bytes = kBufferedBytesDefault;       // of a reactor
    size_t send_queue_bytes = kSendQueueBytesDefault;  // a connection; echo_bytes() if it echoes
    bool ws_deflate = false;
    std::vector<std::string> ws_origins;  // allowed values of Origin; empty: any

    // Log and statistics.
    std::string log_file;  // empty: stderr
    LogLevel log_level = LogLevel::info;
    LogFormat log_format = LogFormat::text;
    Nanos stats_interval = 0;  // between lines of figures and objects of stats_json; 0: off
    std::string stats_json;    // a file; empty: none
    // What --stats-json calls these settings, and their values as text. Known to what parses them.
    using Texts = std::vector<std::pair<std::string, std::string>>;
    Texts (*texts)(const ServerOptions& options) = nullptr;
};

}  // namespace pulse
