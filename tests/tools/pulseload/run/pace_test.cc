// Schedules: what is read, and when events happen.
#include "tools/pulseload/run/pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace pulse::load {
namespace {

PaceSpec spec(std::string_view text) {
    const auto parsed = parse_pace(text);
    EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error());
    return parsed ? *parsed : PaceSpec{};
}

// The events of all shares up to `until`, in order.
std::vector<Nanos> events(const PaceSpec& pace, uint32_t shares, Nanos until, uint64_t seed = 1) {
    std::vector<Nanos> all;
    for (uint32_t share = 0; share < shares; ++share) {
        for (Pace walk(pace, share, shares, seed); walk.next() < until; walk.advance()) {
            all.push_back(walk.next());
        }
    }
    std::ranges::sort(all);
    return all;
}

TEST(Pace, AConstantRateIsEvenAndItsSharesTogetherAreTheWhole) {
    const std::vector<Nanos> one = events(spec("1000/s"), 1, kSecond);
    ASSERT_EQ(one.size(), 1'000u);
    for (size_t i = 0; i < one.size(); ++i) {
        EXPECT_NEAR(static_cast<double>(one[i]), static_cast<double>(i) * 1e6, 2.0);
    }
    EXPECT_EQ(events(spec("1000/s"), 7, kSecond), one);
}

TEST(Pace, ARampHasTheRateOfItsInstant) {
    const std::vector<Nanos> all = events(spec("ramp:0/s..1000/s@10s"), 3, 12 * kSecond);
    const auto until = [&](double s) {
        return std::ranges::count_if(
            all, [&](Nanos at) { return static_cast<double>(at) < s * kSecond; });
    };
    EXPECT_NEAR(static_cast<double>(until(5)), 1'250, 1);  // half of 500/s over 5 s
    EXPECT_NEAR(static_cast<double>(until(10)), 5'000, 1);
    EXPECT_NEAR(static_cast<double>(until(12)), 7'000, 1);  // goes on at the last rate
    const std::vector<Nanos> down = events(spec("ramp:1000/s..100/s@10s"), 1, 20 * kSecond);
    EXPECT_NEAR(static_cast<double>(down.size()), 5'500 + 1'000, 1);
}

TEST(Pace, StepsAreEqualAndTheLastGoesOn) {
    const std::vector<Nanos> all = events(spec("step:100/s..300/s@2s/3"), 2, 8 * kSecond);
    const auto between = [&](Nanos from, Nanos to) {
        return std::ranges::count_if(all, [&](Nanos at) { return at >= from && at < to; });
    };
    EXPECT_NEAR(static_cast<double>(between(0, 2 * kSecond)), 200, 1);
    EXPECT_NEAR(static_cast<double>(between(2 * kSecond, 4 * kSecond)), 400, 1);
    EXPECT_NEAR(static_cast<double>(between(4 * kSecond, 6 * kSecond)), 600, 1);
    EXPECT_NEAR(static_cast<double>(between(6 * kSecond, 8 * kSecond)), 600, 1);
}

// Of a Poisson process the gaps' deviation is as large as their mean, and counts of disjoint
// seconds vary as much as they are.
TEST(Pace, PoissonArrivalsAreIndependent) {
    const std::vector<Nanos> all = events(spec("poisson:1000/s"), 4, 50 * kSecond, 9);
    const double count = static_cast<double>(all.size());
    EXPECT_NEAR(count, 50'000, 5 * std::sqrt(50'000.0));
    double sum = 0;
    double squares = 0;
    for (size_t i = 1; i < all.size(); ++i) {
        const double gap = static_cast<double>(all[i] - all[i - 1]);
        sum += gap;
        squares += gap * gap;
    }
    const double mean = sum / count;
    EXPECT_NEAR(std::sqrt(squares / count - mean * mean) / mean, 1.0, 0.05);
    EXPECT_NE(all, events(spec("poisson:1000/s"), 4, 50 * kSecond, 10));
}

TEST(Pace, DueCountsWhatNextWalks) {
    for (const char* text : {"1000/s", "ramp:10/s..1000/s@3s", "step:50/s..200/s@1s/4"}) {
        const PaceSpec pace = spec(text);
        Pace walk(pace, 0, 1, 1);
        uint64_t walked = 0;
        for (Nanos at = 0; at < 6 * kSecond; at += 100 * kMillisecond) {
            for (; walk.next() < at; walk.advance()) ++walked;
            EXPECT_NEAR(static_cast<double>(walk.due(at)), static_cast<double>(walked), 2.01)
                << text << " at " << at;
        }
    }
}

TEST(Pace, AtOnceIsNoScheduleAtAll) {
    const PaceSpec at_once;
    Pace walk(at_once, 0, 1, 1);
    for (int i = 0; i < 100; ++i) walk.advance();
    EXPECT_EQ(walk.next(), 0);
}

TEST(Pace, ErrorsQuoteWhatWasWrongAndShowTheForms) {
    for (const char* text :
         {"", "fast", "0/s", "ramp:1/s", "ramp:1/s..2/s", "ramp:1/s..x@3s", "ramp:1/s..0/s@3s",
          "ramp:1/s..2/s@0s", "step:1/s..2/s@1s", "step:1/s..2/s@1s/1", "step:1/s..2/s@1s/x",
          "poisson:", "ramp:5s@2/s..1/s"}) {
        const auto parsed = parse_pace(text);
        ASSERT_FALSE(parsed) << text;
        EXPECT_NE(parsed.error().find("'" + std::string(text) + "'"), std::string::npos);
        EXPECT_NE(parsed.error().find("20000/s"), std::string::npos) << parsed.error();
    }
}

}  // namespace
}  // namespace pulse::load
