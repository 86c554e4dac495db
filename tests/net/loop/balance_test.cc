// What reactors tell each other: the order of their listeners, when one looks, and giving up.
#include "net/loop/balance.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/result.h"

namespace pulse {
namespace {

Result<void> began() { return {}; }

// So many come to `reactor`, one a turn; what was applied, if anything.
std::vector<uint32_t> come(Balance& balance, uint32_t reactor, uint64_t from, uint64_t count,
                           bool works = true) {
    std::vector<uint32_t> applied;
    for (uint64_t came = from + 1; came <= from + count; ++came) {
        balance.report(reactor, static_cast<uint32_t>(came), came);
        if (!balance.is_due(reactor)) continue;
        balance.look(reactor, [&](std::span<const uint32_t> shares) {
            applied.assign(shares.begin(), shares.end());
            return works;
        });
    }
    return applied;
}

TEST(Balance, SharesAreInTheOrderOfListening) {
    Balance balance(3, 1'000);
    for (const uint32_t reactor : {2u, 0u, 1u}) EXPECT_TRUE(balance.listen(reactor, began));
    balance.report(1, 40, 40);
    const std::vector<uint32_t> shares = come(balance, 0, 0, 1);
    ASSERT_EQ(shares.size(), 3u);
    EXPECT_GT(shares[0], shares[1]) << "reactor 2 has none, and reactor 0 one";
    EXPECT_GT(shares[1], shares[2]) << "reactor 1 has 40";
}

TEST(Balance, NothingIsAppliedBeforeAllListen) {
    Balance balance(2, 1'000);
    EXPECT_TRUE(balance.listen(0, began));
    EXPECT_FALSE(balance.listen(1, [] { return Result<void>(Error{"the port is taken"}); }));
    EXPECT_TRUE(come(balance, 0, 0, 500).empty());
    EXPECT_TRUE(balance.listen(1, began));
    EXPECT_FALSE(come(balance, 0, 500, 100).empty());
}

TEST(Balance, WhatTheKernelRefusesIsNotTriedAgain) {
    Balance balance(2, 1'000);
    for (const uint32_t reactor : {0u, 1u}) EXPECT_TRUE(balance.listen(reactor, began));
    EXPECT_FALSE(come(balance, 0, 0, 100, false).empty());
    EXPECT_TRUE(come(balance, 0, 100, 500).empty());
}

TEST(Balance, LooksAreFewWhereManyAreHeld) {
    Balance balance(2, 1'000'000);
    for (const uint32_t reactor : {0u, 1u}) EXPECT_TRUE(balance.listen(reactor, began));
    uint64_t due = 0;
    for (uint32_t came = 1; came <= 100'000; ++came) {
        for (const uint32_t reactor : {0u, 1u}) {
            balance.report(reactor, came, came);
            if (!balance.is_due(reactor)) continue;
            ++due;
            EXPECT_TRUE(balance.look(reactor, [](std::span<const uint32_t>) { return true; }));
        }
    }
    EXPECT_LE(due, 2'000u);
}

}  // namespace
}  // namespace pulse
