// --liveness roundtrip, through the whole loop over the simulated kernel: what proves that a peer
// lives, and what does not, in each protocol.
#include <gtest/gtest.h>

#include <functional>

#include "tests/net/loop/conversation.h"

namespace pulse::test {
namespace {

constexpr Nanos kInterval = 2 * kSecond;
constexpr Nanos kTimeout = 6 * kSecond;

StagePlan plan(Liveness liveness = Liveness::roundtrip) {
    StagePlan plan{
        .listen = {"auto://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.on_message = OnMessage::echo;
    plan.options.liveness = liveness;
    plan.options.heartbeat_interval = kInterval;
    plan.options.heartbeat_timeout = kTimeout;
    return plan;
}

// A way to speak: how a connection begins, the probe it is sent, and the answers.
struct Speaker {
    std::string name;
    size_t listener;
    std::string opening;
    std::function<std::string(const std::string& probe)> answer;  // empty: it is not a probe
    std::function<std::string(const std::string& answer)> spoil;  // another value
    std::vector<std::string> worthless;                           // says nothing of a round trip
};

std::string flip_last_digit(std::string text) {
    char& digit = text[text.find_last_of("0123456789")];
    digit = digit == '1' ? '2' : '1';
    return text;
}
std::string flip_last_byte(std::string text) {
    text.back() = static_cast<char>(text.back() ^ 1);
    return text;
}

std::vector<Speaker> speakers() {
    const auto websocket = [](const std::string& probe) -> std::string {
        if (probe.size() != 10 || probe[0] != '\x89') return {};
        return masked(0x8A, probe.substr(2));
    };
    const auto binary = [](const std::string& probe) -> std::string {
        if (probe.size() != 12 || probe[1] != kBinaryPing) return {};
        std::string pong = probe;
        pong[1] = kBinaryPong;
        return pong;
    };
    const auto line = [](const std::string& probe) -> std::string {
        const size_t seq = probe.find(R"({"type":"ping","seq":)");
        if (seq == std::string::npos) return {};
        return R"({"type":"pong","seq":)" + probe.substr(seq + 21);
    };
    const std::string hello = R"({"type":"hello","user":"u"})";
    return {
        {"websocket",
         0,
         upgrade_request(),
         websocket,
         flip_last_byte,
         {masked(0x8A, ""), masked(0x8A, "12345678"), masked(0x81, R"({"type":"pong"})"),
          masked(0x81, R"({"type":"pong","seq":1})"), masked(0x81, hello), masked(0x82, "data")}},
        {"pulse.v1.binary",
         0,
         upgrade_request("pulse.v1.binary"),
         websocket,
         flip_last_byte,
         {masked(0x8A, ""), masked(0x82, binary_frame(kBinaryPong, 0, "")),
          masked(0x82, binary_frame(kBinaryHello, 1, "{}")),
          masked(0x82, binary_frame(kBinaryData, 1, "x"))}},
        {"binary",
         1,
         binary_frame(kBinaryHello, 1, "{}"),
         binary,
         flip_last_byte,
         {binary_frame(kBinaryPong, 0, ""), binary_frame(kBinaryPong, 7, "1234"),
          binary_frame(kBinaryHello, 1, "{}"), binary_frame(kBinaryData, 1, "x")}},
        {"json lines",
         2,
         hello + "\n",
         line,
         flip_last_digit,
         {"{\"type\":\"pong\"}\n", "{\"type\":\"pong\",\"seq\":0}\n",
          "{\"type\":\"pong\",\"seq\":\"x\"}\n", hello + "\n", "{\"type\":\"data\"}\n"}},
    };
}

size_t open(ReactorStage& stage, const Speaker& speaker) {
    const size_t peer = stage.connect(speaker.listener);
    EXPECT_NE(answer(stage, peer, speaker.opening), "") << speaker.name;
    return peer;
}
bool evicted(const ReactorStage& stage) { return stage.metrics()[Metric::evicted] == 1; }

// Says `words` every half second until it is gone or `span` is over.
void repeat(ReactorStage& stage, size_t peer, const std::string& words, Nanos span) {
    for (Nanos said = 0; said < span && !stage.ended(peer); said += kSecond / 2) {
        stage.write(peer, words);
        stage.settle(kSecond / 2);
    }
}

TEST(Roundtrip, UnsolicitedPongsHellosAndDataProveNothing) {
    for (const Speaker& speaker : speakers()) {
        for (const std::string& words : speaker.worthless) {
            ReactorStage stage(plan());
            const size_t peer = open(stage, speaker);
            repeat(stage, peer, words, 2 * kTimeout);
            EXPECT_TRUE(evicted(stage)) << speaker.name << ": " << testing::PrintToString(words);
        }
    }
}

TEST(Roundtrip, APeerThatNeverReadsIsEvicted) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        stage.set_reading(peer, false);
        repeat(stage, peer, speaker.worthless[0], 2 * kTimeout);
        EXPECT_TRUE(evicted(stage)) << speaker.name;
    }
}

TEST(Roundtrip, AnswersToProbesKeepAPeerForEver) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        uint64_t answered = 0;
        for (int step = 0; step < 100; ++step) {
            stage.settle(kSecond / 2);
            const std::string probe = std::exchange(stage.heard(peer), {});
            if (probe.empty()) continue;
            const std::string pong = speaker.answer(probe);
            ASSERT_NE(pong, "") << speaker.name << ": " << testing::PrintToString(probe);
            stage.write(peer, pong);
            ++answered;
        }
        EXPECT_FALSE(evicted(stage)) << speaker.name;
        EXPECT_GT(answered, 10u) << speaker.name;
        EXPECT_EQ(stage.metrics()[Metric::probe_answers], answered) << speaker.name;
    }
}

TEST(Roundtrip, AnAnswerIsWorthOneProofAndNoMoreAndOnlyWhatWasAsked) {
    for (const Speaker& speaker : speakers()) {
        // The right answer to the first probe, again and again: it is void once it was given.
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        while (stage.heard(peer).empty()) stage.settle(kSecond / 10);
        const std::string pong = speaker.answer(std::exchange(stage.heard(peer), {}));
        ASSERT_NE(pong, "") << speaker.name;
        repeat(stage, peer, pong, 2 * kTimeout);
        EXPECT_TRUE(evicted(stage)) << speaker.name;
        EXPECT_EQ(stage.metrics()[Metric::probe_answers], 1u) << speaker.name;

        // A wrong value, to every probe.
        ReactorStage other(plan());
        const size_t liar = open(other, speaker);
        for (int step = 0; step < 40 && !other.ended(liar); ++step) {
            other.settle(kSecond / 2);
            const std::string probe = std::exchange(other.heard(liar), {});
            const std::string right = probe.empty() ? "" : speaker.answer(probe);
            if (!right.empty()) other.write(liar, speaker.spoil(right));
        }
        EXPECT_TRUE(evicted(other)) << speaker.name;
        EXPECT_EQ(other.metrics()[Metric::probe_answers], 0u) << speaker.name;
    }
}

TEST(Roundtrip, TheAnswerToAnEarlierProbeOfTheSameSilenceCounts) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        while (stage.heard(peer).empty()) stage.settle(kSecond / 10);
        const std::string pong = speaker.answer(std::exchange(stage.heard(peer), {}));
        while (stage.heard(peer).empty()) stage.settle(kSecond / 10);
        ASSERT_EQ(stage.metrics()[Metric::probes_sent], 2u);
        stage.write(peer, pong);
        stage.settle();
        EXPECT_EQ(stage.metrics()[Metric::probe_answers], 1u) << speaker.name;
        EXPECT_EQ(probes_sent(stage.record(peer)->heard), 0u) << speaker.name;
    }
}

// The peer answers so long after it was probed, but for a tick and the time of a turn.
TEST(Roundtrip, ItsTimeIsMeasuredFromWhenTheProbeWasDue) {
    constexpr Nanos kLate = 300 * kMillisecond;
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        uint64_t answered = 0;
        for (int step = 0; step < 2'000; ++step) {
            stage.settle(10 * kMillisecond);
            const std::string probe = std::exchange(stage.heard(peer), {});
            if (probe.empty()) continue;
            stage.settle(kLate);
            stage.write(peer, speaker.answer(probe));
            ++answered;
        }
        const ReactorStats stats = stage.stats();
        const Histogram& times = stats.distributions.probe_round_trip;
        EXPECT_GT(answered, 5u) << speaker.name;
        EXPECT_EQ(times.count(), answered) << speaker.name;
        EXPECT_GE(times.min(), kLate) << speaker.name;
        EXPECT_LE(times.max(), kLate + 40 * kMillisecond) << speaker.name;
        EXPECT_EQ(stats.metrics[Metric::probes_missed], 0u) << speaker.name;
    }
}

// Of several that are out it is not known which one is answered.
TEST(Roundtrip, IsNotMeasuredWhereAProbeWasMissed) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        while (stage.metrics()[Metric::probes_sent] < 2) stage.settle(kSecond / 10);
        EXPECT_EQ(stage.metrics()[Metric::probes_missed], 1u) << speaker.name;
        const std::string first = stage.heard(peer).substr(0, stage.heard(peer).size() / 2);
        stage.write(peer, speaker.answer(first));
        stage.settle();
        const ReactorStats stats = stage.stats();
        EXPECT_EQ(stats.metrics[Metric::probe_answers], 1u) << speaker.name;
        EXPECT_EQ(stats.distributions.probe_round_trip.count(), 0u) << speaker.name;
    }
}

TEST(AnyLiveness, EachProbeOfASilenceIsMissedAndTheLastByTheEviction) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan(Liveness::any));
        open(stage, speaker);
        while (!evicted(stage)) stage.settle(kSecond / 10);
        EXPECT_GE(stage.metrics()[Metric::probes_missed], 2u) << speaker.name;
        EXPECT_EQ(stage.metrics()[Metric::probes_missed], stage.metrics()[Metric::probes_sent]);
    }
}

TEST(Roundtrip, APingOfThePeersOwnProvesIt) {
    const std::string pings[] = {masked(0x89, "x"), masked(0x82, binary_frame(kBinaryPing, 1, "")),
                                 binary_frame(kBinaryPing, 1, ""), "PING\n"};
    const std::vector<Speaker> all = speakers();
    for (size_t at = 0; at < all.size(); ++at) {
        ReactorStage stage(plan());
        const size_t peer = open(stage, all[at]);
        repeat(stage, peer, pings[at], 3 * kTimeout);
        EXPECT_FALSE(evicted(stage)) << all[at].name;
    }
}

TEST(Roundtrip, NoTwoProbesOfTwoPeersOrTwoServersAreAlike) {
    std::vector<std::string> probes;
    for (const uint64_t secret : {1, 2}) {
        StagePlan with = plan();
        with.probe_key = {secret, 3};
        ReactorStage stage(with);
        const size_t peers[] = {open(stage, speakers()[0]), open(stage, speakers()[0])};
        for (int step = 0; step < 8; ++step) {
            stage.settle(kSecond / 2);
            for (const size_t peer : peers) {
                const std::string probe = std::exchange(stage.heard(peer), {});
                if (probe.empty()) continue;
                probes.push_back(probe);
                stage.write(peer, speakers()[0].answer(probe));
            }
        }
    }
    ASSERT_GT(probes.size(), 4u);
    std::sort(probes.begin(), probes.end());
    EXPECT_EQ(std::unique(probes.begin(), probes.end()), probes.end());
}

// The cheapest probe where any frame is an answer: nothing is matched, so nothing is carried.
TEST(AnyLiveness, SendsTheShortestProbesAndTakesWhateverComes) {
    for (const Speaker& speaker : speakers()) {
        ReactorStage stage(plan(Liveness::any));
        const size_t peer = open(stage, speaker);
        while (stage.heard(peer).empty()) stage.settle(kSecond / 10);
        const std::string probe = std::exchange(stage.heard(peer), {});
        EXPECT_EQ(probe, speaker.listener == 0   ? plain(0x89, "")
                         : speaker.listener == 1 ? binary_frame(kBinaryPing, 0, "")
                                                 : "{\"type\":\"ping\"}\n");
        repeat(stage, peer, speaker.worthless[0], 2 * kTimeout);
        EXPECT_FALSE(evicted(stage)) << speaker.name;
    }
}

// A hello may ask for another profile, and gets its deadlines; it does not begin the silence anew.
TEST(Roundtrip, AHelloThatNamesAProfileGetsItAndStillProvesNothing) {
    for (const Speaker& speaker : speakers()) {
        const bool framed = speaker.name != "json lines" && speaker.name != "websocket";
        const auto hello = [&](std::string_view profile) {
            std::string object = R"({"type":"hello","profile":")" + std::string(profile) + "\"}";
            if (framed) object = binary_frame(kBinaryHello, 1, object);
            if (speaker.listener != 0) return framed ? object : object + "\n";
            return masked(framed ? 0x82 : 0x81, object);
        };
        ReactorStage stage(plan());
        const size_t peer = open(stage, speaker);
        // Realtime is 15 s / 45 s: more than the default profile, here.
        EXPECT_NE(answer(stage, peer, hello("realtime")), "");
        EXPECT_EQ(stage.record(peer)->profile, kProfileRealtime);
        stage.settle(2 * kTimeout);
        EXPECT_FALSE(evicted(stage)) << speaker.name;
        repeat(stage, peer, hello("realtime"), 40 * kSecond);
        EXPECT_TRUE(evicted(stage)) << speaker.name;
    }
    // To and fro between two profiles is not a way to stay either.
    ReactorStage stage(plan());
    const size_t peer = open(stage, speakers()[3]);
    for (int step = 0; step < 4'000 && !stage.ended(peer); ++step) {
        stage.write(peer, step % 2 == 0 ? "{\"type\":\"hello\",\"profile\":\"powersave\"}\n"
                                        : "{\"type\":\"hello\",\"profile\":\"realtime\"}\n");
        stage.settle(kSecond);
        stage.heard(peer).clear();
    }
    EXPECT_TRUE(evicted(stage));
}

}  // namespace
}  // namespace pulse::test
