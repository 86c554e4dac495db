// The bounds of a turn, as a table of what may still be handled; and what is given up where that is
// not enough, step by step.
#include "core/turn_budget.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/overload.h"
#include "core/random.h"

namespace pulse {
namespace {

constexpr size_t kUnbounded = size_t{1} << 40;

// Frames admitted in one call, each with so many bytes handed over.
uint32_t admitted_of(TurnShare& share, uint32_t frames, size_t bytes, bool compressed = false) {
    for (uint32_t count = 0; count < frames; ++count) {
        if (!share.admits(bytes, compressed)) return count;
        share.spend(bytes);
    }
    return frames;
}

TEST(TurnBudget, AConnectionIsBoundInFramesAndInBytesDelivered) {
    WorkBudget all;
    all.refill(kUnbounded);
    TurnShare many(all);
    EXPECT_EQ(admitted_of(many, 5'000, 2), kFramesPerTurn);
    EXPECT_TRUE(many.paused());
    TurnShare large(all);
    EXPECT_EQ(admitted_of(large, 5'000, 64 * 1024), kDeliveredBytesPerTurn / (64 * 1024));
    // What counts is what was delivered: a little that inflates to more than a share is the last.
    TurnShare bomb(all);
    EXPECT_TRUE(bomb.admits(1'042, true));
    bomb.spend(1 << 20);
    EXPECT_FALSE(bomb.admits(2, false));
}

TEST(TurnBudget, AllTogetherAreBoundAndSmallFramesOfTheFreshAreNot) {
    WorkBudget all;
    all.refill(100 * kFrameWork);
    TurnShare flooder(all);
    EXPECT_EQ(admitted_of(flooder, 5'000, 0), 100u);
    EXPECT_TRUE(all.empty());
    TurnShare canary(all);
    EXPECT_EQ(admitted_of(canary, 5'000, 2), kFramesAlwaysPerTurn);
    TurnShare large(all);
    EXPECT_EQ(admitted_of(large, 1, kFrameAlwaysBytesMax + 1), 0u);
    TurnShare compressed(all);
    EXPECT_EQ(admitted_of(compressed, 1, 2, true), 0u);
    TurnShare parked(all, false);
    EXPECT_EQ(admitted_of(parked, 1, 2), 0u);
}

TEST(TurnBudget, WhatWasOverspentIsPaidBack) {
    WorkBudget all;
    all.refill(1'000);
    all.spend(3'500);
    all.refill(1'000);
    EXPECT_TRUE(all.empty());
    all.refill(1'000);
    EXPECT_TRUE(all.empty());
    all.refill(1'000);
    EXPECT_FALSE(all.empty());
    all.spend(500);
    EXPECT_TRUE(all.empty());
    all.refill(1'000);
    all.refill(1'000);
    all.spend(1'000);
    EXPECT_TRUE(all.empty()) << "what was not spent is not saved up";
}

// Or many that beat would keep what is parked from ever being decoded.
TEST(TurnBudget, WhatIsAlwaysAdmittedMakesNoDebt) {
    WorkBudget all;
    all.refill(1'000);
    all.spend(1'000);
    for (int peer = 0; peer < 1'000; ++peer) {
        TurnShare share(all);
        EXPECT_EQ(admitted_of(share, 5'000, kFrameAlwaysBytesMax), kFramesAlwaysPerTurn);
    }
    all.refill(1'000);
    EXPECT_FALSE(all.empty());
}

TEST(TurnBudget, APauseIsForTheWholeCall) {
    WorkBudget all;
    all.refill(0);
    TurnShare share(all);
    EXPECT_FALSE(share.admits(1 << 20, false));
    all.refill(kUnbounded);
    EXPECT_FALSE(share.admits(2, false)) << "or frames would overtake the one that waits";
    TurnShare next(all);
    EXPECT_TRUE(next.admits(1 << 20, false));
}

// --------------------------------------------------------------------------------------- overload

constexpr Nanos kSpan = kSecond;
constexpr OverloadRules kAllSteps{OverloadStep::close, kSpan};

// Pressure that lasts for `time`, looked at every so often; the step at its end.
OverloadStep endure(Overload& overload, Nanos& now, double pressure, Nanos time) {
    for (const Nanos end = now + time; now < end; now += 10 * kMillisecond)
        overload.update(now, pressure, kAllSteps);
    return overload.step();
}

TEST(Overload, EntersAStepAfterTheOtherAndLeavesThemSo) {
    using enum OverloadStep;
    Overload overload;
    Nanos now = kSecond;
    EXPECT_EQ(endure(overload, now, 1.0, kSpan), none);
    for (const OverloadStep step : {refuse, stretch, drop, close})
        EXPECT_EQ(endure(overload, now, 1.0, kSpan), step);
    EXPECT_EQ(endure(overload, now, 5.0, 10 * kSpan), close);
    EXPECT_EQ(endure(overload, now, 0.49, kOverloadLeaveSpans * kSpan), close);
    for (const OverloadStep step : {drop, stretch, refuse, none, none})
        EXPECT_EQ(endure(overload, now, 0.49, kOverloadLeaveSpans * kSpan), step);
}

// A pause of the thread is one reading, however long it was.
TEST(Overload, APeakEntersNothing) {
    Overload overload;
    Nanos now = kSecond;
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(endure(overload, now, 100, kSpan), OverloadStep::none);
        EXPECT_EQ(endure(overload, now, 0.99, 10 * kMillisecond), OverloadStep::none);
        EXPECT_FALSE(overload.update(now += 60 * kSecond, 100, kAllSteps));
        EXPECT_FALSE(overload.update(++now, 0.99, kAllSteps));
    }
}

TEST(Overload, NothingBehindTheLastStepThatMayBe) {
    using enum OverloadStep;
    Overload overload;
    Nanos now = kSecond;
    endure(overload, now, 1, 10 * kSpan);
    EXPECT_TRUE(overload.update(now, 1, {refuse, kSpan})) << "at once";
    EXPECT_EQ(overload.step(), refuse);
    EXPECT_FALSE(overload.update(now + 100 * kSpan, 1, {refuse, kSpan}));
    EXPECT_TRUE(overload.update(now + 100 * kSpan, 1, {none, kSpan}));
    EXPECT_FALSE(overload.update(now + 200 * kSpan, 1, {none, kSpan}));
    EXPECT_EQ(overload.step(), none);
}

// By the rule as it is written: over all readings since the last change.
struct OverloadModel {
    struct Reading {
        Nanos at;
        double pressure;
    };
    std::vector<Reading> since;  // the change, and the reading of it
    int step = 0;

    template <class Is>
    bool lasts(Nanos span, Is is) const {
        size_t first = since.size();
        while (first > 0 && is(since[first - 1].pressure)) --first;
        return first < since.size() && since.back().at - since[first].at >= span;
    }
    void move_to(int to) {
        step = to;
        since = {since.back()};
    }
    void update(Nanos now, double pressure, const OverloadRules& rules) {
        since.push_back({now, pressure});
        const int most = static_cast<int>(rules.most);
        if (step > most) {
            step = most;  // what was read counts on
        } else if (step < most && lasts(rules.span, [](double p) { return p >= 1; })) {
            move_to(step + 1);
        } else if (step > 0 && lasts(3 * rules.span, [](double p) { return p < 0.5; })) {
            move_to(step - 1);
        }
    }
};

TEST(Overload, IsAsItsModelSays) {
    uint64_t changes = 0;
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Random random(seed);
        Overload overload;
        OverloadModel model;
        Nanos now = kSecond;
        OverloadRules rules = kAllSteps;
        for (int i = 0; i < 400; ++i) {
            if (random.chance(1, 100)) rules.most = static_cast<OverloadStep>(random.below(5));
            if (random.chance(1, 100))
                rules.span = kSpan / static_cast<Nanos>(random.between(1, 4));
            constexpr double kPressures[] = {0, 0.49, 0.5, 0.99, 1, 7};
            const double pressure = kPressures[random.below(6)];
            for (uint64_t left = random.between(1, 30); left > 0; --left) {
                now += static_cast<Nanos>(random.between(1, 4)) * 50 * kMillisecond;
                const OverloadStep before = overload.step();
                const bool changed = overload.update(now, pressure, rules);
                model.update(now, pressure, rules);
                ASSERT_EQ(static_cast<int>(overload.step()), model.step) << "seed " << seed;
                ASSERT_EQ(changed, overload.step() != before);
                changes += changed;
            }
        }
    }
    EXPECT_GT(changes, 10'000u);
}

TEST(Overload, ClosesAShareEachSecondAndNotMore) {
    const std::pair<uint32_t, uint32_t> kTable[] = {{1, 1},       {255, 1},     {512, 2},
                                                    {10'000, 39}, {16'384, 64}, {1'000'000, 64}};
    for (const auto& [live, closes] : kTable) EXPECT_EQ(overload_closes(live), closes) << live;
}

}  // namespace
}  // namespace pulse
