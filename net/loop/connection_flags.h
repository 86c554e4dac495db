// Connection::flags: what the loop and its sessions mark a record with.
#pragma once

#include <cstdint>

namespace pulse {

inline constexpr uint8_t kDirty = 1;          // stands in the list of those to be sent to
inline constexpr uint8_t kPeerEnded = 2;      // its FIN was seen
inline constexpr uint8_t kFinished = 4;       // our FIN was asked for
inline constexpr uint8_t kSpeaksJson = 8;     // it sent a JSON object of ours, or pulse.v1.json
inline constexpr uint8_t kFramedBinary = 16;  // agreed on pulse.v1.binary
inline constexpr uint8_t kAwaitsProxyHeader = 32;  // its proxy has not said yet whose it is
inline constexpr uint8_t kToldApart = 64;          // its first bytes were; no others are
inline constexpr uint8_t kBulkOut = 128;  // kBulkBytes or more were sent, may still wait

}  // namespace pulse
