// What taking events from an edge-triggered epoll set proves about C8 (net/io/io_backend.h). Pure
// arithmetic, for the backends that take them.
//
// The kernel's ready list is a queue: what becomes ready goes to its end, and leaves it when it is
// taken. So a look that took less than it asked for took all that had become ready before it. One
// that took as much as it asked for proves nothing by itself; there marks help, which are
// descriptors of ours in the same set that are made ready on purpose:
//
//     taken <-- [ ready before t ... ][ mark, made ready at t ][ ready after t ... ]
//
// When a mark is taken, so is everything that was ready before t. Several are on their way at once,
// a part of the queue apart, so that what is proven lags by little more than the time that a
// connection waits in the queue.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/check.h"
#include "core/types.h"
#include "net/io/limits.h"

namespace pulse {

class WatchProof {
  public:
    explicit WatchProof(Nanos start) : proven_until_(start) {}

    // Everything that became ready before this was taken.
    Nanos proven_until() const { return proven_until_; }

    // A look that began at `began`, or later, took `events`; `all`: there were no more.
    void took(Nanos began, uint32_t events, bool all) {
        taken_ += events;
        backed_up_ = !all;
        if (all) proven_until_ = std::max(proven_until_, began);
    }
    // The last look left something behind.
    bool backed_up() const { return backed_up_; }

    // The mark that is to be made ready now, or kWatchMarks if none is.
    uint32_t due() const {
        if (!backed_up_ || taken_ < next_at_) return kWatchMarks;
        uint32_t mark = 0;
        while (mark < kWatchMarks && marks_[mark].is_out) ++mark;
        return mark;
    }
    // Made ready after `at`. Requires: it was due.
    void placed(uint32_t mark, Nanos at) {
        Mark& placed = marks_[mark];
        PULSE_ASSERT(!placed.is_out);
        placed = {at, taken_, true};
        next_at_ = taken_ + queue_length_ / kWatchMarks;
    }
    // It was taken from the set, behind the events that were given to took(), or among them.
    void passed(uint32_t mark) {
        Mark& passed = marks_[mark];
        if (!passed.is_out) return;
        passed.is_out = false;
        queue_length_ = taken_ - passed.taken_before;
        proven_until_ = std::max(proven_until_, passed.at);
    }
    // An event was put back to the end of the queue, behind marks that it was before: they prove
    // nothing when they come.
    void put_back() {
        for (Mark& mark : marks_) mark.at = 0;
    }

  private:
    struct Mark {
        Nanos at = 0;
        uint64_t taken_before = 0;
        bool is_out = false;
    };
    std::array<Mark, kWatchMarks> marks_;
    Nanos proven_until_;
    uint64_t taken_ = 0;
    uint64_t queue_length_ = 0;  // events from the placing of the last mark to its passing
    uint64_t next_at_ = 0;       // of taken_, when the next mark is due
    bool backed_up_ = false;
};

}  // namespace pulse
