// The binary protocol: what each type and length means to each side, whole against cut as an
// oracle, what is held and when, and what the encoders write.
#include "proto/binary.h"

#include <gtest/gtest.h>

#include <array>

#include "core/random.h"

#include "tests/support/allocation_count.h"
#include "tests/support/recording_sink.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using binary::State;
using binary::Type;

// What a client hears besides what a server hears.
struct BothSides : RecordingSink {
    void on_welcome(uint32_t sequence, std::span<uint8_t> object) {
        calls.push_back("welcome#" + std::to_string(sequence) + ":" + text_of(object));
    }
    void on_interval(uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every) {
        calls.push_back("interval " + std::to_string(interval_ms) + " " +
                        std::to_string(timeout_ms) + " " + std::to_string(answer_every));
    }
    void on_ack(uint64_t received) { calls.push_back("ack " + std::to_string(received)); }
    void on_expiring(uint32_t in_ms) { calls.push_back("expiring " + std::to_string(in_ms)); }
    void on_error(uint16_t code, std::span<uint8_t> text) {
        calls.push_back("error " + std::to_string(code) + ":" + text_of(text));
    }
};
static_assert(binary::ClientSink<BothSides>);

// Frames made without the encoder that is under test; `declared` is what the header says.
Bytes header(uint8_t type, size_t declared, uint32_t sequence = 0) {
    Bytes made = {0xB7, type, static_cast<uint8_t>(declared >> 8), static_cast<uint8_t>(declared)};
    for (int shift = 24; shift >= 0; shift -= 8)
        made.push_back(static_cast<uint8_t>(sequence >> shift));
    return made;
}
Bytes frame(Type type, const Bytes& payload, uint32_t sequence = 0) {
    return header(static_cast<uint8_t>(type), payload.size(), sequence) + payload;
}
Bytes frame(Type type, std::string_view payload = "", uint32_t sequence = 0) {
    return frame(type, bytes_of(payload), sequence);
}

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    std::string_view detail;
    friend bool operator==(const Heard&, const Heard&) = default;
};

template <Role role>
Heard hear(const Bytes& wire, const std::vector<size_t>& cuts = {},
           const CodecLimits& limits = CodecLimits{}) {
    State state{};
    BothSides sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = binary::decode<role>(state, piece, limits, sink);
        return fault.ok();
    });
    return {sink.calls, fault.fault, fault.detail};
}

// proto/PROTOCOL.md, as a table of its own.
struct Rule {
    Role role;
    Type type;
    size_t payload_bytes_min;
    size_t payload_bytes_max;
};
constexpr Rule kRules[] = {
    {Role::server, Type::ping, 0, 65'535},    {Role::client, Type::ping, 0, 65'535},
    {Role::server, Type::pong, 0, 65'535},    {Role::client, Type::pong, 0, 65'535},
    {Role::server, Type::hello, 2, 65'535},   {Role::client, Type::welcome, 2, 65'535},
    {Role::server, Type::data, 0, 65'535},    {Role::client, Type::data, 0, 65'535},
    {Role::server, Type::goodbye, 2, 65'535}, {Role::client, Type::goodbye, 2, 65'535},
    {Role::client, Type::interval, 8, 8},     {Role::client, Type::error, 2, 65'535},
    {Role::client, Type::expiring, 4, 4},     {Role::server, Type::ack, 8, 8},
};

const Rule* rule_of(Role role, size_t type) {
    for (const Rule& rule : kRules)
        if (rule.role == role && static_cast<size_t>(rule.type) == type) return &rule;
    return nullptr;
}

CloseReason expected(Role role, size_t type, size_t length, size_t limit) {
    const Rule* rule = rule_of(role, type);
    if (rule == nullptr) return CloseReason::protocol_error;
    if (length < rule->payload_bytes_min || length > rule->payload_bytes_max)
        return CloseReason::protocol_error;
    return length > limit ? CloseReason::message_too_big : CloseReason::none;
}

// -------------------------------------------------------------------------------- what is refused
TEST(BinaryHeader, EveryTypeWithEveryLengthOnBothSides) {
    for (const Role role : {Role::server, Role::client}) {
        for (const size_t limit : {size_t{7}, size_t{1'000}, kMessageBytesDefault}) {
            for (size_t type = 0; type < 256; ++type) {
                for (size_t length = 0; length < 65'536; length += length < 300 ? 1 : kSlowness) {
                    const Bytes sent = header(static_cast<uint8_t>(type), length);
                    ASSERT_EQ(binary::judge_header(sent.data(), sent.size(), role,
                                                   {.message_bytes_max = limit})
                                  .fault,
                              expected(role, type, length, limit))
                        << "type " << type << " length " << length << " limit " << limit;
                    if (type > 9 && length > 300) length += 4'096;
                }
            }
        }
    }
}

TEST(BinaryHeader, EveryFirstByteButTheMagicIsRefusedAtOnce) {
    for (int byte = 0; byte < 256; ++byte) {
        const Heard heard = hear<Role::server>({static_cast<uint8_t>(byte)});
        EXPECT_EQ(heard.fault == CloseReason::none, byte == 0xB7) << byte;
    }
    EXPECT_EQ(hear<Role::server>({0xB6}).detail, "a frame must begin with 0xB7");
}

TEST(BinaryHeader, EveryFaultIsFoundAtTheByteThatProvesIt) {
    struct Case {
        Role role;
        Bytes wire;
        size_t proved_by;  // bytes
        CloseReason fault;
        std::string_view detail;
    };
    const Case cases[] = {
        {Role::server, header(0, 0), 2, CloseReason::protocol_error, "unknown frame type"},
        {Role::server, header(11, 0), 2, CloseReason::protocol_error, "unknown frame type"},
        {Role::client, header(255, 0), 2, CloseReason::protocol_error, "unknown frame type"},
        {Role::server, header(4, 2), 2, CloseReason::protocol_error,
         "frame type is not for this side"},
        {Role::server, header(7, 8), 2, CloseReason::protocol_error,
         "frame type is not for this side"},
        {Role::server, header(8, 2), 2, CloseReason::protocol_error,
         "frame type is not for this side"},
        {Role::client, header(3, 2), 2, CloseReason::protocol_error,
         "frame type is not for this side"},
        {Role::client, header(7, 9), 4, CloseReason::protocol_error,
         "wrong payload length for the frame type"},
        {Role::client, header(7, 256), 3, CloseReason::protocol_error,
         "wrong payload length for the frame type"},
        {Role::server, header(3, 1), 4, CloseReason::protocol_error,
         "wrong payload length for the frame type"},
        {Role::server, header(5, 101), 4, CloseReason::message_too_big,
         "payload is over the message limit"},
        {Role::server, header(5, 256), 3, CloseReason::message_too_big,
         "payload is over the message limit"},
    };
    const CodecLimits limits{.message_bytes_max = 100};
    for (const Case& c : cases) {
        for (size_t bytes = 1; bytes <= c.wire.size(); ++bytes) {
            const Bytes wire(c.wire.begin(), c.wire.begin() + static_cast<ptrdiff_t>(bytes));
            for (const std::vector<size_t>& cuts : {std::vector<size_t>{}, every_byte(bytes)}) {
                const Heard heard = c.role == Role::server ? hear<Role::server>(wire, cuts, limits)
                                                           : hear<Role::client>(wire, cuts, limits);
                EXPECT_TRUE(heard.calls.empty());
                EXPECT_EQ(heard.fault, bytes < c.proved_by ? CloseReason::none : c.fault)
                    << "type " << int{c.wire[1]} << " after " << bytes;
                if (bytes >= c.proved_by) {
                    EXPECT_EQ(heard.detail, c.detail);
                }
            }
        }
    }
}

TEST(BinaryHeader, WholeFramesBeforeAFaultAreDelivered) {
    const Heard heard = hear<Role::server>(frame(Type::ping, "a", 1) + frame(Type::pong, "b", 2) +
                                           header(8, 2) + frame(Type::ping, "never", 3));
    EXPECT_EQ(heard.calls, (std::vector<std::string>{"ping#1:a", "pong#2:b"}));
    EXPECT_EQ(heard.fault, CloseReason::protocol_error);
}

// ---------------------------------------------------------------------------------- what is heard
TEST(BinaryFrames, EveryTypeSaysWhatItCarries) {
    const std::string goodbye("\x03\xE8 bye", 6);
    const std::string interval("\x00\x00\xEA\x60\x00\x01\xD4\xC0", 8);
    EXPECT_EQ(hear<Role::server>(frame(Type::ping, "p", 7)).calls.at(0), "ping#7:p");
    EXPECT_EQ(hear<Role::server>(frame(Type::pong, "", 0xFFFF'FFFF)).calls.at(0),
              "pong#4294967295:");
    EXPECT_EQ(hear<Role::server>(frame(Type::hello, "{}", 9)).calls.at(0), "hello#9:{}");
    EXPECT_EQ(hear<Role::server>(frame(Type::data, "d", 1)).calls.at(0), "binary#1:d");
    EXPECT_EQ(hear<Role::server>(frame(Type::goodbye, goodbye)).calls.at(0), "goodbye 1000: bye");
    EXPECT_EQ(hear<Role::client>(frame(Type::ping, "p", 7)).calls.at(0), "ping#7:p");
    EXPECT_EQ(hear<Role::client>(frame(Type::pong, "p", 8)).calls.at(0), "pong#8:p");
    EXPECT_EQ(hear<Role::client>(frame(Type::welcome, "{}", 9)).calls.at(0), "welcome#9:{}");
    EXPECT_EQ(hear<Role::client>(frame(Type::data, "d", 1)).calls.at(0), "binary#1:d");
    EXPECT_EQ(hear<Role::client>(frame(Type::goodbye, goodbye)).calls.at(0), "goodbye 1000: bye");
    EXPECT_EQ(hear<Role::client>(frame(Type::interval, interval)).calls.at(0),
              "interval 60000 120000 1");
    EXPECT_EQ(hear<Role::client>(frame(Type::interval, interval, 8)).calls.at(0),
              "interval 60000 120000 8");
    EXPECT_EQ(hear<Role::client>(frame(Type::error, goodbye)).calls.at(0), "error 1000: bye");
    EXPECT_EQ(hear<Role::client>(frame(Type::expiring, interval.substr(0, 4))).calls.at(0),
              "expiring 60000");
    EXPECT_EQ(hear<Role::server>(frame(Type::ack, interval)).calls.at(0),
              "ack " + std::to_string((uint64_t{60'000} << 32) + 120'000));
}

TEST(BinaryFrames, TheLongestPayloadOfEveryTypeThatMayHaveIt) {
    for (const Rule& rule : kRules) {
        if (rule.payload_bytes_max < 65'535) continue;
        const Bytes wire = frame(rule.type, Bytes(65'535, 'x'), 1);
        for (const std::vector<size_t>& cuts :
             {std::vector<size_t>{}, {8}, {9, 40'000}, {7, 65'542}}) {
            const Heard heard = rule.role == Role::server ? hear<Role::server>(wire, cuts)
                                                          : hear<Role::client>(wire, cuts);
            ASSERT_EQ(heard.fault, CloseReason::none);
            ASSERT_EQ(heard.calls.size(), 1u);
            EXPECT_GE(heard.calls[0].size(), 65'533u);
        }
    }
}

// ---------------------------------------------------------------------- whole against cut (D1, D2)
Bytes random_frame(Random& random, Role role) {
    const Rule* rule = nullptr;
    while (rule == nullptr) rule = rule_of(role, 1 + random.below(8));
    const size_t most = std::min<size_t>(rule->payload_bytes_max, size_t{1} << random.below(12));
    size_t length = rule->payload_bytes_min;
    if (most > length) length += random.below(most - length + 1);
    Bytes payload(length);
    for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random.next());
    Bytes wire = frame(rule->type, payload, static_cast<uint32_t>(random.next()));
    if (random.chance(1, 30)) wire[random.below(4)] ^= static_cast<uint8_t>(1 << random.below(8));
    if (random.chance(1, 60)) wire.resize(random.below(wire.size()));
    return wire;
}

template <Role role>
void whole_against_cut(uint64_t seed) {
    Random random(seed);
    uint64_t faults = 0;
    uint64_t calls = 0;
    const uint64_t rounds = scaled(2'000);
    for (uint64_t round = 0; round < rounds; ++round) {
        Bytes wire;
        for (uint64_t at = 1 + random.below(10); at > 0; --at)
            wire = wire + random_frame(random, role);
        const CodecLimits limits{.message_bytes_max = random.chance(1, 4) ? 300u : 100'000u};
        const Heard whole = hear<role>(wire, {}, limits);
        faults += whole.fault != CloseReason::none;
        calls += whole.calls.size();
        ASSERT_EQ(hear<role>(wire, every_byte(wire.size()), limits), whole) << "round " << round;
        for (int cutting = 0; cutting < 8; ++cutting) {
            std::vector<size_t> cuts;
            const size_t step = size_t{2} << random.below(11);
            for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
                cuts.push_back(at);
            ASSERT_EQ(hear<role>(wire, cuts, limits), whole)
                << "round " << round << " of seed " << seed;
        }
    }
    // The worlds it makes are worth making: many calls, and faults in many but not all.
    EXPECT_GT(calls, rounds);
    EXPECT_GT(faults, rounds / 10);
    EXPECT_LT(faults, rounds - rounds / 10);
}

TEST(BinaryOracle, AServerDecodesTheSameHoweverItIsCut) { whole_against_cut<Role::server>(1); }
TEST(BinaryOracle, AClientDecodesTheSameHoweverItIsCut) { whole_against_cut<Role::client>(2); }

TEST(BinaryOracle, EveryPairOfCuts) {
    const Bytes wire = frame(Type::ping, "", 1) + frame(Type::hello, "{\"user\":\"u1\"}", 2) +
                       frame(Type::data, Bytes(40, 'd'), 3) + frame(Type::ping, "pp", 4) +
                       frame(Type::goodbye, Bytes{3, 232, 'b'});
    const Heard whole = hear<Role::server>(wire);
    ASSERT_EQ(whole.calls.size(), 5u);
    for (size_t first = 1; first < wire.size(); ++first)
        for (size_t second = first + 1; second < wire.size(); ++second)
            ASSERT_EQ(hear<Role::server>(wire, {first, second}), whole) << first << " " << second;
}

// ------------------------------------------------------------ what is asked of the sink (D3 to D6)
TEST(BinarySink, AWholeFrameIsHandedOverWhereItLies) {
    struct InPlace : RecordingSink {
        std::span<uint8_t> payload;
        void on_ping(uint32_t, std::span<uint8_t> bytes) { payload = bytes; }
    } sink;
    const Bytes wire = frame(Type::ping, "here", 1);
    for (size_t cut = 0; cut <= kBinaryHeaderBytes; ++cut) {
        State state{};
        LentBytes head(std::span<const uint8_t>(wire).first(cut));
        LentBytes rest(std::span<const uint8_t>(wire).subspan(cut));
        ASSERT_TRUE(binary::decode(state, head.span(), CodecLimits{}, sink).ok());
        ASSERT_TRUE(binary::decode(state, rest.span(), CodecLimits{}, sink).ok());
        EXPECT_EQ(sink.payload.data(), rest.span().data() + (kBinaryHeaderBytes - cut)) << cut;
        EXPECT_EQ(sink.payload.size(), 4u);
        EXPECT_TRUE(sink.held().empty());
    }
}

TEST(BinarySink, NothingIsHeldBeforeItArrivesNorAfterTheFrame) {
    const Bytes wire = frame(Type::data, Bytes(1'000, 'd'));
    State state{};
    RecordingSink sink;
    for (size_t at = 0; at < wire.size(); ++at) {
        LentBytes piece(std::span<const uint8_t>(wire).subspan(at, 1));
        ASSERT_TRUE(binary::decode(state, piece.span(), CodecLimits{}, sink).ok());
        const size_t arrived =
            at < kBinaryHeaderBytes || at + 1 == wire.size() ? 0 : at + 1 - kBinaryHeaderBytes;
        ASSERT_EQ(sink.held().size(), arrived);
    }
    EXPECT_EQ(sink.calls.size(), 1u);
    // An idle connection's state is that of a new one, but for what was in the spill.
    EXPECT_EQ(state.spill_bytes, 0);
    EXPECT_EQ(state.in_payload, 0);
}

TEST(BinarySink, ALengthOverTheLimitAsksForNoMemory) {
    RecordingSink sink;
    sink.hold_bytes_max = 0;
    State state{};
    LentBytes wire(header(5, 65'535) + Bytes(10, 'x'));
    EXPECT_EQ(binary::decode(state, wire.span(), {.message_bytes_max = 65'534}, sink).fault,
              CloseReason::message_too_big);
}

TEST(BinarySink, NoMemoryEndsIt) {
    RecordingSink sink;
    sink.hold_bytes_max = 5;
    State state{};
    LentBytes first(header(5, 10) + Bytes(5, 'x'));
    LentBytes second(Bytes(5, 'x'));
    ASSERT_TRUE(binary::decode(state, first.span(), CodecLimits{}, sink).ok());
    const Decoded fault = binary::decode(state, second.span(), CodecLimits{}, sink);
    EXPECT_EQ(fault.fault, CloseReason::out_of_memory);
    EXPECT_TRUE(sink.calls.empty());
}

TEST(BinarySink, NothingIsDeliveredOnceTheSessionHasEnded) {
    const Bytes wire = frame(Type::ping, "a", 1) + frame(Type::ping, "b", 2) +
                       frame(Type::ping, "c", 3) + bytes_of("no frame");
    for (size_t cut = 1; cut < wire.size(); ++cut) {
        for (size_t calls = 1; calls <= 3; ++calls) {
            RecordingSink sink;
            sink.stop_after_calls = calls;
            State state{};
            feed_in_pieces(wire, {cut}, [&](std::span<uint8_t> piece) {
                EXPECT_TRUE(binary::decode(state, piece, CodecLimits{}, sink).ok());
                return true;
            });
            EXPECT_EQ(sink.calls.size(), calls);
            EXPECT_FALSE(sink.lost);
        }
    }
}

// -------------------------------------------------------------------------------------- encoders
TEST(BinaryEncoder, EveryByteOfAFrame) {
    ByteBuffer out;
    const Bytes payload = bytes_of("pulse");
    ASSERT_TRUE(binary::write_frame(out, Type::pong, 0x01020304, payload, bytes_of("wheel")));
    EXPECT_EQ(out.bytes, (Bytes{0xB7, 2, 0, 10, 1, 2, 3, 4}) + bytes_of("pulsewheel"));
    out.bytes.clear();
    ASSERT_TRUE(binary::write_code(out, Type::error, 1002, "why"));
    EXPECT_EQ(out.bytes, (Bytes{0xB7, 8, 0, 5, 0, 0, 0, 0, 0x03, 0xEA}) + bytes_of("why"));
    out.bytes.clear();
    ASSERT_TRUE(binary::write_interval(out, 60'000, 120'000, 1));
    EXPECT_EQ(out.bytes, (Bytes{0xB7, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0xEA, 0x60, 0, 1, 0xD4, 0xC0}));
    out.bytes.clear();
    ASSERT_TRUE(binary::write_interval(out, 60'000, 120'000, 4));
    EXPECT_EQ(out.bytes, (Bytes{0xB7, 7, 0, 8, 0, 0, 0, 4, 0, 0, 0xEA, 0x60, 0, 1, 0xD4, 0xC0}));
}

TEST(BinaryEncoder, WhatDoesNotFitIsNotBegun) {
    ByteBuffer out;
    out.room = 17;
    EXPECT_FALSE(binary::write_frame(out, Type::data, 1, Bytes(10, 'x')));
    EXPECT_TRUE(out.bytes.empty());
    EXPECT_TRUE(binary::write_frame(out, Type::data, 1, Bytes(9, 'x')));
    ByteBuffer wide;
    EXPECT_TRUE(binary::write_frame(wide, Type::data, 1, Bytes(65'535, 'x')));
    wide.bytes.clear();
    EXPECT_FALSE(binary::write_frame(wide, Type::data, 1, Bytes(65'535, 'x'), Bytes(1, 'y')));
    EXPECT_TRUE(wide.bytes.empty());
}

TEST(BinaryEncoder, TheOtherSideDecodesWhatItWrites) {
    for (const Rule& rule : kRules) {
        for (const size_t length : {size_t{0}, size_t{2}, size_t{8}, size_t{65'535}}) {
            if (length < rule.payload_bytes_min || length > rule.payload_bytes_max) continue;
            const Bytes payload(length, 'e');
            ByteBuffer out;
            ASSERT_TRUE(binary::write_frame(out, rule.type, 77, payload));
            EXPECT_EQ(out.bytes, frame(rule.type, payload, 77));
        }
    }
}

// A server's answer to every ping, into a buffer that is there already.
struct Answering : RecordingSink {
    std::array<uint8_t, 256> out{};
    uint32_t answered = 0;
    uint8_t* claim(size_t bytes) { return bytes <= out.size() ? out.data() : nullptr; }
    void on_ping(uint32_t sequence, std::span<uint8_t> payload) {
        answered += binary::write_frame(*this, Type::pong, sequence, payload);
    }
};

TEST(BinaryCost, AHeartbeatAnsweredAllocatesNothing) {
    if (!kAllocationsCounted) GTEST_SKIP() << "a sanitizer brings an allocator of its own";
    Answering sink;
    State state{};
    const Bytes wire = frame(Type::ping, "12345678", 5);
    LentBytes whole(wire);
    LentBytes head(std::span<const uint8_t>(wire).first(3));
    LentBytes tail(std::span<const uint8_t>(wire).subspan(3));
    const uint64_t before = allocations();
    for (int round = 0; round < 1'000; ++round) {
        static_cast<void>(binary::decode(state, whole.span(), CodecLimits{}, sink));
        static_cast<void>(binary::decode(state, head.span(), CodecLimits{}, sink));
        static_cast<void>(binary::decode(state, tail.span(), CodecLimits{}, sink));
    }
    EXPECT_EQ(allocations(), before);
    EXPECT_EQ(sink.answered, 2'000u);
    EXPECT_EQ(text_of({sink.out.data() + 8, 8}), "12345678");
}

}  // namespace
}  // namespace pulse::test
