// Detection: a table of beginnings, each cut everywhere, on every listener; and what those are told
// who are refused.
#include "proto/detect.h"

#include <gtest/gtest.h>

#include <string>

#include "core/random.h"
#include "proto/refusal.h"

#include "tests/support/recording_sink.h"
#include "tests/support/scale.h"

namespace pulse::test {
namespace {

using namespace std::string_literals;

struct Case {
    std::string wire;
    Spoken spoken;
    size_t bytes;  // that decide it
};

const Case kCases[] = {
    {"\xB7\x01\x00\x00"s, Spoken::binary, 1},
    {"\xB7"s, Spoken::binary, 1},
    {"{\"type\":\"ping\"}\n"s, Spoken::jsonl, 1},
    {"\n"s, Spoken::jsonl, 1},
    {" {}"s, Spoken::jsonl, 1},
    {"\t{}"s, Spoken::jsonl, 1},
    {"\r\n{}"s, Spoken::jsonl, 3},
    {"\r{}"s, Spoken::jsonl, 2},
    {"\r\n\r\n\r\n"s, Spoken::jsonl, 5},
    {"\r\nGET / HTTP/1.1\r\n"s, Spoken::http, 6},
    {"\r\n\r\nGET / HTTP/1.1\r\n"s, Spoken::http, 8},
    {"\r\n\r\nOPTIONS / HTTP/1.0\r\n"s, Spoken::http, 12},
    {"\r\nPING\r\n"s, Spoken::jsonl, 4},
    {"\r\nGO\r\n"s, Spoken::jsonl, 4},
    {"\r\n\xB7"s, Spoken::jsonl, 3},
    {"PING\n"s, Spoken::jsonl, 4},
    {"ping\r\n"s, Spoken::jsonl, 4},
    {"GET / HTTP/1.1\r\n"s, Spoken::http, 4},
    {"HEAD / HTTP/1.1\r\n"s, Spoken::http, 5},
    {"POST / HTTP/1.1\r\n"s, Spoken::http, 5},
    {"PUT / HTTP/1.1\r\n"s, Spoken::http, 4},
    {"PATCH / HTTP/1.1\r\n"s, Spoken::http, 6},
    {"DELETE / HTTP/1.1\r\n"s, Spoken::http, 7},
    {"OPTIONS * HTTP/1.1\r\n"s, Spoken::http, 8},
    {"CONNECT a:1 HTTP/1.1\r\n"s, Spoken::http, 8},
    {"TRACE / HTTP/1.1\r\n"s, Spoken::http, 6},
    {"PRI * HTTP/2.0\r\n"s, Spoken::http, 4},
    {"\x16\x03\x01\x02\x00\x01"s, Spoken::tls, 2},
    {"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"s, Spoken::proxy_header, 6},
    {"\r\n\r\n\0\r\nQUIT\n\x21\x11"s, Spoken::proxy_header, 12},
    {"\x16\x04"s, Spoken::unknown, 2},
    {"SSH-2.0-OpenSSH\r\n"s, Spoken::unknown, 1},
    {"get / HTTP/1.1\r\n"s, Spoken::unknown, 1},
    {"GETS"s, Spoken::unknown, 4},
    {"PINT"s, Spoken::unknown, 4},
    {"Ping\n"s, Spoken::unknown, 2},
    {"pong\n"s, Spoken::unknown, 2},
    {"PROXZ "s, Spoken::unknown, 5},
    {"PURGE / HTTP/1.1"s, Spoken::unknown, 3},
    {"[1]\n"s, Spoken::unknown, 1},
    {"\0\0\0\0"s, Spoken::unknown, 1},
    {"\x10\x0e\x00\x04MQTT"s, Spoken::unknown, 1},
};

std::span<const uint8_t> span_of(const std::string& text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

TEST(Detect, EveryBeginningAtTheByteThatDecides) {
    for (const Case& row : kCases) {
        for (size_t count = 1; count <= row.wire.size(); ++count) {
            const Spoken wanted = count < row.bytes ? Spoken::undecided : row.spoken;
            ASSERT_EQ(recognise(span_of(row.wire).first(count)), wanted)
                << testing::PrintToString(row.wire) << " after " << count;
        }
    }
}

TEST(Detect, AListenerOfOneProtocolRefusesTheOthersAndSaysWhatItSpeaks) {
    struct Listener {
        Protocol wanted;
        std::string_view says;
    };
    const Listener listeners[] = {{Protocol::binary, "tcp://"},
                                  {Protocol::websocket, "ws://"},
                                  {Protocol::jsonl, "jsonl://"}};
    const std::pair<std::string, Protocol> peers[] = {
        {"\xB7\x01", Protocol::binary}, {"GET / ", Protocol::websocket}, {"PING", Protocol::jsonl}};
    for (const Listener& listener : listeners) {
        for (const auto& [wire, protocol] : peers) {
            const Detected found = detect_protocol(span_of(wire), listener.wanted);
            if (protocol == listener.wanted) {
                EXPECT_TRUE(found.fault.ok());
                EXPECT_EQ(found.protocol, protocol);
            } else {
                EXPECT_EQ(found.fault.fault, CloseReason::protocol_error);
                EXPECT_NE(found.fault.detail.find(listener.says), std::string_view::npos);
                EXPECT_EQ(found.protocol, Protocol::detect);
            }
        }
    }
}

TEST(Detect, AListenerOfAllTakesThemAll) {
    for (const Case& row : kCases) {
        const Detected found = detect_protocol(span_of(row.wire));
        const bool spoken_here = row.wire.size() >= row.bytes &&
                                 (row.spoken == Spoken::binary || row.spoken == Spoken::http ||
                                  row.spoken == Spoken::jsonl);
        EXPECT_EQ(found.protocol != Protocol::detect, spoken_here);
        EXPECT_EQ(found.fault.ok(), found.spoken == Spoken::undecided || spoken_here);
    }
    const Detected little = detect_protocol(span_of("OPTIONS"));
    EXPECT_EQ(little.protocol, Protocol::detect);
    EXPECT_TRUE(little.fault.ok());
}

TEST(Detect, WhatNoListenerSpeaksIsRefusedByItsName) {
    const std::pair<std::string, std::string_view> peers[] = {{"\x16\x03\x01", "TLS"},
                                                              {"PROXY TCP4", "?proxy=on"}};
    for (const Protocol wanted : {Protocol::detect, Protocol::websocket}) {
        for (const auto& [wire, name] : peers) {
            const Detected found = detect_protocol(span_of(wire), wanted);
            EXPECT_EQ(found.fault.fault, CloseReason::protocol_error);
            EXPECT_NE(found.fault.detail.find(name), std::string_view::npos);
        }
    }
}

std::string refusal(const std::string& wire, Protocol wanted) {
    const Detected found = detect_protocol(span_of(wire), wanted);
    ByteBuffer out;
    EXPECT_TRUE(write_refusal(out, found.spoken, found.fault));
    return out.text();
}

TEST(Refusal, IsInThePeersOwnProtocol) {
    const std::string http = refusal("GET / HTTP/1.1\r\n", Protocol::binary);
    EXPECT_EQ(http.find("HTTP/1.1 400 "), 0u) << http;
    EXPECT_NE(http.find("Connection: close\r\n"), std::string::npos);
    EXPECT_NE(http.find("binary frames only (tcp://)"), std::string::npos);

    const std::string json = refusal("{\"type\":\"ping\"}\n", Protocol::websocket);
    EXPECT_EQ(json.find(R"({"type":"error","code":1002,"message":"this listener speaks WebSock)"),
              0u)
        << json;
    EXPECT_TRUE(json.ends_with("\"}\n"));

    const std::string frame = refusal("\xB7\x01", Protocol::jsonl);
    ASSERT_GT(frame.size(), 10u);
    EXPECT_EQ(frame.substr(0, 2), "\xB7\x08");
    EXPECT_EQ(static_cast<size_t>(frame[3]), frame.size() - 8);
    EXPECT_NE(frame.find("JSON lines only"), std::string::npos);

    EXPECT_EQ(refusal("\x16\x03\x01", Protocol::detect), "\x15\3\3\0\2\2\x28"s);
    EXPECT_EQ(refusal("PROXY TCP4", Protocol::detect), "");
    EXPECT_NE(refusal("SSH-2.0", Protocol::detect).find("WebSocket, JSON lines"),
              std::string::npos);
}

TEST(Refusal, WithoutRoomNothingIsWritten) {
    for (const Case& row : kCases) {
        ByteBuffer out;
        out.room = 6;
        const bool silent = row.spoken == Spoken::proxy_header;
        EXPECT_EQ(write_refusal(out, row.spoken, {CloseReason::protocol_error, "some words"}),
                  silent);
        EXPECT_TRUE(out.bytes.empty());
    }
}

// Noise is decided within kDetectBytesMax, and once decided, never otherwise.
TEST(Detect, MoreBytesNeverChangeADecision) {
    Random random(1);
    const std::string letters = "PGHOUTDCRING xyo\r\n\0\x16\x03\xB7{"s;
    for (uint64_t round = 0; round < scaled(200'000); ++round) {
        std::string wire;
        for (size_t at = 0; at < kDetectBytesMax; ++at)
            wire += letters[random.below(letters.size())];
        Spoken before = Spoken::undecided;
        for (size_t count = 1; count <= wire.size(); ++count) {
            const Spoken now = recognise(span_of(wire).first(count));
            ASSERT_TRUE(before == Spoken::undecided || now == before);
            before = now;
        }
        ASSERT_NE(before, Spoken::undecided);
    }
}

TEST(Detect, OtherProtocolsAreKnownByTheirNames) {
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
        EXPECT_EQ(name_of_what_began(span_of(wire), recognise(span_of(wire))), name) << wire;
    }
}

}  // namespace
}  // namespace pulse::test
