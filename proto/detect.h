// Which protocol a peer speaks, by its first bytes. Nothing is consumed: the bytes are the codec's.
//
//     0xB7                          binary frames
//     {, white space, PING, ping    JSON lines
//     an HTTP method and a space    WebSocket, or HTTP that is told what this port is
//     0x16 0x03                     TLS: a fault that says so, since nobody here decrypts
//     anything else                 a fault
//
// PING and PUT or POST part at the second octet, PATCH at the second too; OPTIONS needs eight
// octets. So at most kDetectBytesMax octets decide.
#pragma once

#include <cstdint>
#include <span>

#include "core/connection.h"
#include "proto/codec.h"

namespace pulse {

struct Detected {
    Protocol protocol = Protocol::detect;  // detect: more bytes are needed
    Decoded fault;
};

inline constexpr size_t kDetectBytesMax = 8;

Detected detect_protocol(std::span<const uint8_t> bytes);

}  // namespace pulse
