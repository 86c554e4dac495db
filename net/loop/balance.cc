// One look at what all reactors hold.
#include "net/loop/balance.h"

#include <algorithm>

namespace pulse {

Balance::Balance(uint32_t reactors, uint32_t places)
    : places_(places), lines_(reactors), shares_(reactors), loads_(reactors) {
    order_.reserve(reactors);
    ordered_.reserve(reactors);
}

bool Balance::update(uint32_t reactor) {
    {
        const std::lock_guard lock(order_mutex_);
        if (order_.size() < lines_.size()) return false;  // some do not listen yet
    }
    uint64_t live = 0, came = 0;
    for (size_t i = 0; i < lines_.size(); ++i) {
        loads_[i] = {.live = lines_[i].live.load(std::memory_order_relaxed),
                     .limit = places_,
                     .came = lines_[i].came.load(std::memory_order_relaxed)};
        live += loads_[i].live;
        came += loads_[i].came;
    }
    const uint64_t every = AcceptShares::look_every(live);
    lines_[reactor].look_after = std::max<uint64_t>(1, every / lines_.size());
    if (came - came_ < every) return false;
    came_ = came;
    return shares_.update(loads_);
}

std::span<const uint32_t> Balance::in_order() {
    const std::lock_guard lock(order_mutex_);
    ordered_.clear();
    for (const uint32_t reactor : order_) ordered_.push_back(shares_.shares()[reactor]);
    return ordered_;
}

}  // namespace pulse
