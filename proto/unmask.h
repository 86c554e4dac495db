// Masking and unmasking, which are the same (RFC 6455 section 5.3): byte i is XORed with byte i
// mod 4 of the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace pulse {

using MaskKey = std::array<uint8_t, 4>;

// In place. Writes nothing outside of `payload`.
void apply_mask(std::span<uint8_t> payload, MaskKey key);

// The key as it stands after `bytes` bytes, so that a payload may be unmasked in pieces.
constexpr MaskKey rotate_mask(MaskKey key, size_t bytes) {
    return {key[bytes % 4], key[(bytes + 1) % 4], key[(bytes + 2) % 4], key[(bytes + 3) % 4]};
}

}  // namespace pulse
