// One loop, written so that any compiler makes vectors of it.
#include "proto/unmask.h"

#include <cstring>

namespace pulse {

void apply_mask(std::span<uint8_t> payload, MaskKey key) {
    uint32_t word;
    std::memcpy(&word, key.data(), sizeof(word));
    const uint64_t wide = uint64_t{word} << 32 | word;  // the same in either byte order
    uint8_t* bytes = payload.data();
    size_t left = payload.size();
    // Eight words a step: what a compiler turns into its widest vectors without being told.
    for (; left >= 64; bytes += 64, left -= 64) {
        uint64_t words[8];
        std::memcpy(words, bytes, sizeof(words));
        for (uint64_t& each : words) each ^= wide;
        std::memcpy(bytes, words, sizeof(words));
    }
    for (; left >= 8; bytes += 8, left -= 8) {
        uint64_t eight;
        std::memcpy(&eight, bytes, sizeof(eight));
        eight ^= wide;
        std::memcpy(bytes, &eight, sizeof(eight));
    }
    for (size_t at = 0; at < left; ++at) bytes[at] ^= key[at & 3];
}

}  // namespace pulse
