// What is to be done to some connections, evenly over a window, though others come to be among them
// meanwhile and some leave by themselves. A window begins with the first of them, and anew once
// none was left. Pure: time is a parameter.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/types.h"

namespace pulse {

class WindowPace {
  public:
    // There are so many of them at `now`, which never moves back. Their window is `length`; that of
    // a window which runs is not changed. What was not done by its end is due at once.
    void look(uint64_t waiting, Nanos length, Nanos now) {
        if (waiting == 0) {
            *this = {};
            return;
        }
        if (!runs_) {
            runs_ = true;
            ends_at_ = now + length;
            looked_at_ = now;
        }
        const auto most = static_cast<double>(waiting);
        const Nanos passed = now - looked_at_, left = ends_at_ - looked_at_;
        looked_at_ = now;
        due_ = std::min(due_, most);
        if (passed >= left)
            due_ = most;
        else
            due_ += (most - due_) * static_cast<double>(passed) / static_cast<double>(left);
    }
    // One more is due.
    bool allows() const { return due_ >= 1; }
    // It was done. Requires: allows().
    void spend() { due_ -= 1; }

  private:
    bool runs_ = false;
    Nanos ends_at_ = 0;
    Nanos looked_at_ = 0;
    double due_ = 0;
};

}  // namespace pulse
