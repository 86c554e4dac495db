// What is given up while there is more to do than can be done, or no memory: one step after the
// other, and back again. A pure class: time and readings are parameters.
//
//   none --> refuse --> stretch --> drop --> close
//
// Pressure is a reading divided by what is too much: 1 is the threshold. Where it was 1 or more for
// a span without a break the next step is entered, and after another span the one behind that.
// Where it was below kOverloadLeave for kOverloadLeaveSpans of them the last step is left. In
// between all stays as it is: what a step gives back must not be taken again at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

enum class OverloadStep : uint8_t {
    none,
    refuse,   // new connections
    stretch,  // heartbeat intervals
    drop,     // application data
    close,    // connections, those first that were silent longest
};

constexpr std::string_view name_of(OverloadStep step) {
    constexpr std::string_view kNames[] = {"none", "refuse", "stretch", "drop", "close"};
    return kNames[static_cast<size_t>(step)];
}

struct OverloadRules {
    OverloadStep most = OverloadStep::none;  // no step behind this one is entered
    Nanos span = kOverloadSpanDefault;
};

class Overload {
  public:
    // `pressure` is what it is at `now`, which never moves back. Returns true if the step changed:
    // by one, or to `most` where that is less now.
    bool update(Nanos now, double pressure, const OverloadRules& rules) {
        const bool high = pressure >= 1, low = pressure < kOverloadLeave;
        if (!high) high_since_ = kNever;
        if (!low) low_since_ = kNever;
        if (high && high_since_ == kNever) high_since_ = now;
        if (low && low_since_ == kNever) low_since_ = now;
        if (step_ > rules.most) return move_to(rules.most);
        if (high && step_ < rules.most && now - high_since_ >= rules.span) {
            high_since_ = now;
            return move_to(static_cast<OverloadStep>(static_cast<uint8_t>(step_) + 1));
        }
        const Nanos leaves_after = kOverloadLeaveSpans * rules.span;
        if (low && step_ != OverloadStep::none && now - low_since_ >= leaves_after) {
            low_since_ = now;
            return move_to(static_cast<OverloadStep>(static_cast<uint8_t>(step_) - 1));
        }
        return false;
    }

    OverloadStep step() const { return step_; }

  private:
    bool move_to(OverloadStep step) {
        step_ = step;
        return true;
    }

    OverloadStep step_ = OverloadStep::none;
    Nanos high_since_ = kNever;
    Nanos low_since_ = kNever;
};

// How many connections a reactor that has `live` of them closes each second in the last step.
constexpr uint32_t overload_closes(uint32_t live) {
    return std::clamp(live / kOverloadClosesShare, 1u, kOverloadClosesMax);
}

}  // namespace pulse
