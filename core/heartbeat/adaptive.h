// How long an interval may be, found out for each peer: longer while all is well, shorter where an
// answer was late. Pure: no clock, and what is remembered is a value of the caller's.
//
// Intervals are levels, each kAdaptiveFactor times the one before, so that a connection's is one
// byte of its record. A level that failed is a ceiling; from below it is tried again seldom.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

// The bounds of intervals, in ns; least 0: intervals are not adaptive.
struct AdaptiveRange {
    Nanos least = 0;
    Nanos most = 0;

    constexpr bool on() const { return least > 0; }
    // Of a level, to a millisecond; the last one in use is `most`. Requires: on(), and
    // level < kAdaptiveLevels.
    constexpr Nanos interval(uint8_t level) const {
        double interval = static_cast<double>(least);
        for (uint8_t i = 0; i < level; ++i) interval *= kAdaptiveFactor;
        // Less than half a step from the end there is no level of its own.
        if (interval * kHalfStep >= static_cast<double>(most)) return most;
        return static_cast<Nanos>(interval) / kMillisecond * kMillisecond;
    }
    // The highest level in use.
    constexpr uint8_t top() const {
        uint8_t level = 0;
        while (level + 1u < kAdaptiveLevels && interval(level) < most) ++level;
        return level;
    }
    // The highest level whose interval is not longer than this; 0 if there is none.
    constexpr uint8_t level_at(Nanos wanted) const {
        uint8_t level = 0;
        while (level < top() && interval(level + 1) <= wanted) ++level;
        return level;
    }
    // Whether the levels reach from one end to the other.
    constexpr bool fits() const {
        return least > 0 && least <= most && interval(kAdaptiveLevels - 1) == most;
    }

    bool operator==(const AdaptiveRange&) const = default;

  private:
    static constexpr double kHalfStep = 1.06;
};

// The timeout that goes with an interval. Without probes a peer is given three intervals.
constexpr Nanos adaptive_timeout(Nanos interval, bool probes) {
    return interval + (probes ? std::min(2 * interval, kAdaptiveSlackNs) : 2 * interval);
}

// What is remembered of one connection.
struct AdaptiveState {
    uint16_t seen = 0;         // low bits of the tick of the last proof of life that was counted
    uint8_t quiet = 0;         // silences in a row that ended in time
    uint8_t ceiling : 6 = 0;   // the level that failed; 0: none
    bool missed : 1 = false;   // in this silence an answer was late
    bool is_long : 1 = false;  // and it has lasted for most of the interval
    uint8_t most = 0;          // the highest level that it may have, and 1; 0: that of its network

    // Where its network bears `top`.
    constexpr uint8_t top(uint8_t of_network) const {
        return most == 0 ? of_network : std::min<uint8_t>(of_network, most - 1);
    }
};
static_assert(sizeof(AdaptiveState) == 6 && kAdaptiveLevels <= 64);

// A silence at `level` is over; `kept`: a heartbeat, or the answer to its first probe, came in
// time. The level from now on, by one more or kAdaptiveBack less, up to `top`.
constexpr uint8_t adapt_level(AdaptiveState& state, uint8_t level, bool kept, uint8_t top) {
    if (!kept) {
        state.quiet = 0;
        state.ceiling = level & 63;  // all of it
        return level > kAdaptiveBack ? level - kAdaptiveBack : 0;
    }
    state.quiet = std::min<uint8_t>(state.quiet + 1, UINT8_MAX - 1);
    if (level >= top) return top;  // which may have come down
    const bool below_ceiling = state.ceiling != 0 && level + 1 >= state.ceiling;
    if (state.quiet < (below_ceiling ? kAdaptiveRetry : kAdaptiveQuiet)) return level;
    state.quiet = 0;
    if (below_ceiling) state.ceiling = 0;
    return level + 1;
}

}  // namespace pulse
