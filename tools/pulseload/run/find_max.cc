// Doubling, then bisection.
#include "tools/pulseload/run/find_max.h"

#include <algorithm>

namespace pulse::load {
namespace {

constexpr uint64_t kPrecision = 20;  // the answer is within a twentieth of itself
// A single miss may be a neighbour's doing, but each trial costs a whole run.
constexpr size_t kTrialsMax = 24;

}  // namespace

void Search::took(bool met) {
    trials_.push_back({next_, met});
    if (met) {
        met_ = std::max(met_, next_);
    } else {
        missed_ = missed_ == 0 ? next_ : std::min(missed_, next_);
    }
    if (missed_ == 0) {
        over_ = next_ >= most_;
        next_ = std::min(most_, next_ * 2);
    } else {
        over_ = missed_ - met_ <= std::max<uint64_t>(1, met_ / kPrecision);
        next_ = met_ + (missed_ - met_) / 2;
    }
    over_ = over_ || next_ == 0 || trials_.size() >= kTrialsMax;
}

}  // namespace pulse::load
