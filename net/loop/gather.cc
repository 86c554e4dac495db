// The decision of `auto`, a window of time after another.
#include "net/loop/gather.h"

#include <algorithm>

namespace pulse {

void Gather::set(Nanos setting, Nanos now) {
    if (setting == setting_) return;
    *this = Gather(setting, now);
}

void Gather::count_turn(Nanos woke_at, uint64_t deliveries) {
    woke_at_ = woke_at;
    if (setting_ != kGatherAuto) return;
    ++turns_;
    deliveries_ += deliveries;
    if (woke_at - window_began_ >= kGatherWindowNs) end_window(woke_at);
}

void Gather::end_window(Nanos now) {
    const auto per_second = [&](uint64_t count) {
        return static_cast<double>(count) * kSecond / static_cast<double>(now - window_began_);
    };
    if (on_) {
        if (per_second(deliveries_) < kGatherLeavePerSecond) {
            leave(now);
        } else {
            tried_ = true;
            hold_off_ = 0;
            on_ = now < on_until_;
        }
    } else if (now >= off_until_ && per_second(turns_) >= kGatherEnterPerSecond) {
        on_ = true;
        tried_ = false;
        on_until_ = now + kGatherRecheckNs;
    }
    window_began_ = now;
    turns_ = deliveries_ = 0;
}

void Gather::leave(Nanos now) {
    on_ = false;
    if (tried_) return;
    hold_off_ = std::clamp(2 * hold_off_, kGatherHoldOffMinNs, kGatherHoldOffMaxNs);
    off_until_ = now + hold_off_;
}

Nanos Gather::rest(Nanos now, Nanos until) const {
    if (!is_on()) return 0;
    const Nanos reap_at = std::min(woke_at_ + time(), until);
    return reap_at - now >= kGatherRestMinNs ? reap_at - now : 0;
}

}  // namespace pulse
