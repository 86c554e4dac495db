// The anomaly watch over made-up series: what is normal raises nothing, what is not is found, with
// since when and from where.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "core/anomaly/detector.h"
#include "core/anomaly/heavy_hitters.h"
#include "core/anomaly/holders.h"
#include "core/random.h"

namespace pulse {
namespace {

constexpr uint32_t kStep = 10;  // seconds between samples
constexpr uint32_t kHourSamples = 360;
constexpr uint32_t kDaySamples = 24 * kHourSamples;

// A server with noise, and what a test adds to it.
class Days {
  public:
    explicit Days(uint64_t seed) : random_(seed) {}

    Detector detector;

    double noisy(double mean) { return std::max(0.0, mean + std::sqrt(mean) * normal()); }
    void step(double evictions = 20, double newcomers = 400, double round_trip = 0.05,
              double lag = 0.004) {
        AnomalySample sample;
        sample.second_of_day = now_ * kStep % 86'400;
        ++now_;
        sample[AnomalySeries::evictions] = noisy(evictions);
        sample[AnomalySeries::missed_probes] = noisy(50);
        sample[AnomalySeries::newcomers] = noisy(newcomers);
        sample[AnomalySeries::round_trip] = round_trip * std::exp(0.05 * normal());
        sample[AnomalySeries::loop_lag] = lag * std::exp(0.4 * normal());
        detector.observe(sample);
        for (size_t series = 0; series < kAnomalySeries; ++series)
            raised_ += detector.state(static_cast<AnomalySeries>(series)).began() ? 1 : 0;
    }
    void steps(uint32_t count) {
        while (count-- > 0) step();
    }
    const SeriesWatch& evictions() const { return detector.state(AnomalySeries::evictions); }
    uint32_t raised() const { return raised_; }
    uint32_t now() const { return now_; }

  private:
    double normal() {
        double sum = 0;
        for (int i = 0; i < 12; ++i) sum += random_.unit();
        return sum - 6;
    }
    Random random_;
    uint32_t now_ = 0;
    uint32_t raised_ = 0;
};

TEST(Detector, ThreeDaysOfNoiseRaiseNothing) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        Days days(seed);
        days.steps(3 * kDaySamples);
        EXPECT_EQ(days.raised(), 0u) << seed;
    }
}

TEST(Detector, ALossIsFoundWithItsSecondSampleAndIsOverAMinuteAfterIt) {
    Days days(1);
    days.steps(kHourSamples);
    days.step(600);
    EXPECT_FALSE(days.evictions().active()) << "one sample is none";
    days.step(600);
    ASSERT_TRUE(days.evictions().began());
    EXPECT_EQ(days.evictions().samples_since(), 2u);
    EXPECT_NEAR(days.evictions().expected(), 20, 4);
    EXPECT_NEAR(days.evictions().value(), 600, 100);
    EXPECT_GT(days.evictions().distance(), 8);
    for (uint32_t calm = 1; calm < kAnomalyCalmSamples; ++calm) {
        days.step();
        EXPECT_TRUE(days.evictions().active()) << calm;
    }
    days.step();
    EXPECT_TRUE(days.evictions().ended());
    EXPECT_FALSE(days.evictions().adopted());
    EXPECT_NEAR(days.evictions().peak(), 600, 100);
    days.steps(kHourSamples);
    EXPECT_EQ(days.raised(), 1u);
}

TEST(Detector, OneSampleIsNoAnomalyHoweverHigh) {
    Days days(1);
    days.steps(kHourSamples);
    for (int i = 0; i < 20; ++i) {
        days.step(1e9, 1e9, 100, 1'000);
        days.steps(20);
    }
    EXPECT_EQ(days.raised(), 0u);
}

TEST(Detector, NothingIsAnAnomalyWhileItLearns) {
    Days days(1);
    days.steps(5);
    for (uint32_t sample = 5; sample < kAnomalyLearnSamples; ++sample) days.step(1'000);
    EXPECT_EQ(days.raised(), 0u);
    EXPECT_TRUE(days.evictions().learned());
}

TEST(Detector, ASlowDriftIsFoundBeforeItHasDoubled) {
    Days days(2);
    days.steps(2 * kDaySamples);
    const SeriesWatch& trips = days.detector.state(AnomalySeries::round_trip);
    double factor = 1;
    for (uint32_t sample = 0; sample < kHourSamples && !trips.active(); ++sample) {
        factor = std::exp2(static_cast<double>(sample) / kHourSamples);
        days.step(20, 400, 0.05 * factor);
    }
    EXPECT_TRUE(trips.active());
    EXPECT_LT(factor, 1.5);
    EXPECT_GT(trips.samples_since(), 3u) << "since it left what is normal";
    EXPECT_NEAR(trips.expected(), 0.05, 0.006);
}

TEST(Detector, LessOfItIsNothingToActOn) {
    Days days(3);
    days.steps(kHourSamples);
    for (int i = 0; i < 100; ++i) days.step(0, 0, 0.001, 0);
    EXPECT_EQ(days.raised(), 0u);
}

TEST(Detector, WhatLastsAnHourIsNormalFromThenOn) {
    Days days(4);
    days.steps(kHourSamples);
    uint32_t adopted = 0;
    for (uint32_t sample = 0; sample < 4 * kHourSamples; ++sample) {
        days.step(600);
        adopted += days.evictions().adopted() ? 1 : 0;
    }
    EXPECT_EQ(adopted, 1u);
    EXPECT_EQ(days.raised(), 1u);
    EXPECT_FALSE(days.evictions().active());
    EXPECT_NEAR(days.evictions().expected(), 600, 60);
}

TEST(Detector, WhatIsNotMeasuredSaysNothing) {
    Days days(5);
    days.steps(kHourSamples);
    AnomalySample sample;
    for (double& value : sample.values) value = kNotMeasured;
    const double expected = days.evictions().expected();
    for (uint32_t i = 0; i < kHourSamples; ++i) days.detector.observe(sample);
    EXPECT_FALSE(days.detector.any_active());
    days.step(600);
    days.step(600);
    for (uint32_t i = 0; i < kHourSamples; ++i) days.detector.observe(sample);
    EXPECT_TRUE(days.evictions().active()) << "nor that it is over";
    EXPECT_NEAR(days.evictions().expected(), expected, 0.5);
}

// A rush each morning, which comes and goes within an hour: new on the first day, and known later.
TEST(Detector, TheTimeOfDayIsLearned) {
    Days days(6);
    const auto rush = [](uint32_t of_day) {
        const double hour = static_cast<double>(of_day) / kHourSamples;
        return 400 + 2'000 * std::clamp(std::min(hour - 8, 13 - hour), 0.0, 1.0);
    };
    for (uint32_t sample = 0; sample < 3 * kDaySamples; ++sample)
        days.step(20, rush(sample % kDaySamples));
    const uint32_t before = days.raised();
    EXPECT_GT(before, 0u);
    for (uint32_t sample = 0; sample < 3 * kDaySamples; ++sample)
        days.step(20, rush(sample % kDaySamples));
    EXPECT_EQ(days.raised(), before);
    // The same at another hour is one.
    for (uint32_t sample = 0; sample < 4 * kHourSamples; ++sample)
        days.step(20, sample < 3 * kHourSamples ? 400 : 2'400);
    EXPECT_EQ(days.raised(), before + 1);
}

TEST(Detector, ADayWithAFaultIsNotThePatternOfTheOthers) {
    Days days(7);
    for (uint32_t sample = 0; sample < 4 * kDaySamples; ++sample) {
        const bool faulty = sample / kDaySamples == 2 && sample % kDaySamples / kHourSamples == 5;
        days.step(faulty ? 600 : 20);
    }
    EXPECT_EQ(days.raised(), 1u);
    for (uint32_t sample = 0; sample < 5 * kHourSamples + 100; ++sample) days.step();
    EXPECT_NEAR(days.evictions().expected(), 20, 3);
}

TEST(Detector, WhatWasNormalBeforeAnHourOfSomethingElseIsSoAgain) {
    Days days(8);
    days.steps(kHourSamples);
    for (uint32_t sample = 0; sample < 2 * kHourSamples; ++sample) days.step(600);
    days.steps(20);
    EXPECT_NEAR(days.evictions().expected(), 20, 4);
    days.step(600);
    days.step(600);
    EXPECT_TRUE(days.evictions().active());
}

// ---------------------------------------------------------------------------------- who holds most

TEST(HeavyHitters, BoundsHoldAgainstAnExactCount) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Random random(seed);
        HeavyHitters<uint64_t, 16> one, other;
        std::map<uint64_t, uint64_t> exact;
        for (int i = 0; i < 3'000; ++i) {
            // Few keys often, and many once.
            const uint64_t key = random.chance(1, 2) ? random.below(4) : 100 + random.below(10'000);
            (random.chance(1, 3) ? other : one).add(key);
            ++exact[key];
        }
        one.add(other);
        EXPECT_EQ(one.total(), 3'000u);
        const auto* const top = one.top();
        ASSERT_NE(top, nullptr);
        EXPECT_LT(top->key, 4u) << seed;
        EXPECT_LE(top->least(), exact[top->key]);
        EXPECT_GE(top->count, exact[top->key]);
    }
    EXPECT_EQ((HeavyHitters<int, 4>().top()), nullptr);
}

PeerAddress ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
    PeerAddress address{.family = 4, .port = 1, .bytes = {}};
    address.bytes = {a, b, c, d};
    return address;
}

TEST(Holders, NameTheLongestPrefixThatHoldsHalf) {
    Holders holders;
    EXPECT_FALSE(holders.prefix());
    Random random(1);
    for (int i = 0; i < 400; ++i) holders.add(ipv4(10, 9, 8, static_cast<uint8_t>(i)), 1);
    for (int i = 0; i < 300; ++i) {
        const uint64_t any = random.next();
        holders.add(ipv4(static_cast<uint8_t>(any), static_cast<uint8_t>(any >> 8), 1, 1), 0);
    }
    ASSERT_TRUE(holders.prefix());
    EXPECT_EQ(holders.prefix()->key, prefix_of(ipv4(10, 9, 8, 0), 24));
    EXPECT_NEAR(holders.prefix()->part, 400.0 / 700, 0.02);
    ASSERT_TRUE(holders.listener());
    EXPECT_EQ(holders.listener()->key, 1);
}

TEST(Holders, FallBackToTheShorterPrefixAndThenToNone) {
    Holders wide;
    for (int i = 0; i < 2'000; ++i)
        wide.add(ipv4(10, 9, static_cast<uint8_t>(i), static_cast<uint8_t>(i / 256)), 0);
    ASSERT_TRUE(wide.prefix());
    EXPECT_EQ(wide.prefix()->key, prefix_of(ipv4(10, 9, 0, 0), 16));
    Holders everywhere;
    for (int i = 0; i < 2'000; ++i)
        everywhere.add(ipv4(static_cast<uint8_t>(i % 200 + 1), static_cast<uint8_t>(i), 1, 1), 0);
    EXPECT_FALSE(everywhere.prefix());
}

TEST(Holders, OfIpv6ASiteAndNothingOfAddressesThatAreNotKnown) {
    Holders holders;
    PeerAddress address{.family = 6, .port = 1, .bytes = {0x20, 1, 0x0d, 0xb8, 0, 7, 9}};
    for (uint8_t i = 0; i < 200; ++i) {
        address.bytes[15] = i;
        address.bytes[7] = i;
        holders.add(address, 0);
    }
    for (int i = 0; i < 150; ++i) holders.add({}, 0);
    ASSERT_TRUE(holders.prefix());
    EXPECT_EQ(holders.prefix()->key, prefix_of(address, 48));
    EXPECT_NEAR(holders.prefix()->part, 200.0 / 350, 0.01) << "of all";
    for (int i = 0; i < 100; ++i) holders.add({}, 0);
    EXPECT_FALSE(holders.prefix());
}

}  // namespace
}  // namespace pulse
