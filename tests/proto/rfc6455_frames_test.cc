// RFC 6455 sections 5 to 8 and 10.4, sentence by sentence: what a server must take and must refuse.
// Each case is delivered whole, in bytes, cut in two at every place, behind other frames and,
// where it leaves the connection open, in front of one.
#include <gtest/gtest.h>

#include "core/random.h"
#include "proto/websocket.h"

#include "tests/support/conformance.h"
#include "tests/support/scale.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

using websocket::Opcode;

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    friend bool operator==(const Heard&, const Heard&) = default;
};

std::ostream& operator<<(std::ostream& out, const Heard& heard) {
    for (const std::string& call : heard.calls) out << "[" << call.substr(0, 60) << "] ";
    return out << "then " << describe(heard.fault).name;
}

struct Case {
    std::string section;
    Bytes wire;
    std::vector<std::string> calls{};
    CloseReason fault = CloseReason::none;
    CodecLimits limits{};
    bool leaves_open = true;  // with no fault: a frame behind it is understood
};

constexpr CloseReason kOk = CloseReason::none;
constexpr CloseReason kProtocol = CloseReason::protocol_error;
constexpr CloseReason kInvalid = CloseReason::invalid_data;
constexpr CloseReason kTooBig = CloseReason::message_too_big;

template <Role role = Role::server>
Heard hear(const Bytes& wire, const std::vector<size_t>& cuts, const CodecLimits& limits = {}) {
    websocket::State state;
    RecordingSink sink;
    Inflater inflater;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = websocket::decode<role>(state, piece, limits, sink, inflater);
        return fault.ok();
    });
    EXPECT_EQ(fault.ok(), fault.detail.empty());
    return {sink.calls, fault.fault};
}

std::vector<size_t> places_to_cut(size_t bytes) {
    std::vector<size_t> places;
    const size_t step = bytes <= 300 ? 1 : bytes / 16;
    for (size_t at = 1; at < bytes; at += at < 16 ? 1 : step) places.push_back(at);
    return places;
}

void check(const Case& test_case) {
    const Heard expected{test_case.calls, test_case.fault};
    const Bytes& wire = test_case.wire;
    uint64_t deliveries = 0;
    const auto expect = [&](const Bytes& bytes, const std::vector<size_t>& cuts,
                            const Heard& heard) {
        ++deliveries;
        ASSERT_EQ(hear(bytes, cuts, test_case.limits), heard)
            << test_case.section << ", " << bytes.size() << " bytes, first cut "
            << (cuts.empty() ? 0 : cuts[0]) << " of " << cuts.size();
    };
    expect(wire, {}, expected);
    expect(wire, every_byte(wire.size()), expected);
    for (const size_t place : places_to_cut(wire.size())) expect(wire, {place}, expected);

    Heard behind = expected;
    behind.calls.insert(behind.calls.begin(), {"ping:first", "text:second"});
    if (test_case.limits.message_bytes_max >= 6)
        expect(frame(0x89, "first") + frame(0x81, "second") + wire, {}, behind);
    if (test_case.fault == kOk && test_case.leaves_open) {
        Heard before = expected;
        before.calls.push_back("ping:last");
        expect(wire + frame(0x89, "last"), {}, before);
        expect(wire + frame(0x89, "last"), every_byte(wire.size() + 10), before);
    }
    count_case("RFC 6455 " + test_case.section, deliveries);
}

void refuse(const char* section, const Bytes& wire, CloseReason fault = kProtocol) {
    check({section, wire, {}, fault});
}

void close_with(const char* section, const Bytes& wire, const std::string& call) {
    check({section, wire, {call}, kOk, {}, false});
}

// --------------------------------------------------------------------------------------- 5.1
const char* const kMaskingRule = "5.1 masks required";

TEST(Rfc6455_5_1_Overview, FramesWithoutAMaskAreRefused) {
    for (const uint8_t first : Bytes{0x81, 0x82, 0x01, 0x02, 0x88, 0x89, 0x8A}) {
        for (const size_t bytes : {0, 2, 125, 126, 65'536}) {
            if (first >= 0x88 && bytes > 125) continue;
            refuse(kMaskingRule, build({.first = first, .payload = Bytes(bytes, 'x'), .mask = {}}));
        }
        refuse(kMaskingRule, {first, 0x02});  // from the second byte alone
    }
}

TEST(Rfc6455_5_1_Overview, AnUnmaskedFrameAfterMaskedOnesIsRefused) {
    check({kMaskingRule,
           frame(0x82, "a") + build({.first = 0x82, .payload = {'b'}, .mask = {}}),
           {"binary:a"},
           kProtocol});
    refuse(kMaskingRule, frame(0x01, "a") + build({.first = 0x80, .payload = {'b'}, .mask = {}}));
}

TEST(Rfc6455_5_1_Overview, AClientRefusesMaskedFrames) {
    for (const uint8_t first : Bytes{0x81, 0x82, 0x89, 0x8A, 0x88}) {
        const Bytes wire = frame(first, "xy");
        EXPECT_EQ(hear<Role::client>(wire, {}), (Heard{{}, kProtocol}));
        EXPECT_EQ(hear<Role::client>(wire, every_byte(wire.size())), (Heard{{}, kProtocol}));
        count_case(std::string("RFC 6455 ") + kMaskingRule, 2);
    }
}

TEST(Rfc6455_5_1_Overview, AServerDoesNotMaskWhatItSends) {
    for (const size_t bytes : {0, 125, 126, 65'535, 65'536}) {
        ByteBuffer out;
        const Bytes payload(bytes, 'x');
        ASSERT_TRUE(websocket::write_frame(out, Opcode::binary, payload));
        EXPECT_EQ(out.bytes, build({.first = 0x82, .payload = payload, .mask = {}}));
        EXPECT_EQ(hear<Role::client>(out.bytes, {}), (Heard{{"binary:" + text_of(payload)}, kOk}));
        count_case(std::string("RFC 6455 ") + kMaskingRule, 1);
    }
}

// --------------------------------------------------------------------------------------- 5.2
const char* const kFraming = "5.2 base framing";

// What one masked frame of three bytes means, after nothing or inside a fragmented message.
Case first_byte_case(uint8_t first, bool in_message) {
    const uint8_t opcode = first & 0x0F;
    const bool final_frame = (first & 0x80) != 0;
    const Bytes payload = opcode == 8 ? Bytes{0x03, 0xE8, 'z'} : bytes_of("xyz");
    Case test_case{kFraming, (in_message ? frame(0x02, "a") : Bytes{}) + frame(first, payload)};
    const bool starts = opcode == 1 || opcode == 2;
    const bool known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
    if ((first & 0x70) != 0 || !known || (opcode >= 8 && !final_frame) || (in_message && starts) ||
        (!in_message && opcode == 0)) {
        test_case.fault = kProtocol;
        return test_case;
    }
    const char* const calls[] = {"binary:axyz",    "text:xyz", "binary:xyz", "", "", "", "", "",
                                 "goodbye 1000:z", "ping:xyz", "pong:xyz"};
    if (final_frame) test_case.calls = {calls[opcode]};
    test_case.leaves_open = opcode != 8;
    return test_case;
}

TEST(Rfc6455_5_2_BaseFraming, EveryFirstByteAfterNothing) {
    for (int first = 0; first < 256; ++first)
        check(first_byte_case(static_cast<uint8_t>(first), false));
}

TEST(Rfc6455_5_2_BaseFraming, EveryFirstByteInsideAMessage) {
    for (int first = 0; first < 256; ++first)
        check(first_byte_case(static_cast<uint8_t>(first), true));
}

TEST(Rfc6455_5_2_BaseFraming, EveryLengthAroundTheFormsOfLengths) {
    for (const size_t bytes :
         {0,  1,   2,   3,   4,   5,   7,   8,   9,   31,    32,     33,     63,     64,
          65, 124, 125, 126, 127, 128, 255, 256, 257, 1'000, 65'534, 65'535, 65'536, 65'537}) {
        const Bytes payload(bytes, 'm');
        check({kFraming, frame(0x82, payload), {"binary:" + text_of(payload)}});
        check({kFraming, frame(0x81, payload), {"text:" + text_of(payload)}});
    }
}

TEST(Rfc6455_5_2_BaseFraming, LengthsNotInTheShortestFormAreRefused) {
    for (const size_t bytes : {0, 1, 2, 124, 125}) {
        const Bytes payload(bytes, 'x');
        refuse(kFraming, build({.first = 0x82, .payload = payload, .form = LengthForm::bits16}));
        refuse(kFraming, build({.first = 0x81, .payload = payload, .form = LengthForm::bits64}));
    }
    for (const size_t bytes : {126, 127, 65'534, 65'535})
        refuse(kFraming,
               build({.first = 0x82, .payload = Bytes(bytes, 'x'), .form = LengthForm::bits64}));
}

TEST(Rfc6455_5_2_BaseFraming, TheHighestBitOfA64BitLengthIsZero) {
    for (const uint64_t declared : {uint64_t{1} << 63, ~uint64_t{0}, (uint64_t{1} << 63) | 5})
        refuse(kFraming, build({.first = 0x82,
                                .payload = {'x'},
                                .form = LengthForm::bits64,
                                .declared = declared}));
    refuse(kFraming, {0x82, 0xFF, 0x80});  // from its first byte alone
}

TEST(Rfc6455_5_2_BaseFraming, LongFormsOnControlFramesAreRefused) {
    for (const uint8_t first : Bytes{0x88, 0x89, 0x8A})
        for (const LengthForm form : {LengthForm::bits16, LengthForm::bits64})
            for (const size_t bytes : {0, 2, 125})
                refuse(kFraming, build({.first = first, .payload = Bytes(bytes, 3), .form = form}));
}

// --------------------------------------------------------------------------------------- 5.3
TEST(Rfc6455_5_3_Masking, EveryKeyIsAppliedToEveryLength) {
    const std::array<uint8_t, 4> keys[] = {{0, 0, 0, 0},    {1, 2, 3, 4},    {255, 255, 255, 255},
                                           {0x80, 0, 0, 0}, {0, 0, 0, 0x80}, {0xA5, 0x5A, 0, 1}};
    Random random(53);
    for (const auto& key : keys) {
        for (size_t bytes = 0; bytes <= 20; ++bytes) {
            Bytes payload(bytes);
            for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random.next());
            check({"5.3 masking",
                   build({.first = 0x82, .payload = payload, .mask = key}),
                   {"binary:" + text_of(payload)}});
        }
    }
}

TEST(Rfc6455_5_3_Masking, TheMaskGoesOnWhereAPieceWasCut) {
    Bytes payload(200);
    for (size_t at = 0; at < payload.size(); ++at) payload[at] = static_cast<uint8_t>(at);
    check({"5.3 masking", frame(0x82, payload), {"binary:" + text_of(payload)}});
}

TEST(Rfc6455_5_3_Masking, ApplyMaskIsTheFormulaOfTheSection) {
    Random random(53);
    for (size_t bytes = 0; bytes <= 300; ++bytes) {
        for (size_t shift = 0; shift < 9; ++shift) {
            Bytes block(shift + bytes + 8);
            for (uint8_t& byte : block) byte = static_cast<uint8_t>(random.next());
            Bytes expected = block;
            for (size_t at = 0; at < bytes; ++at) expected[shift + at] ^= kTestMask[at % 4];
            apply_mask({block.data() + shift, bytes}, kTestMask);
            ASSERT_EQ(block, expected) << bytes << " bytes at offset " << shift;
        }
        const MaskKey rotated = rotate_mask(kTestMask, bytes);
        for (size_t at = 0; at < 4; ++at) ASSERT_EQ(rotated[at], kTestMask[(bytes + at) % 4]);
    }
    count_case("RFC 6455 5.3 masking", 301 * 9);
}

// --------------------------------------------------------------------------------------- 5.4
const char* const kFragments = "5.4 fragmentation";

TEST(Rfc6455_5_4_Fragmentation, FragmentsMakeOneMessage) {
    check({kFragments, frame(0x01, "ab") + frame(0x80, "cd"), {"text:abcd"}});
    check({kFragments, frame(0x02, "ab") + frame(0x80, "cd"), {"binary:abcd"}});
    check({kFragments,
           frame(0x01, "a") + frame(0x00, "b") + frame(0x00, "c") + frame(0x80, "d"),
           {"text:abcd"}});
    check({kFragments, frame(0x01) + frame(0x80), {"text:"}});
    check({kFragments, frame(0x02) + frame(0x00) + frame(0x80), {"binary:"}});
    check({kFragments, frame(0x01) + frame(0x00, "x") + frame(0x80), {"text:x"}});
    check({kFragments, frame(0x01, "x") + frame(0x80), {"text:x"}});
    check({kFragments,
           frame(0x01, "one") + frame(0x80) + frame(0x02, "two") + frame(0x80),
           {"text:one", "binary:two"}});
}

// `count` fragments of `piece` bytes each, with `between` in front of every one but the first.
Bytes fragmented(uint8_t opcode, size_t count, size_t piece, const Bytes& between,
                 std::string& whole) {
    Bytes wire;
    for (size_t at = 0; at < count; ++at) {
        const std::string part(piece, static_cast<char>('a' + at));
        const int first = (at == 0 ? opcode : 0) | (at + 1 == count ? 0x80 : 0);
        if (at > 0) wire = wire + between;
        wire = wire + frame(static_cast<uint8_t>(first), part);
        whole += part;
    }
    return wire;
}

TEST(Rfc6455_5_4_Fragmentation, ManyFragmentsOfEverySize) {
    for (const size_t piece : {1, 2, 3, 125, 126, 1'000}) {
        for (const size_t count : {2, 3, 5, 17}) {
            std::string whole;
            const Bytes wire = fragmented(0x02, count, piece, {}, whole);
            check({kFragments, wire, {"binary:" + whole}});
        }
    }
}

TEST(Rfc6455_5_4_Fragmentation, ControlFramesMayComeBetweenFragments) {
    for (const char* control : {"", "p", "a longer one"}) {
        const std::string text = control;
        check({kFragments,
               frame(0x01, "ab") + frame(0x89, text) + frame(0x80, "cd"),
               {"ping:" + text, "text:abcd"}});
        check({kFragments,
               frame(0x01, "ab") + frame(0x8A, text) + frame(0x00, "cd") + frame(0x89, text) +
                   frame(0x80, "ef"),
               {"pong:" + text, "ping:" + text, "text:abcdef"}});
        check({kFragments,
               frame(0x02) + frame(0x89, text) + frame(0x80, "cd"),
               {"ping:" + text, "binary:cd"}});
    }
    close_with(kFragments, frame(0x01, "ab") + close_frame(1000), "goodbye 1000:");
}

TEST(Rfc6455_5_4_Fragmentation, ControlFramesAreNotFragmented) {
    for (const uint8_t first : Bytes{0x08, 0x09, 0x0A}) {
        refuse(kFragments, frame(first));
        refuse(kFragments, frame(first, "ab") + frame(0x80, "c"));
        refuse(kFragments, frame(0x01, "a") + frame(first, "ab"));
        refuse(kFragments, {first});
    }
}

TEST(Rfc6455_5_4_Fragmentation, MessagesAreNotInterleaved) {
    for (const uint8_t first : Bytes{0x01, 0x02, 0x81, 0x82}) {
        refuse(kFragments, frame(0x01, "a") + frame(first, "b"));
        refuse(kFragments, frame(0x02, "a") + frame(0x00, "b") + frame(first, "c"));
        check({kFragments,
               frame(0x02, "a") + frame(0x89, "p") + frame(first, "c"),
               {"ping:p"},
               kProtocol});
    }
}

TEST(Rfc6455_5_4_Fragmentation, AContinuationNeedsAMessage) {
    for (const uint8_t first : Bytes{0x00, 0x80}) {
        refuse(kFragments, frame(first, "a"));
        refuse(kFragments, frame(first));
        check({kFragments, frame(0x81, "a") + frame(first, "b"), {"text:a"}, kProtocol});
        check({kFragments,
               frame(0x01, "a") + frame(0x80, "b") + frame(first, "c"),
               {"text:ab"},
               kProtocol});
        check({kFragments, frame(0x89, "a") + frame(first, "b"), {"ping:a"}, kProtocol});
    }
}

TEST(Rfc6455_5_4_Fragmentation, FragmentsOfALargeMessage) {
    std::string whole;
    const Bytes wire = fragmented(0x01, 4, 70'000, frame(0x89, "!"), whole);
    check({kFragments, wire, {"ping:!", "ping:!", "ping:!", "text:" + whole}});
}

// --------------------------------------------------------------------------------------- 5.5
TEST(Rfc6455_5_5_ControlFrames, PayloadsUpTo125Bytes) {
    for (size_t bytes = 0; bytes <= 125; ++bytes) {
        const Bytes payload(bytes, static_cast<uint8_t>(bytes));
        check({"5.5.2 ping", frame(0x89, payload), {"ping:" + text_of(payload)}});
        check({"5.5.3 pong", frame(0x8A, payload), {"pong:" + text_of(payload)}});
    }
}

TEST(Rfc6455_5_5_ControlFrames, LongerPayloadsAreRefused) {
    for (const uint8_t first : Bytes{0x88, 0x89, 0x8A}) {
        for (const size_t bytes : {126, 127, 200, 65'535, 65'536})
            refuse("5.5 control frames", frame(first, Bytes(bytes, 'x')));
        refuse("5.5 control frames", {first, 0xFE});  // from the header alone
        refuse("5.5 control frames", {first, 0xFF});
    }
}

TEST(Rfc6455_5_5_1_Close, CodeAndReasonAreHandedOver) {
    const char* section = "5.5.1 close";
    const std::string longest(123, 'r');
    close_with(section, frame(0x88), "goodbye 0:");
    close_with(section, close_frame(1000), "goodbye 1000:");
    close_with(section, close_frame(1001, "bye"), "goodbye 1001:bye");
    close_with(section, close_frame(4999, longest), "goodbye 4999:" + longest);
    close_with(section, close_frame(1000, "gr\xC3\xBC\xC3\x9F"), "goodbye 1000:gr\xC3\xBC\xC3\x9F");
}

TEST(Rfc6455_5_5_1_Close, HalfACodeIsRefused) {
    for (const uint8_t byte : Bytes{0x00, 0x03, 0xFF})
        refuse("5.5.1 close", frame(0x88, Bytes{byte}));
    refuse("5.5.1 close", {0x88, 0x81});  // from the header alone
}

TEST(Rfc6455_5_5_1_Close, NothingAfterACloseFrameIsProcessed) {
    const Bytes unmasked = build({.first = 0x82, .payload = {'b'}, .mask = {}});
    for (const Bytes& rest : {frame(0x81, "late"), frame(0x89, "late"), close_frame(1001),
                              frame(0x00, "x"), Bytes{0xFF, 0xFF}, unmasked, Bytes(300, 0x55)})
        close_with("5.5.1 close", close_frame(1000) + rest, "goodbye 1000:");
}

TEST(Rfc6455_5_5_1_Close, ReasonsAreUtf8) {
    for (const char* reason :
         {"\x80", "\xC3", "ok\xFF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\xAF"})
        refuse("5.5.1 close", close_frame(1000, reason), kInvalid);
}

TEST(Rfc6455_5_5_2_Ping, ManyPingsComeInOrder) {
    Bytes wire;
    std::vector<std::string> calls;
    for (int at = 0; at < 10; ++at) {
        wire = wire + frame(0x89, std::to_string(at));
        calls.push_back("ping:" + std::to_string(at));
    }
    check({"5.5.2 ping", wire, calls});
}

TEST(Rfc6455_5_5_3_Pong, UnsolicitedPongsAreTaken) {
    check({"5.5.3 pong",
           frame(0x8A) + frame(0x8A, "x") + frame(0x89, "y"),
           {"pong:", "pong:x", "ping:y"}});
}

TEST(Rfc6455_5_5_3_Pong, APongRepeatsThePayload) {
    for (const size_t bytes : {0, 1, 4, 125}) {
        ByteBuffer out;
        const Bytes payload(bytes, 'p');
        ASSERT_TRUE(websocket::write_frame(out, Opcode::pong, payload));
        EXPECT_EQ(hear<Role::client>(out.bytes, {}), (Heard{{"pong:" + text_of(payload)}, kOk}));
        count_case("RFC 6455 5.5.3 pong", 1);
    }
}

// ---------------------------------------------------------------------------------- 5.6, 5.8
TEST(Rfc6455_5_6_DataFrames, BinaryIsAnything) {
    Bytes all(256);
    for (size_t at = 0; at < all.size(); ++at) all[at] = static_cast<uint8_t>(at);
    check({"5.6 data frames", frame(0x82, all), {"binary:" + text_of(all)}});
    check(
        {"5.6 data frames", frame(0x02, all) + frame(0x80, all), {"binary:" + text_of(all + all)}});
    check({"5.6 data frames", frame(0x82, "\xFF\xFE"), {"binary:\xFF\xFE"}});
}

TEST(Rfc6455_5_6_DataFrames, TheKindIsThatOfTheFirstFrame) {
    check({"5.6 data frames", frame(0x01, "a") + frame(0x80, "b"), {"text:ab"}});
    check({"5.6 data frames", frame(0x02, "\xC3") + frame(0x80, "\x28"), {"binary:\xC3\x28"}});
}

TEST(Rfc6455_5_8_Extensibility, ReservedBitsWithoutAnExtensionAreRefused) {
    for (int reserved = 0x10; reserved <= 0x70; reserved += 0x10)
        for (const int base : {0x81, 0x82, 0x01, 0x88, 0x89, 0x8A})
            for (const size_t bytes : {0, 2})
                refuse("5.8 extensibility",
                       frame(static_cast<uint8_t>(base | reserved), Bytes(bytes, 3)));
}

TEST(Rfc6455_5_8_Extensibility, ReservedOpcodesAreRefused) {
    for (const int opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
        for (const int final_bit : {0x00, 0x80}) {
            const uint8_t first = static_cast<uint8_t>(opcode | final_bit);
            for (const size_t bytes : {0, 1, 125})
                refuse("5.8 extensibility", frame(first, Bytes(bytes, 'x')));
            refuse("5.8 extensibility", {first});  // from the first byte alone
        }
    }
}

// -------------------------------------------------------------------------------------- 6, 7
TEST(Rfc6455_6_1_SendingData, LengthsAreInTheirShortestForm) {
    for (const size_t bytes : {0, 1, 125, 126, 127, 65'535, 65'536, 70'000}) {
        const Bytes payload(bytes, 's');
        ByteBuffer out;
        ASSERT_TRUE(websocket::write_frame(out, Opcode::text, payload));
        EXPECT_EQ(out.bytes, build({.first = 0x81, .payload = payload, .mask = {}}));
        ByteBuffer masked;
        ASSERT_TRUE(websocket::write_frame(masked, Opcode::text, payload, kTestMask));
        EXPECT_EQ(masked.bytes, build({.first = 0x81, .payload = payload}));
        count_case("RFC 6455 6.1 sending", 2);
    }
}

TEST(Rfc6455_6_1_SendingData, FragmentsAreSentAsFragments) {
    ByteBuffer out;
    ASSERT_TRUE(websocket::write_frame(out, Opcode::text, bytes_of("ab"), {}, false));
    ASSERT_TRUE(websocket::write_frame(out, Opcode::continuation, bytes_of("cd"), {}, false));
    ASSERT_TRUE(websocket::write_frame(out, Opcode::continuation, bytes_of("ef")));
    EXPECT_EQ(hear<Role::client>(out.bytes, every_byte(out.bytes.size())),
              (Heard{{"text:abcdef"}, kOk}));
    count_case("RFC 6455 6.1 sending", 1);
}

TEST(Rfc6455_6_2_ReceivingData, MessagesComeWholeAndInOrder) {
    for (const size_t count : {2, 3, 9}) {
        Bytes wire;
        std::vector<std::string> calls;
        for (size_t at = 0; at < count; ++at) {
            const std::string text(at * 50, static_cast<char>('a' + at));
            wire = wire + frame(at % 2 == 0 ? 0x81 : 0x82, text);
            calls.push_back((at % 2 == 0 ? "text:" : "binary:") + text);
        }
        check({"6.2 receiving", wire, calls});
    }
}

TEST(Rfc6455_7_1_5_CloseCode, OfACloseFrameWithoutACodeIsNone) {
    close_with("7.1.5 close code", frame(0x88), "goodbye 0:");
    close_with("7.1.5 close code", close_frame(3000), "goodbye 3000:");
}

bool code_may_be_sent(int code) {
    if (code >= 3000 && code <= 4999) return true;
    for (const int allowed :
         {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
        if (code == allowed) return true;
    return false;
}

TEST(Rfc6455_7_4_StatusCodes, AroundEveryBoundary) {
    for (const int code :
         {0,    1,    500,  998,  999,   1000,   1001,   1002,   1003,  1004, 1005, 1006,
          1007, 1008, 1009, 1010, 1011,  1012,   1013,   1014,   1015,  1016, 1017, 1099,
          1100, 1500, 1999, 2000, 2001,  2998,   2999,   3000,   3001,  3999, 4000, 4001,
          4998, 4999, 5000, 5001, 9'999, 32'767, 32'768, 65'534, 65'535}) {
        const uint16_t number = static_cast<uint16_t>(code);
        const char* section =
            code >= 1000 && code < 3000 ? "7.4.1 defined codes" : "7.4.2 reserved ranges";
        for (const char* reason : {"", "why"}) {
            const std::string call = "goodbye " + std::to_string(code) + ":" + reason;
            if (code_may_be_sent(code)) {
                close_with(section, close_frame(number, reason), call);
            } else {
                refuse(section, close_frame(number, reason));
            }
        }
    }
}

TEST(Rfc6455_7_4_StatusCodes, Every16BitCode) {
    for (int code = 0; code < 65'536; ++code)
        ASSERT_EQ(websocket::close_code_valid(static_cast<uint16_t>(code)), code_may_be_sent(code))
            << code;
    count_case("RFC 6455 7.4.2 reserved ranges", 65'536);
}

TEST(Rfc6455_7_4_StatusCodes, WhatWeSendIsWellFormed) {
    for (const CloseReasonInfo& info : kCloseReasonInfos) {
        ByteBuffer out;
        ASSERT_TRUE(websocket::write_close(out, info.code, info.text));
        const std::string text(info.text);
        EXPECT_EQ(hear<Role::client>(out.bytes, {}),
                  (Heard{{"goodbye " + std::to_string(info.code) + ":" + text}, kOk}));
        count_case("RFC 6455 7.4.1 defined codes", 1);
    }
    ByteBuffer empty;
    ASSERT_TRUE(websocket::write_close(empty, 0, "not sent"));
    EXPECT_EQ(empty.bytes, (Bytes{0x88, 0x00}));
    ByteBuffer code_only;
    ASSERT_TRUE(websocket::write_close(code_only, 1000, {}));
    EXPECT_EQ(code_only.bytes, (Bytes{0x88, 0x02, 0x03, 0xE8}));
}

TEST(Rfc6455_7_4_StatusCodes, ALongReasonIsCutBetweenCharacters) {
    std::string reason;
    while (reason.size() < 200) reason += "\xE2\x82\xAC";  // three bytes each: 123 is 41 of them
    for (size_t shift = 0; shift < 3; ++shift) {
        ByteBuffer out;
        ASSERT_TRUE(websocket::write_close(out, 1000, std::string(shift, 'x') + reason));
        ASSERT_EQ(hear<Role::client>(out.bytes, {}).fault, kOk);
        EXPECT_LE(out.bytes.size(), 127u);
        EXPECT_GE(out.bytes.size(), 125u);
        count_case("RFC 6455 5.5.1 close", 1);
    }
}

// --------------------------------------------------------------------------------------- 8.1
struct Utf8Case {
    const char* bytes;
    size_t size;
    int bad;  // the first byte that no valid text could have there; -1: valid; size: cut short
};

#define TEXT(literal) literal, sizeof(literal) - 1
const Utf8Case kUtf8Cases[] = {
    {TEXT(""), -1},
    {TEXT("Hello"), -1},
    {TEXT("\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5"), -1},
    // the first and the last code point of each length
    {TEXT("\x00"), -1},
    {TEXT("\x7F"), -1},
    {TEXT("\xC2\x80"), -1},
    {TEXT("\xDF\xBF"), -1},
    {TEXT("\xE0\xA0\x80"), -1},
    {TEXT("\xEF\xBF\xBF"), -1},
    {TEXT("\xF0\x90\x80\x80"), -1},
    {TEXT("\xF4\x8F\xBF\xBF"), -1},
    // around the surrogates, noncharacters, the replacement character, a byte order mark
    {TEXT("\xED\x9F\xBF"), -1},
    {TEXT("\xEE\x80\x80"), -1},
    {TEXT("\xEF\xBF\xBD"), -1},
    {TEXT("\xEF\xBF\xBE"), -1},
    {TEXT("\xF0\x9F\xBF\xBE"), -1},
    {TEXT("\xF3\xBF\xBF\xBF"), -1},
    {TEXT("\xEF\xBB\xBF "), -1},
    {TEXT("\xF0\x9F\x92\x93 and \xE5\xBF\x83"), -1},
    // stray continuations
    {TEXT("\x80"), 0},
    {TEXT("\xBF"), 0},
    {TEXT(" \x80\xBF"), 1},
    {TEXT("\xC2\x80\x80"), 2},
    {TEXT("\xE2\x82\xAC\x82"), 3},
    // bytes that never occur
    {TEXT("\xC0"), 0},
    {TEXT("\xC1\xBF"), 0},
    {TEXT("\xF5\x80\x80\x80"), 0},
    {TEXT("\xF8\x88\x80\x80\x80"), 0},
    {TEXT("\xFC\x84\x80\x80\x80\x80"), 0},
    {TEXT("\xFE"), 0},
    {TEXT("\xFF"), 0},
    {TEXT("text\xFEtext"), 4},
    // a lead byte without its continuations
    {TEXT("\xC3 "), 1},
    {TEXT("\xE2\x28\xA1"), 1},
    {TEXT("\xE2\x82\x28"), 2},
    {TEXT("\xF0\x28\x8C\xBC"), 1},
    {TEXT("\xF0\x90\x28\xBC"), 2},
    {TEXT("\xF0\x90\x8C\x28"), 3},
    {TEXT("\xC3\xC3"), 1},
    {TEXT("\xE2\x82\xE2\x82\xAC"), 2},
    // overlong forms
    {TEXT("\xC0\xAF"), 0},
    {TEXT("\xE0\x80\xAF"), 1},
    {TEXT("\xE0\x9F\xBF"), 1},
    {TEXT("\xF0\x80\x80\xAF"), 1},
    {TEXT("\xF0\x8F\xBF\xBF"), 1},
    // surrogates
    {TEXT("\xED\xA0\x80"), 1},
    {TEXT("\xED\xAF\xBF"), 1},
    {TEXT("\xED\xB0\x80"), 1},
    {TEXT("\xED\xBF\xBF"), 1},
    {TEXT("\xED\xA0\x80\xED\xB0\x80"), 1},
    // over U+10FFFF
    {TEXT("\xF4\x90\x80\x80"), 1},
    {TEXT("\xF4\xBF\xBF\xBF"), 1},
    // cut short at the end of the message
    {TEXT("\xC3"), 1},
    {TEXT("\xE2\x82"), 2},
    {TEXT("\xE2"), 1},
    {TEXT("\xF0\x9F\x92"), 3},
    {TEXT("\xF0\x9F"), 2},
    {TEXT("\xF0"), 1},
    {TEXT("ok\xF4\x8F\xBF"), 5},
    {TEXT("\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE"), 10},
};
#undef TEXT

// Some are long enough for the vectorised validator, with the case at other lanes.
std::vector<std::pair<std::string, std::string>> surroundings() {
    std::string wide;
    for (int at = 0; at < 20; ++at) wide += "\xE2\x82\xAC\xC3\xA9x";
    return {{"", ""}, {"a", "z"}, {std::string(70, 'a'), std::string(70, 'z')}, {wide + "a", wide}};
}

TEST(Rfc6455_8_1_Utf8, WholeInFragmentsAndInBytes) {
    for (const Utf8Case& utf8 : kUtf8Cases) {
        const bool cut_short = utf8.bad == static_cast<int>(utf8.size);
        for (const auto& [before, after] : surroundings()) {
            const std::string text =
                before + std::string(utf8.bytes, utf8.size) + (cut_short ? "" : after);
            Case test_case{"8.1 UTF-8", frame(0x81, text), {}, kInvalid};
            if (utf8.bad < 0) {
                test_case.calls = {"text:" + text};
                test_case.fault = kOk;
            }
            check(test_case);
            // the same cut into fragments inside and around the characters
            for (size_t cut = before.size(); cut <= before.size() + utf8.size; ++cut) {
                test_case.wire =
                    frame(0x01, text.substr(0, cut)) + frame(0x00) + frame(0x80, text.substr(cut));
                check(test_case);
            }
        }
    }
}

// The byte that proves it: the fault comes with it, not a moment later and not before.
TEST(Rfc6455_8_1_Utf8, IsRefusedAtTheFirstImpossibleByte) {
    for (const Utf8Case& utf8 : kUtf8Cases) {
        if (utf8.bad < 0 || utf8.bad == static_cast<int>(utf8.size)) continue;
        const Bytes payload(utf8.bytes, utf8.bytes + utf8.size);
        Bytes wire = frame(0x01, payload);
        wire[1] = 0x80 | 100;  // declares more than is there
        websocket::State state;
        RecordingSink sink;
        Inflater inflater;
        size_t fault_at = SIZE_MAX;
        for (size_t at = 0; at < wire.size() && fault_at == SIZE_MAX; ++at) {
            LentBytes lent({wire.data() + at, 1});
            if (!websocket::decode(state, lent.span(), CodecLimits{}, sink, inflater).ok())
                fault_at = at;
        }
        EXPECT_EQ(fault_at, 6 + static_cast<size_t>(utf8.bad)) << text_of(payload);
        count_case("RFC 6455 8.1 UTF-8", 1);
    }
}

std::string utf8_of(uint32_t point) {
    const auto byte = [](uint32_t value) { return static_cast<char>(value); };
    if (point < 0x80) return {byte(point)};
    const char last = byte(0x80 | (point & 0x3F));
    if (point < 0x800) return {byte(0xC0 | point >> 6), last};
    const char third = byte(0x80 | (point >> 6 & 0x3F));
    if (point < 0x10000) return {byte(0xE0 | point >> 12), third, last};
    return {byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 0x3F)), third, last};
}

TEST(Rfc6455_8_1_Utf8, EveryCharacterIsTaken) {
    std::string text;
    for (uint32_t point = 0; point < 0x110000; ++point)
        if (point < 0xD800 || point >= 0xE000) text += utf8_of(point);
    const CodecLimits limits{.message_bytes_max = size_t{8} << 20};
    const Heard expected{{"text:" + text}, kOk};
    const Bytes wire = frame(0x81, text);
    Random random(81);
    for (uint64_t round = 0; round < scaled(20); ++round) {
        std::vector<size_t> cuts;
        for (size_t at = 1 + random.below(9'999); at < wire.size(); at += 1 + random.below(99'999))
            cuts.push_back(at);
        ASSERT_TRUE(hear(wire, cuts, limits) == expected) << "round " << round;
        count_case("RFC 6455 8.1 UTF-8", cuts.size());
    }
}

// -------------------------------------------------------------------------------------- 10.4
const char* const kLimits = "10.4 limits";

TEST(Rfc6455_10_4_Limits, AMessageOverTheLimitIsRefusedFromItsHeader) {
    const CodecLimits limits{.message_bytes_max = 1'000};
    check({kLimits,
           frame(0x82, Bytes(1'000, 'x')),
           {"binary:" + std::string(1'000, 'x')},
           kOk,
           limits});
    check({kLimits, frame(0x82, Bytes(1'001, 'x')), {}, kTooBig, limits});
    // no mask and no payload yet: the length alone is enough
    check({kLimits, {0x82, 0xFE, 0x03, 0xE9}, {}, kTooBig, limits});
    check({kLimits, {0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0}, {}, kTooBig, limits});
    check({kLimits, Bytes{0x82, 0xFF, 0x7F} + Bytes(7, 0xFF), {}, kTooBig, limits});
}

TEST(Rfc6455_10_4_Limits, FragmentsAddUp) {
    const CodecLimits limits{.message_bytes_max = 10};
    const Bytes five = frame(0x02, "12345");
    const std::string ping = "a ping that is long";
    check({kLimits, five + frame(0x80, "67890"), {"binary:1234567890"}, kOk, limits});
    check({kLimits, five + frame(0x80, "678901"), {}, kTooBig, limits});
    check({kLimits, five + frame(0x00, "67890") + frame(0x80, "1"), {}, kTooBig, limits});
    check({kLimits,
           five + frame(0x89, ping) + frame(0x80, "67890"),
           {"ping:" + ping, "binary:1234567890"},
           kOk,
           limits});
    check({kLimits, frame(0x02, "1234567890") + frame(0x80), {"binary:1234567890"}, kOk, limits});
    // a length that would wrap around a sum of 64 bits
    check({kLimits, five + Bytes{0x80, 0xFF, 0x7F} + Bytes(7, 0xFF), {}, kTooBig, limits});
}

TEST(Rfc6455_10_4_Limits, HeadersOfFragmentsAreCounted) {
    Bytes wire = frame(0x02);
    const Bytes empty = frame(0x00);
    for (size_t bytes = 2 * empty.size(); bytes < kFrameOverheadBytesMin; bytes += empty.size())
        wire.insert(wire.end(), empty.begin(), empty.end());
    EXPECT_EQ(hear(wire + frame(0x80, "end"), {}), (Heard{{"binary:end"}, kOk}));
    EXPECT_EQ(hear(wire + empty + frame(0x80, "end"), {}), (Heard{{}, kTooBig}));
    // A ping between fragments is not one of them.
    EXPECT_EQ(hear(wire + frame(0x89) + frame(0x89) + frame(0x80, "end"), {}),
              (Heard{{"ping:", "ping:", "binary:end"}, kOk}));
    count_case(std::string("RFC 6455 ") + kLimits, 3);
}

// A message of `message_bytes` in fragments of `piece`, with empty ones in front of each, to a
// decoder that may take it: what was heard, and the header bytes that were taken.
std::pair<Heard, size_t> hear_pieces(size_t message_bytes, size_t piece, size_t empties) {
    Bytes wire = frame(0x02);
    const Bytes empty = frame(0x00);
    const Bytes some = frame(0x00, std::string(piece, 'x'));
    for (size_t at = 0; at < message_bytes; at += piece) {
        for (size_t left = empties; left > 0; --left)
            wire.insert(wire.end(), empty.begin(), empty.end());
        wire.insert(wire.end(), some.begin(), some.end());
    }
    wire = wire + frame(0x80);
    websocket::State state;
    RecordingSink sink;
    Inflater inflater;
    const CodecLimits limits{.message_bytes_max = kMessageBytesMax};
    LentBytes lent(wire);
    const Decoded fault = websocket::decode(state, lent.span(), limits, sink, inflater);
    return {
        Heard{{sink.calls.empty() ? "" : std::to_string(sink.calls[0].size() - 7)}, fault.fault},
        state.overhead_bytes};
}

TEST(Rfc6455_10_4_Limits, TheOverheadIsBoundedInBytesNotInFragments) {
    constexpr size_t kWhole = size_t{4} << 20;
    // The public test suite's smallest: 65,536 fragments of 64 bytes.
    EXPECT_EQ(hear_pieces(kWhole, 64, 0).first, (Heard{{std::to_string(kWhole)}, kOk}));
    EXPECT_EQ(hear_pieces(kWhole, 1'024, 0).first, (Heard{{std::to_string(kWhole)}, kOk}));
    // What carries almost nothing is refused, and in time: an eighth of its payload on top.
    for (const auto& [piece, empties] : {std::pair{1, 0}, {2, 0}, {16, 0}, {64, 1}, {1'000, 50}}) {
        const auto [heard, overhead] =
            hear_pieces(kWhole, static_cast<size_t>(piece), static_cast<size_t>(empties));
        EXPECT_EQ(heard, (Heard{{""}, kTooBig})) << piece;
        EXPECT_LE(overhead, kFrameOverheadBytesMin + kWhole / kPayloadBytesPerOverheadByte + 6);
    }
    count_case(std::string("RFC 6455 ") + kLimits, 7);
}

}  // namespace
}  // namespace pulse::test
