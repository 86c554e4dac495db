// How conversations end: who is answered with what, and what counts once the end was announced. The
// whole loop, over the simulated kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

constexpr size_t kAuto = 0, kBinary = 1, kLines = 2;

StagePlan plan() {
    StagePlan plan{
        .listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.on_message = OnMessage::echo;
    return plan;
}

size_t upgraded(ReactorStage& stage, std::string_view subprotocol = {}) {
    const size_t peer = stage.connect(kAuto);
    EXPECT_TRUE(answer(stage, peer, upgrade_request(subprotocol)).starts_with("HTTP/1.1 101 "));
    return peer;
}

// ------------------------------------------------------------------------------- the longest life
StagePlan plan_with_lifetime(Nanos most, uint32_t jitter_percent) {
    StagePlan with = plan();
    with.places = 400;
    with.options.ledger = 0;
    with.options.max_lifetime = most;
    with.options.max_lifetime_jitter = jitter_percent;
    return with;
}

TEST(MaxLifetime, EndsThatOfAPeerThatBeats) {
    ReactorStage stage(plan_with_lifetime(10 * kSecond, 0));
    const size_t peer = stage.connect(kLines);
    for (int second = 0; second < 9; ++second) {
        stage.write(peer, "PING\n");
        stage.settle(kSecond);
    }
    EXPECT_FALSE(stage.ended(peer));
    stage.settle(2 * kSecond);
    const std::string goodbye = stage.heard(peer);
    EXPECT_NE(goodbye.find(R"("code":4012,"reason":"max_lifetime","retry_after_ms":1)"),
              goodbye.npos)
        << goodbye;
    EXPECT_TRUE(stage.ended(peer));
    stage.finish(peer);
    stage.settle();
    EXPECT_EQ(closed_for(stage, CloseReason::max_lifetime), 1u);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
}

// The first look at a silent one would come with its first probe, much later.
TEST(MaxLifetime, IsShorterThanAnInterval) {
    StagePlan with = plan_with_lifetime(2 * kSecond, 50);
    with.options.heartbeat_interval = with.options.heartbeat_timeout = 600 * kSecond;
    ReactorStage stage(with);
    std::vector<size_t> peers;
    for (int i = 0; i < 100; ++i) peers.push_back(stage.connect(kLines));
    const auto left_after = [&](Nanos span) {
        stage.settle(span);
        return std::ranges::count_if(peers, [&](size_t peer) { return stage.ended(peer); });
    };
    EXPECT_EQ(left_after(900 * kMillisecond), 0) << "half of it is without jitter";
    EXPECT_NEAR(static_cast<double>(left_after(600 * kMillisecond)), 50, 12) << "evenly";
    EXPECT_EQ(left_after(600 * kMillisecond), 100) << "most is the most";
}

TEST(MaxLifetime, IsAlsoOfThoseThatCameBeforeItWasAskedFor) {
    ReactorStage stage(plan_with_lifetime(0, 0));
    const size_t peer = stage.connect(kLines);
    stage.settle(5 * kSecond);
    ASSERT_TRUE(stage.reload([](LoopOptions& options) { options.max_lifetime = 4 * kSecond; }));
    stage.settle(31 * kSecond);  // at the next look at it: an interval at most
    EXPECT_TRUE(stage.ended(peer));
    EXPECT_NE(stage.heard(peer).find("max_lifetime"), std::string::npos);
}

// ------------------------------------------------------------------------------------ idle clocks
constexpr size_t kRead = 0, kWrite = 1, kBoth = 2;

// Heartbeats of 4 s and a minute.
StagePlan plan_with_clock(size_t clock, IdleRule rule) {
    StagePlan with = plan();
    with.options.on_message = OnMessage::discard;
    with.options.heartbeat_interval = 4 * kSecond;
    with.options.heartbeat_timeout = 60 * kSecond;
    with.options.idle[clock] = rule;
    with.options.log_connections = 1'000'000;
    with.ledger_entries = 10;
    return with;
}
StagePlan without_probes(StagePlan with) {
    with.options.heartbeat_probe = false;
    return with;
}

size_t beginning(ReactorStage& stage) {
    const size_t peer = stage.connect(kLines);
    EXPECT_EQ(answer(stage, peer, "PING\n"), "PONG\n");
    return peer;
}
// Says `words` each `pause` for so long, but for what the last pause has of it.
void repeat(ReactorStage& stage, size_t peer, std::string_view words, Nanos pause, Nanos span) {
    for (Nanos said = 0; said < span; said += pause) {
        stage.settle(pause);
        stage.write(peer, words);
    }
    stage.settle();
}
// Answers each probe for so long.
void keep_answering(ReactorStage& stage, size_t peer, Nanos span) {
    for (Nanos left = span; left > 0; left -= kSecond / 10) {
        stage.settle(kSecond / 10);
        if (std::exchange(stage.heard(peer), {}).find("ping") != std::string::npos)
            stage.write(peer, "{\"type\":\"pong\"}\n");
    }
}
std::vector<std::string> idle_events(const ReactorStage& stage) {
    std::vector<std::string> words;
    for (const LogEvent& event : stage.events())
        if (event.words.find(" idle: ") != std::string::npos) words.push_back(event.words);
    return words;
}

TEST(IdleClocks, AreCountedAndLoggedAsOftenAsTheyAreOver) {
    ReactorStage stage(plan_with_clock(kRead, {10 * kSecond, IdleAction::event}));
    const size_t peer = beginning(stage);
    stage.settle(25 * kSecond);
    stage.write(peer, "PING\n");
    stage.settle(15 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::idle_read], 3u);
    EXPECT_EQ(stage.metrics()[Metric::idle_write] + stage.metrics()[Metric::idle_probes], 0u);
    const std::vector<std::string> expected = {
        "r0-000000-0 idle: nothing was read from it for 10.0 s (--idle-read, event)",
        "r0-000000-0 idle: nothing was read from it for 20.0 s, again (--idle-read, event)",
        "r0-000000-0 idle: nothing was read from it for 10.0 s (--idle-read, event)"};
    EXPECT_EQ(idle_events(stage), expected);
    EXPECT_NE(stage.record(peer), nullptr);
    stage.reactor().connections().validate();
}

TEST(IdleClocks, ProbeWithoutTheHeartbeats) {
    ReactorStage stage(without_probes(plan_with_clock(kWrite, {10 * kSecond, IdleAction::probe})));
    const size_t peer = beginning(stage);
    stage.heard(peer).clear();
    stage.settle(21 * kSecond);
    const std::string heard = stage.heard(peer);
    EXPECT_EQ(std::ranges::count(heard, '\n'), 2) << heard;
    EXPECT_NE(heard.find("ping"), std::string::npos);
    EXPECT_EQ(stage.metrics()[Metric::idle_probes], 2u);
    EXPECT_EQ(stage.metrics()[Metric::probes_sent], 0u);
}

// Of the three clocks by what is done meanwhile: which close.
TEST(IdleClocks, CloseWhatIsIdle) {
    using Life = void (*)(ReactorStage&, size_t);
    const Life silence = [](ReactorStage& stage, size_t) { stage.settle(30 * kSecond); };
    const Life data = [](ReactorStage& stage, size_t peer) {
        repeat(stage, peer, "{\"type\":\"data\"}\n", kSecond, 30 * kSecond);
    };
    const Life pings = [](ReactorStage& stage, size_t peer) {
        repeat(stage, peer, "PING\n", 4 * kSecond, 30 * kSecond);
    };
    const Life pieces = [](ReactorStage& stage, size_t peer) {
        repeat(stage, peer, "{", kSecond, 30 * kSecond);
    };
    const struct {
        Life life;
        std::array<bool, kIdleClocks> closes;
    } rows[] = {{silence, {true, true, true}},
                {data, {false, true, false}},
                {pings, {false, false, false}},
                {pieces, {false, true, false}}};
    constexpr CloseReason kReasons[] = {CloseReason::idle_read, CloseReason::idle_write,
                                        CloseReason::idle_both};
    for (const auto& row : rows) {
        for (size_t clock = 0; clock < kIdleClocks; ++clock) {
            ReactorStage stage(
                without_probes(plan_with_clock(clock, {10 * kSecond, IdleAction::close})));
            const size_t peer = beginning(stage);
            row.life(stage, peer);
            const size_t at = static_cast<size_t>(&row - rows);
            EXPECT_EQ(closed_for(stage, kReasons[clock]), row.closes[clock]) << at << clock;
            EXPECT_EQ(stage.record(peer) == nullptr, row.closes[clock]) << at << clock;
            EXPECT_EQ(stage.heard(peer).find("\"code\":4013") != std::string::npos,
                      row.closes[clock]);
        }
    }
}

TEST(IdleClocks, CloseToTheTickAndSayWhy) {
    ReactorStage stage(plan_with_clock(kRead, {10 * kSecond, IdleAction::close}));
    const size_t peer = beginning(stage);
    const ConnectionId id = stage.table().id(*stage.index(peer));
    const auto told = [&] {
        const Connections& connections = stage.reactor().connections();
        return connections.explain(connections.evidence(id.index));
    };
    stage.settle(3 * kSecond);
    EXPECT_NE(told().find("If nothing is read from it it is closed as idle_read in 7.0"),
              std::string::npos)
        << told();
    stage.settle(6'980 * kMillisecond);
    EXPECT_FALSE(stage.ended(peer)) << "it has been silent for less";
    stage.settle(40 * kMillisecond);
    EXPECT_TRUE(stage.ended(peer));
    const std::string why = told();
    EXPECT_NE(why.find("idle_read after 10.0 s: nothing was read from it for 10.0 s, and "
                       "--idle-read is 10s."),
              std::string::npos)
        << why;
    EXPECT_NE(stage.heard(peer).find(R"("code":4013,"reason":"idle_read"})"), std::string::npos);
}

// Each peer as it was told to live, with clocks that are shorter than that.
TEST(IdleClocks, CloseNoneThatBeatsAsItIsToldOrAnswers) {
    for (const size_t clock : {kRead, kBoth}) {
        StagePlan with = plan_with_clock(clock, {2 * kSecond, IdleAction::close});
        ReactorStage answering(with);
        const size_t one = beginning(answering);
        keep_answering(answering, one, 30 * kSecond);
        EXPECT_NE(answering.record(one), nullptr);
        // Probes go out each 4.5 s; the close waits for a quarter of an interval behind them.
        answering.settle(6 * kSecond);
        EXPECT_EQ(answering.record(one) == nullptr, clock == kRead) << "its probe was a write";

        ReactorStage beating(without_probes(with));
        const size_t other = beginning(beating);
        repeat(beating, other, "PING\n", 4 * kSecond, 30 * kSecond);
        EXPECT_NE(beating.record(other), nullptr);
    }
}

// This server was away for longer than the clocks: what came meanwhile counts, and what could not
// be asked or sent.
TEST(IdleClocks, CloseNoneForWhatThisServerDidNotDo) {
    for (size_t clock = 0; clock < kIdleClocks; ++clock) {
        for (const Nanos into : {kSecond, 3 * kSecond, 4'400 * kMillisecond}) {
            const StagePlan with = plan_with_clock(clock, {10 * kSecond, IdleAction::close});
            ReactorStage stage(with);
            const size_t beats = beginning(stage), answers = beginning(stage);
            stage.settle(into);
            stage.write(beats, "PING\n");
            stage.io().pass_time(20 * kSecond);
            keep_answering(stage, answers, 3 * kSecond);
            EXPECT_NE(stage.record(beats), nullptr) << clock << " " << into;
            EXPECT_NE(stage.record(answers), nullptr) << clock << " " << into;
        }
    }
}

// A peer on a slow link takes an answer for longer than any clock runs.
TEST(IdleClocks, CloseNoneThatTakesWhatItIsSent) {
    for (size_t clock = 0; clock < kIdleClocks; ++clock) {
        for (const bool observes : {false, true}) {
            StagePlan with = plan_with_clock(clock, {6 * kSecond, IdleAction::close});
            with.faults.socket_buffer_bytes = 8 * 1'024;
            with.options.on_message = OnMessage::echo;
            with.options.idle_observe_output = observes;
            ReactorStage stage(with);
            const size_t peer = beginning(stage);
            stage.set_reading(peer, false);
            stage.write(peer, "{\"type\":\"data\",\"x\":\"" + std::string(100'000, 'd') + "\"}\n");
            for (int second = 0; second < 30; ++second) {
                if (second % 3 == 0) {
                    stage.set_reading(peer, true);
                    stage.set_reading(peer, false);
                }
                stage.settle(kSecond);
            }
            EXPECT_NE(stage.record(peer), nullptr) << clock << observes;
        }
    }
}

TEST(IdleClocks, ObserveOutputOrWritesThatAreComplete) {
    for (const bool observes : {false, true}) {
        StagePlan with = plan_with_clock(kWrite, {6 * kSecond, IdleAction::event});
        with.faults.socket_buffer_bytes = 8 * 1'024;
        with.options.on_message = OnMessage::echo;
        with.options.idle_observe_output = observes;
        ReactorStage stage(with);
        const size_t peer = beginning(stage);
        stage.set_reading(peer, false);
        stage.write(peer, "{\"type\":\"data\",\"x\":\"" + std::string(200'000, 'd') + "\"}\n");
        for (int second = 0; second < 20; ++second) {
            stage.set_reading(peer, true);
            stage.set_reading(peer, false);
            stage.settle(kSecond);
        }
        EXPECT_EQ(stage.metrics()[Metric::idle_write], observes ? 0u : 3u);
        stage.settle(10 * kSecond);
        EXPECT_GT(stage.metrics()[Metric::idle_write], observes ? 0u : 3u) << "it takes no more";
    }
}

TEST(IdleClocks, FollowAReload) {
    ReactorStage stage(plan_with_clock(kRead, {}));
    const size_t peer = beginning(stage);
    stage.settle(5 * kSecond);
    stage.reload([](LoopOptions& o) { o.idle[kRead] = {10 * kSecond, IdleAction::event}; });
    stage.settle(16 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::idle_read], 1u) << "from the next look on";
    const size_t later = beginning(stage);
    stage.reload([](LoopOptions& o) { o.idle[kRead] = {}; });
    stage.settle(20 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::idle_read], 1u);
    EXPECT_EQ(stage.record(later)->clocked + stage.record(peer)->clocked, 0);
}

TEST(IdleClocks, AreNotOfGreetingsEndsAndDrains) {
    ReactorStage stage(plan_with_clock(kRead, {kSecond, IdleAction::event}));
    const size_t greets = stage.connect(kAuto);
    stage.write(greets, "GET /");
    stage.settle(5 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::idle_read], 0u);
    const size_t peer = beginning(stage);
    ASSERT_TRUE(stage.post({.body = Message::Drain{}}));
    stage.settle(9 * kSecond);
    EXPECT_EQ(stage.metrics()[Metric::idle_read], 0u);
    EXPECT_TRUE(stage.ended(peer));
}

// The wheel has one entry of each, whatever runs for it.
TEST(IdleClocks, TakeNoEntryOfTheWheel) {
    StagePlan with = plan_with_clock(kRead, {7 * kSecond, IdleAction::event});
    with.options.idle[kWrite] = {11 * kSecond, IdleAction::probe};
    with.options.idle[kBoth] = {50 * kSecond, IdleAction::close};
    ReactorStage stage(with);
    const size_t peer = beginning(stage);
    for (int second = 0; second < 40; ++second) {
        stage.settle(kSecond);
        if (second % 5 == 0) stage.write(peer, "PING\n");
        EXPECT_LE(stage.reactor().connections().wheel().entries(), 3u) << "stale ones included";
        stage.reactor().connections().validate();
    }
    EXPECT_EQ(stage.stats().gauges.heartbeats_bytes % sizeof(IdleState), 0u);
    EXPECT_GE(stage.stats().gauges.heartbeats_bytes, sizeof(IdleState));
}

// ---------------------------------------------------------------------------- the peer's goodbyes
TEST(Goodbye, InAWebSocketMessageIsAnsweredWithACloseFrameWhateverItsFormat) {
    const struct {
        std::string_view subprotocol;
        std::string message;
    } rows[] = {
        {"", masked(0x81, R"({"type":"goodbye","code":1000})")},
        {"pulse.v1.json", masked(0x81, R"({"type":"goodbye"})")},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryGoodbye, 0, "\x03\xE8"))},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryGoodbye, 0, "\x0F\xA3 text"))},
        {"pulse.v1.binary", masked(0x82, binary_frame(kBinaryPing, 3, "x") +
                                             binary_frame(kBinaryGoodbye, 0, "\x03\xE8"))},
    };
    for (const auto& row : rows) {
        ReactorStage stage(plan());
        const size_t peer = upgraded(stage, row.subprotocol);
        const std::string heard = answer(stage, peer, row.message);
        EXPECT_TRUE(heard.ends_with(plain(0x88, "\x03\xE8"))) << testing::PrintToString(heard);
        EXPECT_TRUE(stage.ended(peer)) << "our FIN follows";
        stage.finish(peer);
        stage.settle();
        EXPECT_EQ(closed_for(stage, CloseReason::peer_goodbye), 1u);
        EXPECT_FALSE(stage.was_reset(peer));
    }
}

// Completions are late; a peer is kicked, and this thread is away for longer than the linger.
void expect_goodbye_after_a_stall(StagePlan slow, Nanos completion_max, Nanos settles) {
    slow.faults.present.set(static_cast<size_t>(Fault::late_completion));
    slow.faults.per_million[static_cast<size_t>(Fault::late_completion)] = 1'000'000;
    slow.faults.completion_max = completion_max;
    ReactorStage stage(slow);
    const size_t peer = stage.connect(kLines);
    stage.settle(kSecond);
    stage.write(peer, "{\"type\":\"ping\"}\n");
    while (stage.heard(peer).empty()) stage.settle(kMillisecond / 10);
    const ConnectionId target = stage.table().id(*stage.index(peer));
    ASSERT_TRUE(stage.post({Message::Kick{.target = target}}));
    stage.settle(kMillisecond);
    stage.io().pass_time(2 * kCloseLingerNs);
    stage.settle(settles);
    EXPECT_NE(stage.heard(peer).find("kicked"), std::string::npos) << slow.seed;
}

// It waits behind a send that the kernel has not completed, while this thread is away for longer
// than the linger: the completion and the end of the linger are found in one turn, or in the next
// where not all that had arrived was read in one.
TEST(Goodbye, IsSentAfterAStallLongerThanTheLinger) {
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        StagePlan slow = plan();
        slow.seed = seed;
        slow.faults.coarse_drain = seed % 2 == 0;
        slow.faults.submit_in_poll = true;
        if (slow.faults.coarse_drain) slow.faults.batch_max = 1;
        expect_goodbye_after_a_stall(slow, 400 * kMillisecond, kSecond);
    }
}

// It waits behind a send whose completion is late, and this thread is away for longer than the
// linger: the peer has taken all that it was given, and nothing has told this thread yet.
TEST(Goodbye, IsSentBehindALateCompletionAfterAStall) {
    for (uint64_t seed = 1; seed <= 40; ++seed) {
        StagePlan slow = plan();
        slow.seed = seed;
        slow.faults.submit_in_poll = seed % 2 == 0;
        expect_goodbye_after_a_stall(slow, 5 * kSecond / 2, 2 * kSecond);
    }
}

// A thread that is late again and again does not keep for ever what a peer does not read.
TEST(Goodbye, OfAPeerThatDoesNotReadIsGivenUpAlsoByAThreadThatIsAway) {
    StagePlan narrow = plan();
    narrow.faults.socket_buffer_bytes = 256;
    ReactorStage stage(narrow);
    const size_t peer = stage.connect(kBinary);
    stage.set_reading(peer, false);
    stage.write(peer, binary_frame(kBinaryData, 1, std::string(2'000, 'e')));
    stage.settle(kSecond);
    const ConnectionId target = stage.table().id(*stage.index(peer));
    ASSERT_TRUE(stage.post({Message::Kick{.target = target}}));
    for (uint32_t away = 0; away <= kLingersMax; ++away) {
        stage.settle(kMillisecond);
        EXPECT_FALSE(stage.was_reset(peer)) << away;
        stage.io().pass_time(2 * kCloseLingerNs);
    }
    stage.settle(kMillisecond);
    EXPECT_TRUE(stage.was_reset(peer));
}

// What is in flight fills its send queue to the last byte.
TEST(Goodbye, IsSaidToASlowReaderBehindAFullQueue) {
    StagePlan narrow = plan();
    narrow.options.send_queue_bytes = 4'096;
    narrow.faults.socket_buffer_bytes = 256;
    ReactorStage stage(narrow);
    const size_t peer = stage.connect(kBinary);
    stage.set_reading(peer, false);
    stage.write(peer, binary_frame(kBinaryData, 1, std::string(4'096 - 8, 'e')));
    stage.settle();
    stage.write(peer, binary_frame(kBinaryPing, 2, ""));
    stage.settle();
    EXPECT_EQ(stage.heard(peer), "");
    stage.set_reading(peer, true);
    stage.settle(kSecond / 2);
    EXPECT_TRUE(stage.ended(peer));
    const std::string& heard = stage.heard(peer);
    ASSERT_GT(heard.size(), 4'096u + 8) << "a goodbye behind the echo";
    EXPECT_EQ(heard[4'096 + 1], kBinaryGoodbye);
    stage.finish(peer);
    stage.settle();
    EXPECT_EQ(closed_for(stage, CloseReason::slow_reader), 1u);
}

TEST(Goodbye, OfAPlainConnectionIsAnsweredWithFinAlone) {
    const std::pair<size_t, std::string> rows[] = {
        {kBinary, binary_frame(kBinaryGoodbye, 0, "\x03\xE8")},
        {kLines, "{\"type\":\"goodbye\"}\n"}};
    for (const auto& [listener, words] : rows) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(listener);
        EXPECT_EQ(answer(stage, peer, words), "");
        EXPECT_TRUE(stage.ended(peer));
    }
}

TEST(IoErrors, AreOfThePeerOfTheNetworkOrOfTheSystem) {
    EXPECT_EQ(reason_of(ECONNRESET), CloseReason::peer_reset);
    EXPECT_EQ(reason_of(EPIPE), CloseReason::peer_reset);
    EXPECT_EQ(reason_of(ECONNABORTED), CloseReason::peer_reset);
    EXPECT_EQ(reason_of(ETIMEDOUT), CloseReason::network_timeout);
    EXPECT_EQ(reason_of(EHOSTUNREACH), CloseReason::network_unreachable);
    EXPECT_EQ(reason_of(ENETUNREACH), CloseReason::network_unreachable);
    EXPECT_EQ(reason_of(ENOBUFS), CloseReason::io_error);
    EXPECT_EQ(reason_of(ENOMEM), CloseReason::io_error);
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    answer(stage, peer, "PING\n");
    stage.close(peer, true);
    stage.settle();
    EXPECT_EQ(closed_for(stage, CloseReason::peer_reset), 1u);
}

// ------------------------------------------------------------------------------ after our goodbye
TEST(AfterTheEnd, NothingThatComesIsCountedOrAnswered) {
    const struct {
        std::string_view subprotocol;
        size_t listener;
        std::string goodbye, ping;
        uint64_t frames;  // the goodbye, and the message that it is in
    } rows[] = {
        {"", kAuto, text_of(close_frame(1000)), masked(0x89, "x"), 1},
        {"", kAuto, masked(0x81, R"({"type":"goodbye"})"), masked(0x81, "PING"), 1},
        {"pulse.v1.binary", kAuto, masked(0x82, binary_frame(kBinaryGoodbye, 0, "\x03\xE8")),
         masked(0x82, binary_frame(kBinaryPing, 1, "")), 2},
        {"", kBinary, binary_frame(kBinaryGoodbye, 0, "\x03\xE8"), binary_frame(kBinaryPing, 1, ""),
         1},
        {"", kLines, "{\"type\":\"goodbye\"}\n", "PING\n", 1},
    };
    for (const auto& row : rows) {
        ReactorStage stage(plan());
        const size_t peer =
            row.listener == kAuto ? upgraded(stage, row.subprotocol) : stage.connect(row.listener);
        answer(stage, peer, row.goodbye + row.ping + row.ping);  // at once
        const std::string later = answer(stage, peer, row.ping);
        EXPECT_EQ(later, "") << row.goodbye;
        EXPECT_EQ(stage.metrics()[Metric::frames_received], row.frames) << row.goodbye;
        EXPECT_EQ(stage.metrics()[Metric::heartbeats_answered], 0u) << row.goodbye;
    }
    // A goodbye of ours.
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kLines);
    answer(stage, peer, "PING\n");
    const ConnectionId target = stage.table().id(0);
    ASSERT_TRUE(stage.post({Message::Kick{.target = target}}));
    EXPECT_NE(take(stage, peer).find("kicked"), std::string::npos);
    EXPECT_EQ(answer(stage, peer, "PING\nPING\n"), "");
    EXPECT_EQ(stage.metrics()[Metric::frames_received], 1u);
}

TEST(Offences, AreForgivenSevenTimesAndNotOnceMore) {
    for (const size_t listener : {kLines, kBinary}) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(listener);
        const bool lines = listener == kLines;
        const std::string bad = lines ? "{\"type\":7}\n" : binary_frame(kBinaryHello, 1, "{]");
        const std::string ping = lines ? "PING\n" : binary_frame(kBinaryPing, 1, "");
        for (uint32_t count = 1; count < kOffencesMax; ++count) {
            EXPECT_NE(answer(stage, peer, bad), "");
            EXPECT_NE(answer(stage, peer, ping), "") << count;  // good ones do not buy any back
        }
        const std::string last = answer(stage, peer, bad);
        EXPECT_NE(last.find("too_many_offences"), std::string::npos) << last;
        EXPECT_TRUE(stage.ended(peer));
        EXPECT_EQ(stage.metrics()[Metric::offences], kOffencesMax);
        stage.finish(peer);
        stage.settle();
        EXPECT_EQ(closed_for(stage, CloseReason::too_many_offences), 1u);
    }
}

// --------------------------------------------------------------------------- what bytes_sent says
TEST(BytesSent, AreThoseThatTheKernelTook) {
    ReactorStage stage(plan());
    size_t sent = 0;
    for (const size_t listener : {kAuto, kBinary, kLines}) {
        const size_t peer = listener == kAuto ? stage.connect(kAuto) : stage.connect(listener);
        sent += answer(stage, peer, listener == kAuto ? upgrade_request() : "PING\n").size();
        EXPECT_EQ(stage.metrics()[Metric::bytes_sent], sent);
        sent += answer(stage, peer, listener == kAuto ? masked(0x89, "x") : "PING\n").size();
        EXPECT_EQ(stage.metrics()[Metric::bytes_sent], sent);
    }
}

TEST(BytesSent, AreNotThoseThatWaitForAPeerThatDoesNotRead) {
    StagePlan with = plan();
    with.faults.socket_buffer_bytes = 4'096;
    ReactorStage stage(with);
    const size_t peer = stage.connect(kBinary);
    stage.set_reading(peer, false);
    const std::string data = binary_frame(kBinaryData, 1, std::string(60'000, 'x'));
    for (int count = 0; count < 20; ++count) stage.write(peer, data);
    stage.settle(kSecond);
    EXPECT_GT(stage.metrics()[Metric::messages_echoed], 1u);
    EXPECT_LT(stage.metrics()[Metric::bytes_sent], data.size()) << "no flight of them has landed";
}

}  // namespace
}  // namespace pulse::test
