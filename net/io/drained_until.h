// How far drained_until (C8, net/io/io_backend.h) may go, given what WatchProof proves of the watch
// set and which connections were taken from the set and not read yet. Pure arithmetic.
//
// When t is proven, every connection that holds something from before t was taken. So t is reached
// when those that are unread at that moment have been read; what is taken later holds nothing from
// before t, and is counted apart, so that a connection which is always ready delays nothing:
//
//     advance(t): counted in 0 | t proven: swap | counted in 1 ...   t is reached when 0 is empty
//
// A backend that knows since when its oldest unread connection holds something needs no counts:
// that time is a bound.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/check.h"
#include "core/types.h"

namespace pulse {

class DrainedUntil {
  public:
    explicit DrainedUntil(Nanos start) : value_(start) {}

    // Never moves back.
    Nanos value() const { return value_; }

    // The count, 0 or 1, of what is taken now. Kept with the connection until it was read.
    uint32_t count() const { return count_; }
    void add(uint32_t count) { ++unread_[count]; }
    void remove(uint32_t count) {
        PULSE_ASSERT(unread_[count] > 0);
        --unread_[count];
    }
    uint32_t unread() const { return unread_[0] + unread_[1]; }

    // Everything from before `proven` was taken.
    void advance(Nanos proven) {
        if (candidate_ >= 0 && unread_[count_ ^ 1] == 0) {
            value_ = std::max(value_, candidate_);
            candidate_ = -1;
        }
        if (candidate_ >= 0 || proven <= std::max(value_, void_until_)) return;
        if (unread() == 0) {
            value_ = proven;
        } else {
            candidate_ = proven;
            count_ ^= 1;
            PULSE_ASSERT(unread_[count_] == 0);
        }
    }
    // The same, for one without counts. `oldest`: what is unread holds nothing from before it;
    // kNever if nothing is unread.
    void advance(Nanos proven, Nanos oldest) {
        value_ = std::max(value_, std::min(proven, oldest));
    }

    // Something that was taken may be lost. Requires: no advance() until forget().
    void suspect() { candidate_ = -1; }
    // What was unread is given back to the set, and nothing is taken: proofs up to `proven`, the
    // newest so far, were made of looks that took it, and are void.
    void forget(Nanos proven) {
        suspect();
        unread_ = {};
        void_until_ = std::max(void_until_, proven);
    }

  private:
    Nanos value_;
    Nanos candidate_ = -1;  // is value_ once the other count is 0; -1: none
    Nanos void_until_ = 0;  // proofs up to it are void
    std::array<uint32_t, 2> unread_{};
    uint32_t count_ = 0;
};

}  // namespace pulse
