// Bytes on their way are life: a message that takes longer than the timeout, in either direction,
// ends nothing as long as it moves, and a peer that drips or stops does not stay.
#include <gtest/gtest.h>

#include "tests/net/loop/conversation.h"
#include "tests/net/loop/reactor_stage.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

constexpr size_t kWebSocket = 0, kBinary = 1, kLines = 2;

StagePlan plan(Liveness liveness = Liveness::any) {
    StagePlan plan{
        .listen = {"ws://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.heartbeat_interval = kSecond;
    plan.options.heartbeat_timeout = 3 * kSecond;
    plan.options.liveness = liveness;
    plan.options.on_message = OnMessage::echo;
    return plan;
}
StagePlan without_probes() {
    StagePlan silent = plan();
    silent.options.heartbeat_probe = false;
    return silent;
}
uint64_t closed(ReactorStage& stage, CloseReason reason) {
    return stage.metrics().closed[static_cast<size_t>(reason)];
}

size_t open_peer(ReactorStage& stage, size_t listener) {
    const size_t peer = stage.connect(listener);
    if (listener == kWebSocket) {
        stage.write(peer,
                    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    } else if (listener == kBinary) {
        stage.write(peer, std::string_view("\xB7\x01\0\0\0\0\0\1", 8));
    } else {
        stage.write(peer, "{\"type\":\"ping\"}\n");
    }
    stage.settle();
    EXPECT_FALSE(stage.heard(peer).empty());
    stage.heard(peer).clear();
    return peer;
}

// One large message in the protocol of the listener: for the binary one as large as it can be.
Bytes message_for(size_t listener) {
    if (listener == kWebSocket) return frame(0x82, Bytes(1'000'000, 'u'));
    if (listener == kLines)
        return bytes_of("{\"type\":\"data\",\"x\":\"" + std::string(1'000'000, 'u') + "\"}\n");
    return Bytes{0xB7, 5, 0xFF, 0xFF, 0, 0, 0, 1} + Bytes(65'535, 'u');
}

// Writes `wire` over `duration`; false as soon as the peer is gone.
bool upload(ReactorStage& stage, size_t peer, const Bytes& wire, Nanos duration) {
    constexpr Nanos kStep = 100 * kMillisecond;
    const auto steps = static_cast<size_t>(duration / kStep);
    for (size_t step = 0; step < steps; ++step) {
        const size_t from = wire.size() * step / steps, to = wire.size() * (step + 1) / steps;
        stage.write(peer, std::span(wire).subspan(from, to - from));
        stage.settle(kStep);
        if (stage.record(peer) == nullptr) return false;
    }
    stage.settle(200 * kMillisecond);
    return stage.record(peer) != nullptr;
}

TEST(Progress, AMessageThatTakesLongerThanTheTimeoutProvesLife) {
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        for (const size_t listener : {kWebSocket, kBinary, kLines}) {
            ReactorStage stage(plan(liveness));
            const size_t peer = open_peer(stage, listener);
            EXPECT_TRUE(upload(stage, peer, message_for(listener), 8 * kSecond)) << listener;
            EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
            EXPECT_EQ(stage.metrics()[Metric::messages_echoed], 1u);
            stage.reactor().connections().validate();
        }
    }
}

TEST(Progress, AMessageOfManyFragmentsProvesLife) {
    ReactorStage stage(plan());
    const size_t peer = open_peer(stage, kWebSocket);
    Bytes wire;
    for (int i = 0; i < 40; ++i)
        wire = wire + frame(i == 0 ? 0x02 : i == 39 ? 0x80 : 0x00, Bytes(500, 'f'));
    EXPECT_TRUE(upload(stage, peer, wire, 10 * kSecond));
    EXPECT_EQ(stage.metrics()[Metric::messages_echoed], 1u);
}

// Each is a complete frame, however little it brings.
TEST(Progress, AFragmentIsAHeartbeatAsAnyFrameIs) {
    for (const Liveness liveness : {Liveness::any, Liveness::roundtrip}) {
        ReactorStage stage(plan(liveness));
        const size_t peer = open_peer(stage, kWebSocket);
        for (int second = 0; second < 10; ++second) {
            stage.write(peer, frame(second == 0 ? 0x02 : 0x00, Bytes(1, 'f')));
            stage.settle(kSecond);
        }
        EXPECT_EQ(stage.record(peer) != nullptr, liveness == Liveness::any);
    }
}

// Below the minimum the deadline comes closer; and what stops in the middle has its timeout.
TEST(Progress, APeerThatDripsOrStopsIsClosedForIt) {
    for (const size_t listener : {kWebSocket, kBinary, kLines}) {
        ReactorStage stage(plan());
        const size_t drips = open_peer(stage, listener);
        const size_t stops = open_peer(stage, listener);
        const Bytes message = message_for(listener);
        stage.write(stops, std::span(message).first(30'000));
        const Nanos began = stage.network().clock();
        const size_t bytes = kProgressBytesPerSecondMin / 4 * 20;
        EXPECT_FALSE(
            upload(stage, drips, Bytes(message.begin(), message.begin() + bytes), 20 * kSecond));
        // 3 s and a quarter of what it takes: a third more.
        EXPECT_LE(stage.network().clock() - began, 6 * kSecond);
        EXPECT_GE(stage.network().clock() - began, 3 * kSecond);
        EXPECT_EQ(stage.record(stops), nullptr);
        EXPECT_EQ(closed(stage, CloseReason::slow_upload), 2u);
        EXPECT_EQ(stage.metrics()[Metric::evicted], 2u);
        EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
    }
}

// A message that goes on for ever is life at the minimum rate only until it is too large.
TEST(Progress, AnUploadThatNeverEndsIsBoundByTheLargestMessage) {
    for (const size_t listener : {kWebSocket, kLines}) {
        StagePlan with = plan(Liveness::roundtrip);
        with.options.max_message_bytes = 32 * 1'024;
        ReactorStage stage(with);
        const size_t peer = open_peer(stage, listener);
        stage.set_reading(peer, false);
        const Nanos began = stage.network().clock();
        for (int second = 0; second < 120 && stage.record(peer) != nullptr; ++second) {
            const Bytes piece(kProgressBytesPerSecondMin + 100, 'u');
            const uint8_t first = second == 0 ? 0x02 : 0x00;  // a fragment, and never the last
            stage.write(peer, listener == kWebSocket ? frame(first, piece) : piece);
            stage.settle(kSecond);
        }
        const Nanos lasted = stage.network().clock() - began;
        EXPECT_EQ(stage.record(peer), nullptr) << listener;
        EXPECT_EQ(closed(stage, CloseReason::message_too_big), 1u) << listener;
        EXPECT_GE(lasted, 50 * kSecond) << listener;
        EXPECT_LE(lasted, 60 * kSecond) << listener;
    }
}

// Where a round trip is wanted a message that is whole proves none, nor does one of which so little
// is on its way at once that a pong would not wait behind it.
TEST(Progress, ASeriesOfSmallMessagesProvesNoRoundTrip) {
    for (const size_t listener : {kWebSocket, kBinary, kLines}) {
        for (const auto& [bytes, pieces] :
             {std::pair{size_t{200}, size_t{1}}, {1'000, 2}, {1'500, 2}, {4'000, 1}}) {
            StagePlan with = plan(Liveness::roundtrip);
            with.options.on_message = OnMessage::discard;
            ReactorStage stage(with);
            const size_t peer = open_peer(stage, listener);
            stage.set_reading(peer, false);
            const std::string text(bytes, 'm');
            const Bytes message = listener == kWebSocket ? frame(0x82, bytes_of(text))
                                  : listener == kBinary
                                      ? bytes_of(binary_frame(kBinaryData, 1, text))
                                      : bytes_of("{\"type\":\"data\",\"x\":\"" + text + "\"}\n");
            const size_t half = message.size() / pieces;
            for (int step = 0; step < 100 && stage.record(peer) != nullptr; ++step) {
                stage.write(peer, std::span(message).first(half));
                stage.settle(50 * kMillisecond);
                stage.write(peer, std::span(message).subspan(half));
                stage.settle(50 * kMillisecond);
            }
            EXPECT_EQ(stage.record(peer), nullptr) << listener << ", messages of " << bytes;
            EXPECT_EQ(stage.metrics()[Metric::evicted], 1u) << listener << ", of " << bytes;
        }
    }
}

// Before the first message is whole, too: a read of 4 KiB is worth the 8 s that it may take at the
// minimum, and not a whole handshake timeout.
TEST(Progress, AFirstMessageThatDripsInLargeReadsHasItsTimeout) {
    for (const size_t listener : {kBinary, kLines}) {
        StagePlan with = plan();
        with.options.handshake_timeout = 30 * kSecond;
        with.options.heartbeat_interval = 60 * kSecond;
        with.options.heartbeat_timeout = 600 * kSecond;
        ReactorStage stage(with);
        const size_t drips = stage.connect(listener);
        const size_t moves = stage.connect(listener);
        const Bytes message = message_for(listener);
        const auto piece = [&](int number) {
            return std::span(message).subspan(number * kBulkBytes, kBulkBytes);
        };
        const Nanos began = stage.network().clock();
        Nanos lasted = 0;
        for (int second = 0; second < 80; ++second) {
            if (second % 20 == 0) stage.write(drips, piece(second / 20));
            if (second % 8 == 0) stage.write(moves, piece(second / 8));
            stage.settle(kSecond);
            if (stage.record(drips) != nullptr) lasted = stage.network().clock() - began;
        }
        EXPECT_GE(lasted, 29 * kSecond) << listener;
        EXPECT_LE(lasted, 50 * kSecond) << listener << ": 204 bytes a second";
        EXPECT_EQ(closed(stage, CloseReason::handshake_timeout), 1u) << listener;
        EXPECT_NE(stage.record(moves), nullptr) << listener << ": 512 bytes a second";
    }
}

// The peer reads `bytes_a_step` every 100 ms, until it has heard what ends with `end`.
bool download(ReactorStage& stage, size_t peer, Nanos duration) {
    for (Nanos left = duration; left > 0; left -= 100 * kMillisecond) {
        stage.set_reading(peer, true);
        stage.set_reading(peer, false);
        stage.settle(100 * kMillisecond);
        if (stage.record(peer) == nullptr) return false;
    }
    return true;
}

StagePlan slow_link(StagePlan plan) {
    plan.faults.socket_buffer_bytes = 8 * 1024;
    plan.options.send_queue_bytes = 4 << 20;
    return plan;
}

void expect_slow_download_proves_life(const StagePlan& plan) {
    ReactorStage stage(slow_link(plan));
    const size_t peer = open_peer(stage, kWebSocket);
    stage.set_reading(peer, false);
    stage.write(peer, frame(0x82, Bytes(1'000'000, 'd')));
    stage.settle(kSecond / 2);
    EXPECT_TRUE(download(stage, peer, 9 * kSecond));
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    EXPECT_LT(stage.heard(peer).size(), 1'000'000u) << "it was not slow";
    stage.reactor().connections().validate();
}
TEST(Progress, AnAnswerThatTakesLongerThanTheTimeoutProvesLife) {
    expect_slow_download_proves_life(plan(Liveness::any));
    expect_slow_download_proves_life(plan(Liveness::roundtrip));
}

// Without probes the look that finds the timeout over is the first since the answer left.
TEST(Progress, AnAnswerThatTakesLongerThanTheTimeoutProvesLifeWithoutProbes) {
    expect_slow_download_proves_life(without_probes());
}

// What its host acknowledged last is what its timeout runs from, however late the server asks.
TEST(Progress, APeerThatDiesBehindADownloadIsEvictedInTime) {
    for (const bool probes : {true, false}) {
        ReactorStage stage(slow_link(probes ? plan() : without_probes()));
        const size_t peer = open_peer(stage, kWebSocket);
        stage.set_reading(peer, false);
        stage.write(peer, frame(0x82, Bytes(60'000, 'd')));
        stage.settle(kSecond / 2);
        EXPECT_TRUE(download(stage, peer, kSecond));
        ASSERT_GT(stage.heard(peer).size(), 60'000u) << "it took the whole answer";
        const Nanos died = stage.network().clock();
        stage.set_reading(peer, false);
        EXPECT_TRUE(stage.empty_within(20 * kSecond));
        EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
        // It may have taken a probe since, and its close has its linger.
        EXPECT_LE(stage.network().clock() - died, 3 * kSecond + kCloseLingerNs + kSecond / 4)
            << probes;
    }
}

// So are many small ones, each sent in a turn of its own, which wait in the kernel together.
TEST(Progress, SoAreManySmallAnswersThatWaitInTheKernel) {
    for (const bool closes : {false, true}) {
        StagePlan with = plan();
        with.faults.socket_buffer_bytes = 32 * 1024;
        ReactorStage stage(with);
        const size_t peer = open_peer(stage, kWebSocket);
        stage.set_reading(peer, false);
        for (int i = 0; i < 100; ++i) {
            stage.write(peer, frame(0x82, Bytes(500, 's')));
            stage.settle(kMillisecond);
        }
        ASSERT_EQ(stage.metrics()[Metric::messages_echoed], 100u);
        if (closes) stage.write(peer, close_frame(1000));
        // It takes half of them within each timeout, or linger; the probe is behind the others.
        const Nanos step = closes ? kCloseLingerNs * 3 / 4 : 2 * kSecond;
        for (int i = 0; i < 2; ++i) {
            stage.settle(step);
            stage.set_reading(peer, true);
            stage.set_reading(peer, false);
        }
        EXPECT_EQ(stage.metrics()[Metric::evicted], 0u) << closes;
        EXPECT_FALSE(stage.was_reset(peer)) << closes;
        EXPECT_GT(stage.heard(peer).size(), 50'000u) << closes;
        if (!closes) {
            stage.reactor().connections().validate();
            stage.write(peer, frame(0x8A, ""));
        }
        stage.settle(kSecond / 2);
        EXPECT_EQ(stage.record(peer) != nullptr, !closes);
    }
}

TEST(Progress, APeerThatReadsNothingHasItsTimeout) {
    ReactorStage stage(slow_link(plan()));
    const size_t peer = open_peer(stage, kWebSocket);
    stage.set_reading(peer, false);
    stage.write(peer, frame(0x82, Bytes(1'000'000, 'd')));
    const Nanos began = stage.network().clock();
    EXPECT_TRUE(stage.empty_within(20 * kSecond));
    EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
    EXPECT_LE(stage.network().clock() - began, 7 * kSecond);
}

// A kernel that says what a test wants of what the peer has acknowledged.
class Kernel : public SimBackend {
  public:
    using SimBackend::SimBackend;
    SendProgress send_progress(Index index) {
        const SendProgress progress = SimBackend::send_progress(index);
        acked_bytes += more_each_time;
        return {.acked_bytes = progress.acked_bytes + acked_bytes,
                .waiting_bytes = progress.waiting_bytes};
    }
    uint64_t acked_bytes = 0;
    uint64_t more_each_time = 0;
};

// A peer with an answer on its way that it takes nothing of.
size_t deaf_peer(ReactorStageOn<Kernel>& stage) {
    const size_t peer = stage.connect(kLines);
    stage.settle();
    stage.set_reading(peer, false);
    stage.write(peer, message_for(kLines));
    stage.settle(kSecond);
    EXPECT_EQ(stage.metrics()[Metric::messages_echoed], 1u);
    return peer;
}

// 18 GB and more since the last look: what the credit is reckoned with does not overflow.
TEST(Progress, ACreditIsNeverLessForMoreBytes) {
    for (const uint64_t bytes : {UINT64_MAX / kSecond, UINT64_MAX / kSecond + 1, UINT64_MAX / 64}) {
        ReactorStageOn<Kernel> stage(slow_link(plan()));
        const size_t peer = deaf_peer(stage);
        stage.io().more_each_time = bytes;
        stage.settle(30 * kSecond);
        EXPECT_NE(stage.record(peer), nullptr) << bytes;
        EXPECT_EQ(stage.metrics()[Metric::evicted], 0u) << bytes;
    }
}

// As if the kernel could not be asked: less than at the last look must not count as progress.
TEST(Progress, LessThanAtTheLastLookProvesNothing) {
    ReactorStageOn<Kernel> stage(slow_link(plan()));
    stage.io().acked_bytes = 1'000'000;
    const size_t peer = deaf_peer(stage);
    stage.io().more_each_time = uint64_t{0} - 1'000;
    const Nanos began = stage.network().clock();
    EXPECT_TRUE(stage.empty_within(60 * kSecond));
    EXPECT_EQ(stage.record(peer), nullptr);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 1u);
    EXPECT_LE(stage.network().clock() - began, 7 * kSecond);
}

TEST(Progress, ACloseWaitsForWhatIsOnItsWayAndNotForEver) {
    for (const bool reads : {true, false}) {
        ReactorStage stage(slow_link(plan()));
        const size_t peer = open_peer(stage, kWebSocket);
        stage.set_reading(peer, false);
        stage.write(peer, frame(0x82, Bytes(400'000, 'd')) + close_frame(1000));
        if (reads) {
            for (int i = 0; i < 100 && !stage.ended(peer); ++i) {
                stage.set_reading(peer, true);
                stage.set_reading(peer, false);
                stage.settle(100 * kMillisecond);
            }
            EXPECT_GT(stage.heard(peer).size(), 400'000u);
            EXPECT_TRUE(stage.heard(peer).ends_with("\x88\x02\x03\xE8")) << "the goodbye";
            EXPECT_FALSE(stage.was_reset(peer));
        } else {
            const Nanos began = stage.network().clock();
            EXPECT_TRUE(stage.empty_within(20 * kSecond));
            EXPECT_LE(stage.network().clock() - began, 4 * kSecond);
        }
    }
}

// The peer has taken all that the kernel had while this thread stood still. It is not judged in the
// turn in which there is more for it, before it could take that.
TEST(Progress, APauseOfThisThreadIsNotTheSilenceOfThePeer) {
    constexpr size_t kEchoed = 40'000;
    for (const bool closes : {false, true}) {
        ReactorStage stage(slow_link(without_probes()));
        const size_t peer = open_peer(stage, kWebSocket);
        stage.set_reading(peer, false);
        stage.write(peer, frame(0x82, Bytes(kEchoed, 'd')));
        if (closes) stage.write(peer, close_frame(1000));
        stage.settle(kSecond / 4);
        ASSERT_EQ(stage.metrics()[Metric::messages_echoed], 1u);
        while (stage.record(peer) != nullptr && stage.record(peer)->outbox != 0) {
            stage.set_reading(peer, true);
            stage.set_reading(peer, false);
            const Nanos pause = closes ? kCloseLingerNs * 3 / 2 : 4 * kSecond;
            stage.network().run_until(stage.network().clock() + pause);
            stage.settle(10 * kMillisecond);
        }
        stage.set_reading(peer, true);
        stage.settle();
        EXPECT_GT(stage.heard(peer).size(), kEchoed) << closes;
        EXPECT_EQ(stage.heard(peer).ends_with("\x88\x02\x03\xE8"), closes);
        EXPECT_EQ(stage.metrics()[Metric::evicted], 0u) << closes;
        EXPECT_FALSE(stage.was_reset(peer)) << closes;
    }
}

// Nor is the lateness of a completion a sign of life: the peer has had all of the answer for long.
TEST(Progress, ALateCompletionDoesNotPutOffAnEviction) {
    for (uint64_t seed = 1; seed <= 8; ++seed) {
        StagePlan late = slow_link(without_probes());
        late.seed = seed;
        late.faults.socket_buffer_bytes = 256 * 1024;
        late.faults.present.set(static_cast<size_t>(Fault::late_completion));
        late.faults.per_million[static_cast<size_t>(Fault::late_completion)] = 1'000'000;
        late.faults.completion_max = 2 * kSecond;
        ReactorStage stage(late);
        const size_t peer = stage.connect(kBinary);
        const Bytes message{0xB7, 5, 0x80, 0, 0, 0, 0, 1};
        stage.write(peer, message + Bytes(0x8000, 'd'));
        while (stage.heard(peer).empty()) stage.settle();
        const Nanos heard = stage.network().clock();
        while (stage.metrics()[Metric::evicted] == 0) stage.settle();
        EXPECT_LE(stage.network().clock() - heard, 3 * kSecond + 100 * kMillisecond) << seed;
    }
}

// A peer that takes just enough to go on is not waited for beyond the bound.
TEST(Progress, ACloseIsBoundHoweverSlowlyThePeerReads) {
    ReactorStage stage(slow_link(plan()));
    const size_t peer = open_peer(stage, kWebSocket);
    stage.set_reading(peer, false);
    stage.write(peer, frame(0x82, Bytes(1'000'000, 'd')) + close_frame(1000));
    const Nanos began = stage.network().clock();
    while (stage.record(peer) != nullptr && stage.network().clock() - began < 60 * kSecond) {
        stage.set_reading(peer, true);
        stage.set_reading(peer, false);
        stage.settle(500 * kMillisecond);
    }
    EXPECT_GE(stage.network().clock() - began, 9 * kSecond);
    EXPECT_LE(stage.network().clock() - began, kCloseLingerMaxNs + 4 * kSecond);
}

}  // namespace
}  // namespace pulse::test
