// A log-linear histogram of durations: 3 significant digits from 1 us to 1 h, recording in a few
// instructions and, once it is reserved, without allocation, merging and subtracting exactly.
//
// The layout is HdrHistogram's for (lowest 1, highest 3.6e9, 3 digits) in microseconds, index for
// index: values below 2,048 us have a counter each, and every doubling after that has 1,024 more.
//
//     bucket 0:  0, 1, 2 ... 2047     bucket 1:  2048, 2050 ... 4094     bucket 2:  4096, 4100 ...
//
// A counter is 64 bits in two halves that live apart: the high word is there for counters that pass
// 2^32 alone. What has memory is a page for each 1,024 neighbouring counters that values fell into:
// 8 KiB for a loop whose turns take 1 us to 2 ms, 4 KiB for each doubling above that. So an empty
// one has none, and hundreds of copies come and go with each scrape. One that is reserved has
// address space for all pages, 184 KiB, which the system backs by memory alike.
//
// Not thread-safe: one writer, and who reads does so on the writer's thread or reads a copy.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
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

    Histogram() = default;
    ~Histogram();
    Histogram(const Histogram& other);
    Histogram& operator=(const Histogram& other);
    // Takes other's counters and leaves its own there.
    Histogram& operator=(Histogram&& other) noexcept;

    // What stands for so many of something in a histogram of amounts: as many microseconds.
    static constexpr Nanos amount(uint64_t count) { return static_cast<Nanos>(count * kUnitNanos); }

    // No record() allocates any more, but for high words. Requires: it is empty.
    void reserve();
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
        const uint32_t page = counter / kPageCounters, place = counter % kPageCounters;
        const uint64_t low = low_[page] == nullptr ? 0 : low_[page][place];
        return high_[page] == nullptr ? low : low | uint64_t{high_[page][place]} << 32;
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
    static constexpr uint32_t kPageCounters = kSubBuckets / 2;
    static constexpr uint32_t kPages = kCounters / kPageCounters;
    // nullptr: none of its words has a value. A high one is not there without its low one.
    using Pages = std::array<uint32_t*, kPages>;

    struct Free {
        void operator()(uint32_t* words) const { std::free(words); }
    };
    static constexpr Nanos to_nanos(uint64_t units) {
        return static_cast<Nanos>(units * kUnitNanos);
    }

    void add(uint32_t counter, uint32_t times) {
        uint32_t& low = word(low_, counter);
        low += times;
        if (low < times) [[unlikely]]
            ++word(high_, counter);
    }
    uint32_t& word(Pages& pages, uint32_t counter) {
        uint32_t*& page = pages[counter / kPageCounters];
        if (page == nullptr) [[unlikely]]
            page = make_page();
        return page[counter % kPageCounters];
    }
    static uint32_t* make_page();
    void set(uint32_t counter, uint64_t count);
    void add_page(uint32_t page, const Histogram& other);
    // Calls f(counter, count) for each counter that is not zero, upwards.
    template <class F>
    void for_each(F&& f) const {
        if (count_ == 0) return;
        const uint32_t end = counter_of(max_units_) + 1;
        for (uint32_t counter = counter_of(min_units_) / kBlock * kBlock; counter < end;) {
            const uint32_t page = counter / kPageCounters;
            const uint32_t* const low = low_[page];
            const uint32_t* const high = high_[page];
            if (low == nullptr) {
                counter = (page + 1) * kPageCounters;
                continue;
            }
            const uint32_t block_end = counter + kBlock;
            if (is_empty(page, counter % kPageCounters)) counter = block_end;
            for (; counter < block_end; ++counter) {
                const uint32_t place = counter % kPageCounters;
                const uint64_t above = high == nullptr ? 0 : high[place];
                if (const uint64_t count = low[place] | above << 32; count != 0) f(counter, count);
            }
        }
    }
    // Most counters between two that have counted have not: so many at a time are passed over.
    static constexpr uint32_t kBlock = 32;
    bool is_empty(uint32_t page, uint32_t place) const {
        uint32_t any = 0;
        for (const Pages* const pages : {&low_, &high_}) {
            const uint32_t* const words = (*pages)[page];
            if (words == nullptr) continue;
            for (uint32_t i = 0; i < kBlock; ++i) any |= words[place + i];
        }
        return any == 0;
    }

    bool has_values(uint32_t page) const {
        for (uint32_t place = 0; place < kPageCounters; place += kBlock)
            if (!is_empty(page, place)) return true;
        return false;
    }

    Pages low_{}, high_{};
    std::unique_ptr<uint32_t[], Free> reserved_;  // all low pages, where it is reserved
    uint64_t count_ = 0;
    uint64_t sum_units_ = 0;
    uint64_t min_units_ = UINT64_MAX;  // no counter below its is in use
    uint64_t max_units_ = 0;           // nor above its
};

static_assert(Histogram::counter_of(Histogram::kHighestUnits) < Histogram::kCounters);

}  // namespace pulse
