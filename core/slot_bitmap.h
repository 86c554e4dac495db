// Which slots of a level are occupied: "when must I wake?" is a question about bits.
//
// Two levels of words, so that at most five word tests find the next occupied slot of 16,384.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "core/check.h"

namespace pulse {

template <uint32_t kSlotsLog2>
class SlotBitmap {
  public:
    static constexpr uint32_t kSlots = uint32_t{1} << kSlotsLog2;
    static constexpr uint32_t kNone = UINT32_MAX;

    void set(uint32_t slot) {
        words_[slot / 64] |= bit(slot);
        summary_[slot / 4096] |= bit(slot / 64);
    }
    void clear(uint32_t slot) {
        words_[slot / 64] &= ~bit(slot);
        if (words_[slot / 64] == 0) summary_[slot / 4096] &= ~bit(slot / 64);
    }
    bool test(uint32_t slot) const { return (words_[slot / 64] & bit(slot)) != 0; }

    // Returns how many slots after `from`, cyclically, the first occupied one is;
    // kNone without one.
    uint32_t distance(uint32_t from) const {
        uint32_t found = at_or_after(from);
        if (found == kNone) found = at_or_after(0);
        return found == kNone ? kNone : (found - from) & (kSlots - 1);
    }

    // The summary says of a word that it is not zero exactly when it is not. For tests.
    void validate() const {
        for (uint32_t word = 0; word < kWords; ++word) {
            const bool summarized = (summary_[word / 64] & bit(word)) != 0;
            PULSE_ASSERT(summarized == (words_[word] != 0));
        }
    }

  private:
    static constexpr uint32_t kWords = kSlots <= 64 ? 1 : kSlots / 64;
    static constexpr uint32_t kSummaries = kWords <= 64 ? 1 : kWords / 64;
    static constexpr uint64_t bit(uint32_t position) { return uint64_t{1} << (position & 63); }
    // Bits strictly above `position` (0..63).
    static constexpr uint64_t above(uint32_t position) { return ~uint64_t{1} << (position & 63); }

    uint32_t at_or_after(uint32_t slot) const {
        const uint32_t word = slot / 64;
        const uint64_t rest = words_[word] & (above(slot) | bit(slot));
        if (rest != 0) return word * 64 + static_cast<uint32_t>(std::countr_zero(rest));
        uint64_t words = summary_[word / 64] & above(word);
        for (uint32_t group = word / 64;;) {
            if (words != 0) {
                const uint32_t next = group * 64 + static_cast<uint32_t>(std::countr_zero(words));
                return next * 64 + static_cast<uint32_t>(std::countr_zero(words_[next]));
            }
            if (++group == kSummaries) return kNone;
            words = summary_[group];
        }
    }

    std::array<uint64_t, kWords> words_{};
    std::array<uint64_t, kSummaries> summary_{};
};

}  // namespace pulse
