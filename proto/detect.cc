// A table of beginnings, none of which is the beginning of another.
#include "proto/detect.h"

#include <string_view>

namespace pulse {
namespace {

using namespace std::string_view_literals;

struct Beginning {
    std::string_view bytes;
    Spoken spoken;
};

constexpr Beginning kBeginnings[] = {
    {"\xB7"sv, Spoken::binary},
    {"{"sv, Spoken::jsonl},
    {"GET "sv, Spoken::http},
    {"PING"sv, Spoken::jsonl},
    {"ping"sv, Spoken::jsonl},
    {" "sv, Spoken::jsonl},
    {"\t"sv, Spoken::jsonl},
    {"\n"sv, Spoken::jsonl},
    {"HEAD "sv, Spoken::http},
    {"POST "sv, Spoken::http},
    {"PUT "sv, Spoken::http},
    {"PATCH "sv, Spoken::http},
    {"DELETE "sv, Spoken::http},
    {"OPTIONS "sv, Spoken::http},
    {"CONNECT "sv, Spoken::http},
    {"TRACE "sv, Spoken::http},
    {"PRI "sv, Spoken::http},  // HTTP/2 with prior knowledge
    {"\x16\x03"sv, Spoken::tls},
    {"PROXY "sv, Spoken::proxy_header},
    {"\r\n\r\n\0\r\nQUIT\n"sv, Spoken::proxy_header},
};

// With the longest method behind them they are as long as the PROXY signature.
constexpr size_t kEmptyLinesMax = 2;

constexpr bool none_begins_another() {
    for (const Beginning& one : kBeginnings) {
        const size_t before = one.spoken == Spoken::http ? 2 * kEmptyLinesMax : 0;
        if (before + one.bytes.size() > kDetectBytesMax) return false;
        for (const Beginning& other : kBeginnings) {
            if (&one != &other && one.bytes.starts_with(other.bytes)) return false;
        }
    }
    return true;
}
static_assert(none_begins_another());

Protocol codec_of(Spoken spoken) {
    switch (spoken) {
        case Spoken::binary:
            return Protocol::binary;
        case Spoken::http:
            return Protocol::websocket;
        case Spoken::jsonl:
            return Protocol::jsonl;
        default:
            return Protocol::detect;
    }
}

// Why a peer that spoke like this is refused by a listener which speaks only `wanted`, or all.
std::string_view complaint(Spoken spoken, Protocol wanted) {
    if (spoken == Spoken::tls) {
        return "this listener speaks no TLS: connect without it, or through a proxy that ends it";
    }
    if (spoken == Spoken::proxy_header) {
        return "this listener expects no PROXY header: add ?proxy=on to its URI";
    }
    switch (wanted) {
        case Protocol::binary:
            return "this listener speaks binary frames only (tcp://), which begin with 0xB7";
        case Protocol::websocket:
            return "this listener speaks WebSocket only (ws://): begin with an HTTP upgrade";
        case Protocol::jsonl:
            return "this listener speaks JSON lines only (jsonl://): one object a line";
        case Protocol::detect:
            break;
    }
    return "not a protocol of this listener (auto://): WebSocket, JSON lines, "
           "or binary frames (0xB7)";
}

}  // namespace

Spoken recognise(std::span<const uint8_t> bytes) {
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Beginning& beginning : kBeginnings) {
        if (text.starts_with(beginning.bytes)) return beginning.spoken;
        if (beginning.bytes.starts_with(text)) return Spoken::undecided;
    }
    if (text.front() != '\r') return Spoken::unknown;
    // Not a PROXY signature any more: empty lines, before JSON lines or before a request line (RFC
    // 9112 section 2.2), of which this many are looked behind.
    for (size_t lines = 0; lines < kEmptyLinesMax && text.starts_with("\r\n"); ++lines) {
        text.remove_prefix(2);
    }
    for (const Beginning& beginning : kBeginnings) {
        if (beginning.spoken != Spoken::http) continue;
        if (text.starts_with(beginning.bytes)) return Spoken::http;
        if (beginning.bytes.starts_with(text)) return Spoken::undecided;
    }
    return Spoken::jsonl;
}

std::string_view name_of_what_began(std::span<const uint8_t> bytes, Spoken spoken) {
    struct Foreign {
        std::string_view bytes, name;
    };
    constexpr Foreign kForeign[] = {
        {"SSH-"sv, "SSH"},
        {"AMQP"sv, "AMQP"},
        {"PRI * HTTP/2"sv, "HTTP/2"},
        {"EHLO "sv, "SMTP"},
        {"HELO "sv, "SMTP"},
        {"STOMP\n"sv, "STOMP"},
        {"CONNECT\n"sv, "STOMP"},
        {"\x05\x01\x00"sv, "SOCKS 5"},
        {"\x03\x00\x00"sv, "RDP"},
        {"\0\0\0\x08\x04\xd2\x16\x2f"sv, "PostgreSQL"},
    };
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Foreign& foreign : kForeign) {
        if (text.starts_with(foreign.bytes)) return foreign.name;
    }
    // CONNECT, behind a length of one to four bytes the protocol's name.
    const bool mqtt =
        text.starts_with('\x10') && (text.find("\0\4MQTT"sv) <= 5 || text.find("\0\6MQIs"sv) <= 5);
    if (mqtt) return "MQTT";
    // An array of bulk strings: `*1\r\n$4\r\nPING\r\n`.
    const bool array = text.size() >= 4 && text[0] == '*' && text[1] >= '0' && text[1] <= '9';
    if (array && text.find("\r\n") <= 4) return "Redis";
    switch (spoken) {
        case Spoken::binary:
            return "binary frames";
        case Spoken::http:
            return "HTTP";
        case Spoken::jsonl:
            return "JSON lines";
        case Spoken::tls:
            return "TLS";
        case Spoken::proxy_header:
            return "a PROXY header";
        case Spoken::unknown:
        case Spoken::undecided:
            break;
    }
    return {};
}

Detected detect_protocol(std::span<const uint8_t> bytes, Protocol wanted) {
    Detected detected;
    detected.spoken = recognise(bytes);
    if (detected.spoken == Spoken::undecided) return detected;
    const Protocol protocol = codec_of(detected.spoken);
    if (protocol == Protocol::detect || (wanted != Protocol::detect && wanted != protocol)) {
        detected.fault = {CloseReason::protocol_error, complaint(detected.spoken, wanted)};
    } else {
        detected.protocol = protocol;
    }
    return detected;
}

}  // namespace pulse
