// Detection: prefixes, each cut everywhere, on every listener; and how a refused peer is told.
#include "net/protocols/first_bytes.h"

#include <gtest/gtest.h>

#include <string>

#include "core/random.h"
#include "proto/limits.h"

#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

// What first bytes are, as a row of this test has it.
struct Told {
    WireKind kind;
    const Protocol* protocol = &undetected_protocol;
    friend bool operator==(const Told&, const Told&) = default;
};
constexpr Told kUndecided{WireKind::undecided}, kTls{WireKind::tls},
    kProxyHeader{WireKind::proxy_header}, kUnknown{WireKind::unknown},
    kBinary{WireKind::spoken, &binary_protocol}, kHttp{WireKind::spoken, &websocket_protocol},
    kJsonl{WireKind::spoken, &jsonl_protocol};

struct Case {
    std::string wire;
    Told told;
    size_t bytes;  // that decide it
};

const Case kCases[] = {
    {"\xB7\x01\x00\x00"s, kBinary, 1},
    {"\xB7"s, kBinary, 1},
    {"{\"type\":\"ping\"}\n"s, kJsonl, 1},
    {"\n"s, kJsonl, 1},
    {" {}"s, kJsonl, 1},
    {"\t{}"s, kJsonl, 1},
    {"\r\n{}"s, kJsonl, 3},
    {"\r{}"s, kJsonl, 2},
    {"\r\n\r\n\r\n"s, kJsonl, 5},
    {"\r\nGET / HTTP/1.1\r\n"s, kHttp, 6},
    {"\r\n\r\nGET / HTTP/1.1\r\n"s, kHttp, 8},
    {"\r\n\r\nOPTIONS / HTTP/1.0\r\n"s, kHttp, 12},
    {"\r\nPING\r\n"s, kJsonl, 4},
    {"\r\nGO\r\n"s, kJsonl, 4},
    {"\r\n\xB7"s, kJsonl, 3},
    {"PING\n"s, kJsonl, 4},
    {"ping\r\n"s, kJsonl, 4},
    {"GET / HTTP/1.1\r\n"s, kHttp, 4},
    {"HEAD / HTTP/1.1\r\n"s, kHttp, 5},
    {"POST / HTTP/1.1\r\n"s, kHttp, 5},
    {"PUT / HTTP/1.1\r\n"s, kHttp, 4},
    {"PATCH / HTTP/1.1\r\n"s, kHttp, 6},
    {"DELETE / HTTP/1.1\r\n"s, kHttp, 7},
    {"OPTIONS * HTTP/1.1\r\n"s, kHttp, 8},
    {"CONNECT a:1 HTTP/1.1\r\n"s, kHttp, 8},
    {"TRACE / HTTP/1.1\r\n"s, kHttp, 6},
    {"PRI * HTTP/2.0\r\n"s, kHttp, 4},
    {"\x16\x03\x01\x02\x00\x01"s, kTls, 2},
    {"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"s, kProxyHeader, 6},
    {"\r\n\r\n\0\r\nQUIT\n\x21\x11"s, kProxyHeader, 12},
    {"\x16\x04"s, kUnknown, 2},
    {"SSH-2.0-OpenSSH\r\n"s, kUnknown, 1},
    {"get / HTTP/1.1\r\n"s, kUnknown, 1},
    {"GETS"s, kUnknown, 4},
    {"PINT"s, kUnknown, 4},
    {"Ping\n"s, kUnknown, 2},
    {"pong\n"s, kUnknown, 2},
    {"PROXZ "s, kUnknown, 5},
    {"PURGE / HTTP/1.1"s, kUnknown, 3},
    {"[1]\n"s, kUnknown, 1},
    {"\0\0\0\0"s, kUnknown, 1},
    {"\x10\x0e\x00\x04MQTT"s, kUnknown, 1},
};

std::span<const uint8_t> span_of(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

FirstBytes classify(std::string_view wire, const Protocol& listener = undetected_protocol) {
    const auto row = std::ranges::find(all_protocols(), &listener);
    return pulse::classify({reinterpret_cast<const uint8_t*>(wire.data()), wire.size()},
                           static_cast<uint8_t>(row - all_protocols().begin()));
}
Told told(const FirstBytes& first) { return {first.kind, kProtocols[first.protocol]}; }

TEST(FirstBytes, EveryPrefixAtTheByteThatDecides) {
    for (const Case& row : kCases) {
        for (size_t count = 1; count <= row.wire.size(); ++count) {
            const FirstBytes first = classify(row.wire.substr(0, count));
            ASSERT_EQ(told(first), count < row.bytes ? kUndecided : row.told)
                << testing::PrintToString(row.wire) << " after " << count;
        }
    }
}

TEST(FirstBytes, AListenerOfOneProtocolRefusesTheOthersAndSaysWhatItSpeaks) {
    struct Listener {
        const Protocol& protocol;
        std::string_view says;
    };
    const Listener listeners[] = {
        {binary_protocol, "tcp://"}, {websocket_protocol, "ws://"}, {jsonl_protocol, "jsonl://"}};
    const std::pair<std::string, Told> peers[] = {
        {"\xB7\x01", kBinary}, {"GET / ", kHttp}, {"PING", kJsonl}};
    for (const Listener& listener : listeners) {
        for (const auto& [wire, spoken] : peers) {
            const FirstBytes first = classify(wire, listener.protocol);
            EXPECT_EQ(told(first), spoken);
            EXPECT_EQ(first.fault.ok(), spoken.protocol == &listener.protocol);
            if (first.fault.ok()) continue;
            EXPECT_EQ(first.fault.fault, CloseReason::wrong_protocol);
            EXPECT_NE(first.fault.detail.find(listener.says), std::string_view::npos);
        }
    }
}

TEST(FirstBytes, AListenerOfAllTakesThemAll) {
    for (const Case& row : kCases) {
        const FirstBytes first = classify(row.wire);
        const bool fine = first.kind == WireKind::spoken || first.kind == WireKind::undecided;
        EXPECT_EQ(first.fault.ok(), fine) << testing::PrintToString(row.wire);
    }
    EXPECT_EQ(told(classify("OPTIONS")), kUndecided);
    EXPECT_TRUE(classify("OPTIONS").fault.ok());
}

TEST(FirstBytes, WhatNoListenerSpeaksIsRefusedByItsName) {
    const std::pair<std::string, std::string_view> peers[] = {{"\x16\x03\x01", "TLS"},
                                                              {"PROXY TCP4", "?proxy=on"}};
    for (const Protocol* listener : {&undetected_protocol, &websocket_protocol}) {
        for (const auto& [wire, name] : peers) {
            const FirstBytes first = classify(wire, *listener);
            EXPECT_EQ(first.fault.fault, CloseReason::wrong_protocol);
            EXPECT_NE(first.fault.detail.find(name), std::string_view::npos);
        }
    }
}

std::string refusal(const std::string& wire, const Protocol& listener) {
    return std::string(reject(classify(wire, listener)).view());
}

TEST(Refusal, IsInThePeersOwnProtocol) {
    const std::string http = refusal("GET / HTTP/1.1\r\n", binary_protocol);
    EXPECT_EQ(http.find("HTTP/1.1 400 "), 0u) << http;
    EXPECT_NE(http.find("Connection: close\r\n"), std::string::npos);
    EXPECT_NE(http.find("binary frames only (tcp://)"), std::string::npos);

    const std::string json = refusal("{\"type\":\"ping\"}\n", websocket_protocol);
    EXPECT_EQ(json.find(R"({"type":"error","code":1002,"message":"this listener speaks WebSock)"),
              0u)
        << json;
    EXPECT_TRUE(json.ends_with("\"}\n"));

    const std::string frame = refusal("\xB7\x01", jsonl_protocol);
    ASSERT_GT(frame.size(), 10u);
    EXPECT_EQ(frame.substr(0, 2), "\xB7\x08");
    EXPECT_EQ(static_cast<size_t>(frame[3]), frame.size() - 8);
    EXPECT_NE(frame.find("JSON lines only"), std::string::npos);

    EXPECT_EQ(refusal("\x16\x03\x01", undetected_protocol), "\x15\3\3\0\2\2\x28"s);
    EXPECT_EQ(refusal("PROXY TCP4", undetected_protocol), "");
    EXPECT_NE(refusal("SSH-2.0", undetected_protocol).find("WebSocket, JSON lines"),
              std::string::npos);
}

// Noise is decided within kDetectBytesMax, and once decided, never otherwise.
TEST(FirstBytes, MoreBytesNeverChangeADecision) {
    Random random(1);
    const std::string letters = "PGHOUTDCRING xyo\r\n\0\x16\x03\xB7{"s;
    for (uint64_t round = 0; round < scaled(200'000); ++round) {
        std::string wire;
        for (size_t at = 0; at < kDetectBytesMax; ++at)
            wire += letters[random.below(letters.size())];
        Told before = kUndecided;
        for (size_t count = 1; count <= wire.size(); ++count) {
            const Told now = told(classify(wire.substr(0, count)));
            ASSERT_TRUE(before == kUndecided || now == before);
            before = now;
        }
        ASSERT_NE(before, kUndecided);
    }
}

TEST(FirstBytes, OtherProtocolsAreKnownByTheirNames) {
    const std::pair<std::string, std::string_view> peers[] = {
        {"\x16\x03\x01\x02\x00"s, "TLS"},
        {"SSH-2.0-x\r\n"s, "SSH"},
        {"\x10\x0e\x00\x04MQTT"s, "MQTT"},
        {"\x10\x81\x01\x00\x04MQTT"s, "MQTT"},
        {"\x10\x14\x00\x06MQIsdp"s, "MQTT"},
        {"*1\r\n$4\r\nPING\r\n"s, "Redis"},
        {"*12\r\n$4"s, "Redis"},
        {"AMQP\0\0\x09\x01"s, "AMQP"},
        {"PRI * HTTP/2.0\r\n"s, "HTTP/2"},
        {"\0\0\0\x08\x04\xd2\x16\x2f"s, "PostgreSQL"},
        {"\x05\x01\x00"s, "SOCKS 5"},
        {"*"s, ""},
        {"\x10"s, ""},
        {"\x10MQTT"s, ""},
        {"GET / HTTP/1.1"s, "HTTP"},
        {"PROXY TCP4 "s, "a PROXY header"},
        {"\xB7"s, "binary frames"},
        {"{}"s, "JSON lines"},
        {"nonsense"s, ""},
    };
    for (const auto& [wire, name] : peers) {
        EXPECT_EQ(name_of_what_began(span_of(wire), classify(wire)), name) << wire;
    }
}

}  // namespace
}  // namespace pulse::test
