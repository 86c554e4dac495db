// SipHash-2-4 of two words under a secret key (Aumasson and Bernstein, "SipHash: a fast short-input
// PRF", 2012): what was seen of its values tells nothing of the next one.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace pulse {

using SipKey = std::array<uint64_t, 2>;

constexpr uint64_t sip_hash(const SipKey& key, uint64_t first, uint64_t second) {
    uint64_t v0 = key[0] ^ 0x736f6d6570736575;
    uint64_t v1 = key[1] ^ 0x646f72616e646f6d;
    uint64_t v2 = key[0] ^ 0x6c7967656e657261;
    uint64_t v3 = key[1] ^ 0x7465646279746573;
    const auto rounds = [&](int count) {
        for (; count > 0; --count) {
            v0 += v1;
            v1 = std::rotl(v1, 13) ^ v0;
            v0 = std::rotl(v0, 32);
            v2 += v3;
            v3 = std::rotl(v3, 16) ^ v2;
            v0 += v3;
            v3 = std::rotl(v3, 21) ^ v0;
            v2 += v1;
            v1 = std::rotl(v1, 17) ^ v2;
            v2 = std::rotl(v2, 32);
        }
    };
    // The last word holds the input's length, 16 bytes, in its highest byte.
    for (const uint64_t word : {first, second, uint64_t{16} << 56}) {
        v3 ^= word;
        rounds(2);
        v0 ^= word;
    }
    v2 ^= 0xff;
    rounds(4);
    return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace pulse
