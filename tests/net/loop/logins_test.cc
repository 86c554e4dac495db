// Logins of one reactor, over the simulated kernel: what hellos are answered, who gives way, and
// what the directory is told.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/limits.h"
#include "core/sessions/cohorts.h"
#include "net/loop/limits.h"

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

using Kind = PresenceChange::Kind;

constexpr size_t kAuto = 0, kBinary = 1, kLines = 2;

StagePlan plan() {
    return {.listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
}

std::string hello_of(std::string_view user, std::string_view device = {},
                     std::string_view more = {}) {
    std::string text = R"({"type":"hello","user":")" + std::string(user) + '"';
    if (!device.empty()) text.append(R"(,"device":")").append(device) += '"';
    return text.append(more).append("}\n");
}

std::vector<Kind> changes(const ReactorStage& stage) {
    std::vector<Kind> kinds;
    const PresenceStream& stream = stage.directory().stream();
    for (uint64_t at = stream.first(); at < stream.end(); ++at) kinds.push_back(stream.at(at).kind);
    return kinds;
}

size_t log_in(ReactorStage& stage, std::string_view user, std::string_view device = {}) {
    const size_t peer = stage.connect(kLines);
    const std::string heard = answer(stage, peer, hello_of(user, device));
    EXPECT_NE(heard.find(R"("user":")" + std::string(user) + '"'), std::string::npos) << heard;
    return peer;
}

// Says so itself, on lines.
bool is_here(ReactorStage& stage, size_t peer) { return answer(stage, peer, "PING\n") == "PONG\n"; }

TEST(Login, TheWelcomeNamesUserDeviceAndSession) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    const std::string heard =
        answer(stage, peer, hello_of("u\\\"1", "ios", R"(,"labels":{"ring":"canary"})"));
    EXPECT_TRUE(heard.starts_with(R"({"type":"welcome","conn":"r0-000000-)")) << heard;
    const std::string end = R"(,"user":"u\"1","device":"ios","session":"new"})";
    EXPECT_TRUE(heard.ends_with(end + '\n')) << heard;
    const Directory::User* user = stage.directory().find("u\"1");
    ASSERT_NE(user, nullptr);
    const Directory::Session& session = stage.directory().session(user->first);
    EXPECT_EQ(stage.directory().text(session.device), "ios");
    EXPECT_EQ(stage.directory().text(session.labels), "ring=canary");
    EXPECT_EQ(session.connection.index, *stage.index(peer));
    EXPECT_TRUE(is_logged_in(*stage.record(peer)));
    EXPECT_EQ(stage.metrics()[Metric::logins], 1u);
    EXPECT_EQ(stage.metrics()[Metric::hellos], 1u);
    const ReactorStats stats = stage.stats();
    EXPECT_EQ(stats.gauges.sessions, 1u);
    EXPECT_EQ(stats.gauges.users, 1u);
}

TEST(Login, IsWelcomedInEachProtocol) {
    ReactorStage stage(plan());
    const size_t binary = stage.connect(kBinary);
    const std::string frame =
        answer(stage, binary, binary_frame(kBinaryHello, 7, R"({"user":"b"})"));
    EXPECT_EQ(frame.substr(0, 2), "\xB7\x04");
    EXPECT_EQ(frame.substr(4, 4), std::string("\0\0\0\7", 4)) << "the hello's sequence";
    EXPECT_NE(frame.find(R"("user":"b","session":"new"})"), std::string::npos) << frame;
    const size_t socket = stage.connect(kAuto);
    EXPECT_NE(answer(stage, socket, upgrade_request()), "");
    EXPECT_NE(answer(stage, socket, masked(0x81, hello_of("w"))).find(R"("user":"w")"),
              std::string::npos);
    const size_t frames = stage.connect(kAuto);
    EXPECT_NE(answer(stage, frames, upgrade_request("pulse.v1.binary")), "");
    EXPECT_NE(answer(stage, frames, masked(0x82, binary_frame(kBinaryHello, 1, R"({"user":"f"})")))
                  .find(R"("user":"f")"),
              std::string::npos);
    EXPECT_EQ(stage.directory().counts().users, 3u);
}

TEST(Login, AnAnonymousHelloHasNoPartInIt) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    const std::string hello = R"({"type":"hello","device":"ios","labels":{"a":"b"}})";
    EXPECT_NE(answer(stage, peer, hello + '\n').find("welcome"), std::string::npos);
    EXPECT_FALSE(is_logged_in(*stage.record(peer)));
    EXPECT_EQ(stage.directory().counts().sessions, 0u);
    EXPECT_EQ(stage.directory().bytes(), 0u) << "an unused shard costs nothing";
}

TEST(Login, WhatTheWelcomeHasRoomForIsAsMuchAsAHelloMayName) {
    ReactorStage stage(plan());
    std::string user, device;
    for (size_t byte = 0; byte < kUserBytesMax; ++byte) user += "\\u0001";
    for (size_t byte = 0; byte < kDeviceBytesMax; ++byte) device += "\\u0001";
    const size_t peer = stage.connect(kLines);
    const std::string heard = answer(stage, peer, hello_of(user, device));
    EXPECT_NE(heard.find(user), std::string::npos) << heard;
    EXPECT_NE(heard.find(device), std::string::npos) << heard;
}

TEST(Takeover, TheOldConnectionClosesAndTheUserIsNeverOffline) {
    ReactorStage stage(plan());
    const size_t old = log_in(stage, "u1", "ios");
    const size_t other = log_in(stage, "u1", "web");
    const size_t fresh = stage.connect(kLines);
    EXPECT_NE(answer(stage, fresh, hello_of("u1", "ios")).find(R"("session":"took_over")"),
              std::string::npos);
    EXPECT_NE(take(stage, old).find(R"("code":4008,"reason":"taken_over")"), std::string::npos);
    EXPECT_TRUE(is_here(stage, other)) << "another device";
    stage.close(old, false);
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.record(old), nullptr) << "gone";
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::joined, Kind::replaced}));
    EXPECT_EQ(stage.directory().counts().sessions, 2u);
    EXPECT_EQ(stage.metrics()[Metric::takeovers], 1u);
    EXPECT_EQ(closed_for(stage, CloseReason::taken_over), 1u);
    EXPECT_EQ(stage.metrics()[Metric::stale_reports], 0u) << "its end is not reported";
}

TEST(Takeover, OfManyOnePlaceIsKept) {
    ReactorStage stage(plan());
    std::vector<size_t> peers;
    for (int number = 0; number < 20; ++number) peers.push_back(log_in(stage, "u1"));
    for (const size_t peer : peers) EXPECT_EQ(is_here(stage, peer), peer == peers.back());
    EXPECT_EQ(stage.directory().counts().sessions, 1u);
    EXPECT_EQ(stage.directory().counts().takeovers, 19u);
    stage.directory().validate();
}

TEST(Reject, TheNewConnectionIsToldWhyAndClosed) {
    StagePlan with = plan();
    with.options.duplicate.rule = DuplicateRule::reject;
    ReactorStage stage(with);
    const size_t old = log_in(stage, "u1", "ios");
    const size_t fresh = stage.connect(kLines);
    const std::string heard = answer(stage, fresh, hello_of("u1", "ios"));
    EXPECT_TRUE(heard.starts_with(R"({"type":"error","code":4009,"message":"duplicate: )"))
        << heard;
    EXPECT_NE(heard.find(R"("reason":"duplicate_login")"), std::string::npos) << heard;
    EXPECT_TRUE(is_here(stage, old));
    EXPECT_EQ(stage.metrics()[Metric::logins_duplicate], 1u);
    EXPECT_EQ(stage.metrics()[Metric::hellos], 1u);
    log_in(stage, "u1", "web");
    EXPECT_EQ(stage.directory().counts().sessions, 2u);
}

TEST(Reject, ASecondHelloThatIsRefusedLeavesTheSessionAsItWas) {
    StagePlan with = plan();
    with.options.duplicate.rule = DuplicateRule::reject;
    ReactorStage stage(with);
    log_in(stage, "u1", "ios");
    const size_t web = log_in(stage, "u1", "web");
    EXPECT_NE(answer(stage, web, hello_of("u1", "ios")).find("duplicate: "), std::string::npos);
    EXPECT_TRUE(is_here(stage, web));
    EXPECT_EQ(stage.directory().counts().sessions, 2u);
    EXPECT_TRUE(is_logged_in(*stage.record(web)));
}

TEST(Allow, SoManyStayAndThenTheOldestGivesWay) {
    StagePlan with = plan();
    with.options.duplicate = {DuplicateRule::allow, 2};
    ReactorStage stage(with);
    const size_t first = log_in(stage, "u1");
    const size_t second = log_in(stage, "u1");
    EXPECT_TRUE(is_here(stage, first));
    const size_t third = log_in(stage, "u1");
    EXPECT_FALSE(is_here(stage, first));
    EXPECT_TRUE(is_here(stage, second) && is_here(stage, third));
}

TEST(PerUser, OneTooManyIsRefusedAndClosed) {
    StagePlan with = plan();
    with.options.max_connections_per_user = 2;
    ReactorStage stage(with);
    log_in(stage, "u1", "a");
    log_in(stage, "u1", "b");
    const size_t third = stage.connect(kLines);
    const std::string heard = answer(stage, third, hello_of("u1", "c"));
    EXPECT_TRUE(heard.starts_with(R"({"type":"error","code":4010,"message":"user_full: )"))
        << heard;
    EXPECT_NE(heard.find(R"("reason":"user_full")"), std::string::npos) << heard;
    EXPECT_EQ(stage.metrics()[Metric::logins_user_full], 1u);
    EXPECT_EQ(stage.directory().counts().sessions, 2u);
}

TEST(Linger, AQuickReconnectIsNoChangeOfPresence) {
    StagePlan with = plan();
    with.options.presence_linger = 5 * kSecond;
    ReactorStage stage(with);
    size_t peer = log_in(stage, "u1");
    stage.close(peer, true);
    stage.settle(4 * kSecond);
    EXPECT_EQ(stage.directory().counts().lingering, 1u);
    EXPECT_EQ(stage.stats().gauges.users, 1u) << "online to all that look";
    peer = log_in(stage, "u1");
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::replaced}));
    EXPECT_EQ(stage.metrics()[Metric::presence_blips], 1u);
    stage.close(peer, true);
    stage.settle(6 * kSecond);
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::replaced, Kind::offline}));
    EXPECT_EQ(stage.directory().find("u1")->reason, CloseReason::peer_reset);
}

TEST(SecondHello, RefreshesAndIsToldSo) {
    ReactorStage stage(plan());
    const size_t peer = log_in(stage, "u1", "ios");
    const std::string heard =
        answer(stage, peer, hello_of("u1", "web", R"(,"labels":{"ring":"b"})"));
    EXPECT_NE(heard.find(R"("device":"web","session":"refreshed")"), std::string::npos) << heard;
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::refreshed}));
    EXPECT_EQ(stage.metrics()[Metric::logins_refreshed], 1u);
    EXPECT_EQ(stage.directory().counts().sessions, 1u);
}

TEST(SecondHello, AsAnotherUserEndsTheFirstSessionFirst) {
    ReactorStage stage(plan());
    const size_t peer = log_in(stage, "u1");
    EXPECT_NE(answer(stage, peer, hello_of("u2")).find(R"("user":"u2","session":"new")"),
              std::string::npos);
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::offline, Kind::online}));
    EXPECT_EQ(stage.directory().find("u1")->presence, Directory::Presence::offline);
    stage.close(peer, false);
    stage.settle(kSecond);
    EXPECT_EQ(stage.directory().counts().sessions, 0u);
}

// Whatever way a connection ends, its session ends once, at the begin of its close.
TEST(End, IsReportedOnceWhicheverWayItComes) {
    StagePlan with = plan();
    with.options.heartbeat_interval = kSecond;
    with.options.heartbeat_timeout = 2 * kSecond;
    with.options.heartbeat_probe = false;
    const struct {
        CloseReason reason;
        void (*end)(ReactorStage& stage, size_t peer);
    } ways[] = {
        {CloseReason::peer_closed, [](ReactorStage& s, size_t peer) { s.close(peer, false); }},
        {CloseReason::peer_reset, [](ReactorStage& s, size_t peer) { s.close(peer, true); }},
        {CloseReason::peer_goodbye,
         [](ReactorStage& s, size_t peer) { s.write(peer, "{\"type\":\"goodbye\"}\n"); }},
        {CloseReason::idle_timeout, [](ReactorStage& s, size_t) { s.settle(3 * kSecond); }},
        {CloseReason::kicked,
         [](ReactorStage& s, size_t peer) {
             s.post({Message::Kick{s.table().id(*s.index(peer)), CloseReason::kicked}});
         }},
        {CloseReason::going_away, [](ReactorStage& s, size_t) { s.reactor().drain(); }},
        {CloseReason::hard_stop, [](ReactorStage& s, size_t) { s.post({Message::Stop{}}); }},
    };
    for (const auto& way : ways) {
        with.options.drain_timeout = way.reason == CloseReason::going_away ? kSecond : 0;
        ReactorStage stage(with);
        const size_t peer = log_in(stage, "u1");
        way.end(stage, peer);
        stage.settle(kSecond / 2);
        EXPECT_EQ(stage.directory().counts().sessions, 0u) << describe(way.reason).name;
        EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::offline}));
        EXPECT_EQ(stage.directory().find("u1")->reason, way.reason) << describe(way.reason).name;
        stage.settle(15 * kSecond);
        EXPECT_EQ(changes(stage).size(), 2u) << describe(way.reason).name;
        EXPECT_EQ(stage.metrics()[Metric::stale_reports], 0u);
        stage.directory().validate();
    }
}

TEST(Suspect, FromAnUnansweredProbeToTheNextProof) {
    StagePlan with = plan();
    with.options.heartbeat_interval = 8 * kSecond;
    with.options.heartbeat_timeout = 40 * kSecond;
    ReactorStage stage(with);
    const size_t peer = log_in(stage, "u1");
    EXPECT_TRUE(is_here(stage, peer));
    stage.settle(8 * kSecond);
    EXPECT_EQ(stage.stats().gauges.users_suspect, 0u) << "it was not asked yet";
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::probes_sent], 1u);
    EXPECT_EQ(stage.stats().gauges.users_suspect, 0u) << "it may answer";
    stage.settle(4 * kSecond);
    EXPECT_EQ(stage.stats().gauges.users_suspect, 1u);
    stage.heard(peer).clear();
    EXPECT_TRUE(is_here(stage, peer));
    stage.settle(2 * kSecond);
    EXPECT_EQ(stage.stats().gauges.users_suspect, 0u) << "well an eighth of an interval later";
    EXPECT_EQ(changes(stage), (std::vector{Kind::online, Kind::suspect, Kind::well}));
    stage.settle(60 * kSecond);
    EXPECT_EQ(changes(stage),
              (std::vector{Kind::online, Kind::suspect, Kind::well, Kind::suspect, Kind::offline}));
    EXPECT_EQ(stage.directory().find("u1")->reason, CloseReason::idle_timeout);
    stage.directory().validate();
}

TEST(Suspect, UnderRejectItGivesWay) {
    StagePlan with = plan();
    with.options.heartbeat_interval = 8 * kSecond;
    with.options.heartbeat_timeout = 40 * kSecond;
    with.options.duplicate.rule = DuplicateRule::reject;
    ReactorStage stage(with);
    const size_t silent = log_in(stage, "u1");
    stage.settle(16 * kSecond);
    log_in(stage, "u1");
    EXPECT_NE(take(stage, silent).find("taken_over"), std::string::npos);
    EXPECT_EQ(changes(stage),
              (std::vector{Kind::online, Kind::suspect, Kind::replaced, Kind::well}));
}

TEST(Reload, RulesHoldFromTheNextLoginOn) {
    ReactorStage stage(plan());
    log_in(stage, "u1");
    ASSERT_TRUE(stage.reload([](LoopOptions& options) {
        options.duplicate.rule = DuplicateRule::reject;
        options.presence_linger = 3600 * kSecond;
    }));
    stage.settle();
    const size_t second = stage.connect(kLines);
    EXPECT_NE(answer(stage, second, hello_of("u1")).find("duplicate"), std::string::npos);
    stage.close(log_in(stage, "u2"), true);
    stage.settle(kSecond);
    EXPECT_EQ(stage.directory().counts().lingering, 1u);
    ASSERT_TRUE(stage.reload([](LoopOptions& options) { options.presence_linger = 0; }));
    stage.settle();
    EXPECT_EQ(stage.directory().counts().lingering, 0u) << "its time is over at once";
    EXPECT_EQ(stage.directory().counts().offline, 1u);
}

TEST(Hello, OfAUserWithoutANameOrWithTooLongAOneIsAnOffence) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    EXPECT_NE(answer(stage, peer, hello_of("")).find("'user' is empty"), std::string::npos);
    EXPECT_NE(answer(stage, peer, hello_of(std::string(kUserBytesMax + 1, 'u')))
                  .find("'user' is too long"),
              std::string::npos);
    EXPECT_NE(answer(stage, peer, hello_of("u", std::string(kDeviceBytesMax + 1, 'd')))
                  .find("'device' is too long"),
              std::string::npos);
    EXPECT_FALSE(is_logged_in(*stage.record(peer)));
}

// ---------------------------------------------------------------------------------------- cohorts

constexpr std::string_view kCanary = R"(,"labels":{"ring":"canary"})";

// For a share of all, connections that are not logged in among them.
CohortPolicy for_all(std::string profile) {
    return {.text = "100%: " + profile, .profile = std::move(profile)};
}
CohortPolicy canary(std::string profile, uint64_t messages = 0) {
    CohortPolicy policy{.text = "ring=canary: " + profile + std::to_string(messages),
                        .labels = {"ring=canary"},
                        .profile = std::move(profile)};
    if (messages > 0) policy.message_rate = {messages, 3'600 * kSecond, messages};
    return policy;
}
// As the server does it.
void post_policies(ReactorStage& stage, const std::vector<CohortPolicy>& policies) {
    ASSERT_TRUE(stage.reload([&](LoopOptions& options) {
        const Cohorts before = options.cohorts == nullptr ? Cohorts() : *options.cohorts;
        options.policies = policies;
        options.cohorts = std::make_shared<const Cohorts>(before, policies);
    }));
}
void set_policies(ReactorStage& stage, const std::vector<CohortPolicy>& policies) {
    post_policies(stage, policies);
    stage.settle(kSecond / 10);
}
CohortCounts counts_of(ReactorStage& stage, Cohort cohort) {
    return stage.reactor().connections().cohort_counts()[cohort];
}
constexpr std::string_view kMobileInterval =
    "{\"type\":\"interval\",\"interval_ms\":60000,\"timeout_ms\":120000}\n";
constexpr std::string_view kStandardInterval =
    "{\"type\":\"interval\",\"interval_ms\":30000,\"timeout_ms\":90000}\n";

TEST(Cohort, IsDecidedAtTheLogin) {
    ReactorStage stage(plan());
    set_policies(stage, {canary("mobile")});
    const Cohort cohort = kRestCohort + 1;
    const size_t in = stage.connect(kLines), out = stage.connect(kLines);
    EXPECT_NE(answer(stage, in, hello_of("u1", "", kCanary)).find(R"("interval_ms":60000)"),
              std::string::npos);
    EXPECT_NE(answer(stage, out, hello_of("u2")).find(R"("interval_ms":30000)"), std::string::npos);
    EXPECT_NE(answer(stage, in, hello_of("u1", "", kCanary)).find(R"("interval_ms":60000)"),
              std::string::npos)
        << "the hello is refreshed";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(answer(stage, in, "PING\n"), "PONG\n");
    EXPECT_EQ(counts_of(stage, cohort).sessions, 1u);
    EXPECT_EQ(counts_of(stage, cohort).joined, 1u);
    EXPECT_EQ(counts_of(stage, cohort).heartbeats, 3u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 1u);
    EXPECT_EQ(counts_of(stage, kRestCohort).heartbeats, 0u);
    EXPECT_EQ(answer(stage, in, hello_of("u1")).find(R"("interval_ms":60000)"), std::string::npos)
        << "it has no such label any more";
    EXPECT_EQ(counts_of(stage, cohort).sessions, 0u);
    stage.close(in, false);
    stage.close(out, true);
    stage.settle(kSecond);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort).ended, 2u);
    EXPECT_EQ(counts_of(stage, kRestCohort).evicted, 0u);
}

TEST(Cohort, AChangeIsRolledOutToThoseThatLiveAndRolledBack) {
    ReactorStage stage(plan());
    const size_t in = stage.connect(kLines), out = stage.connect(kLines),
                 named = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "", kCanary));
    answer(stage, out, hello_of("u2"));
    answer(stage, named, hello_of("u3", "", std::string(kCanary) + R"(,"profile":"realtime")"));
    set_policies(stage, {canary("mobile")});
    EXPECT_EQ(take(stage, in), kMobileInterval);
    EXPECT_EQ(take(stage, named), kMobileInterval);
    EXPECT_EQ(take(stage, out), "");
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, 2u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 1u);
    set_policies(stage, {});
    EXPECT_EQ(take(stage, in), kStandardInterval);
    EXPECT_EQ(take(stage, named),
              "{\"type\":\"interval\",\"interval_ms\":15000,\"timeout_ms\":45000}\n")
        << "what it had asked for itself";
    EXPECT_EQ(take(stage, out), "");
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 3u);
}

// Evictions of a cohort are its own, and by the deadlines that it was told.
TEST(Cohort, IsEvictedByItsOwnDeadline) {
    StagePlan silent = plan();
    silent.options.heartbeat_probe = false;
    ReactorStage stage(silent);
    set_policies(stage, {canary("realtime")});
    const size_t in = stage.connect(kLines), out = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "", kCanary));
    answer(stage, out, hello_of("u2"));
    stage.settle(45 * kSecond);
    EXPECT_FALSE(stage.ended(in)) << "it may have learnt of them a second later";
    stage.settle(2 * kSecond);
    EXPECT_TRUE(stage.ended(in));
    EXPECT_FALSE(stage.ended(out));
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).evicted, 1u);
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).ended, 1u);
    EXPECT_EQ(counts_of(stage, kRestCohort).ended, 0u);
}

TEST(Cohort, HasItsOwnRateOfMessages) {
    ReactorStage stage(plan());
    set_policies(stage, {canary("", 5)});
    const size_t in = stage.connect(kLines), out = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "", kCanary));
    answer(stage, out, hello_of("u2"));
    for (int i = 0; i < 20; ++i) {
        answer(stage, in, "PING\n");
        EXPECT_EQ(answer(stage, out, "PING\n"), "PONG\n");
    }
    EXPECT_TRUE(stage.ended(in));
    stage.close(in, false);
    stage.settle(kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::message_rate), 1u);
}

TEST(Cohort, IsSentToAnotherServer) {
    StagePlan with = plan();
    with.options.drain_retry_after = kMillisecond;  // to be told a time that is known
    ReactorStage stage(with);
    const size_t lives = stage.connect(kLines), binary = stage.connect(kBinary);
    answer(stage, lives, hello_of("u1", "", kCanary));
    CohortPolicy away = canary("");
    away.move_to = "wss://b.example:9000";
    away.move_over = 0;
    set_policies(stage, {away});
    EXPECT_EQ(take(stage, lives),
              "{\"type\":\"goodbye\",\"code\":4011,\"reason\":\"moved\",\"retry_after_ms\":1,"
              "\"move_to\":\"wss://b.example:9000\"}\n");
    const std::string heard =
        answer(stage, binary,
               binary_frame(kBinaryHello, 7, R"({"user":"u2","labels":{"ring":"canary"}})"));
    EXPECT_EQ(heard.substr(0, 2), "\xB7\x04") << "it is welcomed first";
    EXPECT_NE(heard.find("moved: wss://b.example:9000; retry_after_ms=1"), std::string::npos);
    EXPECT_TRUE(stage.ended(binary)) << "its goodbye is its end";
    EXPECT_FALSE(stage.ended(lives));
    stage.close(lives, false);
    stage.close(binary, false);
    stage.settle(kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::moved), 2u);
}

// So that a peer is never without a connection: until it has gone, or for so long.
TEST(Cohort, ThatIsSentAwayIsServedUntilItHasGone) {
    StagePlan with = plan();
    with.options.drain_retry_after = kMillisecond;
    with.options.on_message = OnMessage::echo;
    ReactorStage stage(with);
    const size_t goes = stage.connect(kLines), stays = stage.connect(kLines);
    const size_t comes_back = stage.connect(kLines);
    for (const size_t peer : {goes, stays, comes_back})
        answer(stage, peer, hello_of("u" + std::to_string(peer), "", kCanary));
    CohortPolicy away = canary("");
    away.move_to = "wss://b.example:9000";
    away.move_over = 0;
    set_policies(stage, {away});
    for (const size_t peer : {goes, stays, comes_back})
        EXPECT_NE(take(stage, peer).find(R"("reason":"moved")"), std::string::npos);
    const std::string data = R"({"type":"data","text":"x"})" "\n";
    EXPECT_EQ(answer(stage, goes, data), data);
    EXPECT_TRUE(is_here(stage, goes));
    EXPECT_EQ(stage.directory().counts().users, 3u);
    const std::string again = answer(stage, goes, hello_of("u0", "", kCanary));
    EXPECT_EQ(again.find("goodbye"), std::string::npos) << "it is told once: " << again;
    away.drains = CohortPolicy::Drains::last;
    set_policies(stage, {away});
    EXPECT_EQ(take(stage, goes), "") << "also where policies change";
    stage.write(goes, R"({"type":"goodbye","code":1000})" "\n");
    stage.write(comes_back, R"({"type":"goodbye","code":4000})" "\n");
    for (const size_t peer : {goes, comes_back}) stage.close(peer, false);
    stage.settle(kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::moved), 1u);
    EXPECT_EQ(closed_for(stage, CloseReason::peer_goodbye), 1u);
    EXPECT_FALSE(stage.ended(stays));
    for (int second = 0; second < 8; ++second, stage.settle(kSecond))
        EXPECT_TRUE(is_here(stage, stays)) << second;
    stage.settle(2 * kSecond);
    EXPECT_TRUE(stage.ended(stays));
    const std::string end = take(stage, stays);
    EXPECT_NE(end.find(R"("move_to":"wss://b.example:9000")"), std::string::npos) << end;
    stage.close(stays, false);
    stage.settle(kSecond);
    EXPECT_EQ(closed_for(stage, CloseReason::moved), 2u);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, 0u);
}

// A shard that has not learnt of a change yet names a cohort that has another policy now, or none;
// and one that has learnt more names what this reactor does not know.
TEST(Cohort, IsThatOfThePolicyThatTheShardMeant) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    answer(stage, peer, hello_of("u1"));  // no policy is for it
    const Cohort cohort = kRestCohort + 1;
    const auto regroup = [&](uint32_t number) {
        const ConnectionId id = stage.table().id(*stage.index(peer));
        const Directory::User* const user = stage.directory().find("u1");
        stage.post({.body = Message::Regroup{id, user->first, 0, cohort, number}});
        stage.settle();
        return counts_of(stage, cohort).sessions;
    };
    set_policies(stage, {canary("mobile", 1)});
    EXPECT_EQ(regroup(1), 1u);
    EXPECT_NE(take(stage, peer), "");
    set_policies(stage, {});
    EXPECT_NE(take(stage, peer), "") << "it is of the rest again";
    EXPECT_EQ(regroup(1), 0u) << "it was taken back";
    uint64_t last = 1;
    for (Cohort given = 0; given != cohort; ++last) {
        set_policies(stage, {canary("mobile", last + 1)});
        given = stage.reactor().connections().config().options->cohorts->order()[0];
        ASSERT_LT(last, 40u);
    }
    EXPECT_EQ(last, kCohortsMax - 1u) << "others are given again before it";
    EXPECT_EQ(regroup(1), 0u) << "it has another policy";
    EXPECT_EQ(take(stage, peer), "");
    set_policies(stage, {});
    EXPECT_EQ(regroup(static_cast<uint32_t>(last) + 1), 1u) << "of a policy that is to come";
    EXPECT_EQ(take(stage, peer), "") << "and then has an effect";
}

// The answer to a login that may be resumed waits for the end of the turn; the main thread may have
// been told by then that no session comes into a cohort any more.
TEST(Cohort, IsNotEnteredAfterItWasTakenBackInTheTurnOfALogin) {
    StagePlan with = plan();
    with.options.resume_hold = 30 * kSecond;
    ReactorStage stage(with);
    set_policies(stage, {canary("mobile")});
    const size_t peer = stage.connect(kLines);
    stage.settle();
    stage.write(peer, hello_of("u1", "", std::string(kCanary) + R"(,"resume":{})"));
    stage.io().pass_time(10 * kMillisecond);  // it has arrived when the reload is posted
    set_policies(stage, {});
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).joined, 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 1u);
}

// Peers that were sent there.
size_t moved_of(ReactorStage& stage) {
    size_t count = 0;
    for (size_t peer = 0; peer < stage.peers(); ++peer)
        count += stage.heard(peer).find(R"("reason":"moved")") != std::string::npos ? 1 : 0;
    return count;
}
CohortPolicy away_over(Nanos span) {
    CohortPolicy away = canary("");
    away.move_to = "wss://b.example:9000";
    away.move_over = span;
    return away;
}

// And those that come meanwhile at once, behind their welcome.
TEST(Cohort, ThatLivesIsSentAwayEvenlyOverItsTime) {
    StagePlan with = plan();
    with.places = 400;
    ReactorStage stage(with);
    for (int i = 0; i < 300; ++i) {
        const size_t peer = stage.connect(kLines);
        stage.write(peer, hello_of("u" + std::to_string(i), "", i % 3 == 0 ? "" : kCanary));
        if (i % 20 == 0) stage.settle();
    }
    stage.settle();
    ASSERT_EQ(stage.table().live(), 300u);
    set_policies(stage, {away_over(10 * kSecond)});
    const auto moved = [&] { return moved_of(stage); };
    for (int second = 1; second < 10; ++second) {
        stage.settle(second == 1 ? 9 * kSecond / 10 : kSecond);
        EXPECT_NEAR(static_cast<double>(moved()), 20 * second, 3) << second;
        if (second != 4) continue;
        const size_t comes = stage.connect(kLines);
        const std::string heard = answer(stage, comes, hello_of("new", "", kCanary));
        EXPECT_NE(heard.find(R"("reason":"moved")"), std::string::npos);
        stage.close(comes, false);
    }
    stage.settle(2 * kSecond);
    EXPECT_EQ(moved(), 200u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 100u);
    stage.settle(20 * kSecond);
    EXPECT_EQ(moved(), 200u);
    EXPECT_EQ(closed_for(stage, CloseReason::moved), 201u);
}

// Those that were told count no more among those that are to be, whatever becomes of them.
TEST(Cohort, ThatIsSentAwayIsEvenAlsoWhereNoneGoes) {
    StagePlan with = plan();
    with.places = 200;
    ReactorStage stage(with);
    for (int i = 0; i < 100; ++i)
        answer(stage, stage.connect(kLines), hello_of("u" + std::to_string(i), "", kCanary));
    set_policies(stage, {away_over(10 * kSecond)});
    stage.settle(5 * kSecond);
    EXPECT_NEAR(static_cast<double>(moved_of(stage)), 50, 3);
    EXPECT_EQ(stage.table().live(), 100u);
    for (size_t peer = 0; peer < 50; ++peer) stage.close(peer, true);
    stage.settle(6 * kSecond);
    EXPECT_GE(moved_of(stage), 97u);
    stage.settle(20 * kSecond);
    for (size_t peer = 50; peer < 100; ++peer) EXPECT_TRUE(stage.ended(peer)) << peer;
}

TEST(Cohort, IsSentAwayNoMoreWhereItsPolicyIsTakenBack) {
    StagePlan with = plan();
    with.places = 200;
    ReactorStage stage(with);
    for (int i = 0; i < 100; ++i)
        answer(stage, stage.connect(kLines), hello_of("u" + std::to_string(i), "", kCanary));
    set_policies(stage, {away_over(10 * kSecond)});
    stage.settle(5 * kSecond);
    set_policies(stage, {});
    const size_t moved = moved_of(stage);
    EXPECT_NEAR(static_cast<double>(moved), 50, 3);
    stage.settle(20 * kSecond);
    EXPECT_EQ(moved_of(stage), moved);
    set_policies(stage, {away_over(10 * kSecond)});
    stage.settle(2 * kSecond);
    EXPECT_NEAR(static_cast<double>(moved_of(stage) - moved), 10, 3) << "a window of its own";
}

// What a regrouping says needs memory, for which sessions of the same users give way, that it has
// told or is about to tell.
TEST(Cohort, IsToldWhereMemoryIsShortAndSessionsOfTheSameUsersGiveWay) {
    constexpr int kUsers = 20, kEach = 8;
    StagePlan with = plan();
    with.places = kUsers * kEach;
    with.options.buffer_bytes = size_t{64} << 10;
    with.options.max_message_bytes = 16 << 10;
    with.buffer_reserve_bytes = size_t{4} << 10;
    ReactorStage stage(with);
    std::vector<size_t> peers;
    const std::string half = R"({"type":"data","text":")" + std::string(1'500, 'x');
    for (int i = 0; i < kUsers * kEach; ++i) {
        peers.push_back(stage.connect(kLines, "10.0." + std::to_string(i) + ".1:0"));
        answer(stage, peers.back(),
               hello_of("u" + std::to_string(i % kUsers), "d" + std::to_string(i), kCanary));
    }
    for (const size_t peer : peers) {
        stage.set_reading(peer, false);  // its answers stay here
        stage.write(peer, half);
    }
    stage.settle();
    const auto gave_way = [&] { return stage.metrics()[Metric::memory_shortages]; };
    const uint64_t before = gave_way();
    set_policies(stage, {canary("mobile")});
    set_policies(stage, {canary("realtime"), for_all("mobile")});
    set_policies(stage, {away_over(0)});
    EXPECT_GT(gave_way(), before) << "memory was not short";
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 0u);
    for (const size_t peer : peers) stage.close(peer, true);
    stage.settle(3 * kSecond);
    EXPECT_EQ(stage.table().live(), 0u);
    EXPECT_EQ(stage.stats().gauges.sessions, 0u);
    for (Cohort cohort = kRestCohort; cohort < kRestCohort + 5; ++cohort)
        EXPECT_EQ(counts_of(stage, cohort).sessions, 0u) << int{cohort};
}

TEST(Cohort, HasItsOwnLimitOfSessions) {
    ReactorStage stage(plan());
    CohortPolicy one = canary("");
    one.sessions_max = 1;
    set_policies(stage, {one});
    const size_t in = stage.connect(kLines), out = stage.connect(kLines),
                 second = stage.connect(kLines), third = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "phone", kCanary));
    answer(stage, out, hello_of("u2", "phone"));
    EXPECT_NE(answer(stage, second, hello_of("u1", "desk", kCanary)).find("user_full"),
              std::string::npos);
    EXPECT_NE(answer(stage, third, hello_of("u2", "desk")).find("welcome"), std::string::npos);
}

// An anonymous connection has a cohort from its first heartbeat on, or a hello without a user; what
// it does not know of that it is sent.
TEST(Cohort, MayBeOfAnonymousConnections) {
    ReactorStage stage(plan());
    const Cohort cohort = kRestCohort + 1;
    set_policies(stage, {for_all("mobile")});
    const size_t beats = stage.connect(kLines), greets = stage.connect(kLines),
                 silent = stage.connect(kLines);
    EXPECT_EQ(answer(stage, beats, "PING\n"), std::string(kMobileInterval) + "PONG\n");
    EXPECT_EQ(answer(stage, beats, "PING\n"), "PONG\n");
    const std::string welcome = answer(stage, greets, "{\"type\":\"hello\"}\n");
    EXPECT_NE(welcome.find(R"("interval_ms":60000)"), std::string::npos);
    EXPECT_EQ(welcome.find("interval\""), std::string::npos) << "the welcome has it";
    EXPECT_EQ(counts_of(stage, cohort).sessions, 2u);
    EXPECT_EQ(counts_of(stage, cohort).heartbeats, 2u);
    set_policies(stage, {});
    EXPECT_EQ(take(stage, beats), kStandardInterval);
    EXPECT_EQ(take(stage, greets), kStandardInterval);
    EXPECT_EQ(take(stage, silent), "");
    EXPECT_EQ(counts_of(stage, cohort).sessions, 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort).sessions, 0u) << "no policy is for anonymous ones";
    set_policies(stage, {for_all("realtime")});
    EXPECT_EQ(take(stage, beats), "") << "it is asked again when it beats";
    answer(stage, beats, "PING\n");
    const Cohort fresh = cohort + 1;
    EXPECT_EQ(counts_of(stage, fresh).sessions, 1u);
    stage.close(beats, false);
    stage.settle(kSecond);
    EXPECT_EQ(counts_of(stage, fresh).sessions, 0u);
    EXPECT_EQ(counts_of(stage, fresh).ended, 1u);
}

CohortPolicy all_away() {
    CohortPolicy away = for_all("");
    away.text += "away";
    away.move_to = "wss://b.example:9000";
    away.move_over = 0;
    return away;
}

TEST(Cohort, OfAnonymousConnectionsIsSentAwayBehindTheWelcome) {
    ReactorStage stage(plan());
    set_policies(stage, {all_away()});
    const size_t lines = stage.connect(kLines), binary = stage.connect(kBinary);
    const std::string heard = answer(stage, lines, "{\"type\":\"hello\"}\n");
    EXPECT_TRUE(heard.starts_with("{\"type\":\"welcome\"")) << heard;
    EXPECT_NE(heard.find(R"("reason":"moved")"), std::string::npos) << heard;
    EXPECT_TRUE(is_here(stage, lines));
    const std::string frames = answer(stage, binary, binary_frame(kBinaryHello, 7, "{}"));
    EXPECT_EQ(frames.substr(0, 2), "\xB7\x04");
    EXPECT_NE(frames.find("moved: wss://b.example:9000"), std::string::npos);
    EXPECT_TRUE(stage.ended(binary));
}

// Each that is told so has another entry in the wheel.
TEST(Cohort, OfManyAnonymousConnectionsIsSentAwayInSlices) {
    constexpr uint32_t kMany = 300;
    StagePlan with = plan();
    with.places = 400;
    ReactorStage stage(with);
    set_policies(stage, {for_all("")});
    for (uint32_t i = 0; i < kMany; ++i) answer(stage, stage.connect(kLines), "PING\n");
    stage.settle(12 * kSecond);  // the looks of their handshakes are over
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, kMany);
    post_policies(stage, {all_away()});
    const auto& wheel = stage.reactor().connections().wheel();
    uint64_t most = 0;
    for (int turn = 0; turn < 50; ++turn) {
        const uint64_t before = wheel.entries();
        stage.reactor().turn(stage.network().clock() + kMillisecond);
        most = std::max(most, std::max(before, wheel.entries()) - before);
    }
    stage.settle();
    EXPECT_EQ(moved_of(stage), kMany);
    EXPECT_GT(most, 0u);
    EXPECT_LE(most, kSweepBudgetPerTurn / kEvictCost + 1);
}

// As a user it has the user's cohort, and what it had asked for as an anonymous one.
TEST(Cohort, OfAnAnonymousConnectionEndsWithItsLogin) {
    ReactorStage stage(plan());
    set_policies(stage, {canary("powersave"), for_all("mobile")});
    const size_t peer = stage.connect(kLines), other = stage.connect(kLines);
    answer(stage, peer, "{\"type\":\"hello\",\"profile\":\"realtime\"}\n");
    answer(stage, other, "PING\n");
    EXPECT_EQ(counts_of(stage, kRestCohort + 2).sessions, 2u);
    EXPECT_NE(answer(stage, peer, hello_of("u1", "", kCanary)).find(R"("interval_ms":300000)"),
              std::string::npos);
    EXPECT_EQ(counts_of(stage, kRestCohort + 2).sessions, 1u);
    EXPECT_EQ(counts_of(stage, kRestCohort + 2).ended, 0u);
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, 1u);
    set_policies(stage, {});
    EXPECT_EQ(take(stage, peer),
              "{\"type\":\"interval\",\"interval_ms\":15000,\"timeout_ms\":45000}\n");
    EXPECT_EQ(take(stage, other), kStandardInterval);
}

// A policy that wants what a connection has already is not worth a message.
TEST(Cohort, IsNotToldWhatItKnows) {
    ReactorStage stage(plan());
    const size_t in = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "", kCanary));
    set_policies(stage, {canary("standard")});
    EXPECT_EQ(take(stage, in), "");
    EXPECT_EQ(counts_of(stage, kRestCohort + 1).sessions, 1u);
}

// A login that is refused leaves the session with what its cohort has, and a peer that knows it.
TEST(Cohort, StaysWithASecondHelloThatIsRefused) {
    ReactorStage stage([] {
        StagePlan rejecting = plan();
        rejecting.options.duplicate.rule = DuplicateRule::reject;
        return rejecting;
    }());
    set_policies(stage, {canary("mobile")});
    const size_t in = stage.connect(kLines), desk = stage.connect(kLines);
    answer(stage, in, hello_of("u1", "phone", kCanary));
    answer(stage, desk, hello_of("u1", "desk", kCanary));
    const std::string heard = answer(stage, in, hello_of("u1", "desk", kCanary));
    EXPECT_NE(heard.find("duplicate"), std::string::npos);
    EXPECT_TRUE(heard.ends_with(kMobileInterval)) << heard;
}

// By the time that sessions lasted, whatever their number.
TEST(Cohort, CountsTheTimeOfItsSessions) {
    ReactorStage stage(plan());
    set_policies(stage, {canary("powersave")});
    const size_t first = stage.connect(kLines), second = stage.connect(kLines);
    answer(stage, first, hello_of("u1", "", kCanary));
    stage.settle(10 * kSecond);
    answer(stage, second, hello_of("u2", "", kCanary));
    stage.settle(10 * kSecond);
    stage.close(first, false);
    stage.settle(10 * kSecond);
    const uint64_t together_ms = counts_of(stage, kRestCohort + 1).session_ms;
    EXPECT_NEAR(static_cast<double>(together_ms), 40'000, 1'000);
    EXPECT_EQ(counts_of(stage, kRestCohort).session_ms, 0u);
}

TEST(Cohort, DrainsInItsOrder) {
    StagePlan with = plan();
    with.options.drain_timeout = 4 * kSecond;
    ReactorStage stage(with);
    CohortPolicy last = canary(""), first = canary("");
    last.drains = CohortPolicy::Drains::last;
    first.drains = CohortPolicy::Drains::first;
    first.labels = {"ring=beta"};
    first.text = "another";
    set_policies(stage, {last, first});
    std::vector<size_t> peers;
    for (int i = 0; i < 15; ++i) {
        peers.push_back(stage.connect(kLines));
        const std::string_view labels = i % 3 == 0   ? kCanary
                                        : i % 3 == 1 ? R"(,"labels":{"ring":"beta"})"
                                                     : "";
        answer(stage, peers.back(), hello_of("u" + std::to_string(i), "", labels));
    }
    stage.post({.body = Message::Drain{}});
    std::vector<size_t> order;
    for (int step = 0; step < 200; ++step) {
        stage.settle(20 * kMillisecond);
        for (size_t i = 0; i < peers.size(); ++i) {
            if (std::ranges::count(order, i) > 0 || !stage.ended(peers[i])) continue;
            order.push_back(i);
            stage.close(peers[i], false);
        }
    }
    ASSERT_EQ(order.size(), peers.size());
    constexpr size_t kPlaces[] = {2, 0, 1};  // of those with the label, of beta, of the rest
    for (size_t i = 0; i < order.size(); ++i) EXPECT_EQ(kPlaces[order[i] % 3], i / 5) << i;
}

}  // namespace
}  // namespace pulse::test
