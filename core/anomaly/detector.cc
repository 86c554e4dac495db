// One series at a time.
#include "core/anomaly/detector.h"

#include <algorithm>
#include <cmath>

namespace pulse {

void SeriesWatch::observe(double value, uint32_t second_of_day) {
    began_ = ended_ = false;
    if (!std::isfinite(value)) return;
    value_ = std::max(0.0, value);
    expected_ = baseline_.expected(second_of_day);
    distance_ = baseline_.learned() ? baseline_.distance(value_, second_of_day) : 0;
    if (baseline_.learned())
        judge(baseline_.knows_day() ? rules_.allowance : rules_.first_day_allowance);
    // What is not normal is not learned; what stays is, and what comes each day.
    if (adopted()) baseline_.adopt(value_, second_of_day);
    if (active_)
        baseline_.learn_pattern(value_, second_of_day);
    else
        baseline_.learn(value_, second_of_day);
}

void SeriesWatch::judge(double allowance) {
    const double excess = std::clamp(distance_, -kAnomalyDistanceMax, kAnomalyDistanceMax);
    sum_ = std::clamp(sum_ + excess - allowance, 0.0, 2 * rules_.threshold);
    high_samples_ = sum_ > 0 || active_ ? high_samples_ + 1 : 0;
    if (!active_) {
        if (sum_ < rules_.threshold) return;
        active_ = began_ = true;
        active_samples_ = calm_samples_ = 0;
        peak_ = peak_distance_ = 0;
    }
    if (distance_ > peak_distance_) {
        peak_distance_ = distance_;
        peak_ = value_;
    }
    ++active_samples_;
    calm_samples_ = distance_ < allowance ? calm_samples_ + 1 : 0;
    if (calm_samples_ >= kAnomalyCalmSamples)
        end(false);
    else if (active_samples_ >= kAnomalySamplesMax)
        end(true);
}

void SeriesWatch::end(bool adopted) {
    active_ = false;
    ended_ = true;
    adopted_ = adopted;
    sum_ = 0;
    high_samples_ = 0;
}

}  // namespace pulse
