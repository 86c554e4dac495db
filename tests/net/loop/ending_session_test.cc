// How conversations end: who is answered with what, and what counts once the end was announced. The
// whole loop, over the simulated kernel.
#include <gtest/gtest.h>

#include <algorithm>
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
