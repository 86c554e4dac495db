// pulse.v1.binary: binary frames inside WebSocket messages, through a whole reactor, with the
// message in one read and in many, whole and cut short. A message of many reads lies in the
// connection's inbox while it is decoded; the inner decoder must not hold anything there.
#include <gtest/gtest.h>

#include "proto/binary.h"
#include "proto/endian.h"

#include "tests/net/loop/reactor_stage.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

constexpr auto kProtocolError = static_cast<size_t>(CloseReason::protocol_error);

StagePlan plan(bool deflate) {
    StagePlan plan{.listen = {"ws://10.0.0.1:9000"}};
    plan.options.on_message = OnMessage::echo;
    plan.options.ws_deflate = deflate;
    return plan;
}

size_t upgraded(ReactorStage& stage) {
    const size_t peer = stage.connect(0);
    stage.write(peer,
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Protocol: pulse.v1.binary\r\n"
                "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    stage.settle();
    EXPECT_TRUE(stage.heard(peer).starts_with("HTTP/1.1 101 "));
    stage.heard(peer).clear();
    return peer;
}

// A frame of the binary protocol: `declared` bytes by its header, of which `payload` is there.
Bytes inner(uint8_t type, uint16_t declared, const Bytes& payload) {
    Bytes frame(kBinaryHeaderBytes);
    frame[0] = binary::kMagic;
    frame[1] = type;
    store_be16(frame.data() + 2, declared);
    store_be32(frame.data() + 4, 7);
    return frame + payload;
}
Bytes ping(size_t bytes) { return inner(1, static_cast<uint16_t>(bytes), Bytes(bytes, 'p')); }

// Pings that add up to about `bytes`.
Bytes pings(size_t bytes) {
    Bytes message;
    while (message.size() < bytes) message = message + ping(9'000);
    return message;
}

void write_in_pieces(ReactorStage& stage, size_t peer, const Bytes& wire, size_t piece) {
    for (size_t at = 0; at < wire.size(); at += piece) {
        stage.write(peer, std::span(wire).subspan(at, std::min(piece, wire.size() - at)));
        stage.settle(kMillisecond);
    }
    stage.settle();
}

struct Delivery {
    size_t piece;
    size_t fragment;  // payload bytes of each fragment; 0: one frame
};
constexpr Delivery kDeliveries[] = {{SIZE_MAX, 0}, {30'000, 0}, {7, 0}, {10'000, 40'000}};

Bytes message_of(const Bytes& content, size_t fragment) {
    if (fragment == 0) return frame(0x82, content);
    Bytes wire;
    for (size_t at = 0; at < content.size(); at += fragment) {
        const bool last = at + fragment >= content.size();
        const auto first = static_cast<uint8_t>((at == 0 ? 2 : 0) | (last ? 0x80 : 0));
        const auto begin = content.begin() + static_cast<ptrdiff_t>(at);
        const size_t bytes = std::min(fragment, content.size() - at);
        wire = wire + frame(first, Bytes(begin, begin + static_cast<ptrdiff_t>(bytes)));
    }
    return wire;
}

TEST(FramedBinary, AMessageThatEndsInsideAFrameIsAProtocolErrorHoweverItArrives) {
    for (const bool deflate : {false, true}) {
        for (const Delivery& delivery : kDeliveries) {
            const size_t bulk = delivery.piece == 7 ? 4'000 : 260'000;
            const Bytes cut_payload = inner(1, 50'000, Bytes(20'000, 'x'));
            const Bytes cut_header = {binary::kMagic, 1, 0};
            for (const Bytes& tail : {cut_payload, cut_header}) {
                ReactorStage stage(plan(deflate));
                const size_t peer = upgraded(stage);
                const Bytes content = (bulk > 9'000 ? pings(bulk) : ping(bulk)) + tail;
                write_in_pieces(stage, peer, message_of(content, delivery.fragment),
                                delivery.piece);
                stage.settle(2 * kSecond);
                EXPECT_EQ(stage.metrics().closed[kProtocolError], 1u);
                EXPECT_NE(stage.heard(peer).find("ends inside a binary frame"), std::string::npos);
                EXPECT_TRUE(stage.ended(peer));
                EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
            }
        }
    }
}

TEST(FramedBinary, EveryFrameOfAWholeMessageIsAnsweredHoweverItArrives) {
    for (const Delivery& delivery : kDeliveries) {
        ReactorStage stage(plan(false));
        const size_t peer = upgraded(stage);
        const Bytes content = delivery.piece == 7 ? ping(4'000) : pings(260'000);
        write_in_pieces(stage, peer, message_of(content, delivery.fragment), delivery.piece);
        stage.settle(kSecond);
        const auto frames = content.size() / ping(9'000).size();
        EXPECT_EQ(stage.metrics()[Metric::heartbeats_answered], delivery.piece == 7 ? 1 : frames);
        ASSERT_NE(stage.record(peer), nullptr);
        EXPECT_EQ(stage.record(peer)->inbox, 0u);
        EXPECT_EQ(stage.reactor().connections().buffers().taken(), 0u);
    }
}

// It is answered in JSON, but what was agreed on stays: one goodbye, and that a binary frame.
TEST(FramedBinary, JsonBesidesItDoesNotChangeTheDialect) {
    ReactorStage stage(plan(false));
    const size_t peer = upgraded(stage);
    const std::string ping = R"({"type":"ping","seq":7})";
    stage.write(peer, frame(0x81, Bytes(ping.begin(), ping.end())));
    stage.settle();
    EXPECT_EQ(stage.heard(peer).substr(2), R"({"type":"pong","seq":7})");
    stage.heard(peer).clear();
    ASSERT_TRUE(stage.post({Message::Drain{}}));
    stage.settle(20 * kSecond);
    EXPECT_EQ(stage.heard(peer).substr(2, 2), "\xB7\x06");
    EXPECT_EQ(stage.heard(peer).find("\"goodbye\""), std::string::npos) << stage.heard(peer);
}

}  // namespace
}  // namespace pulse::test
