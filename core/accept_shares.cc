// Shares of the next connections, from what each reactor lacks.
#include "core/accept_shares.h"

#include <algorithm>

#include "core/check.h"
#include "core/limits.h"

namespace pulse {

AcceptShares::AcceptShares(uint32_t reactors)
    : seen_(reactors), shares_(reactors, kAcceptShareUnit) {
    PULSE_ASSERT(reactors > 0);
}

uint64_t AcceptShares::look_every(uint64_t live) {
    return std::max(kAcceptLookMin, live / kAcceptLookShare);
}

bool AcceptShares::update(std::span<const ReactorLoad> loads) {
    PULSE_ASSERT(loads.size() == seen_.size());
    find_stuck(loads);
    before_ = shares_;
    compute(loads);
    return shares_ != before_;
}

void AcceptShares::find_stuck(std::span<const ReactorLoad> loads) {
    arrivals_ = 0;
    for (size_t i = 0; i < loads.size(); ++i) {
        seen_[i].arrivals = loads[i].came - seen_[i].came;
        seen_[i].came = loads[i].came;
        arrivals_ += seen_[i].arrivals;
    }
    uint64_t whole = 0;
    for (const uint32_t share : shares_) whole += share;
    for (size_t i = 0; i < loads.size(); ++i) {
        Seen& seen = seen_[i];
        // The others accepted `arrivals_` by their part of the shares.
        const uint64_t others = std::max<uint64_t>(1, whole - shares_[i]);
        seen.missed = seen.arrivals > 0 ? 0 : seen.missed + arrivals_ * shares_[i] / others;
        seen.stuck = seen.missed >= kAcceptsMissedMax;
    }
}

void AcceptShares::compute(std::span<const ReactorLoad> loads) {
    const auto is_open = [&](size_t i) {
        return !seen_[i].stuck && loads[i].live < loads[i].limit;
    };
    uint64_t open = 0, held = 0;
    for (size_t i = 0; i < loads.size(); ++i) {
        open += is_open(i);
        held += is_open(i) ? loads[i].live : 0;
    }
    std::ranges::fill(shares_, open == 0 ? 1 : 0);
    if (open == 0) return;
    const uint64_t mean = held / open;
    const uint64_t slack = std::max(kAcceptSlackMin, mean / kAcceptSlackShare);
    const uint64_t goal = (held + arrivals_ + open - 1) / open;
    bool even = true;
    uint64_t lacking = 0, most = 0;
    for (size_t i = 0; i < loads.size(); ++i) {
        if (!is_open(i)) continue;
        const uint64_t live = loads[i].live;
        even &= live <= mean + slack && live + slack >= mean;
        lacking += goal - std::min(goal, live);
        most = std::max(most, goal - std::min(goal, live));
    }
    // What each gets besides, so that none gets more than its limit, and each some.
    const uint64_t limit = kAcceptShareMax * lacking / open;
    const uint64_t base = std::max(lacking / open / 4, most - std::min(most, limit));
    // Of 256 reactors the sum fits into 32 bits.
    const uint64_t scale = 1 + ((most + base) >> 20);
    uint64_t whole = 0;
    for (size_t i = 0; i < loads.size(); ++i) {
        if (!is_open(i)) continue;
        const uint64_t lacks = goal - std::min<uint64_t>(goal, loads[i].live);
        shares_[i] = even ? kAcceptShareUnit : static_cast<uint32_t>((lacks + base) / scale + 1);
        whole += shares_[i];
    }
    for (size_t i = 0; i < loads.size(); ++i) {
        if (!seen_[i].stuck || loads[i].live >= loads[i].limit) continue;
        shares_[i] = static_cast<uint32_t>(std::max<uint64_t>(1, whole / open / kAcceptShareUnit));
    }
}

}  // namespace pulse
