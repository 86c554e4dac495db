// What the loop itself promises: what a turn measures, what it does at most, and how it closes
// connections whose sending fails or stands still. Over the simulated kernel, and over epoll where
// a system call has to fail.
#include "net/loop/reactor.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "tests/net/io/epoll_world.h"
#include "tests/net/io/io_stage.h"
#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

ReactorStats stats_of(ReactorStage& stage) {
    ReactorStats stats;
    stage.reactor().fill(stats);
    return stats;
}

// Peers that beat once and then say nothing, with deadlines soon.
StagePlan silent_plan(uint32_t places) {
    StagePlan plan{.listen = {"tcp://10.0.0.1:9000"}, .places = places};
    plan.options.heartbeat_interval = kSecond;
    plan.options.heartbeat_timeout = 3 * kSecond;
    return plan;
}
void join(ReactorStage& stage, uint32_t peers) {
    for (uint32_t i = 0; i < peers; ++i) stage.connect(0);
    stage.settle();
    ASSERT_EQ(stage.table().live(), peers);
    for (uint32_t i = 0; i < peers; ++i) stage.write(i, binary_frame(kBinaryPing, 1, ""));
    stage.settle();
    ASSERT_EQ(stage.metrics()[Metric::heartbeats_answered], peers);
}

// ------------------------------------------------------------------------------ what is measured
TEST(Reactor, EveryTurnIsTimed) {
    ReactorStage stage(silent_plan(4));
    join(stage, 4);
    stage.settle(10 * kSecond);
    const ReactorStats stats = stats_of(stage);
    EXPECT_GT(stats.metrics[Metric::turns], 10u);
    EXPECT_EQ(stats.distributions.turn_time.count(), stats.metrics[Metric::turns]);
    EXPECT_EQ(stats.distributions.wheel_slice.count(), stats.metrics[Metric::turns]);
    EXPECT_GT(stats.gauges.wait_total, 9 * kSecond) << "it slept";
}

TEST(Reactor, ABatchIsWhatATurnReadFrom) {
    ReactorStage stage(silent_plan(4));
    join(stage, 4);
    const Histogram before = stats_of(stage).distributions.batch_connections;
    for (uint32_t i = 0; i < 3; ++i) stage.write(i, binary_frame(kBinaryPing, 1, ""));
    stage.network().run_until(stage.network().clock() + kSecond);  // all are here before a turn is
    stage.settle(10 * kSecond);
    Histogram batches = stats_of(stage).distributions.batch_connections;
    batches.subtract(before);
    EXPECT_EQ(batches.count(), 1u) << "turns that read nothing are not in it";
    EXPECT_EQ(batches.max(), Histogram::amount(3));
}

TEST(Reactor, JudgeLagIsHowLateADueLookIsJudged) {
    ReactorStage punctual(silent_plan(4));
    join(punctual, 4);
    punctual.settle(kSecond / 2);
    EXPECT_EQ(stats_of(punctual).gauges.judge_lag_max, 0);
    // Nothing runs for two seconds, in which looks fall due.
    punctual.network().run_until(punctual.network().clock() + 2 * kSecond);
    punctual.reactor().turn(punctual.network().clock());
    EXPECT_GT(stats_of(punctual).gauges.judge_lag_max, kSecond / 2);
    EXPECT_LT(stats_of(punctual).gauges.judge_lag_max, 2 * kSecond);
    punctual.settle(kSecond / 8);
    EXPECT_EQ(stats_of(punctual).gauges.judge_lag, 0) << "it has caught up";
    EXPECT_GT(stats_of(punctual).gauges.judge_lag_max, kSecond / 2) << "the most is kept";
}

// Decoding, answering and logging happen inside poll, and are work: 300 ms in a handler.
TEST(Reactor, WorkInsidePollCountsAsWorkAndNotAsWaiting) {
    StagePlan plan = silent_plan(4);
    plan.keeps_debug_lines = true;
    plan.log_takes = 300 * kMillisecond;  // a line is logged when a peer is accepted
    ReactorStage stage(plan);
    const Nanos began = stage.network().clock();
    stage.connect(0);
    stage.settle(2 * kSecond);
    ASSERT_EQ(stage.debug_lines().size(), 1u);
    const ReactorStats stats = stats_of(stage);
    EXPECT_GE(stats.distributions.turn_time.max(), 290 * kMillisecond);
    EXPECT_EQ(stats.distributions.turn_cpu.count(), 1u) << "of a turn that took long";
    EXPECT_GE(stats.distributions.turn_cpu.max(), 290 * kMillisecond);
    // Not what the short ones before it took, too.
    EXPECT_LE(stats.distributions.turn_cpu.max(), stats.distributions.turn_time.max());
    EXPECT_LE(stats.gauges.wait_total, stage.network().clock() - began - 300 * kMillisecond);
}

// A pause of this thread between poll and judge: a message that takes its time.
void pause_after_poll(ReactorStage& stage, Nanos length) {
    static Nanos span;
    span = length;
    const auto pause = [](void* io, uint32_t) { static_cast<SimBackend*>(io)->pass_time(span); };
    ASSERT_TRUE(stage.post({.body = Message::Snapshot{}, .acknowledgement = {pause, &stage.io()}}));
}

TEST(Reactor, JudgeLagAndEvictionDelayCountWhatPassedSincePoll) {
    ReactorStage stage(silent_plan(4));
    join(stage, 4);
    stage.settle(kSecond / 2);
    pause_after_poll(stage, 2 * kSecond);
    stage.reactor().turn(stage.network().clock());
    EXPECT_GT(stats_of(stage).gauges.judge_lag, kSecond / 2) << "looks fell due meanwhile";

    StagePlan unprobed = silent_plan(4);
    unprobed.options.heartbeat_probe = false;
    ReactorStage late(unprobed);
    join(late, 4);
    late.network().run_until(late.network().clock() + 4 * kSecond);  // a second late
    pause_after_poll(late, 5 * kSecond);
    late.reactor().turn(late.network().clock());
    const ReactorStats stats = stats_of(late);
    ASSERT_EQ(stats.metrics[Metric::evicted], 4u);
    EXPECT_GT(stats.distributions.eviction_delay.max(), 5 * kSecond);
}

// -------------------------------------------------------------------------------- what is bounded
// All deadlines pass while nothing runs; the loop then judges them in slices.
TEST(Reactor, ATurnEvictsAndProbesWithinItsBudget) {
    constexpr uint32_t kPeers = 600;
    for (const bool probe : {false, true}) {
        StagePlan plan = silent_plan(kPeers);
        plan.options.heartbeat_probe = probe;
        ReactorStage stage(plan);
        join(stage, kPeers);
        const Nanos away = probe ? 2 * kSecond : 5 * kSecond;
        stage.network().run_until(stage.network().clock() + away);
        const Metric done = probe ? Metric::probes_sent : Metric::evicted;
        const uint32_t most = kJudgeBudgetPerTurn / (probe ? kProbeCost : kEvictCost);
        ASSERT_LT(2 * most, kPeers);
        uint32_t full_turns = 0;
        for (int turns = 0; turns < 1'000 && stage.metrics()[done] < kPeers; ++turns) {
            const uint64_t before = stage.metrics()[done];
            stage.reactor().turn(stage.network().clock());
            const uint64_t now = stage.metrics()[done] - before;
            ASSERT_LE(now, most + 1) << "the last one may begin within the budget";
            full_turns += now >= most;
        }
        EXPECT_EQ(stage.metrics()[done], kPeers);
        EXPECT_GE(full_turns, 2u) << "they did not fall due together";
    }
}

// ------------------------------------------------------------------------------------ slow readers
TEST(Reactor, ASlowReaderIsSentTheReasonInPlaceOfItsQueue) {
    StagePlan plan{.listen = {"tcp://10.0.0.1:9000"}};
    plan.options.on_message = OnMessage::echo;
    plan.options.send_queue_bytes = 64 * 1024;
    plan.options.max_message_bytes = 16 * 1024;
    ReactorStage stage(plan);
    const size_t peer = stage.connect(0);
    stage.settle();
    stage.set_reading(peer, false);
    const std::string message = binary_frame(kBinaryData, 1, std::string(4'000, 'x'));
    const auto is_open = [&] {
        return stage.record(peer) != nullptr && is_live(stage.record(peer)->stage);
    };
    for (int sent = 0; sent < 1'000 && is_open(); ++sent) {
        stage.write(peer, message);
        stage.settle(kMillisecond);
    }
    ASSERT_FALSE(is_open()) << "4 MB were queued";
    stage.set_reading(peer, true);
    stage.settle(kSecond / 2);
    const std::string& heard = stage.heard(peer);
    size_t echoes = 0, at = 0;
    while (at + message.size() <= heard.size() && heard.compare(at, message.size(), message) == 0) {
        ++echoes;
        at += message.size();
    }
    const uint64_t queued_echoes = stage.metrics()[Metric::messages_echoed];
    EXPECT_LT(echoes + 2, queued_echoes) << "the queue was sent";
    ASSERT_GE(heard.size(), at + kBinaryHeaderBytes + 2) << "no goodbye";
    EXPECT_EQ(heard[at + 1], kBinaryGoodbye);
    EXPECT_EQ(load_be16(reinterpret_cast<const uint8_t*>(&heard[at + kBinaryHeaderBytes])), 4004);
    stage.finish(peer);
    stage.settle();
    EXPECT_EQ(closed_for(stage, CloseReason::slow_reader), 1u);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

// ---------------------------------------------------------------------------------- failed sends
// A ping is answered, or the connection ends: one system call fails, each in turn, the send of the
// answer among them. A peer that misses an answer would wait for it for ever.
TEST(Reactor, AFailedSendEndsTheConnection) {
    int ends = 0;
    uint64_t failures = 0;  // by the reason that is reported
    for (uint64_t nth = 1; nth <= 8; ++nth) {
        HeapPages pages;
        ConnectionTable table(pages, 8);
        EpollWorld world(table.records(), 8);
        const auto ring = [](void* io) { static_cast<EpollBackend*>(io)->wake(); };
        Mailbox mailbox(1, kMailboxSlots, {ring, &world.io()});
        Admission admission(8);
        ReactorMetrics metrics;
        auto options = std::make_shared<LoopOptions>();
        options->listen = {world.free_address()};
        ReactorConfig config = make_reactor_config(options);
        config.admission = &admission;
        Reactor<EpollBackend> reactor(config, pages, table, world.io(), mailbox, metrics);
        ASSERT_TRUE(reactor.listen());
        RealPeer peer = world.connect(options->listen[0].address);
        const auto turn_until = [&](auto come_true) {
            for (int left = 5'000; left > 0 && !come_true(); --left) {
                reactor.turn(world.io().now() + kMillisecond);
            }
            return come_true();
        };
        ASSERT_TRUE(turn_until([&] { return table.live() == 1; }));
        ASSERT_EQ(peer.write(as_bytes("PING\n")), 5u);
        ASSERT_TRUE(turn_until([&] { return metrics.snapshot()[Metric::frames_received] == 1; }));
        std::string heard;
        ASSERT_TRUE(turn_until([&] { return peer.read(heard), heard == "PONG\n"; }));

        world.io().system_calls().fail_at(world.io().counters().system_calls + nth, ENOMEM);
        ASSERT_EQ(peer.write(as_bytes("PING\n")), 5u);
        heard.clear();
        EXPECT_TRUE(turn_until([&] {
            peer.read(heard);
            return heard == "PONG\n" || peer.ended() || peer.error() != 0;
        })) << "system call "
            << nth << " failed, and the peer waits for its answer";
        ends += heard.empty();
        failures += metrics.snapshot().closed[static_cast<size_t>(CloseReason::io_error)];
        reactor.drain();
        reactor.stop_hard();
        EXPECT_TRUE(turn_until([&] { return reactor.drained(); }));
    }
    EXPECT_GE(ends, 2) << "neither a receive nor a send was failed";
    EXPECT_EQ(failures, static_cast<uint64_t>(ends)) << "no peer has reset anything";
}

}  // namespace
}  // namespace pulse::test
