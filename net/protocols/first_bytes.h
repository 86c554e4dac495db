// Which protocol a peer speaks, told from its first bytes, and whether its listener speaks it too.
// The prefixes are those of the rows (protocol.h), and of what is known and not spoken:
//
//     0x16 0x03                                        TLS, which is a stage of its own
//     PROXY and a space, 0D 0A 0D 0A 00 0D 0A 51 ...   a PROXY header (proto/proxy.h)
//
// The fewest bytes that leave one of them are enough, at most kDetectBytesMax.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "net/protocols/protocol.h"
#include "proto/codec.h"

namespace pulse {

enum class WireKind : uint8_t { undecided, spoken, tls, proxy_header, unknown };

struct FirstBytes {
    WireKind kind = WireKind::undecided;
    uint8_t protocol = kUndetected;  // its row, where it is spoken by this server
    Decoded fault{};                 // its listener does not speak it
};

// `listener` is the row of the listener, kUndetected where it speaks all.
FirstBytes classify(std::span<const uint8_t> bytes, uint8_t listener = kUndetected);

// What the first bytes are likely to be, by its name ("MQTT", "a PROXY header"); empty where they
// say nothing. `first` is what classify() made of them.
std::string_view name_of_what_began(std::span<const uint8_t> bytes, const FirstBytes& first);

// Tells the peer of first.fault, in the words of what it began with: those of a row; a fatal alert
// to TLS (RFC 8446 section 6.2), which has no words; nothing to a balancer, which would pass it on
// to its client; JSON to what is not known. The connection is to be closed afterwards.
RefusalMessage reject(const FirstBytes& first);

}  // namespace pulse
