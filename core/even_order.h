// A walk of which every beginning is an even part of the whole: what looks at some of many, and
// does not know how many there are of the kind that it wants, looks at the first that it finds.
// Steps near the golden section of all (Weyl's sequence), coprime to their number: the one of them
// whose ratio to it is hardest to tell by smaller numbers, so that no few steps come back near to
// where they began.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/check.h"

namespace pulse {

class EvenOrder {
  public:
    EvenOrder() = default;  // done
    // Of 0 .. count - 1. Requires: count < 2^32.
    explicit EvenOrder(uint64_t count) : count_(count), left_(count) {
        constexpr uint64_t kAround = 16;
        const auto golden = static_cast<uint64_t>(static_cast<double>(count) * 0.6180339887498949);
        uint64_t least = UINT64_MAX;
        for (uint64_t step = golden - std::min(golden, kAround);
             step < std::min(count, golden + kAround); ++step) {
            const uint64_t largest = largest_quotient(count, step);
            if (largest >= least) continue;
            least = largest;
            step_ = step;
        }
    }

    bool done() const { return left_ == 0; }
    // The next place, each once. Requires: !done().
    uint64_t next() {
        PULSE_AUDIT_ASSERT(!done());
        --left_;
        at_ += step_;
        if (at_ >= count_) at_ -= count_;
        return at_;
    }

  private:
    // Of the continued fraction of a ratio; UINT64_MAX: they are not coprime.
    static uint64_t largest_quotient(uint64_t a, uint64_t b) {
        uint64_t largest = 0;
        while (b != 0) {
            largest = std::max(largest, a / b);
            const uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        return a == 1 ? largest : UINT64_MAX;
    }

    uint64_t count_ = 0;
    uint64_t left_ = 0;
    uint64_t step_ = 0;
    uint64_t at_ = 0;
};

}  // namespace pulse
