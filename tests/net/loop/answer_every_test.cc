// answer_every, through the whole loop over the simulated kernel: of k heartbeats the k-th is
// answered, in each dialect, and what is not a heartbeat of the dialect is answered as ever.
#include <gtest/gtest.h>

#include <functional>

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

constexpr Nanos kInterval = 2 * kSecond;
constexpr Nanos kTimeout = 6 * kSecond;

StagePlan plan(Liveness liveness = Liveness::any) {
    StagePlan plan{
        .listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.on_message = OnMessage::echo;
    plan.options.liveness = liveness;
    plan.options.heartbeat_interval = kInterval;
    plan.options.heartbeat_timeout = kTimeout;
    plan.options.heartbeat_probe = false;
    return plan;
}

// A way to speak: what comes before the hello, and the wire's form of an object and of a heartbeat.
struct Speaker {
    std::string name;
    size_t listener;
    std::string upgrade;
    std::function<std::string(std::string_view object)> hello;
    std::function<std::string(uint32_t number)> beat, pong;
    std::string mark_of_error;  // in any error
};

std::string json_beat(uint32_t number) {
    return R"({"type":"ping","seq":)" + std::to_string(number) + "}";
}
std::string json_pong(uint32_t number) {
    return R"({"type":"pong","seq":)" + std::to_string(number) + "}";
}

std::vector<Speaker> speakers() {
    const auto frame = [](uint8_t type) {
        return [type](uint32_t number) { return binary_frame(type, number, "p"); };
    };
    return {
        {"binary", 1, "",
         [](std::string_view object) { return binary_frame(kBinaryHello, 9, object); },
         frame(kBinaryPing), frame(kBinaryPong), "\xB7\x08"},
        {"json lines", 2, "", [](std::string_view object) { return std::string(object) + "\n"; },
         [](uint32_t number) { return json_beat(number) + "\n"; },
         [](uint32_t number) { return json_pong(number) + "\n"; }, R"("type":"error")"},
        {"websocket json", 0, upgrade_request(),
         [](std::string_view object) { return masked(0x81, object); },
         [](uint32_t number) { return masked(0x81, json_beat(number)); },
         [](uint32_t number) { return plain(0x81, json_pong(number)); }, R"("type":"error")"},
        {"pulse.v1.binary", 0, upgrade_request("pulse.v1.binary"),
         [](std::string_view object) {
             return masked(0x82, binary_frame(kBinaryHello, 9, object));
         },
         [](uint32_t number) { return masked(0x82, binary_frame(kBinaryPing, number, "p")); },
         [](uint32_t number) { return plain(0x82, binary_frame(kBinaryPong, number, "p")); },
         "\xB7\x08"},
    };
}

size_t connect(ReactorStage& stage, const Speaker& speaker) {
    const size_t peer = stage.connect(speaker.listener);
    if (!speaker.upgrade.empty()) {
        EXPECT_TRUE(answer(stage, peer, speaker.upgrade).starts_with("HTTP/1.1 101 "));
    }
    return peer;
}
std::string hello_for(uint32_t every) {
    return R"({"type":"hello","answer_every":)" + std::to_string(every) + "}";
}
// Which of `count` heartbeats are answered, by their numbers, which must be the answers' too.
std::vector<uint32_t> answered(ReactorStage& stage, size_t peer, const Speaker& speaker,
                               uint32_t count) {
    std::vector<uint32_t> numbers;
    for (uint32_t number = 1; number <= count; ++number) {
        const std::string words = answer(stage, peer, speaker.beat(number));
        if (words.empty()) continue;
        EXPECT_EQ(words, speaker.pong(number)) << speaker.name;
        numbers.push_back(number);
    }
    return numbers;
}

// --------------------------------------------------------------------------- what is answered
TEST(AnswerEvery, OfSoManyHeartbeatsTheLastIsAnswered) {
    for (const Speaker& speaker : speakers()) {
        for (uint32_t every = 1; every <= kAnswerEveryMax; ++every) {
            ReactorStage stage(plan());
            const size_t peer = connect(stage, speaker);
            const std::string welcome = answer(stage, peer, speaker.hello(hello_for(every)));
            EXPECT_NE(welcome.find(R"(,"answer_every":)" + std::to_string(every) + "}"),
                      std::string::npos)
                << speaker.name << ": " << welcome;
            std::vector<uint32_t> expected;
            for (uint32_t number = every; number <= 20; number += every) expected.push_back(number);
            EXPECT_EQ(answered(stage, peer, speaker, 20), expected) << speaker.name << every;
            EXPECT_EQ(stage.metrics()[Metric::heartbeats_received], 20u);
            EXPECT_EQ(stage.metrics()[Metric::heartbeats_answered], expected.size());
        }
    }
}

TEST(AnswerEvery, AHelloThatDoesNotAskLeavesTheWelcomeAndTheAnswersAsTheyAre) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = connect(stage, speaker);
        const std::string welcome = answer(stage, peer, speaker.hello(R"({"type":"hello"})"));
        EXPECT_NE(welcome.find(R"("timeout_ms":6000})"), std::string::npos) << welcome;
        EXPECT_EQ(answered(stage, peer, speaker, 3), (std::vector<uint32_t>{1, 2, 3}));
    }
}

TEST(AnswerEvery, ALaterHelloChangesItAndCountsAnewAndOneThatDoesNotAskKeepsIt) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = connect(stage, speaker);
        answer(stage, peer, speaker.hello(hello_for(4)));
        EXPECT_EQ(answered(stage, peer, speaker, 6), (std::vector<uint32_t>{4}));
        answer(stage, peer, speaker.hello(hello_for(3)));
        EXPECT_EQ(answered(stage, peer, speaker, 4), (std::vector<uint32_t>{3}));
        const std::string kept = answer(stage, peer, speaker.hello(R"({"type":"hello"})"));
        EXPECT_NE(kept.find(R"("answer_every":3})"), std::string::npos) << kept;
        EXPECT_EQ(answered(stage, peer, speaker, 5), (std::vector<uint32_t>{2, 5}));
        answer(stage, peer, speaker.hello(hello_for(1)));
        EXPECT_EQ(answered(stage, peer, speaker, 2), (std::vector<uint32_t>{1, 2}));
    }
}

TEST(AnswerEvery, BarePingsHeartbeatsAndPingsAreOneCount) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(2);
    answer(stage, peer, hello_for(3) + "\n");
    EXPECT_EQ(answer(stage, peer, "PING\n"), "");
    EXPECT_EQ(answer(stage, peer, "{\"type\":\"heartbeat\"}\n"), "");
    EXPECT_EQ(answer(stage, peer, "ping\n"), "pong\n");
    EXPECT_EQ(answer(stage, peer, "{\"type\":\"ping\"}\nPING\n{\"type\":\"heartbeat\",\"ts\":5}\n"),
              "{\"type\":\"pong\",\"ts\":5}\n");
}

// A flood in one piece, more than one turn handles, is counted as any other.
TEST(AnswerEvery, ManyAtOnceAreCountedTheSame) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(1);
    answer(stage, peer, binary_frame(kBinaryHello, 9, hello_for(7)));
    std::string flood, expected;
    for (uint32_t number = 1; number <= 5'000; ++number) {
        flood += binary_frame(kBinaryPing, number, "");
        if (number % 7 == 0) expected += binary_frame(kBinaryPong, number, "");
    }
    EXPECT_EQ(answer(stage, peer, flood), expected);
}

// ------------------------------------------------------------------------ what it is not about
// RFC 6455 5.5.2: a ping frame MUST be answered. 5.5.3: a pong that nothing asked for may be sent
// as a one-way heartbeat, and no response to it is expected.
TEST(AnswerEvery, PingFramesOfWebSocketAreAnsweredAndPongFramesNever) {
    for (const char* subprotocol : {"", "pulse.v1.binary"}) {
        ReactorStage stage(plan());
        const size_t peer = stage.connect(0);
        answer(stage, peer, upgrade_request(subprotocol));
        const bool frames = *subprotocol != '\0';
        const std::string hello = frames ? masked(0x82, binary_frame(kBinaryHello, 9, hello_for(8)))
                                         : masked(0x81, hello_for(8));
        EXPECT_NE(answer(stage, peer, hello), "");
        for (int count = 0; count < 20; ++count) {
            EXPECT_EQ(answer(stage, peer, masked(0x89, "beat")), plain(0x8A, "beat"));
            EXPECT_EQ(answer(stage, peer, masked(0x8A, "beat")), "");
        }
        const std::string beat =
            frames ? masked(0x82, binary_frame(kBinaryPing, 1, "")) : masked(0x81, "PING");
        for (int count = 1; count <= 7; ++count) EXPECT_EQ(answer(stage, peer, beat), "");
        EXPECT_NE(answer(stage, peer, beat), "") << "ping frames are not counted among them";
    }
}

TEST(AnswerEvery, WhatIsAnsweredBesidesHeartbeatsIsAnsweredAsEver) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(2);
    answer(stage, peer, hello_for(8) + "\n");
    const std::string data = "{\"type\":\"data\",\"x\":1}\n";
    for (int count = 0; count < 3; ++count) EXPECT_EQ(answer(stage, peer, data), data);
}

// --------------------------------------------------------------------------- what proves life
// Says `words` each second for three timeouts; whether the connection then is still there.
bool lives_on(ReactorStage& stage, size_t peer, const std::string& words) {
    for (Nanos said = 0; said < 3 * kTimeout && !stage.ended(peer); said += kSecond) {
        stage.write(peer, words);
        stage.settle(kSecond);
    }
    return !stage.ended(peer) && stage.metrics()[Metric::evicted] == 0;
}

TEST(AnswerEvery, AHeartbeatWithoutAnAnswerProvesWhatItProved) {
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        for (const Speaker& speaker : speakers()) {
            ReactorStage stage(plan(liveness));
            const size_t peer = connect(stage, speaker);
            answer(stage, peer, speaker.hello(hello_for(8)));
            EXPECT_TRUE(lives_on(stage, peer, speaker.beat(1))) << speaker.name;
            EXPECT_EQ(take(stage, peer), speaker.pong(1) + speaker.pong(1)) << "18 of them";
        }
    }
}

TEST(AnswerEvery, AnUnsolicitedPongFrameProvesLifeWhereAnyFrameDoes) {
    for (const bool asked : {false, true}) {
        for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
            ReactorStage stage(plan(liveness));
            const size_t peer = stage.connect(0);
            answer(stage, peer, upgrade_request());
            if (asked) answer(stage, peer, masked(0x81, hello_for(4)));
            EXPECT_EQ(lives_on(stage, peer, masked(0x8A, "here")), liveness == Liveness::any);
            if (liveness == Liveness::any) {
                EXPECT_EQ(take(stage, peer), "");
            }
            EXPECT_EQ(stage.metrics()[Metric::heartbeats_received], 0u);
        }
    }
}

TEST(AnswerEvery, SilenceIsStillEvicted) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(1);
    answer(stage, peer, binary_frame(kBinaryHello, 9, hello_for(8)));
    stage.settle(kTimeout + kSecond);
    EXPECT_TRUE(stage.ended(peer));
    EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
}

// -------------------------------------------------------------------------------- what is wrong
TEST(AnswerEvery, AnythingElseIsAnErrorAndNothingOfThatHelloTakesEffect) {
    for (const Speaker& speaker : speakers()) {
        for (const char* value : {"0", "9", "-1", "1.5", "4294967297", "\"4\"", "null", "[2]",
                                  "true", "18446744073709551617"}) {
            ReactorStage stage(plan());
            const size_t peer = connect(stage, speaker);
            answer(stage, peer, speaker.hello(hello_for(2)));
            const uint8_t profile = stage.record(peer)->profile;
            const std::string words =
                answer(stage, peer,
                       speaker.hello(R"({"type":"hello","profile":"mobile","answer_every":)" +
                                     std::string(value) + "}"));
            EXPECT_NE(words.find(speaker.mark_of_error), std::string::npos) << words;
            EXPECT_NE(words.find("'answer_every' is not a whole number from 1 to 8; leave it out "
                                 "to have every heartbeat answered (at byte "),
                      std::string::npos)
                << words;
            EXPECT_EQ(words.find("welcome"), std::string::npos);
            EXPECT_EQ(stage.record(peer)->profile, profile) << value;
            EXPECT_EQ(stage.metrics()[Metric::hellos], 1u);
            EXPECT_EQ(answered(stage, peer, speaker, 4), (std::vector<uint32_t>{2, 4})) << value;
        }
    }
}

TEST(AnswerEvery, AProfileThatThereIsNotLeavesItAsItWas) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = connect(stage, speaker);
        const std::string words = answer(
            stage, peer, speaker.hello(R"({"type":"hello","profile":"fast","answer_every":4})"));
        EXPECT_NE(words.find("'profile' is not a profile"), std::string::npos) << words;
        EXPECT_EQ(answered(stage, peer, speaker, 2), (std::vector<uint32_t>{1, 2}));
    }
}

// ------------------------------------------------------------------------------ what is repeated
TEST(AnswerEvery, AnIntervalMessageCarriesItWhereItIsNotOne) {
    for (const Speaker& speaker : speakers()) {
        for (const uint32_t every : {0u, 1u, 5u}) {
            ReactorStage stage(plan());
            const size_t peer = connect(stage, speaker);
            answer(stage, peer,
                   speaker.hello(every == 0 ? "{\"type\":\"hello\"}"s : hello_for(every)));
            ASSERT_TRUE(stage.reload([](LoopOptions& o) { o.heartbeat_interval = 3 * kSecond; }));
            const std::string words = take(stage, peer);
            if (speaker.mark_of_error[0] != '"') {
                const char sequence = every == 5 ? '\5' : '\0';
                const std::string head = "\xB7\x07\0\x08\0\0\0"s + sequence;
                EXPECT_NE(words.find(head + "\0\0\x0B\xB8\0\0\x17\x70"s), std::string::npos)
                    << testing::PrintToString(words);
            } else {
                const std::string end = every == 5 ? R"(,"answer_every":5})" : "}";
                EXPECT_NE(words.find(R"("interval_ms":3000,"timeout_ms":6000)" + end),
                          std::string::npos)
                    << words;
            }
        }
    }
}

// The record is as large as before and an idle connection owns nothing besides it, and offences are
// counted beside it.
TEST(AnswerEvery, OffencesAreCountedBesideIt) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(2);
    answer(stage, peer, hello_for(8) + "\n");
    for (uint32_t count = 1; count < kOffencesMax; ++count) {
        EXPECT_NE(answer(stage, peer, "nonsense\n").find("error"), std::string::npos);
        EXPECT_EQ(answer(stage, peer, "PING\n"), "");
    }
    EXPECT_EQ(answer(stage, peer, "PING\n"), "PONG\n") << "the eighth";
    EXPECT_NE(answer(stage, peer, "nonsense\n").find("too_many_offences"), std::string::npos);
}

}  // namespace
}  // namespace pulse::test
