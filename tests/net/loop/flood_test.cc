// Peers that pipeline, or send a little that inflates to a lot, beside one that only beats: what a
// turn handles is bounded, nothing is lost or reordered, and the heartbeat does not wait.
#include <gtest/gtest.h>
#include <zlib.h>

#include "net/protocols/limits.h"
#include "proto/binary.h"
#include "proto/endian.h"

#include "tests/net/loop/reactor_stage.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

constexpr size_t kWebSocket = 0, kBinary = 1, kLines = 2;

StagePlan plan() {
    StagePlan plan{
        .listen = {"ws://10.0.0.1:9000", "tcp://10.0.0.1:9001", "jsonl://10.0.0.1:9002"}};
    plan.options.on_message = OnMessage::echo;
    plan.options.ws_deflate = true;
    // As fast as a peer can be: all of it is there when the server looks.
    plan.faults.socket_buffer_bytes = 1 << 20;
    plan.options.send_queue_bytes = size_t{8} << 20;
    return plan;
}

Bytes binary_ping(uint32_t sequence) {
    Bytes frame(kBinaryHeaderBytes);
    frame[0] = binary::kMagic;
    frame[1] = 1;
    store_be32(frame.data() + 4, sequence);
    return frame;
}

size_t upgraded(ReactorStage& stage, std::string_view more = "") {
    const size_t peer = stage.connect(kWebSocket);
    stage.write(peer,
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
                    std::string(more) + "Sec-WebSocket-Version: 13\r\n\r\n");
    stage.settle();
    EXPECT_TRUE(stage.heard(peer).starts_with("HTTP/1.1 101 "));
    stage.heard(peer).clear();
    return peer;
}

// Turns until `done`, each with no more frames than a turn may have.
template <class Done>
void turn_within_bounds(ReactorStage& stage, uint64_t frames_max, Done done) {
    for (int left = 20'000; left > 0 && !done(); --left) {
        const uint64_t before = stage.metrics()[Metric::frames_received];
        stage.reactor().turn(stage.network().clock() + kMillisecond);
        const uint64_t frames = stage.metrics()[Metric::frames_received] - before;
        ASSERT_LE(frames, frames_max) << "a turn without a bound";
    }
    EXPECT_TRUE(done()) << "the flood did not come to its end";
}

TEST(Flood, PipelinedPingsAreAnsweredInOrderATurnsShareAtATime) {
    ReactorStage stage(plan());
    constexpr uint32_t kPings = 13'000;
    std::vector<size_t> flooders;
    Bytes flood;
    std::string expected;
    for (uint32_t sequence = 0; sequence < kPings; ++sequence) {
        const Bytes ping = binary_ping(sequence);
        flood.insert(flood.end(), ping.begin(), ping.end());
        Bytes pong = ping;
        pong[1] = 2;
        expected.append(pong.begin(), pong.end());
    }
    for (int i = 0; i < 8; ++i) flooders.push_back(stage.connect(kBinary));
    const size_t canary = stage.connect(kBinary);
    stage.settle();
    for (const size_t flooder : flooders) stage.write(flooder, flood);
    constexpr uint64_t kFramesMax = kWorkPerTurn / kFrameWork + 9 * kFramesAlwaysPerTurn + 2;
    stage.write(canary, binary_ping(0xCAFE));
    stage.settle(kMillisecond);
    EXPECT_EQ(stage.heard(canary).size(), kBinaryHeaderBytes) << "a heartbeat waits";
    turn_within_bounds(stage, kFramesMax, [&] {
        return std::ranges::all_of(
            flooders, [&](size_t peer) { return stage.heard(peer).size() == expected.size(); });
    });
    for (const size_t flooder : flooders) EXPECT_EQ(stage.heard(flooder), expected);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

// What zlib makes of `bytes` zeros, as the payload of a compressed message.
Bytes bomb(size_t bytes) {
    z_stream stream{};
    PULSE_ASSERT(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
    Bytes zeros(bytes), out(bytes / 8 + 1'024);
    stream.next_in = zeros.data();
    stream.avail_in = static_cast<uInt>(bytes);
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    PULSE_ASSERT(deflate(&stream, Z_SYNC_FLUSH) == Z_OK);
    out.resize(out.size() - stream.avail_out - 4);
    deflateEnd(&stream);
    return out;
}

TEST(Flood, MessagesThatInflateToAMebibyteComeOneATurnEach) {
    StagePlan with = plan();
    with.options.on_message = OnMessage::discard;
    ReactorStage stage(with);
    constexpr size_t kMessages = 40;
    const size_t flooder = upgraded(stage, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    const size_t canary = upgraded(stage);
    const Bytes message = frame(0xC2, bomb(1 << 20));
    ASSERT_LT(message.size(), 1'200u);
    Bytes flood;
    for (size_t i = 0; i < kMessages; ++i) flood = flood + message;
    stage.write(flooder, flood);
    stage.write(canary, frame(0x89, "beat"));
    // One for the connection's share of what was read, one for its share of what was parked, one
    // for the canary.
    turn_within_bounds(stage, 3,
                       [&] { return stage.metrics()[Metric::messages_discarded] == kMessages; });
    stage.settle();
    EXPECT_EQ(stage.heard(canary),
              "\x8A\x04"
              "beat");
    ASSERT_NE(stage.record(flooder), nullptr);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

// Hellos of 10 bytes inside one message of pulse.v1.binary: the message is parked in its middle.
TEST(Flood, FramesInsideAMessageWaitForTheNextTurnToo) {
    ReactorStage stage(plan());
    const size_t flooder = upgraded(stage, "Sec-WebSocket-Protocol: pulse.v1.binary\r\n");
    constexpr uint32_t kHellos = 6'000;
    Bytes content;
    for (uint32_t sequence = 0; sequence < kHellos; ++sequence) {
        Bytes hello(kBinaryHeaderBytes);
        hello[0] = binary::kMagic;
        hello[1] = 3;
        store_be16(hello.data() + 2, 2);
        store_be32(hello.data() + 4, sequence);
        hello.push_back('{');
        hello.push_back('}');
        content.insert(content.end(), hello.begin(), hello.end());
    }
    // In one frame, and behind it a ping that must not overtake.
    stage.write(flooder, frame(0x82, content) + frame(0x89, "last"));
    constexpr uint64_t kFramesMax = kWorkPerTurn / (kFrameWork + kHelloWork) + 20;
    turn_within_bounds(stage, kFramesMax, [&] {
        return stage.heard(flooder).ends_with(
            "\x8A\x04"
            "last");
    });
    EXPECT_EQ(stage.metrics()[Metric::hellos], kHellos);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

TEST(Flood, APeerWithParkedBytesIsNotSilentAndMayLeaveInTheMiddle) {
    StagePlan with = plan();
    with.options.heartbeat_interval = kSecond;
    with.options.heartbeat_timeout = 3 * kSecond;
    ReactorStage stage(with);
    std::string lines;
    for (int i = 0; i < 20'000; ++i)
        lines += R"({"type":"ping","seq":)" + std::to_string(i) + "}\n";
    const size_t stays = stage.connect(kLines);
    const size_t leaves = stage.connect(kLines);
    const size_t breaks = stage.connect(kLines);
    stage.settle();
    for (const size_t peer : {stays, leaves, breaks}) stage.write(peer, lines);
    const auto held_off = [&] { return stage.io().is_held_off(*stage.index(stays)); };
    for (int left = 1'000; left > 0 && !held_off(); --left)
        stage.reactor().turn(stage.network().clock() + kMillisecond / 10);
    EXPECT_TRUE(held_off());
    // The server is not scheduled for longer than the timeout; a turn does not reach all of them.
    stage.network().run_until(stage.network().clock() + 10 * kSecond);
    stage.reactor().turn(stage.network().clock());
    stage.reactor().turn(stage.network().clock());
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    stage.close(breaks, true);
    stage.finish(leaves);
    stage.settle(kSecond);
    EXPECT_NE(stage.heard(stays).find("\"seq\":19999}"), std::string::npos);
    EXPECT_NE(stage.heard(leaves).find("\"seq\":19999}"), std::string::npos)
        << "what came before the FIN is answered";
    EXPECT_EQ(stage.record(breaks), nullptr);
    EXPECT_EQ(stage.record(leaves), nullptr);
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

// All of `wire` is there before the server looks; after one turn a part of what it read is parked.
void park_some(ReactorStage& stage, size_t peer, const Bytes& wire) {
    stage.write(peer, wire);
    stage.network().run_until(stage.network().clock() + 10 * kMillisecond);
    stage.reactor().turn(stage.network().clock());
    ASSERT_TRUE(stage.io().is_held_off(*stage.index(peer)));
}

// What arrived while nothing was read of it was not waited for: a proof of life that lies in the
// kernel when the last of what was parked is decoded is read before the peer is judged.
TEST(Flood, APeerThatIsReadAgainIsNotJudgedByItsOldSilence) {
    StagePlan with = plan();
    with.options.on_message = OnMessage::discard;
    with.options.liveness = Liveness::roundtrip;
    with.options.heartbeat_interval = kSecond;
    with.options.heartbeat_timeout = 3 * kSecond;
    ReactorStage stage(with);
    // It has left two probes without an answer, and has half a second left.
    const size_t peer = stage.connect(kLines);
    stage.write(peer, "{\"type\":\"ping\"}\n");
    stage.settle(2'500 * kMillisecond);
    ASSERT_EQ(stage.metrics()[Metric::probes_sent], 2u);
    // Data proves nothing; the ping behind it, which one read does not reach, does. Of that read
    // one turn handles two shares, what was read and what was parked, and the next the rest.
    const std::string line = "{\"type\":\"data\",\"x\":1234}\n";
    constexpr size_t kLinesOfARead = kReceiveBufferBytes / 25;
    static_assert(kLinesOfARead > 2 * kFramesPerTurn && kLinesOfARead < 3 * kFramesPerTurn);
    ASSERT_EQ(line.size(), 25u);
    std::string lines;
    for (size_t i = 0; i <= kLinesOfARead; ++i) lines += line;
    park_some(stage, peer, bytes_of(lines + "{\"type\":\"ping\",\"seq\":7}\n"));
    // The server is not scheduled for longer than the timeout.
    stage.network().run_until(stage.network().clock() + 10 * kSecond);
    stage.reactor().turn(stage.network().clock());
    ASSERT_FALSE(stage.io().is_held_off(*stage.index(peer)));
    stage.settle(100 * kMillisecond);
    EXPECT_EQ(stage.metrics()[Metric::evicted], 0u);
    EXPECT_NE(stage.heard(peer).find("\"seq\":7}"), std::string::npos);
}

// Nothing more is decoded of a connection that is closing, so that nothing of it stays parked
// either: its FIN is read, whatever is parked before it.
TEST(Flood, AKickedPeerIsReadAtOnce) {
    ReactorStage stage(plan());
    const size_t peer = stage.connect(kBinary);
    stage.settle();
    Bytes pings;
    for (uint32_t sequence = 0; sequence < 8'000; ++sequence) pings = pings + binary_ping(sequence);
    park_some(stage, peer, pings);
    const Index index = *stage.index(peer);
    const ConnectionId target = stage.table().id(index);
    ASSERT_TRUE(stage.post({Message::Kick{.target = target}}));
    stage.reactor().turn(stage.network().clock());
    ASSERT_EQ(stage.table()[index].stage, Stage::closing);
    ASSERT_LT(stage.metrics()[Metric::frames_received], 8'000u);
    EXPECT_FALSE(stage.io().is_held_off(index));
    EXPECT_LE(stage.reactor().connections().buffers().taken(), 1u) << "only the goodbye";
    stage.finish(peer);
    stage.settle(100 * kMillisecond);
    EXPECT_EQ(stage.record(peer), nullptr);
    EXPECT_FALSE(stage.was_reset(peer));
    EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
}

}  // namespace
}  // namespace pulse::test
