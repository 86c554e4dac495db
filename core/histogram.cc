// Reading, merging and subtracting histograms.
#include "core/histogram.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace pulse {
namespace {

// calloc, so that pages without values stay untouched.
uint32_t* make_counters() {
    void* counters = std::calloc(size_t{2} * Histogram::kCounters, sizeof(uint32_t));
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

Histogram& Histogram::operator=(Histogram&& other) noexcept {
    std::swap(counters_, other.counters_);
    std::swap(count_, other.count_);
    std::swap(sum_units_, other.sum_units_);
    std::swap(min_units_, other.min_units_);
    std::swap(max_units_, other.max_units_);
    return *this;
}

void Histogram::reset() {
    for_each([this](uint32_t counter, uint64_t) { set(counter, 0); });
    count_ = 0;
    sum_units_ = 0;
    min_units_ = UINT64_MAX;
    max_units_ = 0;
}

// Writes a high word only where it changes, so that its page stays untouched.
void Histogram::set(uint32_t counter, uint64_t count) {
    const auto high = static_cast<uint32_t>(count >> 32);
    counters_[counter] = static_cast<uint32_t>(count);
    if (counters_[kCounters + counter] != high) counters_[kCounters + counter] = high;
}

// Where no high word is in use nor will be, a block at once. False: it is left as it was.
bool Histogram::merge_low_words(const Histogram& other, uint32_t block) {
    uint32_t* const mine = counters_.get() + block;
    const uint32_t* const others = other.counters_.get() + block;
    uint32_t high = 0;
    for (uint32_t i = 0; i < kBlock; ++i)
        high |= others[kCounters + i] | uint32_t{mine[i] + others[i] < mine[i]};
    if (high != 0) return false;
    for (uint32_t i = 0; i < kBlock; ++i) mine[i] += others[i];
    return true;
}

void Histogram::merge(const Histogram& other) {
    other.for_each_block([&](uint32_t counter, uint32_t end) {
        if (end - counter == kBlock && merge_low_words(other, counter)) return;
        for (; counter < end; ++counter) {
            const uint64_t count = other.counter_at(counter);
            if (count != 0) set(counter, counter_at(counter) + count);
        }
    });
    count_ += other.count_;
    sum_units_ += other.sum_units_;
    min_units_ = std::min(min_units_, other.min_units_);
    max_units_ = std::max(max_units_, other.max_units_);
}

void Histogram::subtract(const Histogram& earlier) {
    earlier.for_each([this](uint32_t counter, uint64_t count) {
        PULSE_ASSERT(counter_at(counter) >= count);
        set(counter, counter_at(counter) - count);
    });
    uint64_t min_units = UINT64_MAX;
    uint64_t max_units = 0;
    for_each([&](uint32_t counter, uint64_t) {
        if (min_units == UINT64_MAX) min_units = std::max(lowest_of(counter), min_units_);
        max_units = std::min(highest_of(counter), max_units_);
    });
    count_ -= earlier.count_;
    sum_units_ -= earlier.sum_units_;
    min_units_ = min_units;
    max_units_ = max_units;
}

double Histogram::mean() const {
    if (count_ == 0) return 0;
    return static_cast<double>(sum_units_) * kUnitNanos / static_cast<double>(count_);
}

Nanos Histogram::percentile(double percent) const {
    if (count_ == 0) return 0;
    // The next lower double: 99.9 is a little more than 999 of 1,000, and must not become 1,000.
    const double asked = std::nextafter(std::clamp(percent, 0.0, 100.0), 0.0);
    const double exact = std::ceil(asked * static_cast<double>(count_) / 100);
    const uint64_t wanted = std::clamp<uint64_t>(static_cast<uint64_t>(exact), 1, count_);
    uint64_t seen = 0;
    Nanos found = max();
    for_each([&](uint32_t counter, uint64_t count) {
        const bool before = seen < wanted;
        seen += count;
        if (before && seen >= wanted) found = to_nanos(std::min(highest_of(counter), max_units_));
    });
    return found;
}

}  // namespace pulse
