// Instants at which something is due, and a patience that a late clock does not exhaust. Pure.
#pragma once

#include "core/types.h"

namespace pulse::client {

// Saturates, so that "never" stays never.
constexpr Nanos after(Nanos now, Nanos wait) { return wait >= kNever - now ? kNever : now + wait; }

// An end of a wait that is looked at this much later than it was due proves nothing: this process
// was stopped or starved, or the machine slept, and the answer may lie unread.
inline constexpr Nanos kLate = kSecond;
// Late ends in a row, with nothing received, that are borne.
inline constexpr uint32_t kLateMax = 3;

// A time within which something should have come; where its end comes late, it is given anew.
class Patience {
  public:
    void begin(Nanos now, Nanos wait) {
        wait_ = wait;
        renewals_ = 0;
        ends_at_ = after(now, wait);
    }
    void end() { ends_at_ = kNever; }
    Nanos due_at() const { return ends_at_; }

    // Whether it is over at `now`.
    bool poll(Nanos now) {
        if (now < ends_at_) return false;
        const bool late = now - ends_at_ > kLate;
        ends_at_ = kNever;
        if (!late || renewals_ >= kLateMax) return true;
        ++renewals_;
        ends_at_ = after(now, wait_);
        return false;
    }

  private:
    Nanos wait_ = 0;
    Nanos ends_at_ = kNever;
    uint32_t renewals_ = 0;
};

}  // namespace pulse::client
