// The codec against itself: cut anywhere it says the same, on any input; what it asks of its sink;
// what it owns and allocates. rfc6455_frames_test.cc and rfc7692_test.cc test what it
// accepts and refuses.
#include "proto/websocket.h"

#include <gtest/gtest.h>

#include "core/connection.h"
#include "core/random.h"
#include "proto/handshake.h"

#include "tests/support/allocation_count.h"
#include "tests/support/scale.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

using websocket::Opcode;
using websocket::State;

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    std::string_view detail;
    friend bool operator==(const Heard&, const Heard&) = default;
};

template <Role role>
Heard hear(const Bytes& wire, const std::vector<size_t>& cuts, uint8_t window_bits,
           Inflater& inflater) {
    State state;
    state.window_bits = window_bits;
    RecordingSink sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = websocket::decode<role>(state, piece, {.message_bytes_max = 5'000}, sink, inflater);
        return fault.ok();
    });
    return {sink.calls, fault.fault, fault.detail};
}

// Frames that are mostly right, so that what is wrong comes deep inside a conversation.
Bytes random_frame(Random& random, Role role, bool& in_message, Deflater& deflater) {
    FrameSpec spec;
    if (role == Role::client) spec.mask = {};
    const bool control = random.chance(1, 3);
    const bool final_frame = control || random.chance(2, 3);
    const int opcode =
        control      ? static_cast<int>(8 + random.below(random.chance(1, 10) ? 3 : 2) + 1) % 11
        : in_message ? 0
                     : static_cast<int>(1 + random.below(2));
    spec.first = static_cast<uint8_t>((final_frame ? 0x80 : 0) | opcode);
    const size_t largest = control ? 125 : size_t{1} << random.below(13);
    spec.payload.resize(random.below(largest + 1));
    for (uint8_t& byte : spec.payload) byte = static_cast<uint8_t>('a' + random.below(3));
    if (opcode == 8) spec.payload = Bytes{0x03, 0xE8};
    if (!control && random.chance(1, 8)) spec.payload = spec.payload + bytes_of("\xE2\x82\xAC");
    if (!control && !in_message && final_frame && random.chance(1, 4)) {
        const std::span<const uint8_t> payload = deflater.deflate(spec.payload, 15);
        if (!payload.empty()) {
            spec.payload.assign(payload.begin(), payload.end());
            spec.first |= 0x40;
        }
    }
    if (!control) in_message = !final_frame;
    if (random.chance(1, 60)) spec.first ^= static_cast<uint8_t>(1 << random.below(8));
    if (random.chance(1, 60) && !spec.payload.empty())
        spec.payload[random.below(spec.payload.size())] ^= 0x80;
    if (random.chance(1, 60)) spec.declared = random.next() >> random.below(64);
    if (random.chance(1, 100)) spec.form = LengthForm::bits64;
    return build(spec);
}

template <Role role>
void whole_against_cut(uint64_t seed) {
    Random random(seed);
    Deflater deflater;
    Inflater inflater;
    uint64_t faults = 0;
    uint64_t calls = 0;
    for (uint64_t round = 0; round < scaled(3'000); ++round) {
        Bytes wire;
        bool in_message = false;
        for (uint64_t at = 1 + random.below(12); at > 0; --at)
            wire = wire + random_frame(random, role, in_message, deflater);
        const uint8_t window_bits = random.chance(1, 2) ? 15 : 0;
        const Heard whole = hear<role>(wire, {}, window_bits, inflater);
        faults += whole.fault != CloseReason::none;
        calls += whole.calls.size();
        ASSERT_EQ(hear<role>(wire, every_byte(wire.size()), window_bits, inflater), whole)
            << "round " << round;
        for (int cutting = 0; cutting < 6; ++cutting) {
            std::vector<size_t> cuts;
            const size_t step = size_t{2} << random.below(10);
            for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
                cuts.push_back(at);
            ASSERT_EQ(hear<role>(wire, cuts, window_bits, inflater), whole)
                << "round " << round << " of seed " << seed;
        }
    }
    // The worlds it makes are worth making: many calls, and faults in many but not all.
    EXPECT_GT(calls, scaled(3'000));
    EXPECT_GT(faults, scaled(300));
    EXPECT_LT(faults, scaled(2'700));
}

TEST(WebSocketOracle, AServerDecodesTheSameHoweverItIsCut) { whole_against_cut<Role::server>(1); }
TEST(WebSocketOracle, AClientDecodesTheSameHoweverItIsCut) { whole_against_cut<Role::client>(2); }

TEST(WebSocketOracle, EveryPairOfCuts) {
    Inflater inflater;
    const Bytes wire = frame(0x01, "h\xC3\xA9") + frame(0x89, "pp") + frame(0x80, "\xE2\x82\xAC") +
                       frame(0x82, Bytes(130, 'x')) + close_frame(1000, "b");
    const Heard whole = hear<Role::server>(wire, {}, 0, inflater);
    ASSERT_EQ(whole.calls.size(), 4u);
    for (size_t first = 1; first < wire.size(); ++first)
        for (size_t second = first + 1; second < wire.size(); second += scaled(1) * kSlowness)
            ASSERT_EQ(hear<Role::server>(wire, {first, second}, 0, inflater), whole)
                << first << " " << second;
}

TEST(WebSocketOracle, NoiseEndsInAFaultOrWaits) {
    Random random(3);
    Inflater inflater;
    for (uint64_t round = 0; round < scaled(20'000); ++round) {
        Bytes noise(1 + random.below(60));
        for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.next());
        const Heard whole = hear<Role::server>(noise, {}, 15, inflater);
        ASSERT_EQ(hear<Role::server>(noise, every_byte(noise.size()), 15, inflater), whole);
    }
}

// D1: a session that lets go is not talked to any more.
TEST(WebSocketSink, NothingIsCalledOnceItHasStopped) {
    const Bytes wire = frame(0x89, "1") + frame(0x01, "a") + frame(0x89, "2") + frame(0x80, "b") +
                       frame(0x89, "3") + close_frame(1000);
    Inflater inflater;
    const Heard whole = hear<Role::server>(wire, {}, 0, inflater);
    for (size_t calls = 1; calls <= whole.calls.size(); ++calls) {
        for (size_t place = 0; place < wire.size(); ++place) {
            State state;
            RecordingSink sink;
            sink.stop_after_calls = calls;
            feed_in_pieces(
                wire, place == 0 ? every_byte(wire.size()) : std::vector<size_t>{place},
                [&](std::span<uint8_t> piece) {
                    EXPECT_TRUE(
                        websocket::decode(state, piece, CodecLimits{}, sink, inflater).ok());
                    return !sink.stopped();
                });
            ASSERT_EQ(sink.calls.size(), calls);
            ASSERT_FALSE(sink.lost);
        }
    }
}

TEST(WebSocketSink, ARefusedHoldIsOutOfMemory) {
    Inflater inflater;
    for (const Bytes& wire :
         {frame(0x82, Bytes(50, 'x')), frame(0x02, Bytes(50, 'x')), frame(0x89, Bytes(50, 'x')),
          frame(0x02, Bytes(4, 'x')) + frame(0x89, Bytes(50, 'x')) + frame(0x80)}) {
        State state;
        RecordingSink sink;
        sink.hold_bytes_max = 10;
        Decoded fault;
        feed_in_pieces(wire, every_byte(wire.size()), [&](std::span<uint8_t> piece) {
            fault = websocket::decode(state, piece, CodecLimits{}, sink, inflater);
            return fault.ok();
        });
        EXPECT_EQ(fault.fault, CloseReason::out_of_memory);
        EXPECT_TRUE(sink.calls.empty());
    }
}

// D4: what lies whole in the input is not copied.
TEST(WebSocketSink, AWholeMessageIsHandedOverInPlace) {
    struct Places : RecordingSink {
        std::vector<const uint8_t*> at;
        uint64_t holds = 0;
        void on_message(MessageKind, uint32_t, std::span<uint8_t> message) {
            at.push_back(message.data());
        }
        void on_ping(uint32_t, std::span<uint8_t> payload) { at.push_back(payload.data()); }
        bool hold(std::span<const uint8_t> piece) { return ++holds, RecordingSink::hold(piece); }
    };
    LentBytes lent(frame(0x82, "one") + frame(0x81, "two") + frame(0x89, "three"));
    State state;
    Places sink;
    Inflater inflater;
    ASSERT_TRUE(websocket::decode(state, lent.span(), CodecLimits{}, sink, inflater).ok());
    const uint8_t* start = lent.span().data();
    EXPECT_EQ(sink.at, (std::vector<const uint8_t*>{start + 6, start + 15, start + 24}));
    EXPECT_EQ(sink.holds, 0u);
}

// D5: between messages nothing is held and the state fits its place in the record.
TEST(WebSocketState, OwnsTheRecordAndNothingElse) {
    EXPECT_LE(sizeof(State), sizeof(Connection::codec));
    EXPECT_LE(alignof(State), alignof(uint32_t));
    Inflater inflater;
    Random random(5);
    for (int round = 0; round < 200; ++round) {
        const Bytes wire = frame(0x01, "ab") + frame(0x89, "x") + frame(0x80, "cd") +
                           frame(0x82, Bytes(random.below(300), 'y'));
        State state;
        RecordingSink sink;
        const size_t cut = 1 + random.below(wire.size() - 1);
        feed_in_pieces(wire, {cut}, [&](std::span<uint8_t> piece) {
            return websocket::decode(state, piece, CodecLimits{}, sink, inflater).ok();
        });
        EXPECT_EQ(sink.held().size(), 0u);
        EXPECT_EQ(sink.held().data(), nullptr);
        EXPECT_FALSE(state.in_payload || state.in_message || state.header_bytes > 0);
    }
}

// What a session does with a heartbeat, without the session.
struct PongingSink {
    std::array<uint8_t, 256> out{};
    size_t used = 0;
    uint64_t pings = 0;
    std::array<uint8_t, 256> kept{};
    size_t kept_bytes = 0;

    uint8_t* claim(size_t bytes) {
        if (bytes > out.size() - used) used = 0;
        used += bytes;
        return out.data() + used - bytes;
    }
    void on_ping(uint32_t, std::span<uint8_t> payload) {
        ++pings;
        websocket::write_frame(*this, Opcode::pong, payload);
    }
    void on_pong(uint32_t, std::span<uint8_t>) {}
    void on_hello(uint32_t, std::span<uint8_t>) {}
    void on_message(MessageKind, uint32_t, std::span<uint8_t>) {}
    void on_goodbye(uint16_t, std::span<uint8_t>) {}
    bool hold(std::span<const uint8_t> piece) {
        std::copy(piece.begin(), piece.end(), kept.begin() + static_cast<ptrdiff_t>(kept_bytes));
        kept_bytes += piece.size();
        return true;
    }
    std::span<uint8_t> held() { return {kept.data(), kept_bytes}; }
    void keep_held(size_t bytes) { kept_bytes = bytes; }
    bool stopped() const { return false; }
};

TEST(WebSocketAllocations, AHeartbeatCostsNone) {
    const uint64_t before_any = allocations();
    int* volatile block = new int(1);  // volatile, or the pair is optimised away
    delete block;
    ASSERT_EQ(allocations() > before_any, kAllocationsCounted) << "the counter counts";

    Bytes lent(kReceiveFrontBytes + 200 + kReceivePadBytes);
    const Bytes wire = frame(0x89, "12345678") + frame(0x8A) + frame(0x81, "ping");
    State state;
    PongingSink sink;
    Inflater inflater;
    const uint64_t before = allocations();
    for (uint64_t beat = 0; beat < 1'000; ++beat) {
        const size_t cut = beat % wire.size();
        uint8_t* input = lent.data() + kReceiveFrontBytes;
        std::copy(wire.begin(), wire.begin() + static_cast<ptrdiff_t>(cut), input);
        if (cut > 0) websocket::decode(state, {input, cut}, CodecLimits{}, sink, inflater);
        std::copy(wire.begin() + static_cast<ptrdiff_t>(cut), wire.end(), input);
        websocket::decode(state, {input, wire.size() - cut}, CodecLimits{}, sink, inflater);
    }
    EXPECT_EQ(allocations() - before, 0u);
    EXPECT_EQ(sink.pings, 1'000u);
}

TEST(WebSocketEncoding, TheProbeIsAnEmptyPing) {
    ByteBuffer out;
    ASSERT_TRUE(websocket::write_frame(out, Opcode::ping, {}));
    EXPECT_EQ(out.bytes, Bytes(websocket::kProbe.begin(), websocket::kProbe.end()));
}

TEST(WebSocketEncoding, WithoutRoomNothingIsAppended) {
    for (size_t room = 0; room < 7; ++room) {
        ByteBuffer out;
        out.room = room;
        EXPECT_FALSE(websocket::write_frame(out, Opcode::text, bytes_of("hello")));
        EXPECT_TRUE(out.bytes.empty());
    }
}

}  // namespace
}  // namespace pulse::test
