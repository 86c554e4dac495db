// Finds when a series of the server is not what it was: a robust baseline (baseline.h), and over
// the distance from it a CUSUM (Page 1954), which adds up what exceeds an allowance until that is
// too much. Upwards only: about fewer evictions, misses or newcomers, or shorter times, there is
// nothing to do.
//
//     Detector detector;
//     each interval:  detector.observe(sample)
//                     detector.state(series)    quiet, or the anomaly with its evidence
//
// Fixed memory, O(1) a sample; no clock, since a sample has its time of day. `bench/anomaly/`
// measures it on simulated days, beside simpler and more complicated ones.
#pragma once

#include <array>
#include <cstdint>

#include "core/anomaly/baseline.h"
#include "core/anomaly/limits.h"
#include "core/anomaly/series.h"

namespace pulse {

// What decides; the study varies it.
struct DetectorRules {
    double allowance = kAnomalyAllowance;
    double first_day_allowance = kAnomalyFirstDayAllowance;
    double threshold = kAnomalyThreshold;
};

class SeriesWatch {
  public:
    SeriesWatch(const AnomalySeriesInfo& info, const DetectorRules& rules)
        : baseline_(info), rules_(rules) {}

    // One more sample. kNotMeasured says nothing, neither for an anomaly nor for its end.
    void observe(double value, uint32_t second_of_day);

    // ---- after observe()
    bool learned() const { return baseline_.learned(); }
    bool active() const { return active_; }
    // With this sample an anomaly began, or was over.
    bool began() const { return began_; }
    bool ended() const { return ended_; }
    // It was over because it has become what is normal.
    bool adopted() const { return ended_ && adopted_; }
    double value() const { return value_; }
    double expected() const { return expected_; }
    // From the baseline, in spreads.
    double distance() const { return distance_; }
    // The sum, as a part of what is too much: 1 is an anomaly.
    double score() const { return sum_ / rules_.threshold; }
    // How many samples ago the values began to be too high, this one included; 0: they are not.
    uint32_t samples_since() const { return high_samples_; }
    // Of the anomaly, or of the last one.
    double peak() const { return peak_; }
    double peak_distance() const { return peak_distance_; }

  private:
    void judge(double allowance);
    void end(bool adopted);

    Baseline baseline_;
    DetectorRules rules_;
    double value_ = 0, expected_ = 0, distance_ = 0;
    double sum_ = 0;
    double peak_ = 0, peak_distance_ = 0;
    uint32_t high_samples_ = 0;
    uint32_t calm_samples_ = 0;
    uint32_t active_samples_ = 0;
    bool active_ = false, began_ = false, ended_ = false, adopted_ = false;
};

class Detector {
  public:
    explicit Detector(const DetectorRules& rules = {})
        : series_{{{kAnomalySeriesInfos[0], rules},
                   {kAnomalySeriesInfos[1], rules},
                   {kAnomalySeriesInfos[2], rules},
                   {kAnomalySeriesInfos[3], rules},
                   {kAnomalySeriesInfos[4], rules}}} {}

    void observe(const AnomalySample& sample) {
        for (size_t series = 0; series < kAnomalySeries; ++series)
            series_[series].observe(sample.values[series], sample.second_of_day);
    }
    const SeriesWatch& state(AnomalySeries series) const {
        return series_[static_cast<size_t>(series)];
    }
    bool any_active() const {
        for (const SeriesWatch& series : series_)
            if (series.active()) return true;
        return false;
    }

  private:
    std::array<SeriesWatch, kAnomalySeries> series_;
};

}  // namespace pulse
