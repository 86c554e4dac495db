// How long answers of one peer take: smoothed round trip and deviation (RFC 6298, 2), in 4 bytes.
//
// A pure value. The caller measures from the first probe of a silence: TCP keeps the order, so the
// first answer is to that one, and Karn's algorithm (RFC 6298, 3) has nothing to leave out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/limits.h"
#include "core/types.h"
#include "core/units.h"

namespace pulse {

class RoundTrip {
  public:
    // An answer took `took`; the newest counts by `alpha` millionths, and twice as much in the
    // deviation, as 1/8 and 1/4 of RFC 6298 do. Requires: alpha is from 1 to kRatioWhole.
    constexpr void add(Nanos took, uint32_t alpha) {
        const auto sample = static_cast<uint32_t>(
            std::clamp<Nanos>((took + kUnitNs / 2) / kUnitNs, 1, kUnitsMax));
        if (!known()) {
            smoothed_ = static_cast<uint16_t>(sample);
            deviation_ = static_cast<uint16_t>(sample / 2);
            return;
        }
        const uint32_t off = sample > smoothed_ ? sample - smoothed_ : smoothed_ - sample;
        deviation_ = mix(deviation_, off, std::min(2 * alpha, kWhole));
        smoothed_ = std::max<uint16_t>(1, mix(smoothed_, sample, alpha));
    }

    constexpr bool known() const { return smoothed_ != 0; }
    constexpr Nanos smoothed() const { return smoothed_ * kUnitNs; }
    constexpr Nanos deviation() const { return deviation_ * kUnitNs; }
    // After which an answer is late: the round trip and four deviations, kAnswerWaitNsMin at least
    // and `most` at most; kAnswerWaitUnknownNs where none is known.
    constexpr Nanos answer_wait(Nanos most) const {
        const Nanos wait = known() ? smoothed() + 4 * deviation() : kAnswerWaitUnknownNs;
        return std::min(std::max(wait, kAnswerWaitNsMin), most);
    }

  private:
    // 262 us, a 32nd of a tick; 65,535 of them are 17 s, beyond which no answer is told apart.
    static constexpr Nanos kUnitNs = Nanos{1} << 18;
    static constexpr Nanos kUnitsMax = UINT16_MAX;
    static constexpr uint32_t kWhole = kRatioWhole;

    // Rounded to the nearest: rounded down it would settle below.
    static constexpr uint16_t mix(uint32_t old, uint32_t fresh, uint32_t share) {
        const uint64_t sum = uint64_t{old} * (kWhole - share) + uint64_t{fresh} * share;
        return static_cast<uint16_t>((sum + kWhole / 2) / kWhole);
    }

    uint16_t smoothed_ = 0;  // 0: no answer was measured
    uint16_t deviation_ = 0;
};
static_assert(sizeof(RoundTrip) == 4);

}  // namespace pulse
