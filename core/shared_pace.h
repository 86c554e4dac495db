// How fast several threads may act together: so many a second, evenly, whichever of them acts.
// Where all were away for a while, what is due is caught up with at 110 % of the rate, not at once.
// Time is a parameter; the clocks of all threads are one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/types.h"

namespace pulse {

class SharedPace {
  public:
    // 0: as fast as they can.
    explicit SharedPace(uint64_t per_second = 0) { set(per_second); }
    // Requires: the threads that act learn of it afterwards, and have not acted before.
    void set(uint64_t per_second) {
        per_second_ = per_second;
        if (per_second > 0) gap_ = static_cast<Nanos>(kSecond / (1.1 * double(per_second)));
    }
    uint64_t per_second() const { return per_second_; }

    // Any thread. One more at `now`, or not yet.
    bool allows(Nanos now) {
        if (per_second_ == 0) return true;
        Nanos began = kNever;
        if (began_at_.compare_exchange_strong(began, now, std::memory_order_relaxed)) began = now;
        const auto elapsed = static_cast<double>(std::max<Nanos>(0, now - began));
        const uint64_t due = 1 + static_cast<uint64_t>(elapsed / kSecond * double(per_second_));
        uint64_t taken = taken_.load(std::memory_order_relaxed);
        do {
            if (taken >= due || !has_room(now)) return false;
        } while (!taken_.compare_exchange_weak(taken, taken + 1, std::memory_order_relaxed));
        // What others took meanwhile moves it on by as much.
        Nanos next = next_.load(std::memory_order_relaxed);
        while (!next_.compare_exchange_weak(next, std::max(next, now) + gap_,
                                            std::memory_order_relaxed)) {
        }
        return true;
    }

  private:
    // At 110 % of the rate, as many as 50 ms have: a thread comes less often than it may act.
    static constexpr Nanos kAtOnceNs = 50'000'000;
    bool has_room(Nanos now) const {
        return next_.load(std::memory_order_relaxed) <= now + kAtOnceNs;
    }

    uint64_t per_second_ = 0;
    Nanos gap_ = 0;
    std::atomic<Nanos> began_at_{kNever};
    std::atomic<uint64_t> taken_{0};
    std::atomic<Nanos> next_{0};
};

}  // namespace pulse
