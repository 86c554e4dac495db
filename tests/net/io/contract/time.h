// The backend contract: now() (C7) and drained_until() (C8).
#pragma once

#include <string>
#include <vector>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// ------------------------------------------------------------------------------------------- C7
TYPED_TEST_P(IoContract, C7_NowMovesOnlyInsidePoll) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const Nanos now = stage.io.now();
    stage.world.stall(3 * kMillisecond);
    stage.seen.send(*one.seen, "hello");
    stage.io.wake();
    EXPECT_EQ(stage.io.now(), now);
    stage.turn(0);
    EXPECT_GE(stage.io.now(), now + 3 * kMillisecond) << "a poll reads the clock";
    stage.close_all();
}

// The process pauses in the middle of a batch, and peers speak meanwhile. What is handed over
// after the pause, with bytes from before it or from within, is stamped with a clock of after it.
TYPED_TEST_P(IoContract, C7_NowWasReadAfterWhatTheEventReports) {
    Stage<TypeParam> stage;
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (int i = 0; i < 8; ++i) peers.push_back(stage.join());
    Nanos resumed_at = 0;
    size_t late = 0;
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (resumed_at != 0) {
            EXPECT_GE(stage.io.now(), resumed_at) << "C7: stamped with a clock of before the pause";
            ++late;
            return;
        }
        for (auto& each : peers)
            if (each.seen != &seen) each.peer.write(as_bytes("y"));
        resumed_at = stage.world.stall(20 * kMillisecond);
    };
    for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("x")), 1u);
    stage.world.stall(5 * kMillisecond);
    EXPECT_TRUE(stage.until([&] { return late >= peers.size() - 1; }));
    stage.seen.bytes_hook = nullptr;
    EXPECT_LE(stage.io.woke_at(), stage.io.now());
    stage.close_all();
}

// woke_at() parts waiting from work: what a handler takes is on the side of the work.
TYPED_TEST_P(IoContract, WokeAt_IsAfterTheWaitAndBeforeTheWork) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos began_at = stage.io.now();
    stage.turn(5 * kMillisecond);
    EXPECT_GE(stage.io.woke_at(), began_at + 5 * kMillisecond) << "a wait that found nothing";
    Nanos resumed_at = 0;
    stage.seen.bytes_hook = [&](Seen&) { resumed_at = stage.world.stall(20 * kMillisecond); };
    ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
    stage.world.stall(kMillisecond);
    EXPECT_TRUE(stage.until([&] { return resumed_at != 0; }));
    EXPECT_LE(stage.io.woke_at(), resumed_at - 20 * kMillisecond);
    stage.seen.bytes_hook = nullptr;
    stage.close_all();
}

// ------------------------------------------------------------------------------------------- C8
// After a pause the kernel holds what was not read: drained_until may not pass its arrival before
// it was delivered. Bytes, FIN and RST, on a few of many.
TYPED_TEST_P(IoContract, C8_WhatArrivedBeforeItWasDelivered) {
    Stage<TypeParam> stage(200);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < 200; ++i) peers.push_back(stage.join());
    for (uint32_t round = 0; round < 10; ++round) {
        const auto involved = [&](uint32_t i) { return i / 10 == round || i % 7 == round; };
        std::vector<size_t> expected(peers.size(), 0);
        for (uint32_t i = 0; i < peers.size(); ++i) {
            expected[i] = peers[i].seen->bytes.size();
            if (!involved(i) || i / 10 < round) continue;
            if (peers[i].seen->ends == 0) expected[i] += peers[i].peer.write(as_bytes("beat"));
        }
        auto& finisher = peers[round * 10];
        auto& breaker = peers[round * 10 + 1];
        finisher.peer.finish();
        breaker.peer.reset();
        expected[round * 10 + 1] = 0;  // a reset may overtake bytes
        stage.world.stall(10 * kMillisecond);
        const auto all_passed = [&] {
            bool passed = true;
            for (uint32_t i = 0; i < peers.size(); ++i) {
                if (!involved(i) || i / 10 < round) continue;
                const Nanos arrived = peers[i].peer.arrived_at();
                if (stage.io.drained_until() <= arrived) {
                    passed = false;
                    continue;
                }
                EXPECT_GE(peers[i].seen->bytes.size(), expected[i]) << "C8: bytes of peer " << i;
                if (i == round * 10) {
                    EXPECT_EQ(finisher.seen->ends, 1) << "C8: a FIN";
                }
                if (i == round * 10 + 1) {
                    EXPECT_EQ(breaker.seen->ends, 1) << "C8: an RST";
                }
            }
            return passed;
        };
        EXPECT_TRUE(stage.until(all_passed)) << "drained_until stands still";
        if (this->HasFailure()) break;
    }
    stage.close_all();
}

// More at once than one batch can carry.
TYPED_TEST_P(IoContract, C8_HoldsForMoreThanABatch) {
    constexpr uint32_t kPeers = 1000;
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.join());
    for (uint32_t round = 1; round <= 3; ++round) {
        for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("beat")), 4u);
        stage.world.stall(10 * kMillisecond);
        std::vector<Nanos> arrived(kPeers, kNever);
        EXPECT_TRUE(stage.until([&] {
            bool passed = true;
            for (uint32_t i = 0; i < kPeers; ++i) {
                if (arrived[i] == kNever) arrived[i] = peers[i].peer.arrived_at();
                if (stage.io.drained_until() <= arrived[i]) {
                    passed = false;
                } else {
                    EXPECT_GE(peers[i].seen->bytes.size(), 4 * round) << "C8: peer " << i;
                }
            }
            return passed || this->HasFailure();
        }));
        if (this->HasFailure()) break;
    }
    stage.close_all();
}

// And where there is always more than a batch, it moves on all the same, and does not lie.
TYPED_TEST_P(IoContract, C8_MovesOnWhereEveryBatchIsFull) {
    constexpr uint32_t kPeers = 1000;
    constexpr uint32_t kWatched = 20;  // whose bytes are followed one by one
    Stage<TypeParam> stage(kPeers);
    stage.listen();
    std::vector<typename Stage<TypeParam>::Joined> peers;
    for (uint32_t i = 0; i < kPeers; ++i) peers.push_back(stage.join());
    std::vector<std::pair<size_t, Nanos>> arrivals(kWatched, {0, kNever});
    const Nanos start = stage.io.now();
    uint32_t told = 0;
    for (uint32_t round = 1; round <= 60 && told < kWatched; ++round) {
        for (auto& each : peers) ASSERT_EQ(each.peer.write(as_bytes("x")), 1u);
        stage.world.stall(kMillisecond / 2);
        for (uint32_t i = 0; i < kWatched; ++i) {
            auto& [bytes, at] = arrivals[i];
            if (at == kNever && peers[i * 50].peer.arrived_at() != kNever)
                arrivals[i] = {round, peers[i * 50].peer.arrived_at()};
        }
        stage.turn(0);
        for (uint32_t i = 0; i < kWatched; ++i) {
            auto& [bytes, at] = arrivals[i];
            if (at == kNever || stage.io.drained_until() <= at) continue;
            EXPECT_GE(peers[i * 50].seen->bytes.size(), bytes) << "C8: peer " << i * 50;
            if (bytes > 0) ++told;
            arrivals[i] = {0, kNever};
        }
    }
    EXPECT_GT(told, 0u) << "no arrival was passed";
    EXPECT_GT(stage.io.drained_until(), start) << "drained_until stands still";
    stage.close_all();
}

TYPED_TEST_P(IoContract, C8_AFloodingConnectionDoesNotHoldItBack) {
    Stage<TypeParam> stage;
    stage.listen();
    auto flooder = stage.join();
    auto quiet = stage.join();
    const std::string flood = pattern(14, 4 << 20);
    const auto turn_flooded = [&] {
        flooder.peer.write(as_bytes(flood));
        stage.turn(0);
        flooder.seen->bytes.clear();
    };
    for (int i = 0; i < 20; ++i) turn_flooded();
    // With the flood before and behind it, a beat passes and time goes on.
    const Nanos before = stage.io.now();
    ASSERT_EQ(quiet.peer.write(as_bytes("beat")), 4u);
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    const auto passed = [&] {
        return stage.io.drained_until() >= before + 10 * kMillisecond &&
               stage.io.drained_until() > quiet.peer.arrived_at();
    };
    while (!passed() && std::chrono::steady_clock::now() < give_up) {
        turn_flooded();
        stage.world.stall(kMillisecond / 10);
    }
    EXPECT_TRUE(passed()) << "C8: held back for ever";
    EXPECT_EQ(quiet.seen->bytes, "beat");
    EXPECT_GT(flooder.seen->reads, 1);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C8_SilenceLetsItPass) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos deadline = stage.io.now() + 30 * kMillisecond;
    uint64_t polls = 0;
    while (stage.io.drained_until() < deadline && polls < kQuietPollsMax) {
        stage.turn(deadline - stage.io.now());
        ++polls;
    }
    EXPECT_GE(stage.io.drained_until(), deadline);
    stage.close_all();
}

}  // namespace pulse::test
