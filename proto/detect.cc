// Prefixes, and a table of other servers' protocols.
#include "proto/detect.h"

#include <algorithm>

namespace pulse {
namespace {

using namespace std::string_view_literals;

// As the first bytes have it: one prefix, in front of which something may stand.
void match_one(std::string_view text, std::string_view before, std::string_view bytes,
               PrefixMatch& match) {
    const size_t size = before.size() + bytes.size();
    const std::string_view head = text.substr(0, before.size());
    if (!before.starts_with(head)) return;
    const std::string_view rest = text.substr(head.size());
    if (text.size() < size) {
        match.may_grow |= bytes.starts_with(rest);
    } else if (rest.starts_with(bytes)) {
        match.bytes = std::max(match.bytes, size);
    }
}

}  // namespace

PrefixMatch match_prefixes(std::span<const uint8_t> bytes, std::span<const Prefix> prefixes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    PrefixMatch match;
    for (const Prefix& prefix : prefixes) {
        match_one(text, "", prefix.bytes, match);
        if (!prefix.behind_empty_lines || !text.starts_with('\r')) continue;
        match_one(text, "\r\n", prefix.bytes, match);
        match_one(text, "\r\n\r\n", prefix.bytes, match);
    }
    return match;
}

std::string_view name_of_foreign(std::span<const uint8_t> bytes) {
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
    return {};
}

}  // namespace pulse
