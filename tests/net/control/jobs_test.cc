// What the admin endpoint has reactors do, over the simulated kernel: whole lists, slices of a
// turn, and which connections are skipped.
#include "net/control/jobs.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

constexpr uint32_t kPeers = 1'000;
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

// Posts it, and turns until it is acknowledged. Returns the turns.
int run(ReactorStage& stage, Job& job) {
    Job* pointer = &job;
    bool acknowledged = false;
    const auto acknowledge = [](void* flag, uint32_t) { *static_cast<bool*>(flag) = true; };
    PULSE_ASSERT(stage.post({.body = Message::Run{},
                             .payload = Payload::of(pointer),
                             .acknowledgement = {acknowledge, &acknowledged}}));
    int turns = 0;
    for (; !acknowledged && turns < 100'000; ++turns)
        stage.reactor().turn(stage.network().clock() + kMillisecond);
    EXPECT_TRUE(acknowledged && job.finished());
    return turns;
}

ConnectionFilter filter_of(std::string_view key, std::string_view value) {
    ConnectionFilter filter;
    const FilterNames names{{"tcp://10.0.0.1:9000", "tcp://10.0.0.1:9001?proxy=on"},
                            {"", "", "default", "realtime", "standard", "mobile", "powersave"}};
    const Result<void> set = set_filter(filter, names, key, value);
    EXPECT_TRUE(set) << set.error();
    return filter;
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
    std::optional<IdlestJob::Key> after;
    for (int page = 0; page < 20; ++page) {
        IdlestJob job({}, after, 30);
        run(stage, job);
        for (const IdlestJob::Found& found : job.found) {
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
    stage.settle(44 * kSecond);
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

TEST(AdminJobs, NamesThatAreNotOfConnections) {
    for (const std::string_view text :
         {"", "r", "r1", "r1-2", "r1-2-", "r1-2-3x", "1-2-3", "r-1-2-3", "r1-2-99999999999"})
        EXPECT_FALSE(parse_public_name(text)) << text;
    EXPECT_TRUE(parse_public_name("r255-000007-4294967295"));
}

TEST(SharedPace, SeveralTogetherKeepToTheRate) {
    SharedPace pace(10);
    uint64_t taken = 0;
    for (Nanos now = 5 * kSecond; now <= 7 * kSecond; now += kMillisecond) {
        for (int reactor = 0; reactor < 3; ++reactor) taken += pace.allows(now);
    }
    EXPECT_EQ(taken, 21u) << "one at once, and then ten a second";
}

}  // namespace
}  // namespace pulse::test
