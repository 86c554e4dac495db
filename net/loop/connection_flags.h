// Connection::flags: what the loop and its sessions mark a record with.
#pragma once

#include <cstdint>

#include "core/connection.h"
#include "net/loop/limits.h"

namespace pulse {

inline constexpr uint8_t kDirty = 1;         // stands in the list of those to be sent to
inline constexpr uint8_t kPeerEnded = 2;     // its FIN was seen
inline constexpr uint8_t kFinished = 4;      // our FIN was asked for
inline constexpr uint8_t kBulkOut = 8;       // kBulkBytes or more were sent, may still wait
inline constexpr uint8_t kHandshaking = 32;  // among the handshakes in flight of the server
inline constexpr uint8_t kSharing = 64;      // gives way to newer ones of its address
inline constexpr uint8_t kCounted = 16;      // among the connections of its address
inline constexpr uint8_t kTraced = 128;      // sampled: it has an entry in the TraceTable

// Its handshake, or its first complete message, is not whole: the handshake deadline runs.
inline bool is_greeting(const Connection& connection) {
    return connection.profile == kProfileGreeting && is_live(connection.stage);
}

}  // namespace pulse
