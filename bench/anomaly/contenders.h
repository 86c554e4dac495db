// What the study compares: each sees the samples of one server in their order, and says at each
// whether it raises an alarm.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/anomaly/detector.h"

#include "bench/anomaly/days.h"

namespace pulse::study {

class Contender {
  public:
    virtual ~Contender() = default;
    // The server has begun anew.
    virtual void reset() = 0;
    virtual bool alarms(const AnomalySample& sample) = 0;
};

// An alarm where a value is more than so many times the mean of the server's first day, for so many
// samples in a row: what an operator who looks at a graph writes into a rule.
class FixedThreshold final : public Contender {
  public:
    FixedThreshold(double of_counts, double of_times, uint32_t in_a_row)
        : times_{of_counts, of_times}, in_a_row_(in_a_row) {}
    void reset() override {}  // the rule outlives the server
    bool alarms(const AnomalySample& sample) override;

  private:
    std::array<double, 2> times_;  // by SeriesScale
    uint32_t in_a_row_;
    std::array<uint32_t, kAnomalySeries> high_{};
    std::array<double, kAnomalySeries> sums_{};
    uint32_t samples_ = 0;
};

// An alarm where a value is more than so many deviations above the mean, where both are averages
// that forget exponentially; for so many samples in a row.
class Ewma final : public Contender {
  public:
    Ewma(double deviations, double hours, uint32_t in_a_row)
        : deviations_(deviations), weight_(kSampleSeconds / (3'600 * hours)), in_a_row_(in_a_row) {}
    void reset() override {
        *this = Ewma(deviations_, kSampleSeconds / (3'600 * weight_), in_a_row_);
    }
    bool alarms(const AnomalySample& sample) override;

  private:
    double deviations_, weight_;
    uint32_t in_a_row_;
    std::array<uint32_t, kAnomalySeries> high_{};
    std::array<double, kAnomalySeries> means_{}, variances_{};
    uint32_t samples_ = 0;
};

// What the server has (core/anomaly/).
class Shipped final : public Contender {
  public:
    explicit Shipped(const DetectorRules& rules = {}) : rules_(rules), detector_(rules) {}
    void reset() override { detector_ = Detector(rules_); }
    bool alarms(const AnomalySample& sample) override {
        detector_.observe(sample);
        return detector_.any_active();
    }
    const Detector& detector() const { return detector_; }

  private:
    DetectorRules rules_;
    Detector detector_;
};

}  // namespace pulse::study
