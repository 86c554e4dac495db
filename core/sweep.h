// A walk over all places in slices: what is to be done to every connection must not hold up a turn.
// The walker takes places until its budget of work is spent, and goes on in the next turn.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/check.h"
#include "core/types.h"

namespace pulse {

class Sweep {
  public:
    Sweep() = default;  // done
    explicit Sweep(Index places) : places_(places) {}

    bool done() const { return next_ == places_; }
    // The next place, each once, in their order. Requires: !done().
    Index next() {
        PULSE_AUDIT_ASSERT(!done());
        return next_++;
    }

    // What next() will return. Requires: !done().
    Index peek() const { return next_; }

    // Takes places as long as `budget` lasts; visit(index) says what a place cost, at least 1. The
    // last may overspend.
    template <class Visit>
    void advance(uint32_t& budget, Visit&& visit) {
        while (!done() && budget > 0) budget -= std::min(budget, visit(next()));
    }

  private:
    Index next_ = 0;
    Index places_ = 0;
};

}  // namespace pulse
