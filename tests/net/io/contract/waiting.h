// The backend contract: when poll() returns and which wakes end it (C6), and what it counts.
#pragma once

#include <atomic>
#include <thread>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// ------------------------------------------------------------------------------------------- C6
TYPED_TEST_P(IoContract, C6_PollReturnsByItsDeadlineAndSleepsUntilThen) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos start = stage.io.now();
    const uint64_t polls = stage.io.counters().polls;
    while (stage.io.now() < start + 100 * kMillisecond)
        stage.turn(start + 100 * kMillisecond - stage.io.now());
    EXPECT_LE(stage.io.counters().polls - polls, kQuietPollsMax);
    EXPECT_LT(stage.io.now(), start + 5 * kSecond);
    stage.close_all();
}

// What is known to have happened does not wait for the deadline.
TYPED_TEST_P(IoContract, C6_AnEventEndsTheSleep) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    const Nanos before = stage.io.now();
    const auto sleep_until = [&](const int& count) {
        while (count == 0 && stage.io.now() < before + 5 * kSecond) stage.turn(10 * kSecond);
    };
    stage.seen.send(*one.seen, "hello");
    sleep_until(one.seen->sents);
    stage.seen.close(*one.seen, CloseMode::orderly);
    sleep_until(one.seen->closes);
    Seen& two = stage.seen.connect(stage.world.dead_address(), {});
    sleep_until(two.connects);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_ADeadlineInThePastStillHarvests) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    ASSERT_EQ(one.peer.write(as_bytes("hello")), 5u);
    stage.world.stall(20 * kMillisecond);
    for (int i = 0; i < 3 && one.seen->reads == 0; ++i) stage.turn(-kSecond);
    EXPECT_EQ(one.seen->bytes, "hello");
    stage.close_all();
}

// Silence of every kind lets poll sleep: what is known is not reported again.
TYPED_TEST_P(IoContract, C6_SilenceCostsNoPolls) {
    Stage<TypeParam> stage;
    stage.listen();
    auto idle = stage.join();
    auto peer_finished = stage.join();
    auto we_finished = stage.join();
    auto both_finished = stage.join();
    auto broken = stage.join();
    auto choked = stage.join();
    peer_finished.peer.finish();
    stage.io.finish(we_finished.seen->index);
    stage.io.finish(both_finished.seen->index);
    both_finished.peer.finish();
    broken.peer.reset();
    stage.seen.send(*choked.seen, pattern(13, kMoreThanFitsBytes));
    EXPECT_TRUE(stage.until([&] {
        return peer_finished.seen->ends + both_finished.seen->ends + broken.seen->ends == 3;
    }));
    EXPECT_NE(broken.seen->end_error, 0);
    EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_AWakeBeforePollIsNotLost) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.settle();
    stage.io.wake();
    const Nanos before = stage.io.now();
    stage.turn(10 * kSecond);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    EXPECT_GE(stage.io.counters().wakes_received, 1u);
}

TYPED_TEST_P(IoContract, C6_AWakeFromInsideAnEventEndsTheNextPoll) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    stage.seen.bytes_hook = [&](Seen&) { stage.io.wake(); };
    ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
    ASSERT_TRUE(stage.until([&] { return one.seen->reads == 1; }));
    const Nanos before = stage.io.now();
    while (stage.io.counters().wakes_received == 0 && stage.io.now() - before < 5 * kSecond)
        stage.turn(10 * kSecond);
    EXPECT_LT(stage.io.now() - before, 5 * kSecond);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C6_AfterManyWakesPollsSleepAgain) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.settle();
    for (int i = 0; i < 1000; ++i) stage.io.wake();
    ASSERT_TRUE(stage.until([&] { return stage.io.counters().wakes_received > 0; }));
    EXPECT_LE(stage.polls_within(100 * kMillisecond), kQuietPollsMax);
}

TYPED_TEST_P(IoContract, C6_NoWakeFromAnotherThreadIsLost) {
    if constexpr (TypeParam::kThreads) {
        Stage<TypeParam> stage;
        stage.listen();
        const uint32_t rounds = static_cast<uint32_t>(scaled(2000));
        std::atomic<uint32_t> posted{0}, answered{0};
        std::atomic<bool> stop{false};
        std::thread other([&] {
            for (uint32_t round = 1; round <= rounds && !stop; ++round) {
                // Now and then late enough that the poll sleeps, otherwise while it is on its way.
                if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
                posted = round;
                stage.io.wake();
                while (answered != round && !stop) std::this_thread::yield();
            }
        });
        bool lost = false;
        while (answered != rounds && !lost) {
            const Nanos before = stage.io.now();
            stage.turn(8 * kSecond);
            lost = stage.io.now() - before > 6 * kSecond;
            answered = posted.load();
        }
        stop = true;
        other.join();
        EXPECT_FALSE(lost);
    } else {
        GTEST_SKIP() << "this world has one thread";
    }
}

// ------------------------------------------------------------------------------------------ C10
// A rest that is asked for again until it is granted: what is known is handed over before.
template <class StageType>
Nanos rest_once(StageType& stage, Nanos duration) {
    for (int left = 1'000; left > 0; --left) {
        const Nanos until = stage.io.clock() + duration;
        if (stage.io.rest(until)) return until;
        stage.turn(0);
    }
    ADD_FAILURE() << "C10: it never rests";
    return stage.io.clock();
}

TYPED_TEST_P(IoContract, C10_ARestLastsUntilItsEndAndWhatArrivesIsKept) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    ASSERT_EQ(one.peer.write(as_bytes("hello")), 5u);
    const Nanos now = stage.io.now();
    const Nanos until = rest_once(stage, 5 * kMillisecond);
    EXPECT_GE(stage.io.clock(), until);
    if (one.seen->reads == 0) {
        EXPECT_EQ(stage.io.now(), now) << "C7: now() moves only inside poll()";
    }
    EXPECT_TRUE(stage.until([&] { return one.seen->bytes == "hello"; }));
    stage.close_all();
}

TYPED_TEST_P(IoContract, C10_WhatWasAskedForBeforeIsOnItsWay) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.settle();
    stage.seen.send(*one.seen, "pong");
    const uint64_t polls = stage.io.counters().polls;
    ASSERT_TRUE(stage.io.rest(stage.io.clock() + 20 * kMillisecond));
    std::string heard;
    one.peer.read(heard);
    EXPECT_EQ(heard, "pong") << "an answer waited for the end of the rest";
    EXPECT_EQ(stage.io.counters().polls, polls);
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
    stage.close_all();
}

TYPED_TEST_P(IoContract, Submit_LeavesNothingForTheNextPoll) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    stage.seen.send(*one.seen, "here");
    stage.io.submit();
    std::string heard;
    for (int left = 400; left > 0 && heard.size() < 4; --left) {
        stage.world.stall(5 * kMillisecond);
        one.peer.read(heard);
    }
    EXPECT_EQ(heard, "here") << "it waits for a poll";
    stage.io.submit();
    EXPECT_TRUE(stage.until([&] { return one.seen->sents == 1; }));
    stage.close_all();
}

TYPED_TEST_P(IoContract, C10_AWakeDuringARestEndsTheNextPoll) {
    Stage<TypeParam> stage;
    stage.listen();
    stage.settle();
    stage.io.wake();
    rest_once(stage, kMillisecond);
    const Nanos before = stage.io.clock();
    while (stage.io.counters().wakes_received == 0 && stage.io.clock() - before < 5 * kSecond)
        stage.turn(10 * kSecond);
    EXPECT_LT(stage.io.clock() - before, 5 * kSecond);
}

// ------------------------------------------------------------------------------------- counters
TYPED_TEST_P(IoContract, Counters_CountPolls) {
    Stage<TypeParam> stage;
    const uint64_t before = stage.io.counters().polls;
    for (int i = 0; i < 5; ++i) stage.turn(0);
    EXPECT_EQ(stage.io.counters().polls, before + 5);
    stage.listen();
    auto one = stage.join();
    EXPECT_GT(stage.io.counters().completions, 0u);
    EXPECT_GT(stage.io.counters().batches, 0u);
    EXPECT_LE(stage.io.counters().batches, stage.io.counters().polls);
    stage.close_all();
}

}  // namespace pulse::test
