// Big-endian integers, at any alignment.
#pragma once

#include <cstdint>

namespace pulse {

constexpr uint16_t load_be16(const uint8_t* from) {
    return static_cast<uint16_t>(from[0] << 8 | from[1]);
}
constexpr uint32_t load_be32(const uint8_t* from) {
    return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | from[3];
}
constexpr uint64_t load_be64(const uint8_t* from) {
    return uint64_t{load_be32(from)} << 32 | load_be32(from + 4);
}
constexpr void store_be16(uint8_t* to, uint16_t value) {
    to[0] = static_cast<uint8_t>(value >> 8);
    to[1] = static_cast<uint8_t>(value);
}
constexpr void store_be32(uint8_t* to, uint32_t value) {
    store_be16(to, static_cast<uint16_t>(value >> 16));
    store_be16(to + 2, static_cast<uint16_t>(value));
}

}  // namespace pulse
