// Where the entries of a timing wheel lie, and its hand: each level as a ring of sectors, which are
// neighbouring slots together.
// A copy of some numbers: reading it visits neither connections nor entries.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

inline constexpr uint32_t kWheelSectors = uint32_t{1} << kWheelSectorsLog2;

// Of one wheel, or of several of the same clock and geometry.
struct WheelRings {
    // Entries, stale ones included, of the slots that a sector has; sector 0 has slot 0. A wheel
    // with fewer slots than sectors leaves the last ones 0.
    std::array<uint64_t, kWheelSectors> lower{};
    std::array<uint64_t, kWheelSectors> upper{};
    // The next tick that is not dealt with; of several wheels the earliest.
    Tick cursor = 0;
    Nanos tick = 0;  // how long one is; 0: not known, of no wheel

    WheelRings& operator+=(const WheelRings& other) {
        for (uint32_t sector = 0; sector < kWheelSectors; ++sector) {
            lower[sector] += other.lower[sector];
            upper[sector] += other.upper[sector];
        }
        if (other.tick == 0) return *this;
        cursor = tick == 0 ? other.cursor : std::min(cursor, other.cursor);
        tick = other.tick;
        return *this;
    }
};

}  // namespace pulse
