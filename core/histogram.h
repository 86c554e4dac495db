// A log-linear histogram of durations: 3 significant digits from 1 us to 1 h, recording in a few
// instructions without allocation, merging and subtracting exactly.
//
// The layout is HdrHistogram's for (lowest 1, highest 3.6e9, 3 digits) in microseconds, index for
// index: values below 2,048 us have a counter each, and every doubling after that has 1,024 more.
//
//     bucket 0:  0, 1, 2 ... 2047     bucket 1:  2048, 2050 ... 4094     bucket 2:  4096, 4100 ...
//
// A counter is 64 bits in two halves that live apart: 23,552 low words and, behind them, as many
// high words, which only a counter that passes 2^32 touches. What is reserved is 184 KiB; what is
// backed by memory is a page for each 1,024 neighbouring counters that values fell into: 8 KiB for
// a loop whose turns take 1 us to 2 ms, 4 KiB for each doubling above that.
//
// Not thread-safe: one writer, and who reads does so on the writer's thread or reads a copy.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "core/check.h"
#include "core/types.h"

namespace pulse {

class Histogram {
  public:
    static constexpr uint32_t kSubBucketsLog2 =
        11;  // 2,048: three digits, also just after a doubling
    static constexpr uint32_t kSubBuckets = 1u << kSubBucketsLog2;
    static constexpr uint64_t kUnitNanos = 1'000;
    static constexpr uint64_t kHighestUnits =
        3'600'000'000;  // 1 h; what is longer is counted there
    static constexpr uint32_t kCounters = 23 * (kSubBuckets / 2);

    Histogram();
    Histogram(const Histogram& other);
    Histogram& operator=(const Histogram& other);
    // Takes other's counters and leaves its own there.
    Histogram& operator=(Histogram&& other) noexcept;

    // What stands for so many of something in a histogram of amounts: as many microseconds.
    static constexpr Nanos amount(uint64_t count) { return static_cast<Nanos>(count * kUnitNanos); }

    // Rounded to the nearest microsecond: below half of one is 0, as are negative durations; above
    // an hour is an hour.
    void record(Nanos duration, uint32_t times = 1) {
        const uint64_t nanos = duration < 0 ? 0 : static_cast<uint64_t>(duration);
        uint64_t units = (nanos + kUnitNanos / 2) / kUnitNanos;
        if (units > kHighestUnits) units = kHighestUnits;
        add(counter_of(units), times);
        count_ += times;
        sum_units_ += units * times;
        if (units < min_units_) min_units_ = units;
        if (units > max_units_) max_units_ = units;
    }

    uint64_t count() const { return count_; }
    // 0 when nothing was recorded.
    Nanos min() const { return count_ == 0 ? 0 : to_nanos(min_units_); }
    Nanos max() const { return to_nanos(max_units_); }
    double mean() const;  // in nanoseconds, of the rounded values
    // The value that `percent` (0..100) of the recorded ones do not exceed; the highest of its
    // counter, and never above max(). 0 when nothing was recorded.
    Nanos percentile(double percent) const;

    void merge(const Histogram& other);
    // What was recorded since `earlier`, a copy of this one. Exact but for min and max, which
    // become the bounds of the counters that are left.
    void subtract(const Histogram& earlier);
    void reset();

    // Calls visit(lowest_nanos, highest_nanos, count) for each counter that is not zero, upwards.
    template <class Visit>
    void visit(Visit&& visit) const {
        for_each([&](uint32_t counter, uint64_t count) {
            visit(to_nanos(lowest_of(counter)), to_nanos(highest_of(counter)), count);
        });
    }
    // By position, for exporters; HdrHistogram's index.
    uint64_t counter_at(uint32_t counter) const {
        const uint32_t* const words = counters_.get();
        return words[counter] | uint64_t{words[kCounters + counter]} << 32;
    }

    static constexpr uint32_t counter_of(uint64_t units) {
        const auto width = static_cast<uint32_t>(std::bit_width(units | (kSubBuckets - 1)));
        const uint32_t bucket = width - kSubBucketsLog2;
        return bucket * (kSubBuckets / 2) + static_cast<uint32_t>(units >> bucket);
    }
    static constexpr uint64_t lowest_of(uint32_t counter) {
        if (counter < kSubBuckets) return counter;
        const uint32_t bucket = counter / (kSubBuckets / 2) - 1;
        return uint64_t{counter - bucket * (kSubBuckets / 2)} << bucket;
    }
    static constexpr uint64_t highest_of(uint32_t counter) { return lowest_of(counter + 1) - 1; }

  private:
    struct Free {
        void operator()(uint32_t* counters) const { std::free(counters); }
    };
    static constexpr Nanos to_nanos(uint64_t units) {
        return static_cast<Nanos>(units * kUnitNanos);
    }

    void add(uint32_t counter, uint32_t times) {
        uint32_t& low = counters_.get()[counter];
        low += times;
        if (low < times) [[unlikely]]
            ++counters_.get()[kCounters + counter];
    }
    void set(uint32_t counter, uint64_t count);
    // Calls f(counter, count) for each counter that is not zero, upwards.
    template <class F>
    void for_each(F&& f) const {
        for_each_block([&](uint32_t counter, uint32_t end) {
            for (; counter < end; ++counter)
                if (const uint64_t count = counter_at(counter); count != 0) f(counter, count);
        });
    }
    // Calls f(begin, end) for blocks of counters, upwards, that hold all which are not zero. A copy
    // is made each second for a page or a scrape; most counters between two that have counted have
    // not, and so many of them at a time are passed over.
    static constexpr uint32_t kBlock = 32;
    template <class F>
    void for_each_block(F&& f) const {
        if (count_ == 0) return;
        const uint32_t end = counter_of(max_units_) + 1;
        for (uint32_t counter = counter_of(min_units_); counter < end; counter += kBlock) {
            const uint32_t block_end = std::min(end, counter + kBlock);
            if (block_end - counter < kBlock || !is_empty(counter)) f(counter, block_end);
        }
    }
    bool is_empty(uint32_t block) const {
        const uint32_t* const low = counters_.get() + block;
        const uint32_t* const high = low + kCounters;
        uint32_t any = 0;
        for (uint32_t i = 0; i < kBlock; ++i) any |= low[i] | high[i];
        return any == 0;
    }
    bool merge_low_words(const Histogram& other, uint32_t block);

    std::unique_ptr<uint32_t[], Free> counters_;  // low words, then high words
    uint64_t count_ = 0;
    uint64_t sum_units_ = 0;
    uint64_t min_units_ = UINT64_MAX;  // no counter below its is in use
    uint64_t max_units_ = 0;           // nor above its
};

static_assert(Histogram::counter_of(Histogram::kHighestUnits) < Histogram::kCounters);

}  // namespace pulse
