// When a reactor rests: the decision by itself, in made-up time, and in whole reactors.
#include "net/loop/gather.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

constexpr Nanos kUs = 1'000;

// Turns at a constant pace, `deliveries` in each, for so long. Returns the time after them.
Nanos run(Gather& gather, Nanos from, Nanos duration, double turns_per_second,
          uint64_t deliveries = 1) {
    const auto pace = static_cast<Nanos>(kSecond / turns_per_second);
    Nanos now = from;
    for (; now < from + duration; now += pace) gather.count_turn(now, deliveries);
    return now;
}

// ------------------------------------------------------------------------------ how long it rests
TEST(Gather, OffNeverRests) {
    Gather gather(0, 0);
    run(gather, 0, kSecond, 100'000);
    EXPECT_FALSE(gather.is_on());
    EXPECT_EQ(gather.rest(kSecond, kNever), 0);
}

TEST(Gather, ATimeRestsUntilThatTimeAfterTheLastWakeUp) {
    Gather gather(400 * kUs, 0);
    gather.count_turn(kSecond, 1);
    EXPECT_TRUE(gather.is_on());
    EXPECT_EQ(gather.rest(kSecond + 100 * kUs, kNever), 300 * kUs) << "work counts";
    EXPECT_EQ(gather.rest(kSecond + 400 * kUs, kNever), 0) << "so much work is a gathering";
    EXPECT_EQ(gather.rest(kSecond + 5'000 * kUs, kNever), 0) << "a saturated reactor";
}

TEST(Gather, ARestEndsAtTheDeadlineOfTheWait) {
    Gather gather(1'000 * kUs, 0);
    gather.count_turn(kSecond, 1);
    EXPECT_EQ(gather.rest(kSecond, kSecond + 300 * kUs), 300 * kUs);
    EXPECT_EQ(gather.rest(kSecond, kSecond), 0);
    EXPECT_EQ(gather.rest(kSecond, 0), 0) << "there is work to do";
}

TEST(Gather, ARestThatIsNotWorthItIsLeftOut) {
    Gather gather(1'000 * kUs, 0);
    gather.count_turn(kSecond, 1);
    const Nanos late = kSecond + 1'000 * kUs - kGatherRestMinNs;
    EXPECT_EQ(gather.rest(late, kNever), kGatherRestMinNs);
    EXPECT_EQ(gather.rest(late + 1, kNever), 0);
}

// ------------------------------------------------------------------------------------------- auto
TEST(Gather, AutoBeginsWhereTurnsComeFast) {
    Gather gather(kGatherAuto, 0);
    Nanos now = run(gather, 0, kSecond, 0.95 * kGatherEnterPerSecond);
    EXPECT_FALSE(gather.is_on());
    EXPECT_EQ(gather.rest(now, kNever), 0);
    now = run(gather, now, kGatherWindowNs, 1.05 * kGatherEnterPerSecond);
    now = run(gather, now, kGatherWindowNs, 1.05 * kGatherEnterPerSecond);
    EXPECT_TRUE(gather.is_on());
    EXPECT_GT(gather.rest(now, kNever), 0);
    EXPECT_LE(gather.rest(now, kNever), kGatherAutoNs);
}

TEST(Gather, AutoLeavesFewTurnsAloneHoweverMuchTheyDeliver) {
    Gather gather(kGatherAuto, 0);
    run(gather, 0, kSecond, 1'000, 500);
    EXPECT_FALSE(gather.is_on()) << "what gathering would bring about is so already";
}

// Once it gathers there are few turns: what they deliver decides.
TEST(Gather, AutoEndsWhereLittleIsDelivered) {
    Gather gather(kGatherAuto, 0);
    Nanos now = run(gather, 0, 3 * kGatherWindowNs, 2 * kGatherEnterPerSecond);
    ASSERT_TRUE(gather.is_on());
    const auto deliveries = static_cast<uint64_t>(1.1 * kGatherLeavePerSecond / 1'000);
    now = run(gather, now, kSecond, 1'000, deliveries);
    EXPECT_TRUE(gather.is_on());
    now = run(gather, now, 3 * kGatherWindowNs, 1'000, deliveries * 8 / 10);
    EXPECT_FALSE(gather.is_on());
}

TEST(Gather, AutoDoesNotFlicker) {
    static_assert(kGatherLeavePerSecond < kGatherEnterPerSecond);
    Gather gather(kGatherAuto, 0);
    Nanos now = run(gather, 0, 3 * kGatherWindowNs, 1.01 * kGatherEnterPerSecond);
    int changes = 0;
    bool was_on = gather.is_on();
    // A load at the threshold: each delivery had a turn of its own before.
    for (int i = 0; i < 1'000; ++i) {
        now = was_on ? run(gather, now, kGatherWindowNs, 1'000,
                           static_cast<uint64_t>(kGatherEnterPerSecond / 1'000))
                     : run(gather, now, kGatherWindowNs, 0.99 * kGatherEnterPerSecond);
        changes += was_on != gather.is_on();
        was_on = gather.is_on();
    }
    EXPECT_LE(changes, 1);
}

// A load that comes many at a time by itself gains nothing: it is noticed when turns are counted.
TEST(Gather, AutoCountsTurnsAgainNowAndThen) {
    Gather gather(kGatherAuto, 0);
    Nanos now = run(gather, 0, 3 * kGatherWindowNs, 2 * kGatherEnterPerSecond);
    ASSERT_TRUE(gather.is_on());
    now = run(gather, now, kGatherRecheckNs + 3 * kGatherWindowNs, 1'000, 1'000);
    EXPECT_FALSE(gather.is_on());
    now = run(gather, now, kSecond, 1'000, 1'000);
    EXPECT_FALSE(gather.is_on());
    // And a load that gains goes on after one window without.
    now = run(gather, now, 3 * kGatherWindowNs, 2 * kGatherEnterPerSecond);
    EXPECT_TRUE(gather.is_on());
}

// Peers that wait for an answer before they say more: each window with it delivers little.
TEST(Gather, AutoKeepsOffWhereItMakesPeersWait) {
    Gather gather(kGatherAuto, 0);
    Nanos now = 0, with = 0;
    while (now < 60 * kSecond) {
        const Nanos pace = gather.is_on() ? kGatherAutoNs : 20 * kUs;
        if (gather.is_on()) with += pace;
        now += pace;
        gather.count_turn(now, 1);
    }
    EXPECT_GE(with, 3 * kGatherWindowNs) << "it tries again";
    EXPECT_LE(with, 8 * kGatherWindowNs + 10 * kMillisecond)
        << "1, 2, 4, 8, 16 and 16 s after the last try";
    // The load changes: what gains is noticed after the longest hold, and no failure is remembered.
    now = run(gather, now, kGatherHoldOffMaxNs + 3 * kGatherWindowNs, 2 * kGatherEnterPerSecond);
    ASSERT_TRUE(gather.is_on());
    now = run(gather, now, 2 * kGatherWindowNs, 100);
    EXPECT_FALSE(gather.is_on());
    now = run(gather, now, 3 * kGatherWindowNs, 2 * kGatherEnterPerSecond);
    EXPECT_TRUE(gather.is_on()) << "it had paid, so its end was of the load";
}

TEST(Gather, AnotherSettingBeginsAnew) {
    Gather gather(kGatherAuto, 0);
    const Nanos now = run(gather, 0, kSecond, 2 * kGatherEnterPerSecond);
    ASSERT_TRUE(gather.is_on());
    gather.set(kGatherAuto, now);
    EXPECT_TRUE(gather.is_on()) << "the same again changes nothing";
    gather.set(0, now);
    EXPECT_FALSE(gather.is_on());
    gather.set(kGatherAuto, now);
    EXPECT_FALSE(gather.is_on());
}

// ------------------------------------------------------------------------------ in whole reactors
StagePlan plan_with(Nanos gather, uint32_t places = 64) {
    StagePlan plan{.listen = {"tcp://10.0.0.1:9000"}, .places = places};
    plan.options.gather = gather;
    return plan;
}
const std::string kPing("\xB7\x01\0\0\0\0\0\1", 8);

ReactorStats stats_of(ReactorStage& stage) {
    ReactorStats stats;
    stage.reactor().fill(stats);
    return stats;
}

// Peers that ping in turn, some at once at a constant pace, while the reactor turns.
void beat(ReactorStage& stage, size_t peers, Nanos duration, Nanos pace, uint32_t at_once = 1) {
    const Nanos end = stage.network().clock() + duration;
    for (size_t next = 0; stage.network().clock() < end;) {
        const Nanos due = stage.network().clock() + pace;
        for (uint32_t i = 0; i < at_once; ++i) stage.write(next++ % peers, kPing);
        while (stage.network().clock() < due) stage.reactor().turn(due);
    }
}

TEST(Gathering, WhatComesWithinTheGatherTimeIsOneTurn) {
    ReactorStage stage(plan_with(kMillisecond));
    for (int i = 0; i < 4; ++i) stage.connect(0);
    stage.settle(20 * kMillisecond);
    const auto count = [&](Metric metric) { return stage.metrics()[metric]; };
    stage.write(0, kPing);
    stage.reactor().turn(stage.network().clock() + kSecond);
    const uint64_t turns = count(Metric::turns);
    ASSERT_EQ(count(Metric::heartbeats_answered), 1u) << "the first is not kept waiting";
    const uint64_t gathered = count(Metric::turns_gathered);
    const Nanos before = stage.network().clock();
    for (size_t peer = 1; peer < 4; ++peer) stage.write(peer, kPing);
    stage.reactor().turn(before + kSecond);
    EXPECT_EQ(count(Metric::heartbeats_answered), 4u);
    EXPECT_EQ(count(Metric::turns), turns + 1);
    EXPECT_EQ(count(Metric::turns_gathered), gathered + 1);
    EXPECT_LE(stage.network().clock() - before, kMillisecond);
    stage.settle();
    for (size_t peer = 0; peer < 4; ++peer) EXPECT_EQ(stage.heard(peer).size(), kPing.size());
}

// A message of another thread waits for the rest at most, and a deadline does not wait.
TEST(Gathering, MessagesAndDeadlinesAreNotLateByMore) {
    StagePlan plan = plan_with(kMillisecond, 400);
    plan.options.heartbeat_probe = false;
    plan.options.heartbeat_interval = kSecond;
    plan.options.heartbeat_timeout = 2 * kSecond;
    ReactorStage stage(plan);
    for (int i = 0; i < 400; ++i) stage.connect(0);
    stage.settle(20 * kMillisecond);
    for (size_t i = 0; i < 400; ++i) stage.write(i, kPing);
    stage.settle(20 * kMillisecond);
    // One peer goes on, so that the reactor rests; the others are silent.
    beat(stage, 1, 3 * kSecond, 100'000);
    const ReactorStats stats = stats_of(stage);
    EXPECT_GT(stats.metrics[Metric::turns_gathered], 1'000u);
    EXPECT_EQ(stats.metrics[Metric::evicted], 399u);
    EXPECT_LE(stats.distributions.eviction_delay.max(), 10 * kMillisecond)
        << "a tick, and the rest";
    EXPECT_LE(stats.gauges.judge_lag_max, 2 * kMillisecond);

    stage.write(0, kPing);
    stage.reactor().turn(stage.network().clock() + kSecond);
    const Nanos posted_at = stage.network().clock();
    ASSERT_TRUE(stage.post({.body = Message::Kick{.target = stage.table().id(*stage.index(0)),
                                                  .reason = CloseReason::kicked}}));
    while (stage.metrics()[Metric::control_messages] == 0 &&
           stage.network().clock() < posted_at + kSecond) {
        stage.reactor().turn(posted_at + kSecond);
    }
    EXPECT_LE(stage.network().clock() - posted_at, kMillisecond);
}

TEST(Gathering, AutoFollowsTheLoadAndAReloadEndsIt) {
    ReactorStage stage(plan_with(kGatherAuto));
    for (int i = 0; i < 64; ++i) stage.connect(0);
    stage.settle(20 * kMillisecond);
    beat(stage, 64, 300 * kMillisecond, 500'000);
    EXPECT_EQ(stats_of(stage).gauges.gathering, 0u) << "2,000 a second";
    EXPECT_EQ(stats_of(stage).metrics[Metric::turns_gathered], 0u);
    beat(stage, 64, 300 * kMillisecond, 10'000);
    EXPECT_EQ(stats_of(stage).gauges.gathering, 1u) << "100,000 a second";
    beat(stage, 64, 300 * kMillisecond, 400'000, 40);
    EXPECT_EQ(stats_of(stage).gauges.gathering, 1u) << "the same, in few turns";
    EXPECT_GT(stats_of(stage).metrics[Metric::turns_gathered], 500u);
    beat(stage, 64, 300 * kMillisecond, 500'000);
    EXPECT_EQ(stats_of(stage).gauges.gathering, 0u) << "2,000 again";
    beat(stage, 64, 300 * kMillisecond, 10'000);
    ASSERT_EQ(stats_of(stage).gauges.gathering, 1u);
    stage.reload([](LoopOptions& options) { options.gather = 0; });
    beat(stage, 64, 10 * kMillisecond, 10'000);
    EXPECT_EQ(stats_of(stage).gauges.gathering, 0u);
    const uint64_t gathered = stats_of(stage).metrics[Metric::turns_gathered];
    beat(stage, 64, 300 * kMillisecond, 400'000, 40);
    EXPECT_EQ(stats_of(stage).metrics[Metric::turns_gathered], gathered);
}

}  // namespace
}  // namespace pulse::test
