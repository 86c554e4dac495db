// What an operator can ask of a reactor: the part of ServerOptions (net/server/options.h) that the
// loop reads. Reactors share one snapshot of it, which never changes; a reload brings another.
//
// Durations are in nanoseconds, sizes in bytes, rates per second; where 0 is said to mean
// something, it means only that. A field's default is the default of its flag.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/flapping.h"
#include "core/heartbeat/adaptive.h"
#include "core/heartbeat/idle_clocks.h"
#include "core/heartbeat_policy.h"
#include "core/limits.h"
#include "core/overload.h"
#include "core/rate_limiter.h"
#include "core/sessions/cohorts.h"
#include "core/sessions/directory.h"
#include "core/sessions/resume_window.h"
#include "core/time.h"
#include "core/types.h"
#include "net/auth/credentials.h"
#include "net/io/address.h"
#include "net/loop/limits.h"
#include "net/tls/limits.h"
#include "net/tls/tls_context.h"
#include "net/tls/tls_files.h"
#include "proto/limits.h"

namespace pulse {

enum class OnMessage : uint8_t { echo, discard };

enum class LogLevel : uint8_t { debug, info, warning, error };

// --duplicate: what becomes of sessions of one user and one device.
struct DuplicatePolicy {
    DuplicateRule rule = DuplicateRule::takeover;
    uint32_t same_device_max = 1;  // with allow
};

// A pace of heartbeats by name: what --heartbeat-profile and a hello may name.
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

struct LoopOptions {
    // Listening. Of a server never empty once parsed; the default is in flags.h.
    std::vector<ListenAddress> listen;
    // Which sources may connect to listeners that expect a PROXY header.
    std::vector<AddressPrefix> proxy_trusted = loopback_prefixes();
    RateLimit accept_rate;          // of all reactors together
    RateLimit address_accept_rate;  // likewise, of each address
    FlappingRule flapping;
    uint32_t max_connections_per_address = 0;  // of IPv6 a /64; 0: no limit
    uint32_t address_share = 0;        // of connections that give way to newer ones; 0: no limit
    bool address_share_users = false;  // logged-in ones give way, too
    uint32_t handshakes_max = 0;       // in flight; 0: no limit
    Nanos handshake_timeout = 10 * kSecond;
    // What the kernel ends by itself, or kByHeartbeat (net/loop/kernel_bounds.h).
    Nanos tcp_keepalive = kByHeartbeat;     // silence before the kernel probes; 0: off
    Nanos tcp_user_timeout = kByHeartbeat;  // sent bytes unacknowledged; 0: the kernel's limit
    // A drain: for so long it is not ready and goes on accepting; then goodbyes, so many a second
    // of all reactors together (0: as the window needs), in a window at whose end it stops hard.
    Nanos drain_delay = 0;
    uint64_t drain_rate = 0;
    Nanos drain_timeout = 10 * kSecond;
    Nanos drain_retry_after = kSecond;  // peers are to come back after this to twice this

    // Heartbeats: the profile of peers that name none. timeout >= interval.
    Nanos heartbeat_interval = kNamedProfiles[kStandardProfile].interval;
    Nanos heartbeat_timeout = kNamedProfiles[kStandardProfile].timeout;
    bool heartbeat_probe = true;
    Liveness liveness = Liveness::any;        // any or roundtrip
    AdaptiveRange heartbeat_adaptive;         // of peers that name no profile
    Nanos suspect_probe = 0;                  // between quick probes of a suspect peer; 0: none
    uint32_t suspect_misses = 0;  // probes without an answer that evict; 0: the timeout alone
    uint32_t rtt_alpha = kRoundTripAlphaDefault;  // in millionths (core/heartbeat/round_trip.h)
    uint32_t nat_probes = 0;  // side connections at once, of all reactors; 0: there are none
    uint32_t tick_shift = kTickShiftDefault;  // a tick is 2^tick_shift ns

    // Idle clocks, by IdleClock.
    std::array<IdleRule, kIdleClocks> idle{};
    bool idle_observe_output = false;

    // However alive (core/lifetime.h); 0: for ever.
    Nanos max_lifetime = 0;
    uint32_t max_lifetime_jitter = 25;  // percent

    // Sessions.
    DuplicatePolicy duplicate;
    uint32_t max_connections_per_user = kSessionsPerUserMax;
    Nanos presence_linger = 0;  // 0: a user without a session is offline at once

    // How long a session waits for its client (net/loop/resumption.h); 0: it ends at once.
    Nanos resume_hold = 0;
    ResumeBounds resume_window;                  // of each session
    uint64_t resume_bytes = uint64_t{64} << 20;  // of all windows of all reactors together

    // Policies for cohorts of users, in their order; at most kPoliciesMax, no text twice.
    std::vector<CohortPolicy> policies;
    // Made of them by Server::reload(), with those before; it is no setting, and holds with the
    // others. nullptr: there never was a policy.
    std::shared_ptr<const Cohorts> cohorts;

    // Connections that ended and are remembered, of all reactors together; 0: none is.
    uint32_t ledger = kLedgerEntriesDefault;

    // Messages. What has no burst of its own has kMessageBurstNs of its rate.
    RateLimit message_rate;       // of a connection
    RateLimit user_message_rate;  // of a user, all its connections together
    OnMessage on_message = OnMessage::discard;
    size_t max_message_bytes = kMessageBytesDefault;
    size_t buffer_bytes = kBufferedBytesDefault;       // of a reactor
    size_t send_queue_bytes = kSendQueueBytesDefault;  // a connection; echo_bytes() if it echoes
    bool ws_deflate = false;
    std::vector<std::string> ws_origins;  // allowed values of Origin; empty: any

    // What is given up under overload, and how long pressure lasts until then (core/overload.h).
    OverloadStep overload = OverloadStep::none;  // the last step that may be entered
    Nanos overload_lag = kOverloadLagDefault;    // judge lag that is too much
    Nanos overload_span = kOverloadSpanDefault;
    uint64_t overload_memory = 0;  // in use that is too much; 0: what the machine leaves, and PSI

    // How long a reactor lets arrivals gather before it reaps (gather.h); kGatherAuto; 0: never.
    Nanos gather = kGatherAuto;

    // Authentication; off where no file is named.
    AuthFiles auth;
    // In which a peer that gives no token is closed; 0: it may stay.
    Nanos auth_deadline = kAuthDeadlineDefault;
    // What the files held when they were read last; it is no setting, and holds with the others.
    // nullptr: authentication is off.
    std::shared_ptr<const Credentials> credentials;

    // TLS; off where no certificate is named.
    TlsFiles tls;
    uint32_t tls_handshakes_max = kTlsHandshakesDefault;  // of all reactors together
    // What the files held when they were read last; it is no setting, and holds with the others.
    // nullptr: TLS is off, and no listener has it.
    std::shared_ptr<const TlsContext> tls_context;

    // Connections that are traced from their beginning, in millionths (core/trace.h).
    uint32_t trace_ratio = kTraceRatioDefault;

    LogLevel log_level = LogLevel::info;  // debug: reactors log a line for each peer
    // Connections whose events are logged, in millionths of all (core/units.h); 0: none.
    uint32_t log_connections = 0;
};

}  // namespace pulse
