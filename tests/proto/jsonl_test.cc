// JSON lines: what a line is, however it arrives; its limit; what is held and when.
#include "proto/jsonl.h"

#include <gtest/gtest.h>

#include "core/random.h"

#include "tests/support/allocation_count.h"
#include "tests/support/recording_sink.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    std::string_view detail;
    std::string held;
    friend bool operator==(const Heard&, const Heard&) = default;
};

Heard hear(const Bytes& wire, const std::vector<size_t>& cuts = {}, size_t line_bytes_max = 100) {
    RecordingSink sink;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = jsonl::decode(piece, {.message_bytes_max = line_bytes_max}, sink);
        return fault.ok();
    });
    EXPECT_FALSE(sink.lost);
    return {sink.calls, fault.fault, fault.detail, fault.ok() ? text_of(sink.held()) : ""};
}
Heard hear(std::string_view wire, const std::vector<size_t>& cuts = {},
           size_t line_bytes_max = 100) {
    return hear(bytes_of(wire), cuts, line_bytes_max);
}

using Calls = std::vector<std::string>;

TEST(JsonLines, WhatALineIs) {
    const struct {
        std::string_view wire;
        Calls calls;
        std::string_view held;
    } cases[] = {
        {"", {}, ""},
        {"{}\n", {"text:{}"}, ""},
        {"{}\r\n", {"text:{}"}, ""},
        {"{}", {}, "{}"},
        {"{}\r", {}, "{}\r"},
        {"a\nb\r\nc\n", {"text:a", "text:b", "text:c"}, ""},
        {"\n\r\n\n\n", {}, ""},
        {"\n\na\n\r\n", {"text:a"}, ""},
        // Only the CR that stands before the LF is dropped.
        {"a\rb\n", {"text:a\rb"}, ""},
        {"a\r\r\n", {"text:a\r"}, ""},
        {"\r\r\n", {"text:\r"}, ""},
        {" \n", {"text: "}, ""},
        {"PING\nping\r\n", {"text:PING", "text:ping"}, ""},
        {std::string_view("a\0b\n", 4), {std::string("text:a\0b", 8)}, ""},
    };
    for (const auto& c : cases) {
        const Heard heard = hear(c.wire);
        EXPECT_EQ(heard.calls, c.calls) << c.wire;
        EXPECT_EQ(heard.held, c.held) << c.wire;
        EXPECT_EQ(heard.fault, CloseReason::none);
        EXPECT_EQ(hear(c.wire, every_byte(c.wire.size())), heard) << c.wire;
    }
}

TEST(JsonLines, ALineOverTheLimitIsRefusedAtTheByteThatMakesItSo) {
    for (const std::string& before : {std::string(), std::string("ok\n")}) {
        for (size_t length = 0; length < 15; ++length) {
            const std::string wire = before + std::string(length, 'x');
            for (const bool bytewise : {false, true}) {
                const Heard heard =
                    hear(wire, bytewise ? every_byte(wire.size()) : std::vector<size_t>{}, 10);
                EXPECT_EQ(heard.fault,
                          length > 10 ? CloseReason::message_too_big : CloseReason::none)
                    << length;
                EXPECT_EQ(heard.calls.size(), before.empty() ? 0u : 1u);
            }
        }
    }
    EXPECT_EQ(hear("1234567890\n", {}, 10).calls, Calls{"text:1234567890"});
    EXPECT_EQ(hear("12345678901\n", {}, 10).detail, "a line is over the message limit");
    // The CR counts: what it is shows only with the next byte.
    EXPECT_EQ(hear("123456789\r\n", {}, 10).calls, Calls{"text:123456789"});
    EXPECT_EQ(hear("1234567890\r\n", {}, 10).fault, CloseReason::message_too_big);
    EXPECT_EQ(hear("1234567890\r\n", {11}, 10).fault, CloseReason::message_too_big);
}

TEST(JsonLines, WhatComesAfterAFaultIsNotDelivered) {
    const std::string wire = "a\n" + std::string(11, 'x') + "\nb\n";
    for (size_t cut = 1; cut < wire.size(); ++cut)
        EXPECT_EQ(hear(wire, {cut}, 10).calls, Calls{"text:a"}) << cut;
}

// ---------------------------------------------------------------------------- whole against cut
Bytes random_lines(Random& random) {
    Bytes wire;
    for (uint64_t line = 1 + random.below(12); line > 0; --line) {
        for (uint64_t at = random.below(random.chance(1, 8) ? 130 : 20); at > 0; --at)
            wire.push_back(random.chance(1, 12) ? '\r' : static_cast<uint8_t>(random.next()));
        if (random.chance(1, 3)) wire.push_back('\r');
        if (line > 1 || random.chance(1, 2)) wire.push_back('\n');
    }
    return wire;
}

// The obvious way: cut at every LF, strip one CR, leave out what is empty.
Heard oracle(const Bytes& wire, size_t line_bytes_max) {
    Heard heard;
    std::string line;
    for (const uint8_t byte : wire) {
        if (byte != '\n') {
            line.push_back(static_cast<char>(byte));
            if (line.size() <= line_bytes_max) continue;
            heard.fault = CloseReason::message_too_big;
            heard.detail = "a line is over the message limit";
            return heard;
        }
        if (!line.empty() && line.back() == '\r') line.pop_back();
        if (!line.empty()) heard.calls.push_back("text:" + line);
        line.clear();
    }
    heard.held = line;
    return heard;
}

TEST(JsonLinesOracle, LinesAreTheSameHoweverTheyAreCut) {
    Random random(1);
    uint64_t faults = 0;
    const uint64_t rounds = scaled(5'000);
    for (uint64_t round = 0; round < rounds; ++round) {
        const Bytes wire = random_lines(random);
        const Heard expected = oracle(wire, 100);
        faults += expected.fault != CloseReason::none;
        ASSERT_EQ(hear(wire), expected) << "round " << round;
        ASSERT_EQ(hear(wire, every_byte(wire.size())), expected) << "round " << round;
        for (int cutting = 0; cutting < 6; ++cutting) {
            std::vector<size_t> cuts;
            const size_t step = size_t{2} << random.below(8);
            for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
                cuts.push_back(at);
            ASSERT_EQ(hear(wire, cuts), expected) << "round " << round;
        }
    }
    EXPECT_GT(faults, rounds / 20);
    EXPECT_LT(faults, rounds / 2);
}

TEST(JsonLinesOracle, EveryPairOfCuts) {
    const std::string wire = "{\"type\":\"ping\"}\r\n\n\r\nPING\nab\rc\r\nlast";
    const Heard whole = hear(wire);
    ASSERT_EQ(whole.calls.size(), 3u);
    for (size_t first = 1; first < wire.size(); ++first)
        for (size_t second = first + 1; second < wire.size(); ++second)
            ASSERT_EQ(hear(wire, {first, second}), whole) << first << " " << second;
}

// -------------------------------------------------------------- what is asked of the sink
TEST(JsonLinesSink, AWholeLineIsHandedOverWhereItLies) {
    struct InPlace : RecordingSink {
        std::vector<std::span<uint8_t>> lines;
        void on_message(MessageKind, uint32_t, std::span<uint8_t> line) { lines.push_back(line); }
    } sink;
    LentBytes wire(bytes_of("first\r\nsecond\nrest"));
    ASSERT_TRUE(jsonl::decode(wire.span(), CodecLimits{}, sink).ok());
    ASSERT_EQ(sink.lines.size(), 2u);
    EXPECT_EQ(sink.lines[0].data(), wire.span().data());
    EXPECT_EQ(sink.lines[1].data(), wire.span().data() + 7);
    EXPECT_EQ(text_of(sink.held()), "rest");
}

TEST(JsonLinesSink, NothingIsHeldBetweenLines) {
    RecordingSink sink;
    for (const char* piece : {"{\"a\"", ":1}", "\r", "\n"}) {
        LentBytes lent(bytes_of(piece));
        ASSERT_TRUE(jsonl::decode(lent.span(), CodecLimits{}, sink).ok());
    }
    EXPECT_EQ(sink.calls, Calls{"text:{\"a\":1}"});
    EXPECT_TRUE(sink.held().empty());
}

TEST(JsonLinesSink, NoMemoryEndsIt) {
    RecordingSink sink;
    sink.hold_bytes_max = 3;
    LentBytes first(bytes_of("abc"));
    LentBytes second(bytes_of("d\n"));
    ASSERT_TRUE(jsonl::decode(first.span(), CodecLimits{}, sink).ok());
    EXPECT_EQ(jsonl::decode(second.span(), CodecLimits{}, sink).fault, CloseReason::out_of_memory);
    EXPECT_TRUE(sink.calls.empty());
}

TEST(JsonLinesSink, NothingIsDeliveredOnceTheSessionHasEnded) {
    const std::string wire = "a\nb\nc\n" + std::string(200, 'x');
    for (size_t cut = 1; cut < 8; ++cut) {
        for (size_t calls = 1; calls <= 3; ++calls) {
            RecordingSink sink;
            sink.stop_after_calls = calls;
            feed_in_pieces(bytes_of(wire), {cut}, [&](std::span<uint8_t> piece) {
                EXPECT_TRUE(jsonl::decode(piece, {.message_bytes_max = 100}, sink).ok());
                return true;
            });
            EXPECT_EQ(sink.calls.size(), calls);
            EXPECT_FALSE(sink.lost);
        }
    }
}

TEST(JsonLinesCost, AWholeLineAllocatesNothing) {
    if (!kAllocationsCounted) GTEST_SKIP() << "a sanitizer brings an allocator of its own";
    struct Counting : RecordingSink {
        uint64_t bytes = 0;
        void on_message(MessageKind, uint32_t, std::span<uint8_t> line) { bytes += line.size(); }
    } sink;
    LentBytes wire(bytes_of("{\"type\":\"ping\"}\nPING\r\n"));
    const uint64_t before = allocations();
    for (int round = 0; round < 1'000; ++round)
        static_cast<void>(jsonl::decode(wire.span(), CodecLimits{}, sink));
    EXPECT_EQ(allocations(), before);
    EXPECT_EQ(sink.bytes, 19'000u);
}

}  // namespace
}  // namespace pulse::test
