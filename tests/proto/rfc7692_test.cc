// RFC 7692: what is agreed to, what is compressed and how, what is inflated and what is refused.
#include <gtest/gtest.h>
#include <zlib.h>

#include "core/random.h"
#include "proto/handshake.h"
#include "proto/websocket.h"

#include "tests/support/conformance.h"
#include "tests/support/scale.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {
namespace {

// ----------------------------------------------------------------------- 5 and 7.1: agreeing
struct Agreed {
    uint8_t window_bits;  // 0: declined
    bool named;
};

void expect_agreement(const char* section, const std::vector<std::string_view>& lines,
                      Agreed agreed) {
    const DeflateAgreement agreement = agree_on_deflate(lines);
    EXPECT_FALSE(agreement.malformed) << lines[0];
    EXPECT_EQ(agreement.window_bits, agreed.window_bits) << lines[0];
    EXPECT_EQ(agreement.window_bits_named, agreed.named) << lines[0];
    count_case(std::string("RFC 7692 ") + section, 1);
}

TEST(Rfc7692_5_Negotiation, OffersAreTakenInTheirOrder) {
    const char* section = "5 negotiation";
    expect_agreement(section, {"permessage-deflate"}, {15, false});
    expect_agreement(section, {"foo, permessage-deflate"}, {15, false});
    expect_agreement(section, {"foo", "permessage-deflate"}, {15, false});
    expect_agreement(section,
                     {"permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9"},
                     {9, true});
    expect_agreement(section, {"permessage-deflate; server_max_window_bits=10, permessage-deflate"},
                     {10, true});
    expect_agreement(section, {"permessage-deflate; unknown", "permessage-deflate; x=1"},
                     {0, false});
    expect_agreement(section, {"permessage-bzip2"}, {0, false});
    expect_agreement(section, {"Permessage-Deflate"}, {0, false});
    expect_agreement(section, {"x-webkit-deflate-frame"}, {0, false});
}

TEST(Rfc7692_7_1_1_ContextTakeover, ParametersHaveNoValueAndComeOnce) {
    const char* section = "7.1.1 context takeover";
    expect_agreement(section, {"permessage-deflate; server_no_context_takeover"}, {15, false});
    expect_agreement(section, {"permessage-deflate; client_no_context_takeover"}, {15, false});
    expect_agreement(section,
                     {"permessage-deflate;server_no_context_takeover;client_no_context_takeover"},
                     {15, false});
    for (const char* name : {"server_no_context_takeover", "client_no_context_takeover"}) {
        const std::string offer = std::string("permessage-deflate; ") + name;
        for (const std::string& bad :
             {offer + "=1", offer + "=true", offer + "=\"\x61\"", offer + "; " + name})
            expect_agreement(section, {bad}, {0, false});
    }
}

TEST(Rfc7692_7_1_2_WindowBits, From8To15WithoutLeadingZeros) {
    const char* section = "7.1.2 window bits";
    for (int bits = 8; bits <= 15; ++bits) {
        const std::string text = std::to_string(bits);
        const Agreed agreed{static_cast<uint8_t>(bits), true};
        expect_agreement(section, {"permessage-deflate; server_max_window_bits=" + text}, agreed);
        expect_agreement(section, {"permessage-deflate; server_max_window_bits=\"" + text + "\""},
                         agreed);
        expect_agreement(section, {"permessage-deflate; client_max_window_bits=" + text},
                         {15, false});
    }
    expect_agreement(section, {"permessage-deflate; client_max_window_bits"}, {15, false});
    expect_agreement(section,
                     {"permessage-deflate; client_max_window_bits; server_max_window_bits=12"},
                     {12, true});
    expect_agreement(section, {"permessage-deflate; server_max_window_bits"}, {0, false});
    for (const char* value :
         {"0", "1", "7", "16", "17", "08", "010", "-8", "1x", "x", "150", "255", "4294967304"}) {
        for (const char* name : {"server_max_window_bits", "client_max_window_bits"}) {
            const std::string offer = std::string("permessage-deflate; ") + name + "=" + value;
            expect_agreement(section, {offer}, {0, false});
        }
    }
    expect_agreement(section,
                     {"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"},
                     {0, false});
    expect_agreement(section,
                     {"permessage-deflate; client_max_window_bits; client_max_window_bits=9"},
                     {0, false});
}

std::string answered(const std::string& offer, bool deflate) {
    const std::string head =
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Extensions: " +
        offer + "\r\n\r\n";
    HandshakeState state;
    RecordingSink sink;
    ByteBuffer out;
    LentBytes lent(bytes_of(head));
    const Handshake result = serve_handshake(state, lent.span(), {.deflate = deflate}, sink, out);
    EXPECT_EQ(result.status, 101);
    const std::string text = out.text();
    const std::string name = "Sec-WebSocket-Extensions: ";
    const size_t at = text.find(name);
    EXPECT_EQ(at == std::string::npos, result.deflate.window_bits == 0);
    if (at == std::string::npos) return "";
    return text.substr(at + name.size(), text.find("\r\n", at) - at - name.size());
}

TEST(Rfc7692_7_1_Answer, DeclinesContextsAndNamesTheWindowIfAsked) {
    const std::string plain =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    EXPECT_EQ(answered("permessage-deflate", false), "");  // off unless asked for
    EXPECT_EQ(answered("permessage-deflate", true), plain);
    EXPECT_EQ(answered("permessage-deflate; client_max_window_bits", true), plain);
    EXPECT_EQ(answered("permessage-deflate; client_max_window_bits=8", true), plain);
    EXPECT_EQ(answered("permessage-deflate; server_max_window_bits=8", true),
              plain + "; server_max_window_bits=8");
    EXPECT_EQ(answered("permessage-deflate; server_max_window_bits=15", true),
              plain + "; server_max_window_bits=15");
    EXPECT_EQ(answered("permessage-deflate; unknown=1", true), "");
    count_case("RFC 7692 7.1 answer", 7);
}

// --------------------------------------------------------------------- 6 and 7.2: the frames
// Deflates as another implementation would, with any window and flush; the tail is left on.
Bytes zlib_deflate(const Bytes& message, int flush = Z_SYNC_FLUSH, int window_bits = 15,
                   int level = 6) {
    z_stream stream{};
    EXPECT_EQ(deflateInit2(&stream, level, Z_DEFLATED, -window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
    Bytes out(message.size() + message.size() / 8 + 64);
    stream.next_in = const_cast<uint8_t*>(message.data());
    stream.avail_in = static_cast<uInt>(message.size());
    stream.next_out = out.data();
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, flush);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    return out;
}

Bytes compressed(std::string_view message, int window_bits = 15) {
    Bytes out = zlib_deflate(bytes_of(message), Z_SYNC_FLUSH, window_bits);
    out.resize(out.size() - 4);
    return out;
}

struct Heard {
    std::vector<std::string> calls;
    CloseReason fault = CloseReason::none;
    friend bool operator==(const Heard&, const Heard&) = default;
};
std::ostream& operator<<(std::ostream& out, const Heard& heard) {
    for (const std::string& call : heard.calls) out << "[" << call.substr(0, 60) << "] ";
    return out << "then " << describe(heard.fault).name;
}

template <Role role = Role::server>
Heard hear(const Bytes& wire, const std::vector<size_t>& cuts, const CodecLimits& limits = {},
           uint8_t window_bits = 15) {
    websocket::State state;
    state.window_bits = window_bits;
    RecordingSink sink;
    Inflater inflater;
    Decoded fault;
    feed_in_pieces(wire, cuts, [&](std::span<uint8_t> piece) {
        fault = websocket::decode<role>(state, piece, limits, sink, inflater);
        return fault.ok();
    });
    return {sink.calls, fault.fault};
}

void check(const char* section, const Bytes& wire, const std::vector<std::string>& calls,
           CloseReason fault = CloseReason::none, const CodecLimits& limits = {}) {
    const Heard expected{calls, fault};
    EXPECT_EQ(hear(wire, {}, limits), expected) << section;
    EXPECT_EQ(hear(wire, every_byte(wire.size()), limits), expected) << section;
    const size_t step = wire.size() <= 300 ? 1 : wire.size() / 16;
    uint64_t deliveries = 2;
    for (size_t at = 1; at < wire.size(); at += step, ++deliveries)
        ASSERT_EQ(hear(wire, {at}, limits), expected) << section << " cut at " << at;
    count_case(std::string("RFC 7692 ") + section, deliveries);
}

constexpr CloseReason kProtocol = CloseReason::protocol_error;
constexpr CloseReason kInvalid = CloseReason::invalid_data;
constexpr CloseReason kTooBig = CloseReason::message_too_big;

TEST(Rfc7692_6_Frames, Rsv1OnlyOnTheFirstFrameOfAMessage) {
    const char* section = "6 RSV1";
    const Bytes hello = compressed("Hello");
    check(section, frame(0xC1, hello), {"text:Hello"});
    check(section, frame(0xC2, hello), {"binary:Hello"});
    check(section, frame(0x81, "plain") + frame(0xC1, hello) + frame(0x81, "plain"),
          {"text:plain", "text:Hello", "text:plain"});
    for (const uint8_t first : Bytes{0xC0, 0x40, 0xC8, 0xC9, 0xCA})
        check(section, frame(first, hello), {}, kProtocol);
    check(section, frame(0x41, hello) + frame(0xC0), {}, kProtocol);
    check(section, frame(0x01, "a") + frame(0xC0, "b"), {}, kProtocol);
    for (const uint8_t first : Bytes{0xA1, 0x91, 0xE1, 0xF1, 0xD2})
        check(section, frame(first, hello), {}, kProtocol);
    for (const uint8_t first : Bytes{0xC1, 0xC2, 0x41})
        EXPECT_EQ(hear(frame(first, hello), {}, {}, 0), (Heard{{}, kProtocol})) << "not agreed on";
}

TEST(Rfc7692_6_Frames, CompressedMessagesMayBeFragmentedAnywhere) {
    const char* section = "6.2 receiving";
    const std::string text = "a text that repeats, a text that repeats, a text that repeats";
    const Bytes payload = compressed(text);
    for (size_t cut = 0; cut <= payload.size(); ++cut) {
        const Bytes head(payload.begin(), payload.begin() + static_cast<ptrdiff_t>(cut));
        const Bytes tail(payload.begin() + static_cast<ptrdiff_t>(cut), payload.end());
        check(section, frame(0x41, head) + frame(0x89, "p") + frame(0x80, tail),
              {"ping:p", "text:" + text});
    }
    check(section, frame(0x42) + frame(0x00, payload) + frame(0x80), {"binary:" + text});
}

// Section 7.2.3: the examples of the standard.
TEST(Rfc7692_7_2_3_Examples, AsTheyStand) {
    const char* section = "7.2.3 examples";
    const Bytes hello = {0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00};
    check(section, frame(0xC1, hello), {"text:Hello"});  // 7.2.3.1
    check(section,
          frame(0x41, Bytes{0xF2, 0x48, 0xCD}) + frame(0x80, Bytes{0xC9, 0xC9, 0x07, 0x00}),
          {"text:Hello"});
    check(section,
          frame(0xC1, Bytes{0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00}),
          {"text:Hello"});  // 7.2.3.3
    check(section, frame(0xC1, Bytes{0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00}),
          {"text:Hello"});  // 7.2.3.4
    check(section,
          frame(0xC1, Bytes{0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07,
                            0x00}),
          {"text:Hello"});                                // 7.2.3.5
    check(section, frame(0xC1, Bytes{0x00}), {"text:"});  // 7.2.3.6: an empty message
    // The second of two messages with context takeover refers to the first: with none, it cannot.
    check(section, frame(0xC1, hello) + frame(0xC1, Bytes{0xF2, 0x00, 0x11, 0x00, 0x00}),
          {"text:Hello"}, kInvalid);
}

TEST(Rfc7692_7_2_2_Decompression, FinalBlocksAndTheirWindow) {
    const char* section = "7.2.2 decompression";
    const std::string text(300, 'z');
    const Bytes whole = zlib_deflate(bytes_of(text), Z_FINISH);
    check(section, frame(0xC1, whole), {"text:" + text});  // final, and no byte after it
    check(section, frame(0xC1, whole + Bytes{0x00}), {"text:" + text});
    check(section, frame(0xC1, whole + compressed("more")), {"text:" + text + "more"});
    check(section, frame(0xC1, whole + whole), {"text:" + text + text});
    // A copy of 5 bytes from 5 back (fixed Huffman, as in the second example) after a final block.
    const Bytes hello = {0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00};
    check(section, frame(0xC1, hello + Bytes{0xF2, 0x00, 0x11, 0x00, 0x00}), {"text:HelloHello"});
}

TEST(Rfc7692_7_2_2_Decompression, WhatIsNoDeflateIsRefused) {
    const char* section = "7.2.2 decompression";
    for (const Bytes& payload :
         {Bytes{0x07}, Bytes{0xFF, 0xFF}, Bytes{0x00, 0x05, 0x00, 0xFA, 0xFE, 'H'}, Bytes{},
          Bytes{0xF2}, Bytes{0xF2, 0x48}, Bytes{0xF2, 0x48, 0xCD, 0xC9, 0xC9},
          Bytes{0x00, 0x05, 0x00, 0xFA, 0xFF, 'H'}, Bytes{0x00, 0x00},
          Bytes{0xF2, 0x00, 0x11, 0x00, 0x00}, Bytes(50, 0x55)})
        check(section, frame(0x81, "ok") + frame(0xC2, payload), {"text:ok"}, kInvalid);
    const Bytes payload = compressed(std::string(5'000, 'a') + "bcdefg");
    for (size_t bytes = 1; bytes + 1 < payload.size(); ++bytes)
        check(section,
              frame(0xC2, Bytes(payload.begin(), payload.begin() + static_cast<ptrdiff_t>(bytes))),
              {}, kInvalid);
}

TEST(Rfc7692_8_1_Utf8, IsCheckedAfterInflating) {
    const char* section = "7.2.2 inflated UTF-8";
    check(section, frame(0xC1, compressed("\xE2\x82\xAC")), {"text:\xE2\x82\xAC"});
    check(section, frame(0xC2, compressed("\xFF\xFE")), {"binary:\xFF\xFE"});
    for (const char* text : {"\xFF", "ok \xC3", "\xED\xA0\x80", "\xF4\x90\x80\x80"})
        check(section, frame(0xC1, compressed(text)), {}, kInvalid);
}

TEST(Rfc7692_Limits, BombsStopAtTheLimit) {
    const char* section = "8 limits";
    const std::string big(1'000'000, '\0');
    const Bytes bomb = compressed(big);
    ASSERT_LT(bomb.size(), 2'000u);
    check(section, frame(0xC2, bomb), {}, kTooBig, {.message_bytes_max = 999'999});
    EXPECT_EQ(hear(frame(0xC2, bomb), {}, {.message_bytes_max = 1'000'000}),
              (Heard{{"binary:" + big}}));
    for (const size_t size : {1, 999, 1'000})
        check(section, frame(0xC2, compressed(std::string(size, 'x'))),
              {"binary:" + std::string(size, 'x')}, CloseReason::none,
              {.message_bytes_max = 1'000});
    check(section, frame(0xC2, compressed(std::string(1'001, 'x'))), {}, kTooBig,
          {.message_bytes_max = 1'000});
    check(section, frame(0xC2, Bytes(1'001, 'x')), {}, kTooBig, {.message_bytes_max = 1'000});
    check(section, frame(0xC2, compressed("")), {"binary:"}, CloseReason::none,
          {.message_bytes_max = 10});
}

// Blocks that hold nothing cost time and give no bytes for the other limit to count.
TEST(Rfc7692_Limits, EmptyBlocksAreCounted) {
    const auto blocks = [](size_t count, const Bytes& block) {
        Bytes payload;
        for (size_t at = 0; at < count; ++at)
            payload.insert(payload.end(), block.begin(), block.end());
        return payload + Bytes{0x00};
    };
    const Bytes kFinalFixed = {0x03, 0x00};
    const Bytes kStored = {0x00, 0x00, 0x00, 0xFF, 0xFF};
    Inflater inflater;
    for (const Bytes& block : {kFinalFixed, kStored}) {
        for (const size_t count : {size_t{1}, size_t{100}, kInflateBlocksMin}) {
            const Inflater::Outcome outcome = inflater.inflate(blocks(count, block), 1'000'000);
            EXPECT_TRUE(outcome.fault.ok()) << count << ": " << outcome.fault.detail;
            EXPECT_TRUE(outcome.message.empty());
        }
        const Inflater::Outcome outcome = inflater.inflate(blocks(100'000, block), 1'000'000);
        EXPECT_EQ(outcome.fault.fault, kInvalid);
        count_case("RFC 7692 8 limits", 4);
    }
}

TEST(Rfc7692_Limits, AfterABombTheInflaterIsSound) {
    Inflater inflater;
    const Bytes bomb = compressed(std::string(5'000'000, '\0'));
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(inflater.inflate(bomb, 1'000'000).fault.fault, kTooBig);
        EXPECT_EQ(inflater.inflate(Bytes{0xFF}, 1'000'000).fault.fault, kInvalid);
        const Inflater::Outcome outcome = inflater.inflate(compressed("Hello"), 1'000'000);
        EXPECT_TRUE(outcome.fault.ok());
        EXPECT_EQ(text_of(outcome.message), "Hello");
        inflater.trim();
    }
}

// An error ends the connection; the inflater is all connections', and does not keep what it took.
TEST(Rfc7692_Limits, TheDecoderKeepsNoLargeBufferWhateverAMessageCameTo) {
    const std::string large(20'000'000, 'a');
    const struct {
        uint8_t first;
        Bytes payload;
        size_t bytes_max;
        CloseReason fault;
    } cases[] = {{0xC2, compressed(large), 10'000'000, kTooBig},
                 {0xC2, compressed(large), 30'000'000, CloseReason::none},
                 {0xC1, compressed(large + "\xFF"), 30'000'000, kInvalid}};
    for (const auto& [first, payload, bytes_max, fault] : cases) {
        Inflater inflater;
        websocket::State state;
        state.window_bits = 15;
        RecordingSink sink;
        const Bytes wire = frame(first, payload);
        Decoded decoded;
        feed_in_pieces(wire, {}, [&](std::span<uint8_t> piece) {
            decoded = websocket::decode<Role::server>(
                state, piece, {.message_bytes_max = bytes_max}, sink, inflater);
            return decoded.ok();
        });
        EXPECT_EQ(decoded.fault, fault);
        EXPECT_LE(inflater.kept_bytes(), kDeflateKeepBytes) << describe(fault).name;
    }
}

// ---------------------------------------------------------------------------- 7.2.1: sending
std::string json_like(size_t bytes, uint64_t seed) {
    Random random(seed);
    std::string text;
    while (text.size() < bytes)
        text += "{\"seq\":" + std::to_string(random.below(100'000)) + ",\"text\":\"hello again\"}";
    return text.substr(0, bytes);
}

// Inflates with a window of exactly `window_bits`, a byte of output at a time, so that zlib
// cannot look back into the output instead. False: it refers farther back than it may.
bool inflates_within(std::span<const uint8_t> payload, int window_bits,
                     const std::string& message) {
    Bytes wire(payload.begin(), payload.end());
    wire = wire + Bytes{0x00, 0x00, 0xFF, 0xFF};
    z_stream stream{};
    EXPECT_EQ(inflateInit2(&stream, -window_bits), Z_OK);
    stream.next_in = wire.data();
    stream.avail_in = static_cast<uInt>(wire.size());
    std::string text;
    int code = Z_OK;
    while (code == Z_OK) {
        uint8_t byte;
        stream.next_out = &byte;
        stream.avail_out = 1;
        code = inflate(&stream, Z_SYNC_FLUSH);
        if (stream.avail_out == 0) text += static_cast<char>(byte);
        if (stream.avail_out == 1 && stream.avail_in == 0) break;
    }
    inflateEnd(&stream);
    return text == message;
}

TEST(Rfc7692_7_2_1_Compression, EveryWindowIsRespected) {
    Deflater deflater;
    for (int bits = 8; bits <= 15; ++bits) {
        for (uint64_t round = 0; round < scaled(20); ++round) {
            const std::string text = json_like(128 + round * 3'700, round);
            const std::span<const uint8_t> payload =
                deflater.deflate(bytes_of(text), static_cast<uint8_t>(bits));
            ASSERT_FALSE(payload.empty());
            EXPECT_LT(payload.size(), text.size());
            EXPECT_TRUE(inflates_within(payload, bits, text)) << bits << " bits, round " << round;
            count_case("RFC 7692 7.2.1 compression", 1);
        }
    }
    // The check itself: a stream that used a window of 15 bits is caught.
    const std::string far =
        std::string("needle in the haystack") + json_like(3'000, 1) + "needle in the haystack";
    EXPECT_FALSE(inflates_within(compressed(far), 8, far));
}

TEST(Rfc7692_7_2_1_Compression, MessagesThatDoNotShrinkAreSentAsTheyAre) {
    Deflater deflater;
    Random random(7692);
    Bytes noise(10'000);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random.next());
    EXPECT_TRUE(deflater.deflate(noise, 15).empty());
    EXPECT_TRUE(deflater.deflate(bytes_of("short"), 15).empty());
    EXPECT_TRUE(deflater.deflate({}, 15).empty());
    EXPECT_TRUE(deflater.deflate(Bytes(kDeflateBytesMin - 1, 'a'), 15).empty());
    EXPECT_FALSE(deflater.deflate(Bytes(kDeflateBytesMin, 'a'), 15).empty());
    count_case("RFC 7692 7.2.1 compression", 5);
}

TEST(Rfc7692_7_2_1_Compression, WhatWeSendIsWhatAClientReads) {
    Deflater deflater;
    for (const uint8_t window_bits : Bytes{0, 8, 9, 12, 15}) {
        ByteBuffer out;
        std::vector<std::string> calls;
        for (const size_t bytes : {0, 5, 127, 128, 1'000, 70'000}) {
            const std::string text = json_like(bytes, bytes);
            ASSERT_TRUE(websocket::write_message(out, MessageKind::text, bytes_of(text), deflater,
                                                 window_bits));
            calls.push_back("text:" + text);
        }
        EXPECT_EQ(hear<Role::client>(out.bytes, {}), (Heard{calls}));
        EXPECT_EQ(hear<Role::client>(out.bytes, every_byte(out.bytes.size())), (Heard{calls}));
        EXPECT_EQ(out.bytes.size() < 20'000, window_bits != 0);
        count_case("RFC 7692 7.2.1 compression", 12);
    }
    ByteBuffer masked;
    const std::string text = json_like(1'000, 3);
    ASSERT_TRUE(websocket::write_message(masked, MessageKind::binary, bytes_of(text), deflater, 15,
                                         kTestMask));
    EXPECT_EQ(hear(masked.bytes, {}), (Heard{{"binary:" + text}}));
    ByteBuffer full;
    full.room = 20;
    EXPECT_FALSE(websocket::write_message(full, MessageKind::binary, bytes_of(text), deflater, 15));
    EXPECT_TRUE(full.bytes.empty());
}

TEST(Rfc7692_RoundTrip, AnythingComesBack) {
    Deflater deflater;
    Inflater inflater;
    Random random(42);
    for (uint64_t round = 0; round < scaled(300); ++round) {
        Bytes message(random.below(1 << random.below(18)));
        const uint64_t alphabet = 1 + random.below(256);
        for (uint8_t& byte : message) byte = static_cast<uint8_t>(random.below(alphabet));
        const uint8_t bits = static_cast<uint8_t>(random.between(8, 15));
        const std::span<const uint8_t> payload = deflater.deflate(message, bits);
        if (payload.empty()) continue;
        const Inflater::Outcome outcome = inflater.inflate(payload, message.size());
        ASSERT_TRUE(outcome.fault.ok()) << round << ": " << outcome.fault.detail;
        ASSERT_EQ(Bytes(outcome.message.begin(), outcome.message.end()), message) << round;
        const int level = static_cast<int>(random.below(10));
        Bytes other =
            zlib_deflate(message, random.chance(1, 2) ? Z_SYNC_FLUSH : Z_FULL_FLUSH, 15, level);
        other.resize(other.size() - 4);
        const Inflater::Outcome theirs = inflater.inflate(other, message.size());
        ASSERT_TRUE(theirs.fault.ok()) << round << ": " << theirs.fault.detail;
        ASSERT_EQ(theirs.message.size(), message.size());
        inflater.trim();
        deflater.trim();
        count_case("RFC 7692 7.2 round trip", 2);
    }
}

}  // namespace
}  // namespace pulse::test
