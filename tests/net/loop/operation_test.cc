// What an operator asks of a reactor: limits on what comes in, and messages.
#include <gtest/gtest.h>

#include "core/fixed_text.h"
#include "net/loop/replies.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

StagePlan plan_of(const ServerOptions& options = {}) {
    return {.listen = {"tcp://10.0.0.1:9000"}, .options = options, .places = 2'000};
}

TEST(Operation, AcceptsNoFasterThanTheRate) {
    ServerOptions options;
    options.accept_rate = 100;
    ReactorStage stage(plan_of(options));
    for (int i = 0; i < 500; ++i) stage.connect(0);
    stage.settle(100 * kMillisecond);
    // The burst of a tenth of a second, and what came in since.
    EXPECT_GE(stage.table().live(), 10u);
    EXPECT_LE(stage.table().live(), 20u);
    const MetricsSnapshot metrics = stage.metrics();
    EXPECT_EQ(metrics.refused[static_cast<size_t>(CloseReason::accept_rate)],
              500 - stage.table().live());
    for (int second = 0; second < 10; ++second) {
        for (int i = 0; i < 50; ++i) stage.connect(0);
        stage.settle(kSecond / 2);
    }
    EXPECT_GE(stage.metrics()[Metric::accepted], 100u);
    EXPECT_LE(stage.metrics()[Metric::accepted], 530u);
}

TEST(Operation, ATurnTakesNoMoreMessagesThanItsBudget) {
    StagePlan plan = plan_of();
    plan.senders = 2 * kMailboxBudgetPerTurn / kMailboxSlots;
    ReactorStage stage(plan);
    stage.settle();
    for (uint32_t sender = 0; sender < plan.senders; ++sender)
        while (stage.post({.kind = Message::Kind::debug}, sender)) continue;
    uint64_t before = stage.metrics()[Metric::control_messages];
    for (int turn = 0; turn < 2; ++turn) {
        stage.reactor().turn(kNever);  // at once, as long as some are left
        const uint64_t taken = stage.metrics()[Metric::control_messages] - before;
        EXPECT_EQ(taken, kMailboxBudgetPerTurn);
        before += taken;
    }
}

TEST(Operation, AMessageTurnsTheDebugLogOnAndOff) {
    StagePlan plan = plan_of();
    plan.keeps_debug_lines = true;
    ReactorStage stage(plan);
    stage.post({.kind = Message::Kind::debug, .on = false});
    stage.settle();
    stage.connect(0);
    stage.settle();
    EXPECT_TRUE(stage.debug_lines().empty());
    stage.post({.kind = Message::Kind::debug, .on = true});
    stage.settle();
    stage.connect(0);
    stage.settle();
    EXPECT_EQ(stage.debug_lines().size(), 1u);
}

// A text asserts that nothing is cut.
TEST(Operation, ARefusalIsWholeForEveryReasonAndProtocol) {
    for (size_t reason = 0; reason < kCloseReasons; ++reason) {
        for (const Protocol protocol :
             {Protocol::binary, Protocol::jsonl, Protocol::websocket, Protocol::detect}) {
            const RefusalMessage words =
                refusal_message(protocol, static_cast<CloseReason>(reason), UINT32_MAX);
            EXPECT_GT(words.bytes().size(), 8u) << kCloseReasonInfos[reason].name;
        }
    }
    FixedText<16> text;
    volatile size_t too_many = 17;  // not known to the compiler, which would refuse it
    EXPECT_DEATH(text << std::string(too_many, 'x'), "size");
}

// The tightest timeouts that are accepted: a peer that answers each probe in half of the time that
// an answer must have is never evicted, whatever ticks round to.
TEST(Operation, APeerThatAnswersEveryProbeStaysWithTheTightestTimeout) {
    for (const Nanos interval : {50 * kMillisecond, 123 * kMillisecond, kSecond, 4 * kSecond,
                                 30 * kSecond, 300 * kSecond}) {
        StagePlan plan = plan_of();
        const TickClock clock{plan.options.tick_shift};
        plan.options.heartbeat_interval = interval;
        plan.options.heartbeat_timeout = interval + answer_time(interval) + 2 * clock.tick_ns();
        ReactorStage stage(plan);
        const size_t peer = stage.connect(0);
        const std::string ping{"\xB7\x01\0\0\0\0\0\0", 8};
        const std::string pong{"\xB7\x02\0\0\0\0\0\0", 8};
        stage.write(peer, ping);
        const Nanos end = stage.network().clock() + 20 * interval;
        while (stage.network().clock() < end) {
            stage.settle(std::max<Nanos>(kMillisecond, answer_time(interval) / 8));
            const size_t probe = stage.heard(peer).find(ping);
            if (probe == std::string::npos) continue;
            stage.heard(peer).clear();
            stage.settle(answer_time(interval) / 2);
            stage.write(peer, pong);
        }
        EXPECT_FALSE(stage.ended(peer)) << "interval of " << interval / kMillisecond << " ms";
        EXPECT_GE(stage.metrics()[Metric::probes_sent], 10u);
    }
}

// 30 s and 32 s: the grace of 2 s would send the probe with the eviction.
TEST(Operation, TheGraceIsShorterWhereTheTimeoutIsTight) {
    EXPECT_EQ(probe_grace(30 * kSecond, 90 * kSecond), 2 * kSecond);
    EXPECT_EQ(probe_grace(30 * kSecond, 32 * kSecond), kSecond);
    EXPECT_EQ(probe_grace(4 * kSecond, 12 * kSecond), kSecond / 2);
    EXPECT_EQ(probe_grace(4 * kSecond, 5 * kSecond), 0);
    EXPECT_EQ(probe_grace(4 * kSecond, 4'500 * kMillisecond), 0);
}

}  // namespace
}  // namespace pulse::test
