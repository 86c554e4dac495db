// Medians that are moved by steps.
#include "core/anomaly/baseline.h"

#include <algorithm>
#include <cmath>

namespace pulse {
namespace {

constexpr uint32_t kDaySeconds = 86'400;
constexpr uint32_t kSlotSeconds = kDaySeconds / kAnomalyDaySlots;
constexpr double kAnscombe = 0.375;
// Half of the values of a normal distribution are within this part of its deviation.
constexpr double kHalfWithin = 0.6745;
// The mean distance of a normal distribution, as a part of its deviation.
constexpr double kMeanDistance = 0.7979;

}  // namespace

// --------------------------------------------------------------------------------- the time of day

double DailyPattern::at(uint32_t second_of_day) const {
    if (!known()) return 0;
    const uint32_t behind = (second_of_day + kDaySeconds - kSlotSeconds / 2) % kDaySeconds;
    const uint32_t slot = behind / kSlotSeconds;
    const double part = static_cast<double>(behind % kSlotSeconds) / kSlotSeconds;
    const double next = slots_[(slot + 1) % kAnomalyDaySlots].median;
    return slots_[slot].median * (1 - part) + next * part;
}

bool DailyPattern::close_slot() {
    const bool knew = known();
    if (samples_ >= kAnomalySlotSamplesMin) {
        Slot& slot = slots_[slot_];
        if (slot.known == 0) ++slots_known_;
        slot.days[slot.next] = static_cast<float>(sum_ / samples_);
        slot.next = static_cast<uint8_t>((slot.next + 1) % kAnomalyDaysKept);
        if (slot.known < kAnomalyDaysKept) ++slot.known;
        auto days = slot.days;
        const auto middle = days.begin() + (slot.known - 1) / 2;
        std::nth_element(days.begin(), middle, days.begin() + slot.known);
        slot.median = *middle;
    }
    samples_ = 0;
    sum_ = 0;
    return !knew && known();
}

bool DailyPattern::observe(uint32_t second_of_day, double value) {
    const uint32_t slot = second_of_day % kDaySeconds / kSlotSeconds;
    const bool became_known = slot != slot_ && close_slot();
    slot_ = slot;
    ++samples_;
    sum_ += value;
    return became_known;
}

// -------------------------------------------------------------------------------------- all of it

double Baseline::scaled(double value) const {
    if (info_->scale == SeriesScale::count) return 2 * std::sqrt(value + kAnscombe);
    return std::log(value + info_->floor);
}

double Baseline::unscaled(double value) const {
    const double back = info_->scale == SeriesScale::count
                            ? std::max(0.0, value) * std::max(0.0, value) / 4 - kAnscombe
                            : std::exp(value) - info_->floor;
    return std::max(0.0, back);
}

double Baseline::distance(double value, uint32_t second_of_day) const {
    const double normal = centre(second_of_day);
    return (scaled(value) - normal) / std::max(spread_, info_->spread_part * normal);
}

double Baseline::expected(uint32_t second_of_day) const { return unscaled(centre(second_of_day)); }

void Baseline::learn(double value, uint32_t second_of_day) {
    const double at = scaled(value);
    if (samples_ == 0) level_ = at;
    ++samples_;
    if (adopted_) return_to_before(at, second_of_day);
    const double normal = centre(second_of_day);
    const double residual = at - normal;
    const double away = std::abs(residual);
    const double pulled = std::clamp(residual, -kAnomalyPull * spread_, kAnomalyPull * spread_);
    if (!learned()) {  // plain means, so that a bad first guess is soon forgotten
        level_ += residual / samples_;
        spread_ += (away / kMeanDistance - spread_) / (samples_ + 1);
    } else {
        const uint32_t slow = knows_day() ? kAnomalySeasonedLevelSamples : kAnomalyLevelSamples;
        level_ += pulled / std::min(samples_, slow);
        const double step = 1.0 / std::min(samples_, kAnomalySpreadSamples);
        spread_ *= away > kHalfWithin * spread_ ? 1 + step : 1 - step;
    }
    spread_ = std::max(spread_, info_->spread_min);
    observe_pattern(learned() ? normal + pulled : at, second_of_day);
}

void Baseline::observe_pattern(double at, uint32_t second_of_day) {
    if (!pattern_.observe(second_of_day, at)) return;
    // What they had of the time of day.
    level_ -= pattern_.at(second_of_day);
    before_ -= pattern_.at(second_of_day);
}

void Baseline::return_to_before(double at, uint32_t second_of_day) {
    const double above = at - pattern_.at(second_of_day);
    const bool is_back = std::abs(above - before_) < std::abs(above - level_);
    back_samples_ = is_back ? back_samples_ + 1 : 0;
    if (back_samples_ < kAnomalyCalmSamples) return;
    level_ = before_;
    adopted_ = false;
}

void Baseline::adopt(double value, uint32_t second_of_day) {
    before_ = level_;
    adopted_ = true;
    back_samples_ = 0;
    level_ = scaled(value) - pattern_.at(second_of_day);
}

}  // namespace pulse
