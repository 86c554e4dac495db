// How long a connection may live, whatever it says: a bound for all, and of each connection a part
// of it that is its own, so that those which came in one instant do not leave in one.
//
//     accepted |<------------ most - jitter ------------>|<-- ends evenly spread -->| most
//
// Pure. Envoy's max_connection_duration with max_connection_duration_jitter_percentage does the
// same (its users asked for it in envoyproxy/envoy 15636), but counts the jitter above the bound.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace pulse {

// The longest that may be asked for: 30 days, for which the arithmetic below has room.
inline constexpr Nanos kLifetimeMax = Nanos{30} * 24 * 3'600 * kSecond;

struct Lifetime {
    Nanos most;               // Requires: in [0, kLifetimeMax]
    uint32_t jitter_percent;  // the part of `most` over which ends are spread; at most 100

    // Of the connection that is the `generation`th owner of the place `index` of reactor `reactor`.
    // In (most - jitter, most]. Fibonacci hashing of the place: any run of neighbouring places, as
    // a storm takes them, covers the jitter evenly, and nothing is remembered. A place whose owners
    // come and go does not keep its part, nor do two reactors have the same one.
    constexpr Nanos of(Index index, uint32_t generation, uint32_t reactor) const {
        const uint32_t place = (index + 1) * 2'654'435'769u;
        const uint32_t fraction = place + generation * 0x85EB'CA6Bu + reactor * 0x7F4A'7C15u;
        const Nanos jitter = most / 100 * jitter_percent;
        // To a millisecond, so that the product has room.
        static_assert(static_cast<uint64_t>(kLifetimeMax >> kShift) <= UINT32_MAX);
        return most - static_cast<Nanos>((static_cast<uint64_t>(jitter >> kShift) * fraction) >>
                                         (32 - kShift));
    }

  private:
    static constexpr uint32_t kShift = 20;
};

}  // namespace pulse
