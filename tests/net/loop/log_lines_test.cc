// What a reactor logs of its peers: their ends at debug level, and above it what an operator needs.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/units.h"

#include "tests/net/loop/reactor_stage.h"

namespace pulse::test {
namespace {

using std::string_literals::operator""s;
using std::string_view_literals::operator""sv;

StagePlan plan(std::string listen, bool debug) {
    StagePlan plan{.listen = {std::move(listen)}, .keeps_debug_lines = debug};
    plan.options.heartbeat_interval = 600 * kSecond;
    plan.options.heartbeat_timeout = 1'800 * kSecond;
    return plan;
}

void leave(ReactorStage& stage, size_t peer) {
    stage.finish(peer);
    stage.settle(100 * kMillisecond);
    stage.close(peer, false);
    stage.settle(3 * kSecond);
}

// ------------------------------------------------------------------------------- the close line
TEST(CloseLine, HasReasonDurationAndBytes) {
    ReactorStage stage(plan("jsonl://10.0.0.1:9000", true));
    const size_t peer = stage.connect(0);
    stage.settle();
    stage.write(peer, "PING\n");
    stage.settle(90 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle(10 * kSecond);
    EXPECT_EQ(stage.heard(peer), "PONG\nPONG\n");
    leave(stage, peer);
    const std::string& line = stage.debug_lines().back();
    const std::string begin =
        "r0-000000-0 closed: peer_closed after 100.0 s: the peer ended the stream without a "
        "goodbye. Its host had sent 10 bytes (the last 9.999 s before) and acknowledged 10, ";
    EXPECT_TRUE(line.starts_with(begin)) << line;
    EXPECT_TRUE(line.ends_with(" ms. No goodbye was due, and both ends closed in order.")) << line;
}

TEST(CloseLine, EndsWithItsReasonForAConnectionFromBeforeTheDebugLog) {
    ReactorStage stage(plan("jsonl://10.0.0.1:9000", true));
    stage.reload([](LoopOptions& o) { o.log_level = LogLevel::info; });
    stage.settle();
    const size_t before = stage.connect(0);
    stage.settle();
    EXPECT_TRUE(stage.debug_lines().empty());
    stage.reload([](LoopOptions& o) { o.log_level = LogLevel::debug; });
    stage.settle();
    const size_t after = stage.connect(0);
    stage.write(after, "PING\n");
    stage.write(before, "PING\n");
    stage.settle();
    leave(stage, before);
    // When it was accepted is known without the log, too.
    const std::string begin = "r0-000000-0 closed: peer_closed after 0.0";
    EXPECT_TRUE(stage.debug_lines().back().starts_with(begin)) << stage.debug_lines().back();
    leave(stage, after);
    EXPECT_NE(stage.debug_lines().back().find(" closed: peer_closed after 3."), std::string::npos);
}

// A place that is used again begins at nothing, also after the log was off between.
TEST(CloseLine, BeginsAtNothingForTheNextOwnerOfAPlace) {
    ReactorStage stage(plan("jsonl://10.0.0.1:9000", true));
    for (const bool off_between : {false, true, false}) {
        if (off_between) {
            stage.reload([](LoopOptions& o) { o.log_level = LogLevel::info; });
            stage.reload([](LoopOptions& o) { o.log_level = LogLevel::debug; });
            stage.settle();
        }
        const size_t peer = stage.connect(0);
        stage.write(peer, "PING\n");
        stage.settle(kSecond + kSecond / 2);
        leave(stage, peer);
        const std::string& line = stage.debug_lines().back();
        EXPECT_NE(line.find(" after 1."), std::string::npos) << line;
        EXPECT_NE(line.find(" had sent 5 bytes "), std::string::npos) << line;
        EXPECT_NE(line.find(" and acknowledged 5, "), std::string::npos) << line;
    }
}

// ----------------------------------------------------------------------------------- the events
StagePlan logging(std::string listen, uint32_t millionths) {
    StagePlan logged = plan(std::move(listen), false);
    logged.options.log_connections = millionths;
    return logged;
}

std::string fact(const LogEvent& event, std::string_view name) {
    const auto found = std::ranges::find(event.facts, name, &LogEvent::Fact::name);
    return found == event.facts.end() ? "-" : found->value;
}

// Names of the connections that have such an event.
std::multiset<std::string> named_by(const ReactorStage& stage, std::string_view kind) {
    std::multiset<std::string> names;
    for (const LogEvent& event : stage.events())
        if (fact(event, "event") == kind) names.insert(fact(event, "connection"));
    return names;
}

TEST(ConnectionEvents, LeaveOutWhatTheLedgerHasForgotten) {
    StagePlan with = logging("jsonl://10.0.0.1:9000", kRatioWhole);
    with.places = 2'048;
    ReactorStage stage(with);
    constexpr int kMany = kLedgerEntriesForLog + 100;
    for (int peer = 0; peer < kMany; ++peer) stage.connect(0);
    stage.settle(1'900 * kSecond);
    int closes = 0, with_peer = 0;
    for (const LogEvent& event : stage.events()) {
        if (fact(event, "event") != "close") continue;
        ++closes;
        for (const LogEvent::Fact& each : event.facts) {
            EXPECT_NE(each.value, "") << each.name;
            with_peer += each.name == "peer"sv;
        }
    }
    EXPECT_EQ(closes, kMany);
    EXPECT_LT(with_peer, kMany);
}

TEST(ConnectionEvents, AreTheAcceptTheOpeningAndTheCloseWithItsCause) {
    ReactorStage stage(logging("auto://10.0.0.1:9000", kRatioWhole));
    const size_t peer = stage.connect(0);
    stage.settle(2 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle();
    leave(stage, peer);
    ASSERT_EQ(stage.events().size(), 3u);
    const LogEvent &accept = stage.events()[0], &open = stage.events()[1];
    const LogEvent& close = stage.events()[2];
    for (const LogEvent& event : stage.events()) {
        EXPECT_EQ(fact(event, "connection"), "r0-000000-0");
        EXPECT_TRUE(event.words.starts_with("r0-000000-0 ")) << event.words;
        EXPECT_EQ(fact(event, "listener"), "auto://10.0.0.1:9000");
        EXPECT_EQ(fact(event, "peer"), fact(accept, "peer"));
    }
    EXPECT_EQ(fact(accept, "event"), "accept");
    EXPECT_EQ(accept.words,
              "r0-000000-0 accepted from " + fact(accept, "peer") + " on auto://10.0.0.1:9000");
    EXPECT_EQ(fact(open, "event"), "open");
    EXPECT_EQ(open.words, "r0-000000-0 opened: JSON lines");
    EXPECT_EQ(fact(open, "protocol"), "jsonl");
    EXPECT_EQ(fact(close, "event"), "close");
    EXPECT_EQ(fact(close, "protocol"), "jsonl");
    EXPECT_EQ(fact(close, "reason"), "peer_closed");
    EXPECT_EQ(fact(close, "received_bytes"), "5");
    EXPECT_EQ(fact(close, "duration_s").substr(0, 2), "2.");
    EXPECT_TRUE(close.words.starts_with("r0-000000-0 closed: peer_closed after 2.")) << close.words;
}

// Places are used again, by owners whose names differ.
TEST(ConnectionEvents, OfAShareAreThereForTheWholeLifeOfAConnectionOrNotAtAll) {
    ReactorStage stage(logging("jsonl://10.0.0.1:9000", kRatioWhole / 4));
    constexpr int kConnections = 400;
    for (int round = 0; round < kConnections / 20; ++round) {
        std::vector<size_t> peers;
        for (int i = 0; i < 20; ++i) {
            peers.push_back(stage.connect(0));
            stage.write(peers.back(), "PING\n");
        }
        stage.settle();
        for (const size_t peer : peers) stage.close(peer, true);
        stage.settle();
    }
    const std::multiset<std::string> accepted = named_by(stage, "accept");
    EXPECT_EQ(std::set(accepted.begin(), accepted.end()).size(), accepted.size());
    EXPECT_EQ(named_by(stage, "open"), accepted);
    EXPECT_EQ(named_by(stage, "close"), accepted);
    EXPECT_EQ(stage.events().size(), 3 * accepted.size());
    // A hundred of four hundred names; more than eight deviations off is no sample.
    EXPECT_GT(accepted.size(), 30u);
    EXPECT_LT(accepted.size(), 170u);
}

TEST(ConnectionEvents, FollowAReloadAndTheLevel) {
    ReactorStage stage(logging("jsonl://10.0.0.1:9000", 0));
    const auto events_of_one = [&stage] {
        const size_t before = stage.events().size();
        const size_t peer = stage.connect(0);
        stage.write(peer, "PING\n");
        stage.settle();
        leave(stage, peer);
        return stage.events().size() - before;
    };
    EXPECT_EQ(events_of_one(), 0u);
    stage.reload([](LoopOptions& o) { o.log_connections = kRatioWhole; });
    EXPECT_EQ(events_of_one(), 3u);
    stage.reload([](LoopOptions& o) { o.log_level = LogLevel::warning; });
    EXPECT_EQ(events_of_one(), 0u);
    stage.reload([](LoopOptions& o) { o.log_level = LogLevel::info; });
    EXPECT_EQ(events_of_one(), 3u);
    stage.reload([](LoopOptions& o) { o.log_connections = 0; });
    EXPECT_EQ(events_of_one(), 0u);
}

TEST(ConnectionEvents, NameWhoWasRefusedAndWhy) {
    StagePlan refusing = logging("jsonl://10.0.0.1:9000", kRatioWhole);
    refusing.options.max_connections_per_address = 1;
    ReactorStage stage(refusing);
    stage.connect(0);
    stage.settle();
    stage.connect(0);
    stage.settle();
    const LogEvent& last = stage.events().back();
    EXPECT_EQ(fact(last, "event"), "refuse");
    EXPECT_EQ(fact(last, "reason"), "address_full");
    EXPECT_EQ(fact(last, "connection"), "-") << "it has no name";
    EXPECT_EQ(last.words,
              fact(last, "peer") + " refused on jsonl://10.0.0.1:9000: " + fact(last, "reason"));
}

// ------------------------------------------------------------------------------ other protocols
TEST(ForeignProtocols, AreNamedOutsideTheDebugLog) {
    const std::pair<std::string, std::string> peers[] = {
        {"\x10\x0f\0\4MQTT\4\2\0\x3c\0\3abc"s, "1 MQTT"},
        {"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"s, "1 TLS"},
        {"SSH-2.0-OpenSSH_9.2\r\n", "1 SSH"},
        {"*1\r\n$4\r\nPING\r\n", "1 Redis"},
        {"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "1 a PROXY header"},
    };
    for (const char* scheme : {"auto", "ws", "jsonl", "tcp"}) {
        for (const auto& [bytes, name] : peers) {
            ReactorStage stage(plan(scheme + "://10.0.0.1:9000"s, false));
            stage.write(stage.connect(0), bytes);
            stage.settle();
            ASSERT_EQ(stage.warnings().size(), 1u) << scheme << " " << name;
            EXPECT_EQ(stage.warnings()[0],
                      "reactor 0: 1 connections began with a protocol that their listener does not "
                      "speak since the last such line (" +
                          name + "; the first was r0-000000-0 on " + scheme +
                          "://10.0.0.1:9000); point these clients to another port");
        }
    }
}

TEST(ForeignProtocols, OfAStormAreCountedInFewLines) {
    ReactorStage stage(plan("tcp://10.0.0.1:9000", false));
    for (int second = 0; second < 30; ++second) {
        for (int i = 0; i < 10; ++i) {
            const size_t peer = stage.connect(0);
            stage.write(peer, i < 7 ? "GET / HTTP/1.1\r\n\r\n" : "SSH-2.0-x\r\n");
            stage.settle();
            stage.close(peer, true);
        }
        stage.settle(kSecond - 50 * kMillisecond);
    }
    stage.settle(20 * kSecond);
    ASSERT_GE(stage.warnings().size(), 3u);
    ASSERT_LE(stage.warnings().size(), 5u);
    uint64_t told = 0;
    for (const std::string& line : stage.warnings())
        told += std::stoull(line.substr(line.find(": ") + 2));
    EXPECT_EQ(told, 300u) << "none is left out, also after the last";
    EXPECT_NE(stage.warnings()[0].find(" 1 connections "), std::string::npos) << "at once";
    EXPECT_NE(stage.warnings()[1].find("69 HTTP, 30 SSH; the first was r0-000001-0 on tcp://"),
              std::string::npos)
        << stage.warnings()[1];
}

TEST(ForeignProtocols, WhatIsSpokenOrUnknownIsNotLogged) {
    ReactorStage stage(plan("auto://10.0.0.1:9000", false));
    for (const char* bytes : {"PING\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "zzzzzzzzzzzzzzzz"})
        stage.write(stage.connect(0), bytes);
    stage.settle(20 * kSecond);
    EXPECT_EQ(stage.warnings(), std::vector<std::string>{});
}

}  // namespace
}  // namespace pulse::test
