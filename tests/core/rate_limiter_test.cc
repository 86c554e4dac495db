// A token bucket beside arithmetic that can be done by hand.
#include "core/rate_limiter.h"

#include <gtest/gtest.h>

#include "core/random.h"
#include "core/shared_pace.h"
#include "core/window_pace.h"

namespace pulse {
namespace {

// How many of `tries` evenly spread over `span` are allowed.
uint64_t allowed(RateLimiter& limiter, Nanos from, Nanos span, uint64_t tries) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < tries; ++i)
        count += limiter.allow(from + span * static_cast<Nanos>(i) / static_cast<Nanos>(tries));
    return count;
}

TEST(RateLimiter, ZeroIsNoLimit) {
    RateLimiter limiter(0);
    EXPECT_EQ(allowed(limiter, 0, kSecond, 100'000), 100'000u);
}

TEST(RateLimiter, GivesItsRateAndOneBurst) {
    for (const uint64_t rate : {1u, 7u, 10u, 1'000u, 50'000u}) {
        RateLimiter limiter(rate);
        const uint64_t burst = std::max<uint64_t>(1, rate / 10);
        const uint64_t got = allowed(limiter, 5 * kSecond, 10 * kSecond, 1'000 * rate);
        EXPECT_GE(got, 10 * rate - 1 - rate / 100) << rate;
        EXPECT_LE(got, 10 * rate + burst) << rate;
    }
}

TEST(RateLimiter, ABurstIsATenthOfASecondAndThenTheRateHolds) {
    RateLimiter limiter(1'000);
    uint64_t at_once = 0;
    while (limiter.allow(kSecond)) ++at_once;
    EXPECT_EQ(at_once, 100u);
    EXPECT_FALSE(limiter.allow(kSecond + kMillisecond - 1));
    EXPECT_TRUE(limiter.allow(kSecond + kMillisecond));
    EXPECT_FALSE(limiter.allow(kSecond + kMillisecond));
    // A long silence saves no more than a burst.
    uint64_t later = 0;
    while (limiter.allow(3'600 * kSecond)) ++later;
    EXPECT_EQ(later, 100u);
}

TEST(RateLimiter, NoFractionIsLostHoweverOftenItIsAsked) {
    RateLimiter limiter(3);
    Random random(1);
    uint64_t got = 0;
    for (Nanos now = 0; now < 100 * kSecond; now += 1 + static_cast<Nanos>(random.below(1'000'000)))
        got += limiter.allow(now);
    EXPECT_GE(got, 299u);
    EXPECT_LE(got, 301u);
}

TEST(RateLimiter, ABurstIsWhatIsAskedFor) {
    for (const uint64_t burst : {1u, 7u, 5'000u}) {
        RateLimiter limiter(RateLimit{10, kSecond, burst});
        uint64_t at_once = 0;
        while (limiter.allow(kSecond)) ++at_once;
        EXPECT_EQ(at_once, burst);
        EXPECT_FALSE(limiter.allow(kSecond + kSecond / 10 - 1));
        EXPECT_TRUE(limiter.allow(kSecond + kSecond / 10));
    }
}

TEST(SharedBucket, SaysForHowLongItHasNone) {
    SharedBucket bucket;
    const BucketRate rate({4, kSecond, 2});
    EXPECT_EQ(bucket.take(kSecond, rate), 0);
    EXPECT_EQ(bucket.take(kSecond, rate), 0);
    EXPECT_EQ(bucket.take(kSecond, rate), kSecond / 4);
    EXPECT_EQ(bucket.take(kSecond + kSecond / 4 - 1, rate), 1);
    EXPECT_EQ(bucket.take(kSecond + kSecond / 4, rate), 0);
    EXPECT_EQ(bucket.take(kSecond, BucketRate()), 0) << "no limit";
    // A thread whose clock is behind takes no more than the others left.
    EXPECT_GT(bucket.take(kSecond, rate), kSecond / 4);
}

TEST(SharedBucket, OfADeeperRateIsNoEmptierThanOneOfThisRate) {
    SharedBucket bucket;
    const BucketRate slow({1, 3'600 * kSecond, 3}), fast({10, kSecond, 1});
    for (int i = 0; i < 3; ++i) EXPECT_EQ(bucket.take(kSecond, slow), 0);
    EXPECT_EQ(bucket.take(kSecond, fast), kSecond / 10);
    EXPECT_EQ(bucket.take(kSecond + kSecond / 10, fast), 0);
}

TEST(BucketRate, APouredBucketLacksTheSamePart) {
    const BucketRate from({1, kSecond, 60}), to({100, kSecond, 1'000});
    const Nanos now = 7 * kSecond;
    EXPECT_EQ(to.poured(now - 1, now, from.depth()), 0) << "full";
    const Nanos half = to.poured(now + 30 * kSecond, now, from.depth());
    EXPECT_GE(half, now + 5 * kSecond);
    EXPECT_LE(half, now + 5 * kSecond + kMillisecond);
    EXPECT_EQ(to.poured(now + 60 * kSecond, now, from.depth()), now + 10 * kSecond);
    EXPECT_EQ(to.poured(now + 90 * kSecond, now, from.depth()), now + 10 * kSecond) << "empty";
    EXPECT_EQ(to.poured(now + 90 * kSecond, now, BucketRate().depth()), 0) << "had no limit";
}

// However often it is poured to and fro, a bucket gives no more than it would have.
TEST(BucketRate, PouringGivesNothing) {
    const BucketRate rates[] = {BucketRate({3, kSecond, 30}), BucketRate({7, 60 * kSecond, 20})};
    const Nanos now = 7 * kSecond;
    Nanos full_at = 0;
    double part = 0;  // of a burst, that was taken
    for (int i = 0; i < 100; ++i) {
        const BucketRate &from = rates[i % 2], &to = rates[(i + 1) % 2];
        if (from.allows(full_at, now)) {
            full_at = from.taken(full_at, now);
            part += 1.0 / (i % 2 == 0 ? 30 : 20);
        }
        full_at = to.poured(full_at, now, from.depth());
    }
    EXPECT_LE(part, 1.000'001);
    EXPECT_GE(part, 0.9);
}

TEST(SharedPace, SeveralTogetherKeepToTheRate) {
    SharedPace pace(10);
    uint64_t taken = 0;
    for (Nanos now = 5 * kSecond; now <= 7 * kSecond; now += kMillisecond) {
        for (int reactor = 0; reactor < 3; ++reactor) taken += pace.allows(now);
    }
    EXPECT_EQ(taken, 21u) << "one at once, and then ten a second";
}

// However seldom it is asked, up to its 50 ms.
TEST(SharedPace, KeepsItsRateWhateverTheStep) {
    for (const uint64_t rate : {1u, 7u, 1'000u, 5'000u, 50'000u}) {
        for (const Nanos step : {kMillisecond, 10 * kMillisecond, 45 * kMillisecond}) {
            SharedPace pace(rate);
            uint64_t taken = 0;
            for (Nanos now = kSecond; now <= 11 * kSecond; now += step)
                while (pace.allows(now)) ++taken;
            EXPECT_GE(taken, 10 * rate - rate / 20) << rate << " " << step;
            EXPECT_LE(taken, 10 * rate + 1) << rate << " " << step;
        }
    }
}

TEST(SharedPace, CatchesUpAtATenthMoreAndNotAtOnce) {
    SharedPace pace(1'000);
    uint64_t taken = 0;
    const auto run = [&](Nanos from, Nanos until) {
        const uint64_t before = taken;
        for (Nanos now = from; now < until; now += kMillisecond)
            while (pace.allows(now)) ++taken;
        return taken - before;
    };
    EXPECT_NEAR(static_cast<double>(run(kSecond, 2 * kSecond)), 1'000, 1);
    // It was away for 2 s: 2,000 are due.
    EXPECT_NEAR(static_cast<double>(run(4 * kSecond, 5 * kSecond)), 1'100 + 55, 3);
    EXPECT_NEAR(static_cast<double>(run(5 * kSecond, 30 * kSecond)), 26'845, 3);
    EXPECT_NEAR(static_cast<double>(taken), 29'000, 2) << "none is lost";
}

// Whatever the step, of a crowd that is there at once, that grows or that shrinks.
TEST(WindowPace, SpreadsThemEvenlyAndLeavesNone) {
    for (const Nanos step : {kMillisecond, 10 * kMillisecond, 70 * kMillisecond}) {
        WindowPace pace;
        uint64_t waiting = 1'000, taken = 0;
        const auto run = [&](Nanos from, Nanos until) {
            const uint64_t before = taken;
            for (Nanos now = from; now < until; now += step) {
                pace.look(waiting, 10 * kSecond, now);
                for (; pace.allows(); --waiting, ++taken) pace.spend();
            }
            return static_cast<double>(taken - before);
        };
        EXPECT_NEAR(run(0, 2 * kSecond), 200, 8) << step;
        waiting += 400;  // as many as 8 s of them are 1,200
        EXPECT_NEAR(run(2 * kSecond, 4 * kSecond), 300, 15) << step;
        waiting -= 450;  // these left by themselves
        EXPECT_NEAR(run(4 * kSecond, 6 * kSecond), 150, 15) << step;
        EXPECT_NEAR(run(6 * kSecond, 10 * kSecond), 300, 15) << step;
        run(10 * kSecond, 10 * kSecond + 2 * step);
        EXPECT_EQ(waiting, 0u);
        waiting = 50;
        EXPECT_NEAR(run(20 * kSecond, 21 * kSecond), 5, 2) << "another window";
        run(40 * kSecond, 40 * kSecond + step);
        EXPECT_EQ(waiting, 0u) << "this thread was away";
    }
}

}  // namespace
}  // namespace pulse
