// What begins with what: the first bytes of a connection against prefixes, and the names of
// protocols that are not spoken here. Which prefixes there are is the caller's
// (net/protocols/first_bytes.h). Nothing is consumed: the bytes are the codec's.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace pulse {

struct Prefix {
    std::string_view bytes;
    // Also behind one or two empty lines (RFC 9112 section 2.2): with the longest method behind
    // them they are as long as the PROXY signature.
    bool behind_empty_lines = false;
};

// The bytes of the longest of `prefixes` that `bytes` begins with, 0 for none, and whether more
// bytes may make one of them match that is longer.
struct PrefixMatch {
    size_t bytes = 0;
    bool may_grow = false;
};
PrefixMatch match_prefixes(std::span<const uint8_t> bytes, std::span<const Prefix> prefixes);

// The name of a protocol that others speak ("MQTT"), by its first bytes; empty if none is known.
std::string_view name_of_foreign(std::span<const uint8_t> bytes);

}  // namespace pulse
