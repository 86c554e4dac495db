// Reading, merging and subtracting histograms.
#include "core/histogram.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace pulse {
namespace {

// calloc, so that pages without values stay untouched.
uint32_t* make_counters() {
    void* counters = std::calloc(Histogram::kCounters, sizeof(uint32_t));
    PULSE_ASSERT(counters != nullptr);
    return static_cast<uint32_t*>(counters);
}

}  // namespace

Histogram::Histogram() : counters_(make_counters()) {}

Histogram::Histogram(const Histogram& other) : Histogram() { merge(other); }

Histogram& Histogram::operator=(const Histogram& other) {
    if (this == &other) return *this;
    reset();
    merge(other);
    return *this;
}

void Histogram::reset() {
    for (uint32_t i = 0; i < kCounters; ++i) {
        if (counters_[i] != 0) counters_[i] = 0;
    }
    count_ = 0;
    sum_units_ = 0;
    min_units_ = UINT64_MAX;
    max_units_ = 0;
}

void Histogram::merge(const Histogram& other) {
    for (uint32_t i = 0; i < kCounters; ++i) {
        if (other.counters_[i] == 0) continue;
        const uint64_t sum = uint64_t{counters_[i]} + other.counters_[i];
        counters_[i] = static_cast<uint32_t>(std::min<uint64_t>(sum, UINT32_MAX));
    }
    count_ += other.count_;
    sum_units_ += other.sum_units_;
    min_units_ = std::min(min_units_, other.min_units_);
    max_units_ = std::max(max_units_, other.max_units_);
}

void Histogram::subtract(const Histogram& earlier) {
    for (uint32_t i = 0; i < kCounters; ++i) {
        if (earlier.counters_[i] != 0) counters_[i] -= earlier.counters_[i];
    }
    count_ -= earlier.count_;
    sum_units_ -= earlier.sum_units_;
    find_extremes();
}

void Histogram::find_extremes() {
    min_units_ = UINT64_MAX;
    max_units_ = 0;
    for (uint32_t i = 0; i < kCounters; ++i) {
        if (counters_[i] == 0) continue;
        min_units_ = std::min(min_units_, lowest_of(i));
        max_units_ = highest_of(i);
    }
}

double Histogram::mean() const {
    if (count_ == 0) return 0;
    return static_cast<double>(sum_units_) * kUnitNanos / static_cast<double>(count_);
}

Nanos Histogram::percentile(double percent) const {
    if (count_ == 0) return 0;
    const double exact = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(count_);
    const uint64_t wanted = std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(exact)));
    uint64_t seen = 0;
    for (uint32_t i = 0; i < kCounters; ++i) {
        seen += counters_[i];
        if (seen >= wanted) return to_nanos(std::min(highest_of(i), max_units_));
    }
    return max();
}

}  // namespace pulse
