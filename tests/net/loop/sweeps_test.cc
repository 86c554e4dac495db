// What is done to every connection, some in a turn (net/loop/sweeps.cc): jobs of other threads and
// their acknowledgements, retunes, drains, hard stops.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "net/loop/job.h"
#include "net/loop/kernel_bounds.h"

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

// ---------------------------------------------------------------------------- in slices of a turn
StagePlan crowd_of(const LoopOptions& options = {}) {
    return {.listen = {"tcp://10.0.0.1:9000"}, .options = options, .places = 2'000};
}
constexpr uint32_t kPeers = 1'000;
constexpr size_t kGoodbyeBytes = 41;  // a frame of type 6: its code, and words
constexpr uint32_t kMostInATurn = kSweepBudgetPerTurn / kEvictCost + 1;

// Peers that have spoken, so that they are told what changes.
void open_peers(ReactorStage& stage) {
    for (uint32_t i = 0; i < kPeers; ++i) {
        stage.write(stage.connect(0), std::string_view("\xB7\x01\0\0\0\0\0\1", 8));
    }
    stage.settle(50 * kMillisecond);
    ASSERT_EQ(stage.table().live(), kPeers);
    for (size_t peer = 0; peer < kPeers; ++peer) stage.heard(peer).clear();
}
auto retune_to(Nanos interval, Nanos timeout) {
    return [=](LoopOptions& options) {
        options.heartbeat_interval = interval;
        options.heartbeat_timeout = timeout;
    };
}
size_t told(ReactorStage& stage) {
    size_t count = 0;
    for (size_t peer = 0; peer < kPeers; ++peer) count += stage.heard(peer).size() / 16;
    return count;
}

// The most that one of the turns that follow sends, until `bytes` were sent in all.
uint64_t most_sent_in_a_turn(ReactorStage& stage, uint64_t bytes) {
    const uint64_t first = stage.metrics()[Metric::bytes_sent];
    uint64_t before = first, most = 0;
    for (int turn = 0; turn < 1'000 && before - first < bytes; ++turn) {
        stage.reactor().turn(0);
        const uint64_t sent = stage.metrics()[Metric::bytes_sent];
        most = std::max(most, sent - before);
        before = sent;
        stage.reactor().connections().validate();
    }
    EXPECT_EQ(before - first, bytes);
    return most;
}

TEST(Slices, ARetuneTellsEachPeerOnceAndSomeInATurn) {
    ReactorStage stage(crowd_of());
    open_peers(stage);
    ASSERT_TRUE(stage.reload(retune_to(10 * kSecond, 40 * kSecond)));
    EXPECT_LE(most_sent_in_a_turn(stage, kPeers * 16), kMostInATurn * 16);
    stage.settle(kSecond);
    EXPECT_EQ(told(stage), kPeers) << "once";
}

// Several reloads come while the first walk is under way: of those that wait the last counts. In
// the meantime each peer is judged by what it was sent last, however short the new timeout is.
TEST(Slices, OfReloadsDuringARetuneTheLastFollowsAndNoPeerIsJudgedByWhatItWasNotSent) {
    ReactorStage stage(crowd_of());
    open_peers(stage);
    stage.settle(20 * kSecond);
    ASSERT_TRUE(stage.reload(retune_to(2 * kSecond, 5 * kSecond)));
    stage.reactor().turn(0);
    for (const Nanos timeout : {70 * kSecond, 80 * kSecond, 90 * kSecond, 100 * kSecond})
        ASSERT_TRUE(stage.reload(retune_to(30 * kSecond, timeout)));
    stage.reactor().turn(0);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    stage.settle(100 * kMillisecond);
    EXPECT_EQ(told(stage), kPeers) << "until all have the shorter ones";
    stage.settle(5 * kSecond);
    EXPECT_GE(told(stage), 2 * kPeers) << "and probes";
    for (Index index = 0; index < stage.table().limit(); ++index) {
        const Connection& connection = stage.table()[index];
        if (!is_live(connection.stage)) continue;
        EXPECT_EQ(stage.reactor().connections().heartbeat_of(connection).timeout_ticks,
                  TickClock{kTickShiftDefault}.ticks(100 * kSecond));
    }
    stage.settle(10 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    stage.reactor().connections().validate();
}

// Peers that were silent for longer than the new timeout, as the old one allowed.
TEST(Slices, ARetuneBeginsTheSilenceOfEachPeerAnew) {
    ReactorStage stage(crowd_of());
    open_peers(stage);
    stage.settle(20 * kSecond);
    ASSERT_TRUE(stage.reload(retune_to(2 * kSecond, 5 * kSecond)));
    stage.settle(5 * kSecond);  // each has it a second later, once its host has acknowledged it
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::evicted], kPeers);
}

// ------------------------------------------------------------------------------- kernel's bounds

// Remembers what the kernel was asked to end by itself.
class BoundedKernel : public SimBackend {
  public:
    using SimBackend::SimBackend;
    void bound_silence(Index, const SocketOptions& bounds) { asked.push_back(bounds); }
    std::vector<SocketOptions> asked;
};
using BoundedStage = ReactorStageOn<BoundedKernel>;

SocketOptions last_asked(BoundedStage& stage, size_t times) {
    EXPECT_EQ(stage.io().asked.size(), times);
    return stage.io().asked.empty() ? SocketOptions{} : stage.io().asked.back();
}

TEST(KernelBounds, FollowTheHeartbeatsOfEachConnection) {
    BoundedStage stage({.listen = {"jsonl://10.0.0.1:9000"}});
    const size_t peer = stage.connect(0);
    stage.write(peer, "PING\n");
    stage.settle();
    EXPECT_TRUE(stage.io().asked.empty()) << "its listener's are right";
    stage.write(peer, "{\"type\":\"hello\",\"profile\":\"powersave\"}\n");
    stage.settle();
    EXPECT_EQ(last_asked(stage, 1).tcp_user_timeout, 1'200 * kSecond);
    EXPECT_EQ(last_asked(stage, 1).tcp_keepalive, 600 * kSecond);
    stage.write(peer, "{\"type\":\"hello\",\"profile\":\"default\"}\n");
    stage.settle(2 * kSecond);  // until its host has acknowledged the welcome
    EXPECT_EQ(last_asked(stage, 2).tcp_user_timeout, 180 * kSecond);
    ASSERT_TRUE(stage.reload(retune_to(60 * kSecond, 180 * kSecond)));
    stage.settle(kSecond);
    EXPECT_EQ(last_asked(stage, 3).tcp_user_timeout, 360 * kSecond);
    // A newcomer has those of the listener until its greeting is over.
    stage.write(stage.connect(0), "PING\n");
    stage.settle();
    EXPECT_EQ(last_asked(stage, 5).tcp_keepalive, 180 * kSecond);
    ASSERT_TRUE(stage.reload(retune_to(kSecond, 3 * kSecond)));
    stage.settle(2 * kSecond);
    EXPECT_EQ(last_asked(stage, 7).tcp_user_timeout, 2 * kKernelBoundMinNs);
}

TEST(KernelBounds, ThatWereAskedForStay) {
    StagePlan plan{.listen = {"jsonl://10.0.0.1:9000"}};
    plan.options.tcp_keepalive = 0;
    plan.options.tcp_user_timeout = 20 * kSecond;
    BoundedStage stage(plan);
    stage.write(stage.connect(0), "{\"type\":\"hello\",\"profile\":\"powersave\"}\n");
    stage.settle();
    EXPECT_TRUE(stage.io().asked.empty());
    const SocketOptions listener = kernel_bounds(plan.options, 90 * kSecond);
    EXPECT_EQ(listener.tcp_keepalive, 0);
    EXPECT_EQ(listener.tcp_user_timeout, 20 * kSecond);
}

// Linux resets with the first of its probes that is not answered once the user timeout is over.
TEST(KernelBounds, LeaveTimeForSeveralProbes) {
    LoopOptions options;
    for (const Nanos keepalive : {kByHeartbeat, 40 * kSecond, 300 * kSecond}) {
        options.tcp_keepalive = keepalive;
        for (const Nanos timeout : {kSecond, 90 * kSecond, 3'600 * kSecond}) {
            const SocketOptions bounds = kernel_bounds(options, timeout);
            EXPECT_GE(bounds.tcp_user_timeout, 2 * bounds.tcp_keepalive);
            EXPECT_GE(bounds.tcp_user_timeout, timeout);
        }
    }
}

TEST(Slices, AHardStopResetsAllAndSomeInATurn) {
    ReactorStage stage(crowd_of());
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Stop{}}));
    uint32_t live = kPeers;
    for (int turn = 0; turn < 100 && live > 0; ++turn) {
        stage.reactor().turn(0);
        EXPECT_LE(live - stage.table().live(), kMostInATurn);
        live = stage.table().live();
    }
    EXPECT_EQ(live, 0u);
    EXPECT_TRUE(stage.reactor().drained());
}

// All goodbyes are due at once when the thread was away for most of the window.
TEST(Slices, GoodbyesThatAreDueAtOnceAreSaidSomeInATurn) {
    LoopOptions options;
    options.drain_timeout = 10 * kSecond;
    ReactorStage stage(crowd_of(options));
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.reactor().turn(0);
    stage.io().pass_time(8 * kSecond);
    EXPECT_LE(most_sent_in_a_turn(stage, kPeers * kGoodbyeBytes), kMostInATurn * kGoodbyeBytes);
    stage.settle(kMillisecond);
    for (size_t peer = 0; peer < kPeers; ++peer) {
        EXPECT_EQ(stage.heard(peer).size(), kGoodbyeBytes);
    }
}

// --------------------------------------------------------------------------------------- draining
// Each was sent its goodbye and then FIN.
void expect_goodbyes(ReactorStage& stage, const std::string& when) {
    EXPECT_TRUE(stage.reactor().drained()) << when;
    EXPECT_FALSE(stage.reactor().drain_cut_short()) << when;
    size_t whole = 0;
    for (size_t peer = 0; peer < kPeers; ++peer) {
        const std::string& heard = stage.heard(peer);  // a probe may come before
        whole += stage.ended(peer) && heard.size() >= kGoodbyeBytes &&
                 heard[heard.size() - kGoodbyeBytes + 1] == 6;
    }
    EXPECT_EQ(whole, kPeers) << when;
}

// A pause of this thread between poll and mailbox takes nothing from the window, which begins when
// the drain does.
TEST(Drain, APauseBeforeItBeginsDoesNotShortenIt) {
    LoopOptions options;
    options.drain_timeout = 4 * kSecond;
    ReactorStage stage(crowd_of(options));
    open_peers(stage);
    const auto pause = [](void* io, uint32_t) {
        static_cast<SimBackend*>(io)->pass_time(5 * kSecond);
    };
    ASSERT_TRUE(stage.post({.body = Message::Snapshot{}, .acknowledgement = {pause, &stage.io()}}));
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(5 * kSecond + kSecond);
    size_t told_some = 0;
    for (size_t peer = 0; peer < kPeers; ++peer) told_some += !stage.heard(peer).empty();
    EXPECT_GT(told_some, kPeers / 4) << "a third: they are spread over 3 s";
    EXPECT_LT(told_some, kPeers / 2);
    stage.settle(10 * kSecond);
    expect_goodbyes(stage, "a pause before");
}

// A pause of the whole window or more, whichever turn it follows: those that were not told yet are
// told before the end, and have some time to take it.
TEST(Drain, EachPeerHasItsGoodbyeHoweverLongAPauseIs) {
    for (const Nanos window : {Nanos{0}, kSecond, 10 * kSecond}) {
        for (const int turns : {1, 2, 3, 10, 18, 19, 20, 21, 25}) {
            LoopOptions options;
            options.drain_timeout = window;
            ReactorStage stage(crowd_of(options));
            open_peers(stage);
            ASSERT_TRUE(stage.post({Message::Drain{}}));
            for (int turn = 0; turn < turns; ++turn)
                stage.reactor().turn(stage.network().clock() + kSecond);
            stage.io().pass_time(60 * kSecond);
            stage.settle(20 * kSecond);
            expect_goodbyes(stage, std::to_string(turns) + " turns of a window of " +
                                       std::to_string(window / kSecond) + " s");
        }
    }
}

size_t goodbyes(ReactorStage& stage) {
    size_t count = 0;
    for (size_t peer = 0; peer < kPeers; ++peer) count += !stage.heard(peer).empty();
    return count;
}

// From the first second to the last, and where the thread was away it does not catch up at once.
TEST(Drain, GoodbyesKeepToTheirRate) {
    LoopOptions options;
    options.drain_timeout = 20 * kSecond;
    options.drain_rate = 100;
    ReactorStage stage(crowd_of(options));
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    for (int second = 1; second <= 4; ++second) {
        stage.settle(kSecond);
        EXPECT_NEAR(static_cast<double>(goodbyes(stage)), 100 * second, 3) << second;
    }
    stage.io().pass_time(3 * kSecond);
    stage.settle(kSecond);
    EXPECT_LE(goodbyes(stage), 400u + 110 + 6) << "110 %, and what 50 ms have at once";
    EXPECT_GE(goodbyes(stage), 400u + 110);
    stage.settle(4 * kSecond);
    EXPECT_LT(goodbyes(stage), kPeers);
    stage.settle(10 * kSecond);
    expect_goodbyes(stage, "at a rate");
}

// What the pace has left after three quarters of the window is due at once.
TEST(Drain, TheWindowHoldsWhateverTheRate) {
    LoopOptions options;
    options.drain_timeout = 4 * kSecond;
    options.drain_rate = 10;
    ReactorStage stage(crowd_of(options));
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(4 * kSecond + kSecond / 2);
    expect_goodbyes(stage, "a rate that is too low");
}

// While it goes on, too: what is left of the goodbyes is spread over the new window, and its end is
// that of the new one.
TEST(Drain, AReloadChangesTheWindow) {
    for (const bool longer : {false, true}) {
        LoopOptions options;
        options.drain_timeout = longer ? 4 * kSecond : 40 * kSecond;
        ReactorStage stage(crowd_of(options));
        open_peers(stage);
        ASSERT_TRUE(stage.post({Message::Drain{}}));
        stage.settle(2 * kSecond);
        EXPECT_NEAR(static_cast<double>(goodbyes(stage)), longer ? 667 : 67, 10);
        stage.reload(
            [&](LoopOptions& fresh) { fresh.drain_timeout = longer ? 40 * kSecond : 4 * kSecond; });
        stage.settle(kSecond / 2);
        EXPECT_NEAR(static_cast<double>(goodbyes(stage)), longer ? 667 : 833, 10);
        stage.settle(2 * kSecond);
        EXPECT_EQ(stage.reactor().drained(), !longer);
        stage.settle(longer ? 36 * kSecond : 0);
        expect_goodbyes(stage, longer ? "a longer window" : "a shorter window");
    }
}

// Balancers learn of it first, and send no more; then listeners close, and then come goodbyes.
TEST(Drain, IsNotReadyBeforeItStopsToAccept) {
    StagePlan plan = crowd_of();
    plan.listen = {"auto://10.0.0.1:9000"};
    plan.options.drain_delay = 2 * kSecond;
    plan.options.drain_timeout = 4 * kSecond;
    ReactorStage stage(plan);
    const auto ask = [&](std::string_view path) {
        const size_t peer = stage.connect(0);
        stage.write(peer, std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n");
        stage.settle();
        return stage.heard(peer).substr(0, 12);
    };
    EXPECT_EQ(ask("GET /healthz"), "HTTP/1.1 200");
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(kSecond);
    EXPECT_EQ(ask("GET /healthz"), "HTTP/1.1 503");
    EXPECT_EQ(ask("GET /"), "HTTP/1.1 503");
    EXPECT_EQ(ask("OPTIONS *"), "HTTP/1.1 503");
    EXPECT_EQ(ask("GET /other"), "HTTP/1.1 426");
    const size_t late = stage.connect(0);
    stage.write(late, "PING\n");
    stage.settle(kSecond / 2);
    EXPECT_EQ(stage.heard(late), "PONG\n") << "it still accepts";
    EXPECT_FALSE(stage.reactor().drained());
    stage.settle(kSecond);
    const size_t refused = stage.connect(0);
    stage.settle(5 * kSecond);
    EXPECT_EQ(stage.index(refused), std::nullopt);
    EXPECT_NE(stage.heard(late).find("going_away"), std::string::npos);
    EXPECT_TRUE(stage.reactor().drained());
}

TEST(Drain, AHardStopDoesNotWaitForTheDelay) {
    StagePlan plan = crowd_of();
    plan.options.drain_delay = 60 * kSecond;
    ReactorStage stage(plan);
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(kSecond);
    EXPECT_EQ(stage.table().live(), kPeers);
    ASSERT_TRUE(stage.post({Message::Stop{}}));
    stage.settle(kSecond);
    EXPECT_TRUE(stage.reactor().drained());
}

TEST(Drain, EachPeerIsToComeBackAtAnotherTime) {
    LoopOptions options;
    options.drain_timeout = kSecond;
    options.drain_retry_after = 5 * kSecond;
    ReactorStage stage(crowd_of(options));
    open_peers(stage);
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(2 * kSecond);
    std::vector<int> times_ms;
    for (size_t peer = 0; peer < kPeers; ++peer) {
        const std::string& heard = stage.heard(peer);
        const size_t at = heard.find("retry_after_ms=");
        ASSERT_NE(at, std::string::npos) << heard;
        times_ms.push_back(std::stoi(heard.substr(at + 15)));
    }
    std::ranges::sort(times_ms);
    EXPECT_GE(times_ms.front(), 5'000);
    EXPECT_LT(times_ms.back(), 10'000);
    EXPECT_NEAR(times_ms[kPeers / 4], 6'250, 500);
    EXPECT_NEAR(times_ms[kPeers * 3 / 4], 8'750, 500);
}

}  // namespace
}  // namespace pulse::test
