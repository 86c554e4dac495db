// Ticks and nanoseconds. Time is always a parameter here; core/ reads no clock.
//
// A tick is 2^shift ns, so that turning a clock into ticks is a shift and no division. Rounding is
// chosen so that nothing fires early: up when a deadline is armed, down when the clock is read.
#pragma once

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

struct TickClock {
    uint32_t shift = kTickShiftDefault;

    constexpr Nanos tick_ns() const { return Nanos{1} << shift; }
    // The tick that is entirely over or just begun at `at`: what has certainly been reached.
    constexpr Tick down(Nanos at) const { return static_cast<Tick>(at) >> shift; }
    // The first tick at or after `at`: a deadline armed there does not fire before `at`.
    constexpr Tick up(Nanos at) const {
        return (static_cast<Tick>(at) + (Tick{1} << shift) - 1) >> shift;
    }
    // The instant at which a tick begins.
    constexpr Nanos begins(Tick tick) const { return static_cast<Nanos>(tick << shift); }
    // A duration in whole ticks, rounded up, at least one.
    constexpr uint32_t ticks(Nanos duration) const {
        const Tick ticks = up(duration);
        return ticks == 0 ? 1 : static_cast<uint32_t>(ticks);
    }
};

// A record remembers 24 bits of a tick. A value within half of that range of a known tick is told
// apart exactly; limits.h keeps every timeout below it.
inline constexpr uint32_t kStoredTickBits = 24;
inline constexpr uint32_t kStoredTickMask = (uint32_t{1} << kStoredTickBits) - 1;

// The full tick whose low 24 bits are `stored` and that lies nearest to `near`.
constexpr Tick restore_tick(uint32_t stored, Tick near) {
    const uint32_t difference = (stored - static_cast<uint32_t>(near)) << (32 - kStoredTickBits);
    return near + static_cast<Tick>(static_cast<int64_t>(static_cast<int32_t>(difference) >>
                                                         (32 - kStoredTickBits)));
}

static_assert(uint64_t{kTimeoutTicksMax} * 2 < (uint64_t{1} << kStoredTickBits),
              "a stored tick must be told apart from its aliases for as long as any deadline runs");

}  // namespace pulse
