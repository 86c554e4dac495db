// The bounds of a turn, as a table of what may still be handled.
#include "core/turn_budget.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace pulse
