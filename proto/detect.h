// Which protocol a peer speaks, told from its first bytes, and whether its listener speaks it too.
//
//     0xB7                                             binary frames
//     an HTTP method and a space, or that behind one   HTTP, and so WebSocket
//     or two empty lines
//     { or white space, PING, ping                     JSON lines
//     0x16 0x03                                        TLS, which is not decrypted here
//     PROXY and a space, 0D 0A 0D 0A 00 0D 0A 51 ...   a PROXY header (proto/proxy.h)
//
// The fewest bytes that leave one of them are enough, at most kDetectBytesMax. Nothing is consumed:
// the bytes are the codec's.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/connection.h"
#include "proto/codec.h"

namespace pulse {

enum class Spoken : uint8_t { undecided, binary, http, jsonl, tls, proxy_header, unknown };

Spoken recognise(std::span<const uint8_t> bytes);

// What the first bytes are likely to be, by its name ("MQTT", "a PROXY header"); empty where they
// say nothing. `spoken` is what recognise() made of them.
std::string_view name_of_what_began(std::span<const uint8_t> bytes, Spoken spoken);

struct Detected {
    Protocol protocol = Protocol::detect;  // detect and no fault: more bytes are needed
    Spoken spoken = Spoken::undecided;
    Decoded fault;  // the listener does not speak it: proto/refusal.h tells the peer in its words
};

// `wanted` is the only protocol of the listener, Protocol::detect where it speaks all.
Detected detect_protocol(std::span<const uint8_t> bytes, Protocol wanted = Protocol::detect);

}  // namespace pulse
