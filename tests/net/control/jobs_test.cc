// What the admin endpoint has reactors do, over the simulated kernel: whole lists, slices of a
// turn, and which connections are skipped.
#include "net/control/jobs.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "core/anomaly/detector.h"
#include "core/distributions.h"
#include "net/control/anomaly_jobs.h"
#include "net/control/anomaly_sampler.h"
#include "net/control/anomaly_steps.h"
#include "net/control/anomaly_text.h"
#include "net/control/anomaly_watch.h"
#include "net/control/closed.h"
#include "net/control/limits.h"
#include "net/control/presence_feed.h"
#include "net/control/presence_jobs.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

constexpr uint32_t kPeers = 1'000;
constexpr Nanos kHour = 3'600 * kSecond;
constexpr std::string_view kPing{"\xB7\x01\0\0\0\0\0\1", 8};

StagePlan plan_of(const LoopOptions& options = {}) {
    return {.listen = {"tcp://10.0.0.1:9000", "tcp://10.0.0.1:9001?proxy=on", "ws://10.0.0.1:9002"},
            .options = options,
            .places = 2'000};
}

void open_peers(ReactorStage& stage, uint32_t count = kPeers) {
    for (uint32_t i = 0; i < count; ++i) stage.write(stage.connect(0), kPing);
    stage.settle(50 * kMillisecond);
    ASSERT_EQ(stage.table().live(), count);
    for (size_t peer = 0; peer < count; ++peer) stage.heard(peer).clear();
}

// Posts it, turns until it is acknowledged, and returns the turns. `behind_first` is called after
// the first of them.
int run(ReactorStage& stage, Job& job, const std::function<void()>& behind_first = {}) {
    Job* pointer = &job;
    bool acknowledged = false;
    const auto acknowledge = [](void* flag, uint32_t) { *static_cast<bool*>(flag) = true; };
    PULSE_ASSERT(stage.post({.body = Message::Run{},
                             .payload = Payload::of(pointer),
                             .acknowledgement = {acknowledge, &acknowledged}}));
    int turns = 0;
    for (; !acknowledged && turns < 100'000; ++turns) {
        stage.reactor().turn(stage.network().clock() + kMillisecond);
        if (turns == 0 && behind_first) behind_first();
    }
    EXPECT_TRUE(acknowledged && job.finished());
    return turns;
}

using FilterPairs = std::vector<std::pair<std::string_view, std::string_view>>;

ConnectionFilter filter_of(const FilterPairs& pairs) {
    ConnectionFilter filter;
    const FilterNames names{
        {"tcp://10.0.0.1:9000", "tcp://10.0.0.1:9001?proxy=on", "ws://10.0.0.1:9002"},
        {"", "", "default", "realtime", "standard", "mobile", "powersave"}};
    for (const auto& [key, value] : pairs) {
        const Result<void> set = set_filter(filter, names, key, value);
        EXPECT_TRUE(set) << set.error();
    }
    return filter;
}
ConnectionFilter filter_of(std::string_view key, std::string_view value) {
    return filter_of({{key, value}});
}

TEST(AdminJobs, PagesHaveEachConnectionOnceWhateverTheirLength) {
    ReactorStage stage(plan_of());
    open_peers(stage);
    for (const uint32_t limit : {1u, 7u, 999u, 1'000u}) {
        std::set<std::string> names;
        Index next = 0;
        for (;;) {
            PageJob job({}, next, limit);
            run(stage, job);
            for (const ConnectionRow& row : job.rows) EXPECT_TRUE(names.insert(row.name).second);
            EXPECT_LE(job.rows.size(), limit);
            next = job.next;
            if (job.over) break;
        }
        EXPECT_EQ(names.size(), kPeers) << limit;
    }
}

// Those that come and go meanwhile do not move the others from page to page.
TEST(AdminJobs, AConnectionThatStaysIsListedOnceThoughOthersComeAndGo) {
    ReactorStage stage(plan_of());
    open_peers(stage);
    std::multiset<std::string> names;
    Index next = 0;
    for (size_t page = 0;; ++page) {
        PageJob job({}, next, 50);
        run(stage, job);
        for (const ConnectionRow& row : job.rows) names.insert(row.name);
        next = job.next;
        if (job.over) break;
        for (size_t gone = page * 20; gone < page * 20 + 10; ++gone) stage.close(gone, true);
        for (int come = 0; come < 7; ++come) stage.connect(0);
        stage.settle(10 * kMillisecond);
    }
    for (size_t peer = 600; peer < kPeers; ++peer) {  // none of these was closed
        const Index index = *stage.index(peer);
        PageJob job({}, index, 1);
        run(stage, job);
        EXPECT_EQ(names.count(job.rows.at(0).name), 1u);
    }
}

TEST(AdminJobs, TheLongestIdleComeFirstAndPagesGoOn) {
    ReactorStage stage(plan_of());
    for (int i = 0; i < 200; ++i) {
        stage.write(stage.connect(0), kPing);
        stage.settle(20 * kMillisecond);
    }
    std::vector<Nanos> idle;
    std::set<std::string> names;
    std::optional<LongestJob::Key> after;
    for (int page = 0; page < 20; ++page) {
        LongestJob job({}, LongestJob::Order::idle, after, 30);
        run(stage, job);
        for (const LongestJob::Found& found : job.found) {
            EXPECT_TRUE(names.insert(found.row.name).second);
            EXPECT_TRUE(!after || *after < found.key);
            after = found.key;
            idle.push_back(found.row.idle);
        }
        if (job.found.empty()) break;
    }
    EXPECT_EQ(names.size(), 200u);
    EXPECT_GT(idle.front(), 3 * kSecond);
    EXPECT_LT(idle.back(), kSecond);
}

// A list that ends where some have closed between two turns would hide all that come behind them.
TEST(AdminJobs, ThoseThatCloseWhileTheyAreListedDoNotEndTheListOfTheLongestIdle) {
    ReactorStage stage(plan_of());
    open_peers(stage, 200);
    // Looks at all of them in its first turn, and describes them later.
    struct ChoosesFirst final : Job {
        Nanos step(Connections& connections, Nanos now, uint32_t& budget) override {
            if (std::exchange(chosen, true)) return job.step(connections, now, budget);
            uint32_t looks = connections.table().limit() * kPassCost;
            job.step(connections, now, looks);
            return now + kMillisecond;
        }
        LongestJob job{{}, LongestJob::Order::idle, std::nullopt, 50};
        bool chosen = false;
    } first;
    run(stage, first, [&] {
        for (size_t peer = 0; peer < 200; ++peer)
            if (peer % 20 != 0) stage.close(peer, true);
    });
    const LongestJob& job = first.job;
    EXPECT_LT(job.found.size(), 50u);
    ASSERT_TRUE(job.more_behind);
    std::set<std::string> names;
    for (const LongestJob::Found& found : job.found) names.insert(found.row.name);
    LongestJob next({}, LongestJob::Order::idle, job.more_behind, 50);
    run(stage, next);
    for (const LongestJob::Found& found : next.found) names.insert(found.row.name);
    EXPECT_EQ(names.size(), 10u);
    EXPECT_FALSE(next.more_behind);
}

TEST(AdminJobs, APageOfTheLongestIdleEndsWhereAReactorKnowsNoMore) {
    const auto job = [](uint32_t reactor, std::initializer_list<Nanos> alive,
                        std::optional<Nanos> more_behind) {
        auto made = std::make_shared<LongestJob>(ConnectionFilter{}, LongestJob::Order::idle,
                                                 std::nullopt, 3);
        for (const Nanos heard_at : alive) made->found.push_back({{heard_at, reactor, 0}, {}});
        if (more_behind) made->more_behind = {*more_behind, reactor, 0};
        return made;
    };
    const auto listed = [](std::initializer_list<std::shared_ptr<LongestJob>> given) {
        const std::vector<std::shared_ptr<LongestJob>> jobs(given);
        const LongestPage page = page_of(jobs, 3);
        std::vector<Nanos> keys;
        for (const LongestJob::Found* found : page.found) keys.push_back(found->key.since);
        keys.push_back(page.next ? -page.next->since : 0);  // and where the next one begins
        return keys;
    };
    using Keys = std::vector<Nanos>;
    EXPECT_EQ(listed({job(0, {1, 3}, {}), job(1, {2}, {})}), (Keys{1, 2, 3, 0}));
    EXPECT_EQ(listed({job(0, {1, 3, 5}, {}), job(1, {2}, {})}), (Keys{1, 2, 3, -3}));
    EXPECT_EQ(listed({job(0, {1, 3, 5}, 5), job(1, {2}, {})}), (Keys{1, 2, 3, -3}));
    EXPECT_EQ(listed({job(0, {5}, 5), job(1, {2, 7, 9}, {})}), (Keys{2, 5, -5})) << "7 is unknown";
    EXPECT_EQ(listed({job(0, {}, 5), job(1, {}, 4)}), (Keys{-4})) << "all have gone, more come";
    EXPECT_EQ(listed({job(0, {1}, 5), job(1, {2, 6}, 8)}), (Keys{1, 2, -5}));
    EXPECT_EQ(listed({job(0, {}, {})}), (Keys{0}));
}

TEST(AdminJobs, AKickClosesThoseThatMatchInSlicesOfATurn) {
    ReactorStage stage(plan_of());
    open_peers(stage);
    KickJob job({}, "for a test", std::make_shared<SharedPace>(0));
    const uint64_t before = stage.metrics()[Metric::turns];
    const int turns = run(stage, job);
    EXPECT_EQ(job.done, kPeers);
    EXPECT_GE(turns, static_cast<int>(kPeers * kEvictCost / kSweepBudgetPerTurn));
    EXPECT_EQ(stage.metrics()[Metric::turns] - before, static_cast<uint64_t>(turns));
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(stage.metrics().closed[static_cast<size_t>(CloseReason::kicked)], kPeers);
    EXPECT_NE(stage.heard(0).find("kicked: for a test"), std::string::npos);
    stage.reactor().connections().validate();
}

TEST(AdminJobs, AKickWithARateKeepsToIt) {
    ReactorStage stage(plan_of());
    open_peers(stage);
    KickJob job({}, "", std::make_shared<SharedPace>(200));
    const Nanos began = stage.network().clock();
    run(stage, job);
    const Nanos took = stage.network().clock() - began;
    EXPECT_EQ(job.done, kPeers);
    EXPECT_GE(took, 4'900 * kMillisecond);
    EXPECT_LE(took, 5'200 * kMillisecond);
}

TEST(AdminJobs, ABroadcastReachesEachOnceAndSkipsThoseThatDoNotRead) {
    LoopOptions options;
    options.send_queue_bytes = 4'096;
    options.handshake_timeout = 60 * kSecond;
    ReactorStage stage(plan_of(options));
    open_peers(stage, 100);
    const size_t greeting = stage.connect(2);  // its upgrade has not come
    stage.settle();
    const std::string text(1'000, 'x');
    for (size_t peer = 0; peer < 10; ++peer) stage.set_reading(peer, false);
    size_t rounds = 0;
    for (uint64_t skipped = 1; skipped < 11 && rounds < 5'000; ++rounds) {
        BroadcastJob job({}, text);
        run(stage, job);
        ASSERT_EQ(job.done + job.skipped, 101u);
        ASSERT_GE(job.skipped, skipped)
            << "the one that has not greeted, and those that read no more";
        skipped = job.skipped;
        stage.settle(20 * kMillisecond);  // those that read have read it
    }
    EXPECT_LT(rounds, 5'000u) << "ten that do not read are skipped, too";
    stage.settle(kSecond);
    EXPECT_EQ(stage.table().live(), 101u) << "none was closed for it";
    for (size_t peer = 10; peer < 100; ++peer) {
        const size_t bytes = stage.heard(peer).size();
        EXPECT_EQ(bytes % 1'008, 0u) << "whole frames";
        EXPECT_GE(bytes, (rounds - 3) * 1'008) << "a slow link may have had no room once";
    }
    EXPECT_TRUE(stage.heard(greeting).empty());
}

TEST(AdminJobs, ARetuneMovesThoseThatMatchAndTellsThem) {
    ReactorStage stage(plan_of());
    open_peers(stage, 10);
    const size_t greeting = stage.connect(2);
    stage.settle();
    RetuneJob job({}, kProfileRealtime);
    run(stage, job);
    EXPECT_EQ(job.done, 10u);
    EXPECT_EQ(job.skipped, 1u);
    stage.settle();
    EXPECT_EQ(stage.heard(0).size(), 16u) << "one interval frame";
    EXPECT_TRUE(stage.heard(greeting).empty());
    CountJob count(filter_of("profile", "realtime"));
    run(stage, count);
    EXPECT_EQ(count.total, 10u);
    stage.settle(45 * kSecond);  // it holds once their hosts have acknowledged it
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 10u);
}

// What a PROXY header names is known as a number: of one host, and of nothing wider.
TEST(AdminJobs, AnAddressBehindAProxyHeaderIsFoundByItsHost) {
    ReactorStage stage(plan_of());
    const size_t proxied = stage.connect(1);
    stage.write(proxied, "PROXY TCP4 198.51.100.7 10.0.0.1 4000 9001\r\n");
    stage.write(proxied, kPing);
    stage.write(stage.connect(0, "192.0.2.9:0"), kPing);
    stage.settle();
    const auto count = [&](std::string_view address) {
        CountJob job(filter_of("address", address));
        run(stage, job);
        return job.total;
    };
    EXPECT_EQ(count("198.51.100.7"), 1u);
    EXPECT_EQ(count("198.51.100.8"), 0u);
    EXPECT_EQ(count("198.51.100.0/24"), 0u);
    EXPECT_EQ(count("192.0.2.9"), 1u);
    EXPECT_EQ(count("192.0.2.0/24"), 1u);
    EXPECT_EQ(count("127.0.0.1"), 0u) << "the balancer's own address is not the peer's";
}

TEST(AdminJobs, OneConnectionIsFoundByItsNameAndItsSuccessorIsNot) {
    ReactorStage stage(plan_of());
    open_peers(stage, 3);
    PageJob page({}, 0, 3);
    run(stage, page);
    const std::optional<PublicName> name = parse_public_name(page.rows[1].name);
    ASSERT_TRUE(name);
    EXPECT_EQ(name->id, page.rows[1].id);
    FactsJob facts(name->id);
    run(stage, facts);
    ASSERT_TRUE(facts.facts);
    EXPECT_EQ(facts.facts->timeout_ms, 90'000u);
    EXPECT_NEAR(static_cast<double>(facts.facts->deadline_in), 90e9, 1e9);
    KickOneJob kick(name->id, "");
    run(stage, kick);
    EXPECT_TRUE(kick.found);
    stage.settle(3 * kSecond);
    stage.connect(0);
    stage.settle();
    FactsJob again(name->id);
    run(stage, again);
    EXPECT_FALSE(again.facts) << "the place has another owner";
}

TEST(AdminJobs, ValuesOfOneKeyAreAlternativesAndEachKeyMustHold) {
    ReactorStage stage(plan_of());
    for (const char* from : {"192.0.2.1:0", "192.0.2.2:0", "198.51.100.3:0"})
        for (int each = 0; each < 3; ++each) stage.write(stage.connect(0, from), kPing);
    stage.connect(2, "192.0.2.1:0");  // its upgrade has not come
    stage.settle();
    RetuneJob mobile(filter_of("address", "192.0.2.2"), 5);
    run(stage, mobile);
    const auto count = [&](const FilterPairs& pairs) {
        CountJob job(filter_of(pairs));
        run(stage, job);
        return job.total;
    };
    EXPECT_EQ(count({{"address", "192.0.2.1"}, {"address", "198.51.100.0/24"}}), 7u);
    EXPECT_EQ(count({{"address", "192.0.2.1"}, {"address", "192.0.2.1/32"}}), 4u);
    EXPECT_EQ(count({{"address", "192.0.2.1"}, {"state", "open"}}), 3u);
    EXPECT_EQ(count({{"state", "open"}, {"state", "http"}, {"state", "detect"}}), 10u);
    EXPECT_EQ(count({{"listener", "0"}, {"listener", "2"}}), 10u);
    EXPECT_EQ(count({{"listener", "1"}, {"listener", "2"}}), 1u);
    EXPECT_EQ(count({{"profile", "default"}, {"profile", "mobile"}, {"listener", "0"}}), 9u);
    EXPECT_EQ(count({{"profile", "mobile"}, {"address", "192.0.2.2"}, {"address", "::1"}}), 3u);
    ConnectionFilter filter;
    for (size_t user = 0; user < kFilterValuesMax; ++user)
        EXPECT_TRUE(set_filter(filter, {}, "user", "u" + std::to_string(user)));
    EXPECT_TRUE(set_filter(filter, {}, "user", "u0")) << "the same again is not another one";
    EXPECT_FALSE(set_filter(filter, {}, "user", "one too many"));
    EXPECT_TRUE(set_filter(filter, {}, "idle", "5s"));
    EXPECT_FALSE(set_filter(filter, {}, "idle", "6s")) << "which of them would be meant?";
}

TEST(AdminJobs, NamesThatAreNotOfConnections) {
    for (const std::string_view text :
         {"", "r", "r1", "r1-2", "r1-2-", "r1-2-3x", "1-2-3", "r-1-2-3", "r1-2-99999999999"})
        EXPECT_FALSE(parse_public_name(text)) << text;
    EXPECT_TRUE(parse_public_name("r255-000007-4294967295"));
}

ClosedFilter closed_by(std::string_view key, std::string_view value) {
    ClosedFilter filter;
    const FilterNames names{{"tcp://10.0.0.1:9000", "tcp://10.0.0.1:9001?proxy=on"}, {}};
    const Result<void> set = set_filter(filter, names, key, value);
    EXPECT_TRUE(set) << set.error();
    return filter;
}

TEST(ClosedJobs, PagesHaveEachOnceTheNewestFirstThoughOthersCloseMeanwhile) {
    StagePlan plan = plan_of();
    plan.ledger_entries = 1'000;
    ReactorStage stage(plan);
    open_peers(stage, 500);
    for (size_t peer = 0; peer < 300; ++peer) {
        stage.close(peer, true);
        stage.settle(2 * kMillisecond);
    }
    std::set<std::pair<Index, uint32_t>> seen;
    std::optional<ClosedKey> after;
    for (size_t page = 0; page < 100; ++page) {
        ClosedPageJob job({}, after, 7);
        run(stage, job);
        EXPECT_EQ(job.kept, 1'000u);
        for (const ClosedPageJob::Found& found : job.found) {
            EXPECT_TRUE(!after || found.key < *after);
            after = found.key;
            EXPECT_TRUE(seen.insert({found.facts.id.index, found.facts.id.generation}).second);
        }
        if (job.found.size() < 7) break;
        stage.close(300 + page, true);
        stage.settle(2 * kMillisecond);
    }
    EXPECT_EQ(seen.size(), 300u);
}

TEST(ClosedJobs, AreFoundByReasonUserAddressAndTime) {
    StagePlan plan = plan_of();
    plan.listen.emplace_back("jsonl://10.0.0.1:9003");
    plan.ledger_entries = 100;
    ReactorStage stage(plan);
    const size_t proxied = stage.connect(1);
    stage.write(proxied, "PROXY TCP4 198.51.100.7 10.0.0.1 4000 9001\r\n");
    stage.write(proxied, kPing);
    const size_t user = stage.connect(3, "192.0.2.9:0");
    stage.write(user, "{\"type\":\"hello\",\"user\":\"u1\"}\n");
    stage.settle();
    stage.close(proxied, true);
    stage.settle(10 * kSecond);
    stage.finish(user);
    stage.settle();
    stage.close(user, false);
    stage.settle(kSecond);
    const auto count = [&](const ClosedFilter& filter) {
        ClosedPageJob job(filter, {}, 100);
        run(stage, job);
        return job.found.size();
    };
    EXPECT_EQ(count({}), 2u);
    EXPECT_EQ(count(closed_by("reason", "peer_reset")), 1u);
    EXPECT_EQ(count(closed_by("reason", "idle_timeout")), 0u);
    EXPECT_EQ(count(closed_by("user", "u1")), 1u);
    EXPECT_EQ(count(closed_by("user", "u2")), 0u);
    EXPECT_EQ(count(closed_by("address", "198.51.100.0/24")), 1u) << "behind a PROXY header, too";
    EXPECT_EQ(count(closed_by("address", "192.0.2.9")), 1u);
    EXPECT_EQ(count(closed_by("address", "127.0.0.1")), 0u);
    EXPECT_EQ(count(closed_by("since", "5s")), 1u);
    EXPECT_EQ(count(closed_by("since", "1h")), 2u);
    EXPECT_EQ(count(closed_by("protocol", "jsonl")), 1u);
    EXPECT_EQ(count(closed_by("listener", "1")), 1u);
    ClosedFilter both = closed_by("user", "u2");
    EXPECT_TRUE(set_filter(both, {}, "user", "u1"));
    EXPECT_EQ(count(both), 1u);
    EXPECT_TRUE(set_filter(both, {}, "address", "198.51.100.0/24"));
    EXPECT_EQ(count(both), 0u);
    EXPECT_TRUE(set_filter(both, {}, "address", "192.0.2.0/24"));
    EXPECT_EQ(count(both), 1u);
    ClosedFilter filter;
    for (const auto& [key, value] : {std::pair("reason", "boredom"), std::pair("since", "0s"),
                                     std::pair("user", ""), std::pair("state", "open")}) {
        EXPECT_FALSE(set_filter(filter, {}, key, value)) << key;
    }
}

// What a list shows of it, and what is asked about it later, is the same one.
TEST(ClosedJobs, OneIsExplainedAsItWasWhenItEnded) {
    StagePlan plan = plan_of();
    plan.ledger_entries = 100;
    ReactorStage stage(plan);
    open_peers(stage, 2);
    const ConnectionId id = stage.table().id(*stage.index(1));
    FactsJob live(id);
    run(stage, live);
    ASSERT_TRUE(live.facts);
    EXPECT_NE(live.facts->explained.find("is open for 0."), std::string::npos)
        << live.facts->explained;
    KickOneJob kick(id, "for a test");
    run(stage, kick);
    stage.settle(3 * kSecond);
    ClosedJob job(id);
    run(stage, job);
    ASSERT_TRUE(job.facts);
    EXPECT_EQ(job.facts->reason, CloseReason::kicked);
    EXPECT_NE(job.explained.find("kicked after 1."), std::string::npos) << job.explained;
    EXPECT_NE(job.explained.find("an operator closed it: for a test."), std::string::npos);
    ClosedJob unknown({id.index, id.generation + 1});
    run(stage, unknown);
    EXPECT_FALSE(unknown.facts);
}

// ----------------------------------------------------------------------------------------- users
StagePlan lines_plan() {
    StagePlan plan = plan_of();
    plan.listen = {"jsonl://10.0.0.1:9000"};
    return plan;
}

size_t log_in(ReactorStage& stage, const std::string& user, const std::string& device,
              const std::string& ring) {
    const size_t peer = stage.connect(0);
    stage.write(peer, R"({"type":"hello","user":")" + user + R"(","device":")" + device +
                          R"(","labels":{"ring":")" + ring + "\"}}\n");
    stage.settle(kMillisecond);
    return peer;
}

TEST(PresenceJobs, LabelsAreFoundByNameOrWhole) {
    EXPECT_TRUE(has_label("ring=canary region=eu", "region"));
    EXPECT_TRUE(has_label("ring=canary region=eu", "ring=canary"));
    EXPECT_TRUE(has_label("ring=canary region=eu", "region=eu"));
    for (const char* other : {"rin", "ring=", "ring=can", "canary", "eu", "ring=canary region=eu"})
        EXPECT_FALSE(has_label("ring=canary region=eu", other)) << other;
    EXPECT_FALSE(has_label("", "ring"));
}

TEST(PresenceJobs, OfSeveralLabelsThoseOfOneNameAreAlternatives) {
    const LabelChoice choice({"ring=canary", "region=eu", "ring=beta"});
    EXPECT_TRUE(choice.matches("ring=canary region=eu"));
    EXPECT_TRUE(choice.matches("region=eu ring=beta"));
    EXPECT_FALSE(choice.matches("ring=stable region=eu"));
    EXPECT_FALSE(choice.matches("ring=canary region=us"));
    EXPECT_FALSE(choice.matches("ring=canary"));
    EXPECT_TRUE(LabelChoice({"ring=canary", "ring"}).matches("ring=stable"));
    EXPECT_TRUE(LabelChoice(std::vector<std::string>()).matches(""));
}

// What the directory chose is looked at, and nothing else; those that left meanwhile are passed
// over, and so is the next owner of the place.
TEST(PresenceJobs, ActOnTheConnectionsOfAUserOrALabel) {
    ReactorStage stage(lines_plan());
    std::vector<size_t> peers;
    for (int i = 0; i < 300; ++i)
        peers.push_back(log_in(stage, "u" + std::to_string(i / 3), "d" + std::to_string(i),
                               i % 2 == 0 ? "canary" : "stable"));
    const auto choose = [&](const std::vector<std::string>& users,
                            const std::vector<std::string>& labels) {
        ChooseJob job(users, labels);
        run(stage, job);
        EXPECT_FALSE(job.too_many);
        ConnectionFilter filter;
        filter.users = users;
        std::vector<ConnectionId> ids;
        for (const ConnectionRef& ref : job.chosen) ids.push_back(ref.id);
        std::ranges::sort(ids, {}, &ConnectionId::index);
        filter.chosen = std::make_shared<const std::vector<ConnectionId>>(std::move(ids));
        return filter;
    };
    const ConnectionFilter canaries = choose({}, {"ring=canary"});
    EXPECT_EQ(canaries.chosen->size(), 150u);
    EXPECT_EQ(choose({"u7"}, {}).chosen->size(), 3u);
    EXPECT_EQ(choose({"u7"}, {"ring=stable"}).chosen->size(), 2u);
    EXPECT_EQ(choose({"eve"}, {}).chosen->size(), 0u);
    EXPECT_EQ(choose({"u7", "eve", "u8"}, {}).chosen->size(), 6u) << "of either user";
    EXPECT_EQ(choose({"u7", "u8"}, {"ring=stable"}).chosen->size(), 3u) << "and of the ring";
    EXPECT_EQ(choose({}, {"ring=stable", "ring=canary"}).chosen->size(), 300u) << "either ring";
    EXPECT_EQ(choose({}, {"ring=stable", "region"}).chosen->size(), 0u) << "two names";
    std::set<std::string> names;
    Index next = 0;
    for (int pages = 1;; ++pages) {
        PageJob job(canaries, next, 7);
        run(stage, job);
        for (const ConnectionRow& row : job.rows) EXPECT_TRUE(names.insert(row.name).second);
        next = job.next;
        if (!job.over) continue;
        EXPECT_EQ(pages, 22);
        break;
    }
    EXPECT_EQ(names.size(), 150u);
    stage.close(peers[0], true);
    stage.settle();
    log_in(stage, "new", "", "canary");
    KickJob kick(canaries, "", nullptr);
    run(stage, kick);
    EXPECT_EQ(kick.done, 149u);
    const ConnectionFilter u7 = choose({"u7", "u300"}, {});
    log_in(stage, "u7", "another", "canary");
    stage.write(peers[21],
                "{\"type\":\"hello\",\"user\":\"other\"}\n");  // was u7, and is not kicked
    stage.settle();
    CountJob count(u7);
    run(stage, count);
    EXPECT_EQ(count.total, 1u) << "of three one was kicked, and one is another user now";
}

// A change of policies tells every session; half of each turn is left to what else is asked.
TEST(PresenceJobs, AreDoneWhileSessionsAreRegrouped) {
    ReactorStage stage(lines_plan());
    constexpr int kUsers = 600;
    for (int i = 0; i < kUsers; ++i) log_in(stage, "u" + std::to_string(i), "", "canary");
    const CohortPolicy mobile{
        .text = "ring=canary", .labels = {"ring=canary"}, .profile = "mobile"};
    ASSERT_TRUE(stage.reload([&](LoopOptions& options) {
        options.policies = {mobile};
        options.cohorts =
            std::make_shared<const Cohorts>(Cohorts(), std::vector<CohortPolicy>{mobile});
    }));
    CountJob count{ConnectionFilter()};
    EXPECT_LE(run(stage, count), 3);
    EXPECT_EQ(count.total, uint64_t{kUsers});
    const auto told = [&] {
        return stage.reactor().connections().cohort_counts()[kRestCohort + 1].sessions;
    };
    EXPECT_LT(told(), uint64_t{kUsers}) << "it has not ended before the job";
    stage.settle(100 * kMillisecond);
    EXPECT_EQ(told(), uint64_t{kUsers});
}

TEST(PresenceJobs, PagesHaveEachUserOnceAndOneHasItsSessions) {
    ReactorStage stage(lines_plan());
    for (int i = 0; i < 100; ++i) log_in(stage, "u" + std::to_string(i), "phone", "canary");
    const size_t web = log_in(stage, "u5", "web", "stable");
    const size_t gone = log_in(stage, "gone", "", "");
    stage.close(gone, true);
    stage.settle();
    for (const bool with_offline : {false, true}) {
        std::set<std::string> names;
        for (uint32_t next = 1;;) {
            UsersJob job(std::nullopt, with_offline, next, 9);
            run(stage, job);
            for (const UserRow& row : job.rows) EXPECT_TRUE(names.insert(row.name).second);
            next = job.next;
            if (job.over) break;
        }
        EXPECT_EQ(names.size(), with_offline ? 101u : 100u);
    }
    UserJob user("u5");
    run(stage, user);
    ASSERT_TRUE(user.row);
    EXPECT_EQ(user.row->state, UserState::online);
    ASSERT_EQ(user.sessions.size(), 2u);
    EXPECT_EQ(user.sessions[1].device, "web");
    EXPECT_EQ(user.sessions[1].labels, "ring=stable");
    EXPECT_EQ(user.sessions[1].connection.id, stage.table().id(*stage.index(web)));
    UserJob was("gone");
    run(stage, was);
    ASSERT_TRUE(was.row);
    EXPECT_EQ(was.row->state, UserState::offline);
    EXPECT_EQ(was.row->reason, CloseReason::peer_reset);
    UserJob never("never");
    run(stage, never);
    EXPECT_FALSE(never.row);
    NamesJob names;
    names.sessions.push_back({user.sessions[1].connection, stage.directory().find("u5")->first});
    run(stage, names);
    EXPECT_TRUE(names.sessions[0].user.empty()) << "the handle is of the other session";
}

TEST(PresenceJobs, ChangesComeInOrderAndALossIsTold) {
    ReactorStage stage(lines_plan());
    ChangesJob unread(UINT64_MAX, 10);
    run(stage, unread);
    EXPECT_TRUE(unread.gap && unread.at_end);
    const size_t ann = log_in(stage, "ann", "phone", "canary");
    log_in(stage, "ann", "phone", "canary");
    stage.close(ann, true);
    log_in(stage, "bob", "", "");
    ChangesJob first(unread.position, 2);
    run(stage, first);
    EXPECT_FALSE(first.gap || first.at_end);
    ASSERT_EQ(first.events.size(), 2u);
    EXPECT_EQ(name_of(first.events[0].kind), "online");
    EXPECT_EQ(name_of(first.events[1].kind), "replaced");
    EXPECT_EQ(first.events[1].user, "ann");
    EXPECT_EQ(first.events[1].device, "phone");
    EXPECT_EQ(first.events[1].sequence, 2u);
    ChangesJob second(first.position, 100);
    run(stage, second);
    ASSERT_EQ(second.events.size(), 1u);
    EXPECT_EQ(second.events[0].user, "bob");
    EXPECT_TRUE(second.at_end);
}

TEST(PresenceFeed, GoesOnBehindAnIdAndTellsWhatIsNotKept) {
    using Read = PresenceFeed::Read;
    PresenceFeed feed(77, 2'000);
    EXPECT_EQ(feed.position_of(feed.id_of(0)), 0u);
    feed.append("{\"n\":0}", 5, 1);
    feed.append("{\"n\":1}", 5, 2);
    std::string out;
    uint64_t position = 0;
    EXPECT_EQ(feed.read(position, out, 1'000), Read::done);
    EXPECT_EQ(out,
              "id: 77.1.5.1\nevent: change\ndata: {\"n\":0}\n\n"
              "id: 77.2.5.2\nevent: change\ndata: {\"n\":1}\n\n");
    EXPECT_EQ(feed.position_of("77.1.5.1"), 1u);
    for (const char* other : {"", "77", "77.1", "76.1.5.1", "78.1.5.1", "77.3.5.2", "77.-1.5.2",
                              "77.1x.5.1", "x.1.5.1", "77.18446744073709551616.1.1"})
        EXPECT_FALSE(feed.position_of(other)) << other;
    out.clear();
    position = 0;
    EXPECT_EQ(feed.read(position, out, 1), Read::done);
    EXPECT_EQ(position, 1u) << "one whole event, though it is longer";
    feed.append_gap();
    feed.append("{\"n\":3}", 5, 3);
    EXPECT_EQ(feed.read(position, out, 1'000), Read::gap);
    EXPECT_EQ(position, 3u);
    position = 1;
    for (uint32_t n = 0; n < 100; ++n) feed.append("{}", 6, n + 1);
    EXPECT_EQ(feed.read(position, out, 1'000), Read::lost);
    EXPECT_FALSE(feed.position_of("77.1.5.1"));
    EXPECT_EQ(feed.position_of(feed.id_of(feed.first())), feed.first());
    EXPECT_LT(feed.end() - feed.first(), 30u) << "as many as 2,000 bytes hold";
}

// ------------------------------------------------------------------------------------- anomalies

StagePlan loss_plan() {
    LoopOptions options;
    options.heartbeat_interval = kSecond;
    options.heartbeat_timeout = 3 * kSecond;
    StagePlan plan = plan_of(options);
    plan.ledger_entries = 1'000;
    return plan;
}

std::optional<NetworkPrefix> prefix_in(ReactorStage& stage, AnomalySeries series, Nanos within,
                                       uint64_t examined) {
    HoldersJob job(series, within, 0);
    run(stage, job);
    EXPECT_EQ(job.holders.total(), examined);
    const auto share = job.holders.prefix();
    return share ? std::optional(share->key) : std::nullopt;
}

// 60 peers of one network fall silent, and 20 of others go on: first the 60 owe answers, then they
// are in the ledger.
TEST(AnomalyJobs, NameTheNetworkOfThoseThatAreLost) {
    ReactorStage stage(loss_plan());
    std::vector<size_t> lively;
    const NetworkPrefix lost{4, 24, {198, 51, 100}};
    for (int i = 0; i < 60; ++i)
        stage.write(stage.connect(0, "198.51.100." + std::to_string(i + 1) + ":0"), kPing);
    for (int i = 0; i < 20; ++i)
        lively.push_back(stage.connect(0, "10." + std::to_string(i) + ".0.1:0"));
    const auto beat = [&](Nanos span) {
        for (Nanos at = 0; at < span; at += 200 * kMillisecond) {
            for (const size_t peer : lively) stage.write(peer, kPing);
            stage.settle(200 * kMillisecond);
        }
    };
    beat(1'800 * kMillisecond);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::missed_probes, kSecond, 60), lost);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::evictions, 10 * kSecond, 0), std::nullopt);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::newcomers, 10 * kSecond, 80), lost);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::newcomers, kSecond, 0), std::nullopt);
    beat(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 20u);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::evictions, 10 * kSecond, 60), lost);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::missed_probes, kSecond, 0), std::nullopt);
    beat(20 * kSecond);
    EXPECT_EQ(prefix_in(stage, AnomalySeries::evictions, 10 * kSecond, 0), std::nullopt)
        << "long ago";
    EXPECT_EQ(prefix_in(stage, AnomalySeries::loop_lag, 10 * kSecond, 0), std::nullopt);
}

// 300 of one network come first, then 700 of another.
TEST(AnomalyJobs, AskTheKernelOfAsManyAsTheyMayEvenlyOverAll) {
    ReactorStage stage(plan_of());
    for (uint32_t i = 0; i < kPeers; ++i) {
        const std::string network = i < 300 ? "10.1." : "10.2.";
        stage.connect(0, network + std::to_string(i / 250) + "." + std::to_string(i % 250) + ":0");
    }
    stage.settle(50 * kMillisecond);
    ASSERT_EQ(stage.table().live(), kPeers);
    HoldersJob all(AnomalySeries::round_trip, kSecond, 0);
    run(stage, all);
    EXPECT_EQ(all.holders.total(), kPeers);
    HoldersJob quick(AnomalySeries::round_trip, kSecond, kSecond);
    run(stage, quick);
    EXPECT_EQ(quick.holders.total(), 0u) << "none takes so long";
    EXPECT_EQ(quick.asked, kPeers);
    HoldersJob some(AnomalySeries::round_trip, kSecond, 0, {.asked = 100});
    run(stage, some);
    EXPECT_EQ(some.asked, 100u);
    ASSERT_TRUE(some.holders.prefix());
    EXPECT_EQ(some.holders.prefix()->key, (NetworkPrefix{4, 16, {10, 2}}));
    EXPECT_NEAR(some.holders.prefix()->part, 0.7, 0.02);
    HoldersJob in_vain(AnomalySeries::round_trip, kSecond, kSecond, {.asked = 100});
    run(stage, in_vain);
    EXPECT_LE(in_vain.asked, 100u) << "also of those that are no part of it";
    HoldersJob few(AnomalySeries::round_trip, kSecond, 0, {.examined = 40});
    run(stage, few);
    EXPECT_EQ(few.holders.total(), 40u);
}

// 300 of one network came, and ended, before 700 of another: of more than are examined, and of what
// was found until the time was over, an even part counts and not the first.
TEST(AnomalyJobs, ExamineAnEvenPartOfThoseThatCameAndOfThoseThatEnded) {
    StagePlan with = loss_plan();
    with.places = kPeers;
    ReactorStage stage(with);
    for (uint32_t i = 0; i < kPeers; ++i) {
        const std::string network = i < 300 ? "10.1." : "10.2.";
        stage.connect(0, network + std::to_string(i / 250) + "." + std::to_string(i % 250) + ":0");
        if (i % 100 == 99) stage.settle(10 * kMillisecond);
    }
    const auto expect_even = [&](AnomalySeries series) {
        HoldersJob job(series, 60 * kSecond, 0, {.examined = 50});
        run(stage, job);
        EXPECT_EQ(job.holders.total(), 50u);
        ASSERT_TRUE(job.holders.prefix());
        EXPECT_EQ(job.holders.prefix()->key, (NetworkPrefix{4, 16, {10, 2}}));
        EXPECT_NEAR(job.holders.prefix()->part, 0.7, 0.05);
    };
    stage.settle(50 * kMillisecond);
    ASSERT_EQ(stage.table().live(), kPeers);
    expect_even(AnomalySeries::newcomers);
    stage.settle(1'800 * kMillisecond);
    expect_even(AnomalySeries::missed_probes);
    stage.settle(5 * kSecond);
    ASSERT_EQ(stage.table().live(), 0u);
    expect_even(AnomalySeries::evictions);
}

TEST(AnomalyJobs, EndWithWhatTheyHaveFoundWhenTheirTimeIsOver) {
    ReactorStage stage(plan_of());
    open_peers(stage);
    // Its second step comes late.
    struct Late final : Job {
        Nanos step(Connections& connections, Nanos now, uint32_t& budget) override {
            budget = 10 * kDescribeCost;
            return job.step(connections, now + kAnomalyWalkNs * steps++, budget);
        }
        HoldersJob job{AnomalySeries::round_trip, kSecond, 0};
        int steps = 0;
    } late;
    run(stage, late);
    EXPECT_EQ(late.steps, 2);
    EXPECT_EQ(late.job.holders.total(), 10u);
}

TEST(AnomalyJobs, NoteTheListenerAndTheNetworkOfTheLargestFind) {
    const std::vector<std::string> listeners{"tcp://10.0.0.1:9000", "ws://10.0.0.1:9001"};
    const auto found = [](uint32_t count, uint8_t network, uint8_t listener) {
        Holders holders;
        while (count-- > 0) holders.add({.family = 4, .bytes = {10, 0, network, 7}}, listener);
        return holders;
    };
    AnomalyEvent event;
    EXPECT_TRUE(note_holders(event, found(50, 1, 1), listeners));
    EXPECT_EQ(event.examined, 50u);
    EXPECT_EQ(event.prefix.of, "10.0.1.0/24");
    EXPECT_EQ(event.listener.of, "ws://10.0.0.1:9001");
    EXPECT_EQ(event.listener.part, 1);
    EXPECT_FALSE(note_holders(event, found(20, 2, 0), listeners));
    EXPECT_EQ(event.prefix.of, "10.0.1.0/24");
    EXPECT_TRUE(note_holders(event, found(60, 3, 200), listeners));
    EXPECT_EQ(event.prefix.of, "10.0.3.0/24");
    EXPECT_EQ(event.listener.of, "") << "which is not known";
    EXPECT_TRUE(note_holders(event, found(70, 3, 0), std::vector{listeners[0]}));
    EXPECT_EQ(event.listener.of, "") << "there is no other";
}

TEST(AnomalyJobs, ALabelIsNamedThatHalfOfTheSessionsHave) {
    const auto share = [](const std::vector<std::string>& sessions) { return label_of(sessions); };
    EXPECT_EQ(share({}).of, "");
    EXPECT_EQ(share({"", ""}).of, "");
    EXPECT_EQ(share({"ring=canary region=eu", "region=us ring=canary", "region=us"}).part, 2.0 / 3);
    EXPECT_EQ(share({"ring=canary region=eu", " ring=canary ", "region=fr"}).of, "ring=canary");
    EXPECT_EQ(share({"a", "b", "c"}).of, "");
}

// Every second some come, and those that were refused come again after `retry` seconds.
struct Comers {
    explicit Comers(uint32_t retry_seconds) : retry(retry_seconds) {}

    void second(uint32_t storm = 0) {
        const uint32_t arrive = 20 + now % 7 + storm + std::exchange(due[now], 0);
        count += arrive;
        if (steps.step() != OverloadStep::none) {
            due[now + retry] += arrive;
            ++refusing;
        }
        if (++now % 10 == 0) sample();
    }
    void sample() {
        AnomalySample sample;
        sample[AnomalySeries::newcomers] = std::exchange(count, 0);
        detector.observe(sample);
        const SeriesWatch& state = detector.state(AnomalySeries::newcomers);
        if (state.began()) {
            AnomalyEvent event;
            event.series = AnomalySeries::newcomers;
            event.raised_at = now * kSecond;
            active.push_back(event);
            ++raised;
        }
        if (state.ended()) active.clear();
        adopted |= state.adopted();
        if (steps.update(now * kSecond, 10 * kSecond, active, {OverloadStep::close, 2 * kSecond}) &&
            steps.step() > OverloadStep::none)
            entered.push_back(steps.step());
    }
    void seconds(uint32_t count_of_them, uint32_t storm = 0) {
        while (count_of_them-- > 0) second(storm);
    }

    const uint32_t retry;
    uint32_t now = 0, count = 0, refusing = 0, raised = 0;
    bool adopted = false;
    std::map<uint32_t, uint32_t> due;
    Detector detector;
    std::vector<AnomalyEvent> active;
    AnomalySteps steps;
    std::vector<OverloadStep> entered;
};

TEST(AnomalySteps, ThoseThatAreRefusedAndComeAgainDoNotKeepItUp) {
    for (const uint32_t retry : {1u, 5u, 20u, 45u}) {
        Comers comers(retry);
        comers.seconds(3'000);
        EXPECT_EQ(comers.raised, 0u);
        for (uint32_t storm = 1; storm <= 2; ++storm) {
            comers.seconds(30, 400);
            comers.seconds(1'000);
            EXPECT_EQ(comers.entered, std::vector(storm, OverloadStep::refuse)) << retry;
            EXPECT_GE(comers.refusing, storm * 10) << retry;
            EXPECT_LE(comers.refusing, storm * 30) << retry;
            EXPECT_EQ(comers.steps.step(), OverloadStep::none) << retry;
            EXPECT_TRUE(comers.active.empty()) << retry;
        }
        EXPECT_FALSE(comers.adopted);
    }
}

TEST(AnomalySteps, OtherAnomaliesAskForStepsAsLongAsTheyGoOn) {
    AnomalySteps steps;
    const OverloadRules rules{OverloadStep::stretch, 2 * kSecond};
    std::vector<AnomalyEvent> active(1);
    for (Nanos now = 0; now < kHour; now += 10 * kSecond) {
        steps.update(now, 10 * kSecond, active, rules);
        EXPECT_EQ(steps.step(), now == 0             ? OverloadStep::none
                                : now < 20 * kSecond ? OverloadStep::refuse
                                                     : OverloadStep::stretch);
    }
    active.clear();
    for (Nanos now = kHour; now < kHour + 50 * kSecond; now += 10 * kSecond)
        steps.update(now, 10 * kSecond, active, rules);
    EXPECT_EQ(steps.step(), OverloadStep::none);
}

// The wall clock was set back by an hour while it went on.
TEST(AnomalyText, DurationsAreThoseOfAClockThatIsNeverSet) {
    AnomalyEvent event{.number = 7,
                       .since = 2 * kHour,
                       .since_at = kSecond,
                       .raised = kHour + 20 * kSecond,
                       .raised_at = 21 * kSecond,
                       .over = kHour + 60 * kSecond,
                       .over_at = 61 * kSecond,
                       .value = 412,
                       .expected = 3,
                       .peak = 500,
                       .examined = 380,
                       .prefix = {"198.51.100.0/24", 0.93},
                       .listener = {},
                       .label = {}};
    EXPECT_EQ(raised_line(event, 10 * kSecond),
              "anomaly 7: evictions: 412 connections in 10s, normal is 3 connections; since 20s "
              "before this line; 93 % of 380 examined: 198.51.100.0/24");
    EXPECT_EQ(over_line(event), "anomaly 7: evictions: over after 1m; at most 500 connections");
    EXPECT_EQ(given_up_line(event),
              "anomaly 7: evictions: not followed any more after 1m; at most 500 connections");
    event.adopted = true;
    EXPECT_EQ(over_line(event),
              "anomaly 7: evictions: taken as normal after 1m; at most 500 connections");
}

TEST(AnomalyWatch, ItsMemoryHasACopyOfAllThatEachReactorMeasures) {
    const size_t of_one = AnomalyWatch::memory_bytes(2) - AnomalyWatch::memory_bytes(1);
    EXPECT_GE(of_one, (std::size(kDistributionInfos) + 2) * Histogram::kCounters * 4 +
                          kAnomalyLabelledMax * kLabelsBytesMax + sizeof(HoldersJob));
}

TEST(AnomalySampler, SamplesAreDifferencesOfWhatReactorsHaveCounted) {
    AnomalySampler sampler(2);
    ReactorStats one, two;
    const auto count = [](ReactorStats& stats, Metric metric, uint64_t more) {
        stats.metrics.counters[static_cast<size_t>(metric)] += more;
    };
    count(one, Metric::evicted, 100);
    one.distributions.probe_round_trip.record(5 * kSecond, 50);
    one.distributions.turn_time.record(9 * kSecond);
    sampler.add(0, one, kSecond);
    sampler.add(1, two, kSecond);
    EXPECT_FALSE(sampler.finish(0, kSecond, kSecond)) << "nothing to compare with";
    count(one, Metric::evicted, 7);
    count(one, Metric::accepted, 20);
    count(two, Metric::refused, 3);
    count(two, Metric::probes_missed, 11);
    one.metrics.closed[static_cast<size_t>(CloseReason::network_timeout)] += 2;
    one.metrics.closed[static_cast<size_t>(CloseReason::peer_reset)] += 50;
    one.distributions.probe_round_trip.record(10 * kMillisecond, 8);
    two.distributions.probe_round_trip.record(1'000 * kMillisecond, 8);
    one.distributions.turn_time.record(2 * kMillisecond, 100);
    two.distributions.turn_time.record(40 * kMillisecond);
    sampler.add(0, one, 2 * kSecond);
    sampler.add(1, two, 2 * kSecond);
    const std::optional<AnomalySample> sample = sampler.finish(77, kSecond, 2 * kSecond);
    ASSERT_TRUE(sample);
    EXPECT_EQ(sample->second_of_day, 77u);
    EXPECT_EQ((*sample)[AnomalySeries::evictions], 9);
    EXPECT_EQ((*sample)[AnomalySeries::newcomers], 23);
    EXPECT_EQ((*sample)[AnomalySeries::missed_probes], 11);
    EXPECT_NEAR((*sample)[AnomalySeries::round_trip], 0.1, 0.001) << "the geometric mean";
    EXPECT_NEAR((*sample)[AnomalySeries::loop_lag], 0.04, 0.001);
    EXPECT_EQ(sampler.slowest(), 1u);
    // Nothing has happened, and one does not answer.
    sampler.add_unanswered(0, 5 * kSecond);
    sampler.add(1, two, 5 * kSecond);
    const std::optional<AnomalySample> next = sampler.finish(78, kSecond, 5 * kSecond);
    ASSERT_TRUE(next);
    EXPECT_EQ((*next)[AnomalySeries::evictions], 0);
    EXPECT_TRUE(std::isnan((*next)[AnomalySeries::round_trip])) << "no trips";
    EXPECT_NEAR((*next)[AnomalySeries::loop_lag], 3, 1e-6);
    EXPECT_EQ(sampler.slowest(), 0u);
    // What was counted meanwhile is of the sample in which it answers again.
    count(one, Metric::evicted, 5);
    sampler.add(0, one, 6 * kSecond);
    sampler.add(1, two, 6 * kSecond);
    EXPECT_EQ((*sampler.finish(79, kSecond, 6 * kSecond))[AnomalySeries::evictions], 5);
    // A look that came late saw more of everything.
    count(one, Metric::evicted, 40);
    sampler.add(0, one, 10 * kSecond);
    sampler.add(1, two, 10 * kSecond);
    EXPECT_EQ((*sampler.finish(80, kSecond, 10 * kSecond))[AnomalySeries::evictions], 10);
}

}  // namespace
}  // namespace pulse::test
