// What is normal for one series: a level that follows slowly, what the time of day adds to it, and
// how far values spread around both.
//
// All three are medians in their kind, moved a little by each sample whatever its distance
// (stochastic approximation): a burst moves the level as little as a sample just outside, and an
// hour of a fault widens the spread by less than a fifth. Values are kept on a scale on which noise
// is about the same everywhere: 2 sqrt(x + 3/8) for counts (Anscombe 1948), log(x + floor) for
// times. Fixed memory, O(1) a sample. Pure: the time of day is a parameter.
#pragma once

#include <array>
#include <cstdint>

#include "core/anomaly/limits.h"
#include "core/anomaly/series.h"

namespace pulse {

// What the time of day adds: of each slot the median of the last days, of two the lower, so that
// one day with a fault counts for nothing; interpolated between the middles of slots. Nothing
// until every slot was seen.
class DailyPattern {
  public:
    bool known() const { return slots_known_ == kAnomalyDaySlots; }
    double at(uint32_t second_of_day) const;
    // Returns true if the day has just become known.
    bool observe(uint32_t second_of_day, double value);

  private:
    // The last days, and which of them is the oldest.
    struct Slot {
        std::array<float, kAnomalyDaysKept> days{};
        uint8_t known = 0, next = 0;
        float median = 0;
    };
    bool close_slot();

    std::array<Slot, kAnomalyDaySlots> slots_{};
    uint32_t slots_known_ = 0;
    uint32_t slot_ = 0;  // the present one
    uint32_t samples_ = 0;
    double sum_ = 0;
};

class Baseline {
  public:
    explicit Baseline(const AnomalySeriesInfo& info) : info_(&info), spread_(info.spread_min) {}

    // How far `value` is above the baseline, in spreads; negative below it. Requires: it is finite,
    // and at least 0.
    double distance(double value, uint32_t second_of_day) const;
    // What is normal now, in the unit of the series.
    double expected(uint32_t second_of_day) const;
    // `value` is a part of what is normal.
    void learn(double value, uint32_t second_of_day);
    // It is not, but may be so each day at this time.
    void learn_pattern(double value, uint32_t second_of_day) {
        observe_pattern(scaled(value), second_of_day);
    }
    // The level is that of `value` from now on, which has lasted; until the values are nearer to
    // what was normal before for a while.
    void adopt(double value, uint32_t second_of_day);

    bool learned() const { return samples_ >= kAnomalyLearnSamples; }
    bool knows_day() const { return pattern_.known(); }

  private:
    void observe_pattern(double at, uint32_t second_of_day);
    void return_to_before(double at, uint32_t second_of_day);
    double scaled(double value) const;
    double unscaled(double value) const;
    double centre(uint32_t second_of_day) const { return level_ + pattern_.at(second_of_day); }

    const AnomalySeriesInfo* info_;
    uint32_t samples_ = 0;
    double level_ = 0;
    double spread_;
    DailyPattern pattern_;
    bool adopted_ = false;
    double before_ = 0;          // the level, where it is another by adopt()
    uint32_t back_samples_ = 0;  // in a row that were nearer to that
};

}  // namespace pulse
