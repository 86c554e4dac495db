// A token bucket: so many events a second, with a burst of a tenth of a second's worth (at least
// one). Time is a parameter; the state is two words.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/types.h"

namespace pulse {

class RateLimiter {
  public:
    // per_second 0 means no limit.
    explicit RateLimiter(uint64_t per_second) : per_second_(per_second) {}

    // Takes one if there is one. `now` never moves back.
    bool allow(Nanos now) {
        if (per_second_ == 0) return true;
        // Kept in event-nanoseconds, so that no fraction of an event is lost between two calls.
        const uint64_t burst = std::max<uint64_t>(1, per_second_ / 10) * kSecond;
        const auto elapsed = static_cast<uint64_t>(std::min<Nanos>(now - filled_at_, kSecond));
        tokens_ = filled_at_ == kNever ? burst : std::min(burst, tokens_ + elapsed * per_second_);
        filled_at_ = now;
        if (tokens_ < kSecond) return false;
        tokens_ -= kSecond;
        return true;
    }

  private:
    uint64_t per_second_;
    uint64_t tokens_ = 0;
    Nanos filled_at_ = kNever;
};

}  // namespace pulse
