// What the first bytes of a connection decide, and that no later bytes decide it again. The whole
// loop, over the simulated kernel.
#include <gtest/gtest.h>

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

constexpr size_t kAuto = 0, kBinary = 1, kLines = 2, kWebSocket = 3;
constexpr size_t kOffencesBeforeTheLast = kOffencesMax - 1;

StagePlan plan() {
    StagePlan plan{.listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001",
                              "jsonl://10.0.0.1:9002", "ws://10.0.0.1:9003"}};
    plan.options.on_message = OnMessage::echo;
    return plan;
}

// ------------------------------------------------------------- only the first bytes are told apart
const std::string kForeignLines[] = {"GET / HTTP/1.1\r\n", "PUT /x\n", "\xB7\x01\0\0\0\0\0\0\n"s,
                                     "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", "\x16\x03\x01\n"s};

TEST(FirstBytes, ALineInMidConversationIsJsonWhateverItBeginsWith) {
    for (const size_t listener : {kAuto, kLines}) {
        for (const std::string& line : kForeignLines) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(listener);
            EXPECT_EQ(answer(stage, peer, "PING\n"), "PONG\n");
            const std::string heard = answer(stage, peer, line);
            EXPECT_TRUE(heard.starts_with(R"({"type":"error","code":1007,)")) << heard;
            EXPECT_EQ(heard.find("listener"), std::string::npos) << heard;
            EXPECT_EQ(answer(stage, peer, "PING\n"), "PONG\n") << "it is forgiven, as any bad line";
            EXPECT_EQ(stage.metrics()[Metric::faults], 0u);
        }
    }
}

TEST(FirstBytes, APacketBoundaryChangesNothing) {
    for (const std::string& line : kForeignLines) {
        const std::string wire = "PING\n" + line + "PING\n";
        std::string whole;
        for (size_t cut = 0; cut < wire.size(); ++cut) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(kAuto);
            if (cut > 0) stage.write(peer, wire.substr(0, cut));
            stage.settle();
            stage.write(peer, wire.substr(cut));
            const std::string heard = take(stage, peer);
            if (cut == 0) whole = heard;
            ASSERT_EQ(heard, whole) << "cut at " << cut;
        }
    }
}

TEST(FirstBytes, ABinaryPeerThatLosesItsFramingIsRefusedInFrames) {
    for (const size_t listener : {kAuto, kBinary}) {
        for (const std::string& next : {"GET / HTTP/1.1\r\n\r\n"s, "{\"type\":\"ping\"}\n"s,
                                        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"s, "\x16\x03\x01"s}) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(listener);
            EXPECT_EQ(answer(stage, peer, binary_frame(kBinaryPing, 1, "")),
                      binary_frame(kBinaryPong, 1, ""));
            const std::string heard = answer(stage, peer, next);
            ASSERT_GT(heard.size(), kBinaryHeaderBytes);
            EXPECT_EQ(heard[1], kBinaryError);
            EXPECT_NE(heard.find("must begin with 0xB7"), std::string::npos) << heard;
        }
    }
}

TEST(FirstBytes, AnUnfinishedHeadIsNotDetectedAgain) {
    for (const std::string& next : {"{\"a\":1}\r\n\r\n"s, "\xB7\x01\r\n\r\n"s}) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(kWebSocket);
        EXPECT_EQ(answer(stage, peer, "GET "), "");
        const std::string heard = answer(stage, peer, next);
        EXPECT_TRUE(heard.starts_with("HTTP/1.1 400 ")) << heard;
    }
}

TEST(FirstBytes, ComeOneByOneTheyDecideTheSame) {
    const struct {
        size_t listener;
        std::string wire;
        std::string says;
    } rows[] = {
        {kLines, "GET / HTTP/1.1\r\n\r\n", "jsonl://"},
        {kBinary, "GET / HTTP/1.1\r\n\r\n", "tcp://"},
        {kBinary, "PING\n", "tcp://"},
        {kWebSocket, "PING\n", "ws://"},
        {kWebSocket, "\x16\x03\x01", ""},
        {kAuto, "SSH-2.0-x\r\n", "auto://"},
        {kAuto, "\x16\x03\x01", ""},
    };
    for (const auto& row : rows) {
        std::string answers[2];
        for (const bool one_by_one : {false, true}) {
            ReactorStage stage(plan());
            const size_t peer = stage.connect(row.listener);
            const size_t step = one_by_one ? 1 : row.wire.size();
            for (size_t at = 0; at < row.wire.size(); at += step) {
                stage.write(peer, row.wire.substr(at, step));
                stage.settle();
            }
            answers[one_by_one] = take(stage, peer);
            EXPECT_TRUE(stage.ended(peer)) << row.wire;
            EXPECT_EQ(closed_for(stage, CloseReason::protocol_error) +
                          closed_for(stage, CloseReason::wrong_protocol) +
                          (stage.record(peer) != nullptr ? 1u : 0u),
                      1u);
        }
        EXPECT_EQ(answers[0], answers[1]) << row.wire;
        EXPECT_NE(answers[0].find(row.says), std::string::npos) << answers[0];
    }
}

// ------------------------------------------------------------------- until the first whole message
TEST(FirstMessage, IsAwaitedNoLongerThanTheHandshakeMayTake) {
    const struct {
        size_t listener;
        std::string unfinished;
        std::string says;  // the goodbye
    } rows[] = {
        {kAuto, "", ""},
        {kAuto, "{", "handshake_timeout"},
        {kAuto, "\xB7", "handshake_timeout"},
        {kAuto, "GET / HTTP/1.1\r\n", "408"},
        {kAuto, "PIN", ""},
        {kBinary, binary_frame(kBinaryPing, 1, "beat").substr(0, 11), "handshake_timeout"},
        {kLines, "{\"type\":\"ping\"}", "handshake_timeout"},
        {kLines, "\n\r\n\n", "handshake_timeout"},
        {kWebSocket, "", "408"},
    };
    for (const auto& row : rows) {
        StagePlan with = plan();
        with.options.handshake_timeout = 2 * kSecond;
        with.options.heartbeat_interval = 30 * kSecond;
        with.options.heartbeat_timeout = 90 * kSecond;
        ReactorStage stage(with);
        const size_t peer = stage.connect(row.listener);
        for (const char byte : row.unfinished) {  // a byte now and then does not move the deadline
            stage.write(peer, std::string_view(&byte, 1));
            stage.settle(kSecond / static_cast<Nanos>(row.unfinished.size()));
        }
        if (row.unfinished.empty()) stage.settle(kSecond);
        stage.settle(900 * kMillisecond);
        ASSERT_NE(stage.record(peer), nullptr) << row.unfinished;
        EXPECT_TRUE(is_greeting(*stage.record(peer))) << row.unfinished;
        stage.settle(400 * kMillisecond);
        EXPECT_TRUE(stage.ended(peer)) << row.unfinished;
        EXPECT_NE(stage.heard(peer).find(row.says), std::string::npos) << stage.heard(peer);
        stage.finish(peer);
        stage.settle();
        EXPECT_EQ(closed_for(stage, CloseReason::handshake_timeout), 1u) << row.unfinished;
    }
}

TEST(FirstMessage, OfAnyKindOpensTheConnection) {
    const std::pair<size_t, std::string> rows[] = {
        {kAuto, "PING\n"},
        {kAuto, binary_frame(kBinaryPong, 0, "")},
        {kBinary, binary_frame(kBinaryHello, 0, "{}")},
        {kBinary, binary_frame(kBinaryHello, 0, "{\"type\":7}")},
        {kBinary, binary_frame(kBinaryData, 0, "x")},
        {kLines, "{\"type\":\"data\"}\n"},
        {kLines, "nonsense\n"},
        {kWebSocket, upgrade_request()},
    };
    for (const auto& [listener, words] : rows) {
        StagePlan with = plan();
        with.options.handshake_timeout = 2 * kSecond;
        ReactorStage stage(with);
        const size_t peer = stage.connect(listener);
        stage.settle(kSecond);
        stage.write(peer, words);
        stage.settle(10 * kSecond);
        ASSERT_NE(stage.record(peer), nullptr) << words;
        EXPECT_EQ(stage.record(peer)->profile, kProfileDefault) << words;
        stage.settle(90 * kSecond);
        EXPECT_EQ(closed_for(stage, CloseReason::handshake_timeout), 0u) << words;
        EXPECT_EQ(stage.metrics()[Metric::evicted], 1u) << words;
    }
}

// A peer that does nothing but answer probes is welcome where there is no handshake.
TEST(FirstMessage, MayBeTheAnswerToAProbe) {
    for (const size_t listener : {kBinary, kLines}) {
        StagePlan with = plan();
        with.options.handshake_timeout = 2 * kSecond;
        with.options.heartbeat_interval = 30 * kSecond;
        with.options.heartbeat_timeout = 90 * kSecond;
        ReactorStage stage(with);
        const size_t peer = stage.connect(listener);
        stage.settle(31 * kSecond);
        const std::string probe = std::exchange(stage.heard(peer), {});
        const bool binary = listener == kBinary;
        EXPECT_EQ(probe, binary ? binary_frame(kBinaryPing, 0, "") : "{\"type\":\"ping\"}\n");
        // Begun late, it has the handshake's time from its first byte.
        const std::string pong =
            binary ? binary_frame(kBinaryPong, 0, "") : "{\"type\":\"pong\"}\n";
        stage.write(peer, pong.substr(0, 1));
        stage.settle(kSecond);
        EXPECT_TRUE(is_greeting(*stage.record(peer)));
        stage.write(peer, pong.substr(1));
        stage.settle(60 * kSecond);
        ASSERT_NE(stage.record(peer), nullptr);
        EXPECT_EQ(stage.record(peer)->profile, kProfileDefault);
        EXPECT_EQ(stage.metrics()[Metric::probe_answers], 1u);
    }
}

// RFC 9112 section 2.2, where the first bytes tell HTTP apart.
TEST(FirstBytes, AnEmptyLineBeforeARequestIsPassedOver) {
    for (const size_t listener : {kAuto, kWebSocket}) {
        for (const std::string& before : {"\r\n"s, "\r\n\r\n"s}) {
            const std::string wire = before + upgrade_request();
            for (size_t cut = 0; cut < before.size() + 8; ++cut) {
                ReactorStage stage(plan());
                const size_t peer = stage.connect(listener);
                if (cut > 0) stage.write(peer, wire.substr(0, cut));
                stage.settle();
                const std::string heard = answer(stage, peer, wire.substr(cut));
                ASSERT_TRUE(heard.starts_with("HTTP/1.1 101 ")) << cut << ": " << heard;
            }
        }
        ReactorStage stage(plan());
        const size_t peer = stage.connect(listener);
        EXPECT_TRUE(answer(stage, peer, "OPTIONS / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
}

}  // namespace
}  // namespace pulse::test
