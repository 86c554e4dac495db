// Jobs between threads that ask and threads that are reactors, also under ThreadSanitizer: answers,
// deadlines, clients that go away, reactors that are stuck or end.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/mailbox.h"
#include "net/control/anomaly_watch.h"
#include "net/control/errands.h"
#include "net/control/limits.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

// Reactors over simulated kernels, each turned by a thread of its own.
class Crew final : public Reactors {
  public:
    explicit Crew(uint32_t reactors) {
        for (uint32_t i = 0; i < reactors; ++i) {
            members_.emplace_back();
            members_.back().thread = std::thread([this, i] { serve(members_[i]); });
        }
    }
    ~Crew() {
        for (Member& member : members_) end(member);
    }
    uint32_t count() const override { return static_cast<uint32_t>(members_.size()); }
    bool ended(uint32_t reactor) const override { return members_[reactor].ended; }
    bool post(uint32_t reactor, const Message& message) override {
        const std::lock_guard guard(lane_);
        return members_[reactor].stage != nullptr && members_[reactor].stage->post(message);
    }
    void end(uint32_t reactor) { end(members_[reactor]); }
    // It turns no more until it is let go on.
    void hold(uint32_t reactor, bool held) { members_[reactor].held = held; }

  private:
    struct Member {
        // Of the thread; it is gone before the reactor counts as ended, as in a server.
        std::unique_ptr<ReactorStage> stage = std::make_unique<ReactorStage>(
            StagePlan{.listen = {"tcp://10.0.0.1:9000"}, .places = 64});
        std::atomic<bool> stop{false}, ended{false}, held{false};
        std::thread thread;
    };
    void serve(Member& member) {
        while (!member.stop) {
            if (!member.held) member.stage->reactor().turn(0);
            std::this_thread::yield();
        }
        const std::lock_guard guard(lane_);
        member.stage.reset();
        member.ended = true;
    }
    static void end(Member& member) {
        member.stop = true;
        if (member.thread.joinable()) member.thread.join();
    }
    std::mutex lane_;
    std::deque<Member> members_;
};

struct Steps final : Job {
    explicit Steps(uint32_t count) : left(count) {}
    uint32_t left;
    uint32_t done = 0;
    Nanos step(Connections&, Nanos now, uint32_t& budget) override {
        budget = 0;
        ++done;
        return --left == 0 ? kNever : now;
    }
};

std::vector<std::shared_ptr<Job>> steps_for(const Crew& crew, uint32_t count) {
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t i = 0; i < crew.count(); ++i) jobs.push_back(std::make_shared<Steps>(count));
    return jobs;
}

TEST(Errands, ManyThreadsAskAtOnceAndAllAreAnswered) {
    Crew crew(3);
    Errands errands(crew);
    std::vector<std::thread> askers;
    std::atomic<int> answered{0};
    for (int asker = 0; asker < 4; ++asker) {
        askers.emplace_back([&] {
            for (int round = 0; round < 50; ++round) {
                const auto jobs = steps_for(crew, 3);
                const Errands::Outcome outcome = errands.run(jobs, 60 * kSecond, {});
                ASSERT_TRUE(outcome.all());
                for (const auto& job : jobs) {
                    answered += job->finished() && static_cast<Steps&>(*job).done == 3;
                }
            }
        });
    }
    for (std::thread& asker : askers) asker.join();
    EXPECT_EQ(answered, 4 * 50 * 3);
}

struct Throws final : Job {
    Nanos step(Connections&, Nanos, uint32_t&) override { throw std::bad_alloc(); }
};

// Its rows have no memory: it is given up, and the reactor serves on.
TEST(Errands, AJobThatThrowsIsGivenUp) {
    Crew crew(1);
    Errands errands(crew);
    const std::vector<std::shared_ptr<Job>> throws = {std::make_shared<Throws>()};
    const Errands::Outcome outcome = errands.run(throws, 60 * kSecond, {});
    EXPECT_EQ(outcome.unanswered, std::vector<uint32_t>{0}) << "what it found is not whole";
    EXPECT_FALSE(throws[0]->finished());
    const auto jobs = steps_for(crew, 2);
    EXPECT_TRUE(errands.run(jobs, 60 * kSecond, {}).all());
    EXPECT_TRUE(jobs[0]->finished());
}

TEST(Errands, AReactorThatIsStuckIsNamedAtTheDeadlineAndTheOthersHaveAnswered) {
    Crew crew(2);
    Errands errands(crew);
    crew.hold(1, true);
    const auto jobs = steps_for(crew, 1);
    const Errands::Outcome outcome = errands.run(jobs, 200 * kMillisecond, {});
    EXPECT_EQ(outcome.unanswered, std::vector<uint32_t>{1});
    EXPECT_TRUE(jobs[0]->finished());
    crew.hold(1, false);
}

// What must be done in the end is done by a reactor that was stuck for longer than the wait, and
// where the client has gone; what found no room is named apart.
TEST(Errands, WhatGoesOnIsFinishedWhenTheReactorComesToIt) {
    Crew crew(2);
    Errands errands(crew);
    crew.hold(1, true);
    const auto jobs = steps_for(crew, 3), left = steps_for(crew, 3);
    const auto late = Errands::Late::goes_on;
    Errands::Outcome outcome = errands.run(jobs, 50 * kMillisecond, {}, late);
    EXPECT_EQ(outcome.unanswered, std::vector<uint32_t>{1});
    EXPECT_TRUE(outcome.not_asked.empty()) << "it is on its way";
    EXPECT_FALSE(jobs[1]->cancelled());
    EXPECT_TRUE(errands.run(left, 60 * kSecond, [] { return true; }, late).abandoned);
    std::vector<std::shared_ptr<Job>> refused;
    do {
        refused = {nullptr, std::make_shared<Steps>(1)};
        outcome = errands.run(refused, 0, {}, late);
    } while (outcome.not_asked.empty());
    EXPECT_EQ(outcome.not_asked, std::vector<uint32_t>{1}) << "it has too much to do";
    crew.hold(1, false);
    do {  // longer than what was before it
        outcome = errands.run(steps_for(crew, 20), kSecond, {});
    } while (!outcome.all());
    EXPECT_TRUE(jobs[1]->finished() && left[1]->finished()) << "they were before it";
    EXPECT_TRUE(left[0]->finished());
    EXPECT_EQ(static_cast<Steps&>(*jobs[1]).done, 3u);
    EXPECT_EQ(static_cast<Steps&>(*refused[1]).done, 0u);
}

TEST(Errands, WhatAStuckReactorHasWaitingIsBounded) {
    Crew crew(1);
    Errands errands(crew);
    crew.hold(0, true);
    for (size_t i = 0; i < kErrandsPerReactorMax; ++i)
        EXPECT_FALSE(errands.run(steps_for(crew, 1), 0, {}).all());
    const auto late = steps_for(crew, 1);
    EXPECT_FALSE(errands.run(late, 60 * kSecond, {}).all()) << "refused at once";
    EXPECT_EQ(late[0].use_count(), 1) << "and not kept";
    crew.hold(0, false);
    Errands::Outcome outcome;
    do {
        outcome = errands.run(steps_for(crew, 1), kSecond, {});
    } while (!outcome.all());
}

TEST(Errands, AClientThatGoesAwayCancelsItsJob) {
    Crew crew(2);
    Errands errands(crew);
    const auto jobs = steps_for(crew, UINT32_MAX);
    std::atomic<int> looks{0};
    const Errands::Outcome outcome =
        errands.run(jobs, 3'600 * kSecond, [&] { return ++looks > 3; });
    EXPECT_TRUE(outcome.abandoned);
    EXPECT_EQ(outcome.unanswered.size(), 2u);
    EXPECT_TRUE(jobs[0]->cancelled());
}

TEST(Errands, AReactorThatEndsIsNotWaitedFor) {
    Crew crew(2);
    Errands errands(crew);
    const auto jobs = steps_for(crew, UINT32_MAX);
    std::thread ends([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        crew.end(0);
        crew.end(1);
    });
    const Errands::Outcome outcome = errands.run(jobs, 3'600 * kSecond, {});
    ends.join();
    EXPECT_TRUE(outcome.all());
    EXPECT_FALSE(jobs[0]->finished());
    const auto none = steps_for(crew, 1);
    EXPECT_TRUE(errands.run(none, kSecond, {}).all());
    EXPECT_FALSE(none[0]->finished()) << "it was asked of none";
}

// ------------------------------------------------------------------------------- the anomaly watch

// Also where a test ends before its end: what waits for the reactor would wait for ever.
struct LetGo {
    Crew& crew;
    uint32_t reactor;
    ~LetGo() { crew.hold(reactor, false); }
};

TEST(AnomalyWatch, TakesSamplesWhileItIsOnAndCountsAReactorThatIsStuckAsALag) {
    Crew crew(2);
    std::mutex lock;
    std::vector<std::string> lines;
    std::atomic<OverloadStep> step{OverloadStep::none}, furthest{OverloadStep::none};
    std::atomic<bool> draining{false};
    AnomalyWatch watch(crew, {"tcp://10.0.0.1:9000"},
                       {[&](const std::string& line) {
                            const std::lock_guard guard(lock);
                            lines.push_back(line);
                        },
                        [&](OverloadStep wanted) {
                            step = wanted;
                            furthest = std::max(furthest.load(), wanted);
                        },
                        [&] { return draining.load(); }});
    const LetGo at_the_end{crew, 1};
    EXPECT_FALSE(watch.report().on);
    AnomalyWatch::Options options{.on = true,
                                  .degrades = true,
                                  .interval = 5 * kMillisecond,
                                  .overload = {OverloadStep::close, kMillisecond}};
    ASSERT_TRUE(watch.tune(options));
    using Clock = std::chrono::steady_clock;
    const auto until = [&](const auto& condition) {
        const auto deadline = Clock::now() + std::chrono::minutes(1);
        while (!condition(watch.report()) && Clock::now() < deadline) std::this_thread::yield();
        return condition(watch.report());
    };
    ASSERT_TRUE(until([](const AnomalyReport& report) {
        return report.samples > kAnomalyLearnSamples && report.series[4].learned;
    }));
    // Longer than any turn of before: each look waits for it, and its lag grows from look to look.
    crew.hold(1, true);
    ASSERT_TRUE(until([](const AnomalyReport& report) { return report.series[4].active; }));
    const AnomalyReport found = watch.report();
    ASSERT_FALSE(found.events.empty());
    EXPECT_EQ(found.events.front().series, AnomalySeries::loop_lag);
    EXPECT_EQ(found.events.front().reactor, 1u);
    EXPECT_GT(found.events.front().value, found.events.front().expected);
    ASSERT_TRUE(until([](const AnomalyReport& report) { return report.step == kAnomalyStepMost; }));
    const uint64_t samples = watch.report().samples;
    ASSERT_TRUE(until([&](const AnomalyReport& report) { return report.samples > samples + 2; }));
    EXPECT_EQ(furthest, kAnomalyStepMost) << "and no further";
    draining = true;
    ASSERT_TRUE(until([](const AnomalyReport& report) { return report.draining; }));
    ASSERT_TRUE(
        until([](const AnomalyReport& report) { return report.step == OverloadStep::none; }));
    options.on = false;
    ASSERT_TRUE(watch.tune(options));
    ASSERT_TRUE(until([](const AnomalyReport& report) { return !report.on; }));
    EXPECT_EQ(step, OverloadStep::none);
    crew.hold(1, false);
    watch.stop();
    const std::lock_guard guard(lock);
    ASSERT_FALSE(lines.empty());
    EXPECT_TRUE(lines.front().starts_with("anomaly 1: loop_lag: ")) << lines.front();
    EXPECT_TRUE(lines.back().starts_with("anomaly 1: loop_lag: not followed any more after "))
        << lines.back();
}

TEST(AnomalyWatch, BeginsAnewWhereALookHasFailed) {
    Crew crew(1);
    std::atomic<int> looks{0}, failures{0};
    AnomalyWatch watch(crew, {"tcp://10.0.0.1:9000"},
                       {[&](const std::string& line) {
                            failures +=
                                line == "the watch for anomalies begins anew: std::bad_alloc";
                        },
                        [](OverloadStep) {},
                        [&] {
                            if (++looks == 3) throw std::bad_alloc();
                            return false;
                        }});
    ASSERT_TRUE(watch.tune({.on = true, .interval = kMillisecond}));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (looks < 6 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_GE(looks, 6);
    EXPECT_EQ(failures, 1);
}

}  // namespace
}  // namespace pulse::test
