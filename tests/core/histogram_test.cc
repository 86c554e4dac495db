// The histogram: HdrHistogram's layout, three digits everywhere, agreement with a sorted vector,
// and arithmetic that loses nothing.
#include "core/histogram.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "core/random.h"

#include "tests/support/allocation_count.h"
#include "tests/support/scale.h"

namespace pulse {
namespace {

constexpr Nanos kMicro = 1'000;
constexpr Nanos kHour = 3'600 * kSecond;

using Entry = std::tuple<Nanos, Nanos, uint64_t>;
std::vector<Entry> entries(const Histogram& histogram) {
    std::vector<Entry> found;
    histogram.visit([&](Nanos low, Nanos high, uint64_t n) { found.emplace_back(low, high, n); });
    return found;
}

// HdrHistogram's own arithmetic, as its specification words it: bucket, sub-bucket, index.
uint32_t hdr_index(uint64_t value) {
    uint32_t bucket = 0;
    while ((value >> bucket) >= 2048) ++bucket;
    const auto sub_bucket = static_cast<uint32_t>(value >> bucket);
    return bucket == 0 ? sub_bucket : (bucket + 1) * 1024 + (sub_bucket - 1024);
}

TEST(HistogramLayout, IsHdrHistograms) {
    EXPECT_EQ(Histogram::kCounters, 23'552u);  // its counts array for (1, 3.6e9, 3)
    for (uint64_t units = 0; units < 100'000; ++units) {
        ASSERT_EQ(Histogram::counter_of(units), hdr_index(units)) << units;
    }
    for (uint32_t bits = 11; bits < 32; ++bits) {
        for (const int64_t near : {-2, -1, 0, 1, 2}) {
            const uint64_t units = static_cast<uint64_t>((int64_t{1} << bits) + near);
            ASSERT_EQ(Histogram::counter_of(units), hdr_index(units)) << units;
        }
    }
    EXPECT_EQ(Histogram::counter_of(Histogram::kHighestUnits), hdr_index(3'600'000'000));
}

TEST(HistogramLayout, CountersCoverEveryValueOnceWithThreeDigits) {
    uint64_t next = 0;
    for (uint32_t counter = 0; counter < Histogram::kCounters; ++counter) {
        const uint64_t low = Histogram::lowest_of(counter);
        const uint64_t high = Histogram::highest_of(counter);
        ASSERT_EQ(low, next) << "no gap before counter " << counter;
        ASSERT_EQ(Histogram::counter_of(low), counter);
        ASSERT_EQ(Histogram::counter_of(high), counter);
        ASSERT_LE((high - low) * 1'000, std::max<uint64_t>(low, 1)) << "three digits at " << low;
        next = high + 1;
    }
    EXPECT_GT(next, Histogram::kHighestUnits);
}

TEST(Histogram, IsEmptyAtFirst) {
    const Histogram histogram;
    EXPECT_EQ(histogram.count(), 0u);
    EXPECT_EQ(histogram.min(), 0);
    EXPECT_EQ(histogram.max(), 0);
    EXPECT_EQ(histogram.mean(), 0);
    EXPECT_EQ(histogram.percentile(50), 0);
    EXPECT_TRUE(entries(histogram).empty());
}

TEST(Histogram, RoundsAndBoundsWhatItIsGiven) {
    struct Case {
        Nanos given;
        Nanos kept;
    };
    for (const Case c : {Case{0, 0}, Case{-5, 0}, Case{INT64_MIN, 0}, Case{499, 0},
                         Case{500, kMicro}, Case{1'499, kMicro}, Case{kHour, kHour},
                         Case{kHour + kSecond, kHour}, Case{kNever, kHour}}) {
        Histogram histogram;
        histogram.record(c.given);
        EXPECT_EQ(histogram.min(), c.kept) << c.given;
        EXPECT_EQ(histogram.max(), c.kept) << c.given;
        EXPECT_EQ(histogram.mean(), static_cast<double>(c.kept)) << c.given;
        EXPECT_EQ(histogram.percentile(100), c.kept) << c.given;
        EXPECT_EQ(histogram.count(), 1u);
    }
}

TEST(Histogram, PercentilesCountWholeValues) {
    Histogram histogram;
    for (Nanos i = 1; i <= 1'000; ++i) histogram.record(i * kMicro);
    struct Case {
        double percent;
        Nanos value;
    };
    for (const Case c : {Case{0, 1}, Case{0.05, 1}, Case{0.1, 1}, Case{0.11, 2}, Case{50, 500},
                         Case{50.01, 501}, Case{99, 990}, Case{99.9, 999}, Case{99.91, 1'000},
                         Case{100, 1'000}, Case{-3, 1}, Case{200, 1'000}}) {
        EXPECT_EQ(histogram.percentile(c.percent), c.value * kMicro) << c.percent;
    }
    Histogram quarter;  // 64.4 % of 250 are 161, and a little more in floating point
    for (Nanos i = 1; i <= 250; ++i) quarter.record(i * kMicro);
    EXPECT_EQ(quarter.percentile(64.4), 161 * kMicro);
}

TEST(Histogram, RecordsManyAtOnceAndPast32Bits) {
    Histogram histogram;
    for (int i = 0; i < 3; ++i) histogram.record(7 * kMicro, UINT32_MAX);
    histogram.record(9 * kMicro);
    const uint64_t many = uint64_t{UINT32_MAX} * 3;
    EXPECT_EQ(histogram.count(), many + 1);
    EXPECT_EQ(entries(histogram), (std::vector<Entry>{{7'000, 7'000, many}, {9'000, 9'000, 1}}));
    EXPECT_EQ(histogram.percentile(99.99), 7 * kMicro);
    EXPECT_EQ(histogram.max(), 9 * kMicro);

    Histogram copy = histogram;
    copy.merge(histogram);
    EXPECT_EQ(copy.counter_at(7), many * 2);
    copy.subtract(histogram);
    EXPECT_EQ(entries(copy), entries(histogram));
    copy.reset();
    EXPECT_EQ(copy.counter_at(7), 0u);
    EXPECT_TRUE(entries(copy).empty());
}

size_t allocated_bytes() {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

TEST(Histogram, AllocatesNothingWhenRecordingOnceItIsReserved) {
    Histogram histogram;
    histogram.reserve();
    const size_t before = allocated_bytes();
    for (Nanos at = 1; at < kHour; at += at / 50 + 1) histogram.record(at);
    EXPECT_EQ(allocated_bytes(), before);
    EXPECT_GT(histogram.count(), 1'000u);
}

// In the heap its pages would be backed by memory, whether there are values in them or not. As the
// server sets it, since malloc() maps less and less once large blocks were freed.
TEST(Histogram, IsMappedWhereItIsReserved) {
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    if (!test::kAllocationsCounted) GTEST_SKIP() << "a sanitizer brings an allocator of its own";
    const size_t heap = mallinfo2().uordblks, mapped = mallinfo2().hblkhd;
    Histogram histogram;
    histogram.reserve();
    EXPECT_EQ(mallinfo2().uordblks, heap);
    EXPECT_GE(mallinfo2().hblkhd, mapped + 2 * Histogram::kCounters * sizeof(uint32_t));
}

TEST(Histogram, TakesMemoryWhereItHasValues) {
    const size_t before = allocated_bytes();
    const Histogram empty, copy_of_empty = empty;
    EXPECT_EQ(allocated_bytes(), before);
    Histogram histogram;
    histogram.reserve();
    histogram.record(2 * kMillisecond);
    const size_t whole = allocated_bytes();
    Histogram copy = histogram;
    EXPECT_LT(allocated_bytes() - whole, 5'000u);
    // It takes what is longer all the same, from itself and from others.
    histogram.record(kHour);
    copy.record(30 * kSecond);
    Histogram other;
    other.merge(copy);
    other.merge(histogram);
    EXPECT_EQ(entries(other).size(), 3u);
    EXPECT_EQ(other.count(), 4u);
    EXPECT_EQ(other.max(), kHour);
    other = empty;
    EXPECT_TRUE(entries(other).empty());
    EXPECT_EQ(empty.counter_at(Histogram::kCounters - 1), 0u);
}

// Durations over all magnitudes, some of them crowded together.
std::vector<Nanos> draw(Random& random, uint64_t count) {
    std::vector<Nanos> values;
    while (values.size() < count) {
        const Nanos top = Nanos{1} << random.between(1, 41);
        values.push_back(static_cast<Nanos>(random.below(static_cast<uint64_t>(top))));
        if (random.chance(1, 4)) values.push_back(values.back());
    }
    return values;
}
Histogram histogram_of(const std::vector<Nanos>& values) {
    Histogram histogram;
    for (const Nanos value : values) histogram.record(value);
    return histogram;
}
void expect_same(const Histogram& a, const Histogram& b) {
    EXPECT_EQ(a.count(), b.count());
    EXPECT_DOUBLE_EQ(a.mean(), b.mean());
    EXPECT_EQ(entries(a), entries(b));
}

TEST(HistogramOracle, AgreesWithASortedVector) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Random random(seed);
        std::vector<Nanos> values = draw(random, test::scaled(20'000) / seed);
        const Histogram histogram = histogram_of(values);
        std::sort(values.begin(), values.end());
        double sum = 0;
        for (const Nanos value : values) sum += static_cast<double>(value);
        ASSERT_EQ(histogram.count(), values.size());
        EXPECT_NEAR(static_cast<double>(histogram.min()), static_cast<double>(values.front()), 500);
        EXPECT_NEAR(static_cast<double>(histogram.max()), static_cast<double>(values.back()), 500);
        EXPECT_NEAR(histogram.mean(), sum / static_cast<double>(values.size()), 500);
        for (const double percent : {0.0, 1.0, 10.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
            const double rank =
                std::ceil(percent * static_cast<double>(values.size()) / 100 - 1e-9);
            const auto position = std::max<size_t>(1, static_cast<size_t>(rank)) - 1;
            const auto exact = static_cast<double>(values[position]);
            const auto ours = static_cast<double>(histogram.percentile(percent));
            EXPECT_GE(ours, exact - 500) << percent;  // half a unit of rounding
            EXPECT_LE(ours, exact * 1.001 + 500) << percent;
        }
    }
}

TEST(HistogramOracle, MergingIsRecordingTogether) {
    Random random(5);
    std::vector<Nanos> all;
    Histogram merged;
    for (int reactor = 0; reactor < 6; ++reactor) {
        const std::vector<Nanos> values = draw(random, reactor == 3 ? 0 : 500);
        merged.merge(histogram_of(values));
        all.insert(all.end(), values.begin(), values.end());
    }
    const Histogram together = histogram_of(all);
    expect_same(merged, together);
    EXPECT_EQ(merged.min(), together.min());
    EXPECT_EQ(merged.max(), together.max());
}

// Counters are passed over in blocks: wherever two stand, both are seen, and no third.
TEST(Histogram, VisitsCountersAtEveryDistance) {
    for (uint64_t first = 0; first < 70; ++first) {
        for (uint64_t distance = 1; distance < 140; ++distance) {
            Histogram histogram;
            histogram.record(Histogram::amount(first), 2);
            histogram.record(Histogram::amount(first + distance), 3);
            std::vector<std::pair<Nanos, uint64_t>> seen;
            histogram.visit([&](Nanos lowest, Nanos, uint64_t count) {
                seen.emplace_back(lowest, count);
            });
            ASSERT_EQ(seen.size(), 2u) << first << " " << distance;
            EXPECT_EQ(seen[0], std::pair(Histogram::amount(first), uint64_t{2}));
            EXPECT_EQ(seen[1], std::pair(Histogram::amount(first + distance), uint64_t{3}));
        }
    }
    Histogram past;  // a counter whose low word is 0
    past.record(0);
    for (int i = 0; i < 16; ++i) past.record(Histogram::amount(50), 1u << 28);
    past.record(Histogram::amount(150));
    EXPECT_EQ(past.percentile(50), Histogram::amount(50));
    // Merged, low words pass 2^32 in the middle of a block, and high words are added.
    Histogram sum = past;
    for (int i = 0; i < 2; ++i) {
        Histogram half;
        half.record(0);
        half.record(Histogram::amount(50), 1u << 31);
        half.record(Histogram::amount(51), 1u << 31);
        half.record(Histogram::amount(150));
        sum.merge(half);
    }
    sum.merge(past);
    std::vector<uint64_t> counts;
    sum.visit([&](Nanos, Nanos, uint64_t count) { counts.push_back(count); });
    EXPECT_EQ(counts, (std::vector<uint64_t>{4, 3ull << 32, 1ull << 32, 4}));
}

TEST(Histogram, IsAddedToItselfAndTakenFromItself) {
    Histogram one;
    one.reserve();
    one.record(7 * kMicro, 1u << 31);
    one.record(kHour);
    for (uint64_t times = 2; times <= 8; times *= 2) {
        one.merge(one);
        EXPECT_EQ(one.count(), times + (times << 31));
        EXPECT_EQ(one.counter_at(7), times << 31);
    }
    EXPECT_EQ(one.max(), kHour);
    one.subtract(one);
    EXPECT_EQ(one.count(), 0u);
    EXPECT_TRUE(entries(one).empty());
}

TEST(Histogram, MovingTakesTheCounters) {
    Histogram from;
    Histogram into;
    from.record(3 * kMillisecond, 5);
    into.record(kSecond);
    into = std::move(from);
    EXPECT_EQ(into.count(), 5u);
    EXPECT_EQ(into.max(), 3 * kMillisecond);
    EXPECT_EQ(into.percentile(100), 3 * kMillisecond);
    // What was moved from has the other's, and is a histogram still, which can be recorded into.
    EXPECT_EQ(from.count(), 1u);
    EXPECT_EQ(from.max(), kSecond);
    from.reset();
    from.record(kMillisecond);
    EXPECT_EQ(from.count(), 1u);
    EXPECT_EQ(from.max(), kMillisecond);
    EXPECT_EQ(into.count(), 5u);
}

TEST(HistogramOracle, SubtractingLeavesTheInterval) {
    Random random(6);
    Histogram running;
    Histogram earlier;
    for (int interval = 0; interval < 10; ++interval) {
        const std::vector<Nanos> values = draw(random, interval == 4 ? 0 : 300);
        for (const Nanos value : values) running.record(value);
        Histogram difference = running;
        difference.subtract(earlier);
        const Histogram alone = histogram_of(values);
        expect_same(difference, alone);
        // The bounds of their counters, and those hold the true ones.
        EXPECT_LE(difference.min(), alone.min());
        EXPECT_GE(difference.max(), alone.max());
        EXPECT_EQ(difference.percentile(50), alone.percentile(50));
        difference.merge(earlier);
        expect_same(difference, running);
        earlier = running;
    }
}

TEST(HistogramDeathTest, SubtractingMoreThanItHasAborts) {
    Histogram small;
    Histogram large;
    large.record(kMicro);
    EXPECT_DEATH(small.subtract(large), "counter_at");
}

}  // namespace
}  // namespace pulse
