// What a reactor is told at its start: plain values, already checked, in the units of the loop.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/heartbeat_policy.h"
#include "core/limits.h"
#include "core/sip_hash.h"
#include "core/time.h"
#include "net/io/address.h"
#include "net/loop/admission.h"
#include "net/loop/limits.h"
#include "proto/codec.h"

namespace pulse {

enum class OnMessage : uint8_t { echo, discard };

struct ReactorConfig {
    uint32_t number = 0;  // which reactor; the first part of a connection's public name
    TickClock clock;
    HeartbeatProfiles profiles{};            // kProfileGreeting, kProfileClosing, then heartbeats
    std::vector<std::string> profile_names;  // by profile; what a hello may ask for
    uint32_t interval_ms[kHeartbeatProfilesMax] = {};  // what the peer is told of each profile
    uint32_t timeout_ms[kHeartbeatProfilesMax] = {};
    std::vector<ListenAddress> listeners;
    std::vector<AddressPrefix> proxy_trusted = loopback_prefixes();  // may send PROXY headers
    SipKey probe_key{};  // secret; what --liveness roundtrip makes its probes from
    CodecLimits limits;
    std::vector<std::string> ws_origins;  // that browsers may come from; empty: any
    bool ws_deflate = false;
    size_t send_queue_bytes = kSendQueueBytesDefault;
    // Of the buffer pool.
    size_t buffered_bytes_max = kBufferedBytesDefault;
    size_t buffer_reserve_bytes = kBufferReservePerReactor;
    OnMessage on_message = OnMessage::discard;
    uint64_t accepts_per_second = 0;  // of this reactor; 0: unlimited
    Nanos drain_window = 10 * kSecond;
    Admission* admission = nullptr;  // the server's; outlives the reactor
    // Told who each peer is and why one is turned away, a line each, on the reactor's thread;
    // empty: no line is made.
    std::function<void(const std::string& line)> debug;
    // What `debug` becomes when a message turns it on.
    std::function<void(const std::string& line)> debug_log;
    // Told what an operator should know at any level, seldom (net/loop/notices.h), likewise.
    std::function<void(const std::string& line)> warn;
    uint32_t retry_after_ms = 1'000;  // the hint in the goodbyes of a server that stops
};

}  // namespace pulse
