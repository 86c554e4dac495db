// Jobs of other threads: steps within a turn's budget, several in turn, and their acknowledgements.
#include "net/loop/job.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

// Costs what it is told to, `steps` times, and may wait between two steps.
struct Work final : Job {
    uint32_t steps = 1;
    uint32_t cost = 1;
    Nanos pause = 0;
    uint32_t done = 0;
    uint32_t least_budget = UINT32_MAX;
    Nanos last_at = 0;

    Nanos step(Connections&, Nanos now, uint32_t& budget) override {
        EXPECT_GT(budget, 0u);
        least_budget = std::min(least_budget, budget);
        budget -= std::min(budget, cost);
        last_at = now;
        return ++done == steps ? kNever : now + pause;
    }
};

// What a job's acknowledgement finds.
struct Asked {
    explicit Asked(Job& job) : pointer(&job) {}
    Job* pointer;
    int acknowledged = 0;
    bool finished = false;
    uint32_t reactor = UINT32_MAX;

    static void acknowledge(void* context, uint32_t reactor) {
        auto& self = *static_cast<Asked*>(context);
        ++self.acknowledged;
        self.finished = self.pointer->finished();
        self.reactor = reactor;
    }
    Message message() {
        return {.body = Message::Run{},
                .payload = Payload::of(pointer),
                .acknowledgement = {&acknowledge, this}};
    }
};

// A stage ends before the jobs that it runs, which are the asker's: it comes behind them.
StagePlan plan_of() { return {.listen = {"tcp://10.0.0.1:9000"}, .places = 256}; }

TEST(Jobs, AJobIsAcknowledgedOnceWhenItIsFinishedAndNotBefore) {
    Work work;
    work.steps = 5;
    work.cost = kSweepBudgetPerTurn;
    Asked asked(work);
    ReactorStage stage(plan_of());
    ASSERT_TRUE(stage.post(asked.message()));
    for (int turn = 1; turn <= 4; ++turn) {
        stage.reactor().turn(kNever);  // none sleeps: a step is due
        EXPECT_EQ(work.done, static_cast<uint32_t>(turn));
        EXPECT_EQ(asked.acknowledged, 0);
    }
    stage.reactor().turn(kNever);
    EXPECT_EQ(asked.acknowledged, 1);
    EXPECT_TRUE(asked.finished);
    EXPECT_EQ(asked.reactor, 0u);
    stage.settle(kSecond);
    EXPECT_EQ(work.done, 5u);
    EXPECT_EQ(asked.acknowledged, 1);
}

TEST(Jobs, SeveralHaveEqualSharesAndTheShortOneDoesNotWaitForTheLongOne) {
    Work longest;
    longest.steps = 1'000;
    longest.cost = kSweepBudgetPerTurn;
    Work shorter;
    shorter.steps = 3;
    shorter.cost = 1;
    Asked first(longest), second(shorter);
    ReactorStage stage(plan_of());
    ASSERT_TRUE(stage.post(first.message()));
    ASSERT_TRUE(stage.post(second.message()));
    for (int turn = 0; turn < 4; ++turn) stage.reactor().turn(kNever);
    EXPECT_EQ(second.acknowledged, 1);
    EXPECT_EQ(longest.least_budget, kSweepBudgetPerTurn / 2);
    EXPECT_EQ(first.acknowledged, 0);
}

// More jobs than a turn has units of work: each has its steps all the same.
TEST(Jobs, ManyJobsAreAllFinished) {
    std::vector<std::unique_ptr<Work>> works;
    std::vector<std::unique_ptr<Asked>> asked;
    ReactorStage stage(plan_of());
    for (int i = 0; i < 40; ++i) {
        works.push_back(std::make_unique<Work>());
        works.back()->steps = 7;
        works.back()->cost = kSweepBudgetPerTurn;
        asked.push_back(std::make_unique<Asked>(*works.back()));
        ASSERT_TRUE(stage.post(asked.back()->message()));
    }
    stage.settle(kSecond);
    for (const auto& each : asked) EXPECT_TRUE(each->acknowledged == 1 && each->finished);
}

TEST(Jobs, AJobThatWaitsIsSteppedWhenItIsDue) {
    Work work;
    work.steps = 4;
    work.pause = 20 * kMillisecond;
    Asked asked(work);
    ReactorStage stage(plan_of());
    const Nanos began = stage.network().clock();
    ASSERT_TRUE(stage.post(asked.message()));
    stage.settle(kSecond);
    EXPECT_EQ(asked.acknowledged, 1);
    EXPECT_GE(work.last_at - began, 60 * kMillisecond);
    EXPECT_LE(work.last_at - began, 70 * kMillisecond);
}

TEST(Jobs, ACancelledJobHasNoMoreStepsAndIsAcknowledgedSoon) {
    Work work;
    work.steps = 2;
    work.pause = 1'000 * kSecond;
    Asked asked(work);
    ReactorStage stage(plan_of());
    ASSERT_TRUE(stage.post(asked.message()));
    stage.settle(kMillisecond);
    ASSERT_EQ(work.done, 1u);
    work.cancel();
    stage.settle(kCancelLookNs + 10 * kMillisecond);
    EXPECT_EQ(asked.acknowledged, 1);
    EXPECT_FALSE(asked.finished);
    EXPECT_EQ(work.done, 1u);
}

TEST(Jobs, AReactorThatEndsAcknowledgesThoseThatItHadBegun) {
    Work work;
    work.steps = 2;
    work.pause = 1'000 * kSecond;
    Asked asked(work);
    {
        ReactorStage stage(plan_of());
        ASSERT_TRUE(stage.post(asked.message()));
        stage.settle(kMillisecond);
        EXPECT_EQ(asked.acknowledged, 0);
    }
    EXPECT_EQ(asked.acknowledged, 1);
    EXPECT_FALSE(asked.finished);
}

// Beside a retune of all connections, which has the budget first.
TEST(Jobs, AJobGoesOnBesideWhatTheReactorDoesToEveryConnection) {
    ReactorStage stage(plan_of());
    for (int i = 0; i < 200; ++i) stage.connect(0);
    stage.settle();
    Work work;
    work.steps = 3;
    work.cost = kSweepBudgetPerTurn;
    Asked asked(work);
    ASSERT_TRUE(stage.reload([](LoopOptions& options) {
        options.heartbeat_interval = 10 * kSecond;
        options.heartbeat_timeout = 40 * kSecond;
    }));
    ASSERT_TRUE(stage.post(asked.message()));
    stage.settle(kSecond);
    EXPECT_TRUE(asked.finished);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
}

// What jobs and all other messages come through: what waits, what found no room, who was woken.
TEST(Jobs, StatisticsSayHowTheMailboxStands) {
    ReactorStage stage(plan_of());
    stage.settle();  // it has slept, and is awake between turns
    const auto gauges = [&] { return stage.stats().gauges; };
    EXPECT_EQ(gauges().mailbox_depth, 0u);
    for (uint32_t i = 0; i < kMailboxSlots; ++i) ASSERT_TRUE(stage.post({Message::Kick{}}));
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(stage.post({Message::Kick{}}));
    EXPECT_EQ(gauges().mailbox_depth, kMailboxSlots);
    EXPECT_EQ(gauges().mailbox_full_total, 3u);
    EXPECT_EQ(gauges().doorbells_total, 0u);
    stage.settle();
    EXPECT_EQ(gauges().mailbox_depth, 0u);
    ASSERT_TRUE(stage.mailbox().may_sleep());
    ASSERT_TRUE(stage.post({Message::Kick{}}));
    EXPECT_EQ(gauges().doorbells_total, 1u);
}

}  // namespace
}  // namespace pulse::test
