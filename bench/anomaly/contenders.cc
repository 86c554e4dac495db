// The two simple ones.
#include "bench/anomaly/contenders.h"

#include <algorithm>

namespace pulse::study {
namespace {

// Whether a value was high for so many samples in a row.
bool lasts(bool high, uint32_t& count, uint32_t wanted) {
    count = high ? count + 1 : 0;
    return count >= wanted;
}

}  // namespace

bool FixedThreshold::alarms(const AnomalySample& sample) {
    bool alarm = false;
    ++samples_;
    for (size_t series = 0; series < kAnomalySeries; ++series) {
        const double value = sample.values[series];
        if (samples_ <= kSamplesADay) {
            sums_[series] += value;
        } else {
            // Less than ten of anything are never an alarm.
            const SeriesScale scale = kAnomalySeriesInfos[series].scale;
            const double floor = scale == SeriesScale::count ? 10 : 0.01;
            const double mean = sums_[series] / kSamplesADay;
            const bool high = value > std::max(floor, times_[static_cast<size_t>(scale)] * mean);
            alarm |= lasts(high, high_[series], in_a_row_);
        }
    }
    return alarm;
}

bool Ewma::alarms(const AnomalySample& sample) {
    bool alarm = false;
    ++samples_;
    const double weight = std::max(weight_, 1.0 / samples_);
    for (size_t series = 0; series < kAnomalySeries; ++series) {
        const double away = sample.values[series] - means_[series];
        const bool high =
            samples_ > kAnomalyLearnSamples && away > deviations_ * std::sqrt(variances_[series]);
        alarm |= lasts(high, high_[series], in_a_row_);
        means_[series] += weight * away;
        variances_[series] = (1 - weight) * (variances_[series] + weight * away * away);
    }
    return alarm;
}

}  // namespace pulse::study
