// Seeded randomness: xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number
// generators", 2021), seeded by splitmix64. The same seed gives the same numbers on every machine,
// which the standard library's distributions do not promise. Not for secrets.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace pulse {

// One step of splitmix64: a bijective mixer, good for turning a counter or an id into a hash.
constexpr uint64_t mix64(uint64_t value) {
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

class Random {
  public:
    using result_type = uint64_t;

    constexpr explicit Random(uint64_t seed) {
        for (uint64_t& word : state_) {
            word = mix64(seed);
            seed += 0x9e3779b97f4a7c15;
        }
    }

    constexpr uint64_t next() {
        const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
        const uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // Uniform in [0, bound); bound > 0. Lemire's multiplication, whose bias is below bound / 2^64.
    constexpr uint64_t below(uint64_t bound) {
        return static_cast<uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
    }
    // Uniform in [low, high].
    constexpr uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
    // True `parts` times in `of`.
    constexpr bool chance(uint64_t parts, uint64_t of) { return below(of) < parts; }
    // Uniform in [0, 1), 53 bits.
    constexpr double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

    // What the standard algorithms (std::shuffle) ask of a generator.
    static constexpr uint64_t min() { return 0; }
    static constexpr uint64_t max() { return UINT64_MAX; }
    constexpr uint64_t operator()() { return next(); }

  private:
    std::array<uint64_t, 4> state_{};
};

}  // namespace pulse
