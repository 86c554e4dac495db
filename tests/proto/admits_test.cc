// A sink that bounds what it takes in one call (proto/codec.h, D1): whatever the bound and wherever
// the bytes are cut, the calls are those of a sink that takes everything.
#include <gtest/gtest.h>

#include "proto/binary.h"
#include "proto/deflate.h"
#include "proto/endian.h"
#include "proto/jsonl.h"
#include "proto/websocket.h"

#include "tests/support/recording_sink.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

struct BoundedSink : RecordingSink {
    size_t allowance = SIZE_MAX;  // frames of this call
    size_t refused = 0;
    bool admits(size_t, bool) {
        if (allowance == 0) return ++refused, false;
        --allowance;
        return true;
    }
};

// Feeds `wire` in pieces of `piece` bytes, at most `frames` a call; what is left over comes first
// in the next call, with whatever came meanwhile behind it.
template <class Decode>
std::vector<std::string> calls_of(const Bytes& wire, size_t piece, size_t frames, Decode decode) {
    BoundedSink sink;
    Bytes waiting;
    size_t at = 0;
    for (size_t left = 100'000; at < wire.size() || !waiting.empty(); --left) {
        EXPECT_GT(left, 0u) << "no progress";
        if (left == 0) break;
        if (waiting.empty()) {
            const size_t bytes = std::min(piece, wire.size() - at);
            const auto begin = wire.begin() + static_cast<ptrdiff_t>(at);
            waiting.assign(begin, begin + static_cast<ptrdiff_t>(bytes));
            at += bytes;
        }
        LentBytes lent(waiting);
        sink.allowance = frames;
        const Decoded decoded = decode(lent.span(), sink);
        EXPECT_TRUE(decoded.ok()) << decoded.detail;
        const uint8_t* const end = lent.span().data() + lent.span().size();
        waiting.assign(end - decoded.rest_bytes, end);
    }
    EXPECT_TRUE(sink.held().empty());
    return sink.calls;
}

template <class MakeDecode>
void expect_the_same_calls(const Bytes& wire, MakeDecode make_decode) {
    const auto whole = calls_of(wire, SIZE_MAX, SIZE_MAX, make_decode());
    ASSERT_GE(whole.size(), 5u);
    for (size_t piece = 1; piece <= wire.size(); ++piece) {
        for (const size_t frames : {size_t{1}, size_t{2}, size_t{3}}) {
            EXPECT_EQ(calls_of(wire, piece, frames, make_decode()), whole)
                << "pieces of " << piece << ", " << frames << " frames a call";
        }
    }
}

Bytes binary_wire() {
    Bytes wire;
    for (uint8_t number = 1; number <= 6; ++number) {
        Bytes frame(kBinaryHeaderBytes);
        frame[0] = binary::kMagic;
        frame[1] = number % 2 == 0 ? 1 : 5;
        const size_t payload = number * 7u % 5u * 3u;
        store_be16(frame.data() + 2, static_cast<uint16_t>(payload));
        store_be32(frame.data() + 4, number);
        wire = wire + frame + Bytes(payload, static_cast<uint8_t>('a' + number));
    }
    return wire;
}

TEST(Admits, BinaryFramesAreTheSameWhereverDecodingPauses) {
    expect_the_same_calls(binary_wire(), [] {
        return [state = binary::State{}](std::span<uint8_t> input, BoundedSink& sink) mutable {
            return binary::decode(state, input, CodecLimits{}, sink);
        };
    });
}

TEST(Admits, JsonLinesAreTheSameWhereverDecodingPauses) {
    const Bytes wire = bytes_of("{\"a\":1}\r\n\n\r\nPING\n{}\nlonger line, of more bytes\n[]\nx\n");
    expect_the_same_calls(wire, [] {
        return [](std::span<uint8_t> input, BoundedSink& sink) {
            return jsonl::decode(input, CodecLimits{}, sink);
        };
    });
}

// Messages whole and in fragments with control frames between them, some compressed.
Bytes websocket_wire() {
    const Bytes deflated = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};  // RFC 7692 7.2.3.1
    const Bytes half(deflated.begin(), deflated.begin() + 3);
    const Bytes other(deflated.begin() + 3, deflated.end());
    return frame(0x81, "one") + frame(0x89, "") + frame(0x01, "tw") + frame(0x89, "beat") +
           frame(0x80, "o") + frame(0xC1, deflated) + frame(0x41, half) + frame(0x8A, "x") +
           frame(0x80, other) + frame(0x82, "") + frame(0x81, std::string(130, 'y')) +
           frame(0x88, "");
}

TEST(Admits, WebSocketFramesAreTheSameWhereverDecodingPauses) {
    Inflater inflater;
    expect_the_same_calls(websocket_wire(), [&] {
        websocket::State state;
        state.window_bits = 15;
        return [&inflater, state](std::span<uint8_t> input, BoundedSink& sink) mutable {
            return websocket::decode(state, input, CodecLimits{}, sink, inflater);
        };
    });
}

TEST(Admits, ASinkThatRefusesIsNotAskedAgainInTheSameCall) {
    BoundedSink sink;
    sink.allowance = 1;
    Bytes wire = binary_wire();
    LentBytes lent(wire);
    binary::State state{};
    const Decoded decoded = binary::decode(state, lent.span(), CodecLimits{}, sink);
    EXPECT_EQ(sink.refused, 1u);
    EXPECT_EQ(sink.calls.size(), 1u);
    EXPECT_GT(decoded.rest_bytes, 0u);
}

}  // namespace
}  // namespace pulse::test
