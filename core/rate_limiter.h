// Token buckets: so many events a second, and a burst at once. Time is a parameter.
//
// The state of a bucket is one word, the instant at which it will be full again (the generic cell
// rate algorithm, ATM Forum TM 4.0, 1996): an event moves it on by what one event takes, and is
// refused where that would be further ahead than a burst. A word fits into tables, and threads
// share it by compare-and-swap. 0, or any instant that has passed, is a full bucket.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

#include "core/types.h"

namespace pulse {

struct RateLimit {
    uint64_t events = 0;  // 0: no limit
    Nanos period = kSecond;
    uint64_t burst = 0;  // 0: a tenth of a second's worth, and at least one
    friend bool operator==(const RateLimit&, const RateLimit&) = default;
};

class BucketRate {
  public:
    constexpr BucketRate() = default;  // no limit
    // An event takes whole nanoseconds: at 3,000,000/s the rate is 0.1 % too high.
    constexpr explicit BucketRate(const RateLimit& limit) {
        if (limit.events == 0) return;
        each_ = std::max<Nanos>(1, limit.period / static_cast<Nanos>(limit.events));
        const Nanos tenth = kSecond / 10 / each_;
        depth_ = each_ *
                 (limit.burst != 0 ? static_cast<Nanos>(limit.burst) : std::max<Nanos>(1, tenth));
    }

    constexpr bool limits() const { return each_ != 0; }
    // Whether a bucket that is full at `full_at` has one more. `now` may be a little in the past of
    // what another thread has seen.
    constexpr bool allows(Nanos full_at, Nanos now) const { return wait(full_at, now) == 0; }
    // When it is full again, once that one is taken.
    constexpr Nanos taken(Nanos full_at, Nanos now) const { return std::max(full_at, now) + each_; }
    // For how long it has none. 0: it has one.
    constexpr Nanos wait(Nanos full_at, Nanos now) const {
        return std::max<Nanos>(0, taken(full_at, now) - now - depth_);
    }

    // What a bucket of this rate is remembered by; see poured(). 0: no limit. A little less than
    // it is, so that a bucket which is poured is rather too empty than too full.
    float depth() const { return std::nextafter(static_cast<float>(depth_), 0.0f); }
    // A bucket of a rate whose depth() was `from`, as one of this rate: the part of a burst that it
    // lacks stays what it is, so that changing rates neither gives a burst nor makes a debt.
    Nanos poured(Nanos full_at, Nanos now, float from) const {
        if (full_at <= now || from <= 0) return 0;
        const double lacking = std::min(1.0, static_cast<double>(full_at - now) / from);
        return now + static_cast<Nanos>(std::ceil(lacking * static_cast<double>(depth_)));
    }
    // The emptiest that a bucket of this rate can be: one of a deeper rate may be emptier. By less
    // than a second it is left so, since another thread may have seen a later time.
    constexpr Nanos no_emptier(Nanos full_at, Nanos now) const {
        return full_at > now + depth_ + kSecond ? now + depth_ : full_at;
    }

  private:
    Nanos each_ = 0;   // what one event takes
    Nanos depth_ = 0;  // what a burst takes
};

// Of one thread.
class RateLimiter {
  public:
    explicit RateLimiter(uint64_t per_second) : RateLimiter(RateLimit{per_second}) {}
    explicit RateLimiter(const RateLimit& limit) : rate_(limit) {}

    // Takes one if there is one. `now` never moves back.
    bool allow(Nanos now) {
        if (!rate_.limits()) return true;
        if (!rate_.allows(full_at_, now)) return false;
        full_at_ = rate_.taken(full_at_, now);
        return true;
    }

  private:
    BucketRate rate_;
    Nanos full_at_ = 0;
};

// Of several threads, each with a clock of its own that is as good as the others'.
class SharedBucket {
  public:
    // Takes one if there is one; otherwise returns how long there is none.
    Nanos take(Nanos now, const BucketRate& rate) {
        if (!rate.limits()) return 0;
        Nanos full_at = full_at_.load(std::memory_order_relaxed);
        do {
            const Nanos kept = rate.no_emptier(full_at, now);
            if (const Nanos wait = rate.wait(kept, now); wait > 0) {
                // Once, after the rate was changed: or it would be as empty at each further try.
                if (kept != full_at) full_at_.compare_exchange_strong(full_at, kept);
                return wait;
            }
        } while (!full_at_.compare_exchange_weak(full_at, rate.taken(full_at, now),
                                                 std::memory_order_relaxed));
        return 0;
    }
    Nanos full_at() const { return full_at_.load(std::memory_order_relaxed); }
    void fill() { full_at_.store(0, std::memory_order_relaxed); }

  private:
    std::atomic<Nanos> full_at_{0};
};

}  // namespace pulse
