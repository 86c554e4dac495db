// SipHash-2-4 of two words, or of a text, under a secret key (Aumasson and Bernstein, "SipHash: a
// fast short-input PRF", 2012): what was seen of its values tells nothing of the next one, so that
// a peer that chooses what is hashed cannot choose where it goes.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

namespace pulse {

using SipKey = std::array<uint64_t, 2>;

class SipState {
  public:
    constexpr explicit SipState(const SipKey& key)
        : v0_(key[0] ^ 0x736f6d6570736575),
          v1_(key[1] ^ 0x646f72616e646f6d),
          v2_(key[0] ^ 0x6c7967656e657261),
          v3_(key[1] ^ 0x7465646279746573) {}

    constexpr void add(uint64_t word) {
        v3_ ^= word;
        rounds(2);
        v0_ ^= word;
    }
    constexpr uint64_t finish() {
        v2_ ^= 0xff;
        rounds(4);
        return v0_ ^ v1_ ^ v2_ ^ v3_;
    }

  private:
    constexpr void rounds(int count) {
        for (; count > 0; --count) {
            v0_ += v1_;
            v1_ = std::rotl(v1_, 13) ^ v0_;
            v0_ = std::rotl(v0_, 32);
            v2_ += v3_;
            v3_ = std::rotl(v3_, 16) ^ v2_;
            v0_ += v3_;
            v3_ = std::rotl(v3_, 21) ^ v0_;
            v2_ += v1_;
            v1_ = std::rotl(v1_, 17) ^ v2_;
            v2_ = std::rotl(v2_, 32);
        }
    }

    uint64_t v0_, v1_, v2_, v3_;
};

constexpr uint64_t sip_hash(const SipKey& key, uint64_t first, uint64_t second) {
    SipState state(key);
    state.add(first);
    state.add(second);
    state.add(uint64_t{16} << 56);  // the last word holds the input's length in its highest byte
    return state.finish();
}

constexpr uint64_t sip_hash(const SipKey& key, std::string_view text) {
    SipState state(key);
    uint64_t word = 0;
    for (size_t at = 0; at < text.size(); ++at) {
        word |= uint64_t{static_cast<uint8_t>(text[at])} << (8 * (at % 8));
        if (at % 8 != 7) continue;
        state.add(word);
        word = 0;
    }
    state.add(word | uint64_t{text.size()} << 56);
    return state.finish();
}

}  // namespace pulse
