// The PROXY protocol: tables of lines and binary headers that are right or wrong, and each of them
// cut anywhere, with the bytes behind it left alone.
#include "proto/proxy.h"

#include <gtest/gtest.h>

#include <string>

#include "core/random.h"

#include "tests/support/recording_sink.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;
using Family = ProxyAddress::Family;

const std::string kSignature = "\r\n\r\n\0\r\nQUIT\n"s;
const std::string kBehind = "PROXY {\"type\":\"ping\"}\n\r\n"s;

std::string show(const ProxyAddress& address) {
    std::string text;
    const size_t count = address.family == Family::none   ? 0
                         : address.family == Family::ipv4 ? 4
                                                          : 16;
    for (size_t at = 0; at < count; ++at) {
        char hex[3];
        std::snprintf(hex, sizeof hex, "%02x", address.bytes[at]);
        text += hex;
    }
    return text + ":" + std::to_string(address.port);
}

struct Heard {
    std::string source, destination, behind;
    bool whole = false;
    CloseReason fault = CloseReason::none;
    std::string_view detail;
    friend bool operator==(const Heard&, const Heard&) = default;
};
void PrintTo(const Heard& heard, std::ostream* out) {
    *out << heard.source << " -> " << heard.destination << (heard.whole ? " whole " : " ")
         << heard.detail << " behind: " << testing::PrintToString(heard.behind);
}

Heard hear(const std::string& wire, const std::vector<size_t>& cuts) {
    RecordingSink sink;
    Heard heard;
    feed_in_pieces(bytes_of(wire), cuts, [&](std::span<uint8_t> piece) {
        if (!heard.whole) {
            const ProxyHeader header = read_proxy_header(piece, sink);
            EXPECT_LE(sink.held().size(), kProxyHeaderBytesMax);
            heard.fault = header.fault.fault;
            heard.detail = header.fault.detail;
            if (!header.fault.ok()) return false;
            EXPECT_TRUE(header.bytes > 0 || piece.empty());
            if (header.bytes == 0) return true;
            EXPECT_EQ(sink.held().data(), nullptr);
            heard.whole = true;
            heard.source = show(header.source);
            heard.destination = show(header.destination);
        }
        heard.behind += text_of(piece);
        return true;
    });
    return heard;
}

// However it is cut, it says the same.
Heard hear_cut(const std::string& wire) {
    const Heard whole = hear(wire, {});
    EXPECT_EQ(hear(wire, every_byte(wire.size())), whole);
    for (size_t cut = 1; cut < wire.size(); ++cut) EXPECT_EQ(hear(wire, {cut}), whole) << cut;
    return whole;
}

struct Line {
    std::string text, source, destination;
};

TEST(ProxyLine, WhatIsRight) {
    const std::string one = "20010db8000000000000000000000001";
    const Line lines[] = {
        {"TCP4 192.0.2.1 192.0.2.2 56324 443", "c0000201:56324", "c0000202:443"},
        {"TCP4 255.255.255.255 0.0.0.0 65535 0", "ffffffff:65535", "00000000:0"},
        {"TCP6 2001:db8::1 ::1 1 2", one + ":1", std::string(31, '0') + "1:2"},
        {"TCP6 2001:0DB8:0:0:0:0:0:1 :: 1 2", one + ":1", std::string(32, '0') + ":2"},
        {"TCP6 2001:db8:: ::ffff:192.0.2.1 1 2", "20010db8" + std::string(24, '0') + ":1",
         std::string(20, '0') + "ffffc0000201:2"},
        {"TCP6 1:2:3:4:5:6:7:8 1:2:3:4:5:6:1.2.3.4 1 2", "00010002000300040005000600070008:1",
         "00010002000300040005000601020304:2"},
        {"TCP6 1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1 2", "00010002000300040005000600070000:1",
         "00000002000300040005000600070008:2"},
        {"UNKNOWN", ":0", ":0"},
        {"UNKNOWN ffff:f...f:ffff anything else", ":0", ":0"},
        {"UNKNOWN " + std::string(91, 'x'), ":0", ":0"},  // 107 bytes in all
    };
    for (const Line& line : lines) {
        const Heard heard = hear_cut("PROXY " + line.text + "\r\n" + kBehind);
        EXPECT_TRUE(heard.whole) << line.text << ": " << heard.detail;
        EXPECT_EQ(heard.source, line.source) << line.text;
        EXPECT_EQ(heard.destination, line.destination) << line.text;
        EXPECT_EQ(heard.behind, kBehind);
    }
}

TEST(ProxyLine, WhatIsWrong) {
    const std::pair<std::string, std::string_view> lines[] = {
        {"TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "names neither"},
        {"tcp4 192.0.2.1 192.0.2.2 1 2\r\n", "names neither"},
        {"\r\n", "names neither"},
        {" TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "names neither"},
        {"TCP4\r\n", "two addresses and two ports"},
        {"TCP4 192.0.2.1 192.0.2.2 1\r\n", "two addresses and two ports"},
        {"TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", "two addresses and two ports"},
        {"TCP4 192.0.2.1  192.0.2.2 1\r\n", "malformed"},
        {"TCP4 192.0.2.1 192.0.2.2 1 2 \r\n", "two addresses and two ports"},
        {"TCP4 192.0.2 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2.1.1 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2.256 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2. 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2.+1 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 ::1 192.0.2.2 1 2\r\n", "malformed source"},
        {"TCP4 192.0.2.1 192.0.2.2 65536 2\r\n", "malformed source"},
        {"TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "malformed destination"},
        {"TCP4 192.0.2.1 192.0.2.2 1 02\r\n", "malformed destination"},
        {"TCP4 192.0.2.1 192.0.2.2 1 -2\r\n", "malformed destination"},
        {"TCP4 192.0.2.1 192.0.2.2 1 2\n", "without CR LF"},
        {"TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n", "malformed destination"},
        {"TCP6 192.0.2.1 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1:2:3:4:5:6:7:8: ::1 1 2\r\n", "malformed source"},
        {"TCP6 :1:2:3:4:5:6:7:8 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1:2:3:4::5:6:7:8 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1::2::3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1:::3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 12345::3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 g::3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 1.2.3.4::3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 ::1.2.3.4:3 ::1 1 2\r\n", "malformed source"},
        {"TCP6 fe80::1%eth0 ::1 1 2\r\n", "malformed source"},
        {"UNKNOWN " + std::string(92, 'x') + "\r\n", "over 107"},
        {std::string(200, 'x'), "over 107"},
    };
    for (const auto& [text, detail] : lines) {
        const Heard heard = hear_cut("PROXY " + text);
        EXPECT_EQ(heard.fault, CloseReason::protocol_error) << text;
        EXPECT_NE(heard.detail.find(detail), std::string_view::npos)
            << text << ": " << heard.detail;
    }
}

// ------------------------------------------------------------------------------------- version 2
std::string header(uint8_t command, uint8_t family, const std::string& rest, int length = -1) {
    const size_t bytes = length < 0 ? rest.size() : static_cast<size_t>(length);
    std::string wire = kSignature;
    wire += static_cast<char>(command);
    wire += static_cast<char>(family);
    wire += static_cast<char>(bytes >> 8);
    wire += static_cast<char>(bytes);
    return wire + rest;
}
std::string tlv(uint8_t type, const std::string& value) {
    return std::string{static_cast<char>(type), static_cast<char>(value.size() >> 8),
                       static_cast<char>(value.size())} +
           value;
}
// Bit by bit, as the definition says.
uint32_t crc32c(const std::string& text) {
    uint32_t crc = 0xFFFFFFFF;
    for (const char c : text) {
        crc ^= static_cast<uint8_t>(c);
        for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82F63B78 : crc >> 1;
    }
    return ~crc;
}
std::string big_endian(uint32_t value) {
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift);
    return text;
}

const std::string kIpv4 = "\xC0\0\2\1\xC0\0\2\2\xDC\4\1\xBB"s;
const std::string kIpv6 =
    "\x20\1\xD\xB8\0\0\0\0\0\0\0\0\0\0\0\1"s + std::string(15, '\0') + "\1" + "\xDC\4\1\xBB"s;

TEST(ProxyBinary, WhatIsRight) {
    const std::string source6 = "20010db8000000000000000000000001:56324";
    const std::string destination6 = std::string(31, '0') + "1:443";
    const Line headers[] = {
        {header(0x21, 0x11, kIpv4), "c0000201:56324", "c0000202:443"},
        {header(0x21, 0x21, kIpv6), source6, destination6},
        {header(0x21, 0x11, kIpv4 + tlv(0x04, "") + tlv(0x02, "example.org") + tlv(0xEA, "x")),
         "c0000201:56324", "c0000202:443"},
        {header(0x21, 0x11, kIpv4 + tlv(0x20, std::string(1'000, 's'))), "c0000201:56324",
         "c0000202:443"},
        {header(0x21, 0x12, kIpv4), ":0", ":0"},
        {header(0x21, 0x22, kIpv6), ":0", ":0"},
        {header(0x21, 0x31, std::string(216, 'u')), ":0", ":0"},
        {header(0x21, 0x32, std::string(216, 'u')), ":0", ":0"},
        {header(0x21, 0x00, ""), ":0", ":0"},
        {header(0x21, 0x00, "anything"), ":0", ":0"},
        {header(0x20, 0x00, ""), ":0", ":0"},
        {header(0x20, 0x11, kIpv4), ":0", ":0"},
        {header(0x20, 0xFF, "whatever"), ":0", ":0"},
        {header(0x21, 0x11, kIpv4 + tlv(0x04, std::string(kProxyHeaderBytesMax - 31, 'n'))),
         "c0000201:56324", "c0000202:443"},
    };
    for (const Line& line : headers) {
        const Heard heard = hear_cut(line.text + kBehind);
        EXPECT_TRUE(heard.whole) << heard.detail;
        EXPECT_EQ(heard.source, line.source);
        EXPECT_EQ(heard.destination, line.destination);
        EXPECT_EQ(heard.behind, kBehind);
    }
}

struct Wrong {
    std::string wire;
    size_t bytes;  // that prove it
    std::string_view detail;
    CloseReason reason = CloseReason::protocol_error;
};

TEST(ProxyBinary, WhatIsWrongAtTheByteThatProvesIt) {
    const std::string cut_tlv = header(0x21, 0x11, kIpv4 + "\2\0"s);
    const std::string long_tlv = header(0x21, 0x11, kIpv4 + "\2\0\5abcd"s);
    const Wrong wrongs[] = {
        {header(0x11, 0x11, kIpv4), 13, "version"},
        {header(0x31, 0x11, kIpv4), 13, "version"},
        {header(0x22, 0x11, kIpv4), 13, "command"},
        {header(0x2F, 0x11, kIpv4), 13, "command"},
        {header(0x21, 0x10, kIpv4), 14, "family"},
        {header(0x21, 0x13, kIpv4), 14, "family"},
        {header(0x21, 0x01, kIpv4), 14, "family"},
        {header(0x21, 0x41, kIpv4), 14, "family"},
        {header(0x21, 0x11, kIpv4, 11), 16, "too short"},
        {header(0x21, 0x21, kIpv6, 35), 16, "too short"},
        {header(0x21, 0x31, "", 215), 16, "too short"},
        {header(0x21, 0x11, kIpv4, 0x1000), 15, "limit", CloseReason::message_too_big},
        {header(0x20, 0x00, "", 0xFFFF), 15, "limit", CloseReason::message_too_big},
        {header(0x21, 0x11, kIpv4, kProxyHeaderBytesMax - 15), 16, "limit",
         CloseReason::message_too_big},
        {cut_tlv, cut_tlv.size(), "cut"},
        {long_tlv, long_tlv.size(), "longer"},
        {"\r\n\r\n\r\nQUIT\n", 5, "?proxy=on"},
        {"GET / HTTP/1.1\r\n", 1, "?proxy=on"},
        {"\xB7\x01", 1, "?proxy=on"},
        {"PRI * HTTP/2.0\r\n", 3, "?proxy=on"},
        {"PROXY\tTCP4", 6, "?proxy=on"},
    };
    for (const Wrong& wrong : wrongs) {
        const Heard heard = hear_cut(wrong.wire);
        EXPECT_EQ(heard.fault, wrong.reason) << wrong.detail;
        EXPECT_NE(heard.detail.find(wrong.detail), std::string_view::npos) << heard.detail;
        EXPECT_EQ(hear(wrong.wire.substr(0, wrong.bytes - 1), {}).fault, CloseReason::none);
        EXPECT_EQ(hear(wrong.wire.substr(0, wrong.bytes), {}), heard);
    }
}

TEST(ProxyBinary, ACrcMustBeRight) {
    ASSERT_EQ(crc32c("123456789"), 0xE3069283);  // the check value of its catalogue
    const std::string before = tlv(0x02, "example.org");
    const std::string behind = tlv(0x04, "padding");
    const auto with = [&](uint32_t crc) {
        return header(0x21, 0x11, kIpv4 + before + tlv(0x03, big_endian(crc)) + behind);
    };
    const uint32_t right = crc32c(with(0));
    EXPECT_TRUE(hear_cut(with(right) + kBehind).whole);
    for (int bit = 0; bit < 32; ++bit) {
        const Heard heard = hear(with(right ^ 1u << bit), {});
        EXPECT_NE(heard.detail.find("CRC-32C"), std::string_view::npos);
    }
    // Every other byte is under its protection, too.
    const std::string whole = with(right);
    const size_t crc_type = 16 + kIpv4.size() + before.size();
    for (size_t at = 16; at < whole.size(); ++at) {
        if (at == crc_type) continue;  // any other type makes it no checksum at all
        std::string broken = whole;
        broken[at] = static_cast<char>(broken[at] ^ 0x40);
        EXPECT_FALSE(hear(broken, {}).whole) << at;
    }
    const std::string short_crc = header(0x21, 0x11, kIpv4 + tlv(0x03, "abc"));
    EXPECT_EQ(hear_cut(short_crc).fault, CloseReason::protocol_error);
}

TEST(ProxyMemory, WithoutMemoryItIsAFault) {
    RecordingSink sink;
    sink.hold_bytes_max = 10;
    Decoded fault;
    feed_in_pieces(bytes_of("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), every_byte(36),
                   [&](std::span<uint8_t> piece) {
                       fault = read_proxy_header(piece, sink).fault;
                       return fault.ok();
                   });
    EXPECT_EQ(fault.fault, CloseReason::out_of_memory);
}

// Headers that are mostly right, one byte of them broken now and then.
TEST(ProxyOracle, WholeAgainstCut) {
    Random random(7);
    const std::string right[] = {"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n",
                                 "PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "PROXY UNKNOWN\r\n",
                                 header(0x21, 0x11, kIpv4 + tlv(0x04, "abc")),
                                 header(0x21, 0x21, kIpv6)};
    uint64_t faults = 0;
    const uint64_t rounds = scaled(20'000);
    for (uint64_t round = 0; round < rounds; ++round) {
        std::string wire = right[random.below(std::size(right))] + kBehind;
        if (random.chance(1, 2)) wire[random.below(wire.size())] = static_cast<char>(random.next());
        const Heard whole = hear(wire, {});
        faults += whole.fault != CloseReason::none;
        std::vector<size_t> cuts;
        const size_t step = size_t{1} << random.below(6);
        for (size_t at = 1 + random.below(step); at < wire.size(); at += 1 + random.below(step))
            cuts.push_back(at);
        ASSERT_EQ(hear(wire, cuts), whole) << testing::PrintToString(wire);
    }
    EXPECT_GT(faults, rounds / 20);
    EXPECT_LT(faults, rounds * 19 / 20);
}

}  // namespace
}  // namespace pulse::test
