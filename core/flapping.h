// Which addresses connect and leave again and again: so many connections that ended young within a
// window, and the address is held off for a while. A pure function of one word, which is 0 while
// nothing is remembered; time is a parameter.
//
// A window begins with the first end in it, and the next one with the first end after it.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace pulse {

// --flapping 15/1m,5m
struct FlappingRule {
    uint32_t ends = 0;  // 0: off
    // A connection that lived for less is young, and so many of these within as long are too many.
    Nanos window = 0;
    Nanos hold_off = 0;
    friend bool operator==(const FlappingRule&, const FlappingRule&) = default;
};

class Flaps {
  public:
    constexpr explicit Flaps(uint64_t word = 0) : word_(word) {}
    constexpr uint64_t word() const { return word_; }

    // A connection ended young.
    constexpr Flaps ended(Nanos now, const FlappingRule& rule) const {
        const uint64_t ms = milliseconds(now);
        if (rule.ends == 0 || held_for(now) > 0) return *this;
        const bool same_window =
            !is_held() && word_ != 0 && ms - began() < milliseconds(rule.window);
        const uint64_t count = same_window ? (word_ >> kInstantBits) + 1 : 1;
        if (count >= rule.ends) return Flaps(kHeld | (ms + milliseconds(rule.hold_off)));
        return Flaps(count << kInstantBits | (same_window ? began() : ms));
    }
    // For how long its address is held off from now on. 0: it is not.
    constexpr Nanos held_for(Nanos now) const {
        const uint64_t ms = milliseconds(now);
        if (!is_held() || ms >= began()) return 0;
        return static_cast<Nanos>(began() - ms) * kMillisecond;
    }
    // Nothing of it matters any more.
    constexpr bool is_over(Nanos now, const FlappingRule& rule) const {
        if (word_ == 0 || rule.ends == 0) return true;
        if (is_held()) return held_for(now) == 0;
        return milliseconds(now) - began() >= milliseconds(rule.window);
    }

    static constexpr uint32_t kEndsMax = 10'000;  // of a rule

  private:
    // held (1 bit), ends (15 bits), the begin of the window or the end of the hold-off (48 bits).
    static constexpr uint32_t kInstantBits = 48;
    static constexpr uint64_t kHeld = uint64_t{1} << 63;
    static_assert(kEndsMax < 1u << (63 - kInstantBits));
    static constexpr uint64_t milliseconds(Nanos span) {
        return static_cast<uint64_t>(span / kMillisecond);
    }
    constexpr bool is_held() const { return (word_ & kHeld) != 0; }
    constexpr uint64_t began() const { return word_ & ((uint64_t{1} << kInstantBits) - 1); }

    uint64_t word_;
};

}  // namespace pulse
