// Lines, one at a time, each shortened where it stands.
#include "proto/kept_head.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/check.h"
#include "proto/http_fields.h"

namespace pulse {
namespace {

using std::string_view_literals::operator""sv;

// No name that is read is as long, and no path that is answered.
constexpr size_t kUnknownNameBytes = 32;
constexpr size_t kFirstLineBytes = 512;
static_assert(kHandshakeKeptBytesMax + kUnknownNameBytes + 8 <= kBufferSmallBytes);

struct Shortened {
    size_t bytes = 0;
    bool counts = true;  // against the bound
};

Shortened put(char* line, std::string_view text, bool counts = true) {
    std::copy(text.begin(), text.end(), line);
    return {text.size(), counts};
}

bool is_target_byte(char byte) { return byte > ' ' && byte <= '~' && byte != '#'; }

// Whether what is behind kFirstLineBytes of this target is its path or query.
bool host_ends_early(std::string_view target) {
    for (const std::string_view scheme : {"http://"sv, "https://"sv}) {
        if (!equal_ignoring_case(target.substr(0, scheme.size()), scheme)) continue;
        return target.find_first_of("/?", scheme.size()) != std::string_view::npos;
    }
    return true;
}

// Of a method or target that goes beyond kFirstLineBytes, what no answer depends on.
Shortened shorten_first(char* line, size_t bytes) {
    const std::string_view text(line, bytes);
    if (bytes <= kFirstLineBytes) return {bytes};
    const size_t method_end = std::min(text.find(' '), bytes);
    size_t end = method_end;
    bool (*unread)(char) = is_token_char;
    if (method_end < kFirstLineBytes) {
        end = std::min(text.find(' ', method_end + 1), bytes);
        if (end <= kFirstLineBytes) return {bytes};
        const size_t from = method_end + 1;
        if (!host_ends_early(text.substr(from, kFirstLineBytes - from))) return {bytes};
        unread = is_target_byte;
    }
    char* const behind = std::remove_if(line + kFirstLineBytes, line + end, unread);
    return {static_cast<size_t>(std::copy(line + end, line + bytes, behind) - line)};
}

enum class Use : uint8_t { none, presence, trace, value };

Use use_of(std::string_view name, KeptFields fields) {
    constexpr std::string_view kValues[] = {"host",
                                            "origin",
                                            "content-length",
                                            "upgrade",
                                            "connection",
                                            "sec-websocket-key",
                                            "sec-websocket-version",
                                            "sec-websocket-accept",
                                            "sec-websocket-protocol",
                                            "sec-websocket-extensions"};
    constexpr std::string_view kPrefix = "sec-websocket-";
    const auto is = [&](std::string_view known) { return equal_ignoring_case(name, known); };
    if (std::ranges::any_of(kValues, is)) return Use::value;
    if (is("authorization")) return fields.token ? Use::value : Use::none;
    if (is("traceparent")) return fields.trace ? Use::trace : Use::none;
    if (is("transfer-encoding")) return Use::presence;
    return equal_ignoring_case(name.substr(0, kPrefix.size()), kPrefix) ? Use::presence : Use::none;
}

// A traceparent has 55 bytes, or a '-' behind them (traceparent.h). White space may be the end of
// the line, or not; what follows it makes the value malformed.
Shortened shorten_trace(char* line, size_t name_bytes, size_t bytes) {
    constexpr size_t kReadBytes = 55;
    constexpr std::string_view kSpace = " \t";
    const std::string_view text(line, bytes);
    const size_t from = std::min(text.find_first_not_of(kSpace, name_bytes), bytes);
    const std::string_view value = text.substr(from);
    char next = ' ';
    if (value.size() > kReadBytes && kSpace.find(value[kReadBytes]) == std::string_view::npos)
        next = value[kReadBytes];
    else if (value.find_first_not_of(kSpace, std::min(value.size(), kReadBytes)) != value.npos)
        next = 'x';
    char* end = std::copy(value.begin(), value.begin() + std::min(value.size(), kReadBytes),
                          line + name_bytes);
    if (value.size() > kReadBytes) *end++ = next;
    return {static_cast<size_t>(end - line)};
}

// A line that no field begins: ":" has an empty name.
Shortened malformed(char* line) { return put(line, ":"); }

// `whole`: the line has ended.
Shortened shorten_field(char* line, size_t bytes, bool whole, KeptFields fields) {
    const std::string_view text(line, bytes);
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
        if (whole || !is_token(text)) return malformed(line);
        return {std::min(bytes, kUnknownNameBytes), false};
    }
    if (!is_token(text.substr(0, colon))) return malformed(line);
    switch (use_of(text.substr(0, colon), fields)) {
        case Use::trace:
            return shorten_trace(line, colon + 1, bytes);
        case Use::value:
            return {bytes};
        case Use::presence:
            // The shortest name that is present as this one is.
            return text[0] == 't' || text[0] == 'T' ? Shortened{colon + 1}
                                                    : put(line, "sec-websocket-:");
        case Use::none:
            break;
    }
    return whole ? Shortened{} : put(line, "x:"sv.substr(0, bytes), false);
}

}  // namespace

KeptHead::KeptHead(std::span<const uint8_t> held, std::span<const uint8_t> piece,
                   KeptFields fields) {
    const auto last_end = std::find(held.rbegin(), held.rend(), uint8_t{'\n'}).base();
    const std::span<const uint8_t> unfinished(last_end, held.end());
    held_bytes_ = held.size() - unfinished.size();
    PULSE_ASSERT(unfinished.size() + piece.size() <= text_.size());
    std::copy(piece.begin(), piece.end(),
              std::copy(unfinished.begin(), unfinished.end(), text_.begin()));
    shorten(unfinished.size() + piece.size(), fields);
}

void KeptHead::shorten(size_t bytes, KeptFields fields) {
    char* const text = reinterpret_cast<char*>(text_.data());
    bool first = held_bytes_ == 0;
    counted_bytes_ = held_bytes_;
    size_t to = 0;
    for (size_t from = 0; from < bytes;) {
        const void* const found = std::memchr(text + from, '\n', bytes - from);
        const bool whole = found != nullptr;
        const size_t next =
            whole ? static_cast<size_t>(static_cast<const char*>(found) - text) + 1 : bytes;
        // The line without its end, or its CR where only that is here.
        size_t end = next - (whole ? 1 : 0);
        const bool has_cr = end > from && text[end - 1] == '\r';
        if (has_cr) --end;
        std::memmove(text + to, text + from, end - from);
        Shortened line;
        if (end > from)
            line = first ? shorten_first(text + to, end - from)
                         : shorten_field(text + to, end - from, whole, fields);
        // The empty line that ends the head stays; those before it and lines left out do not.
        const bool stays = line.bytes > 0 || (end == from && (!whole || !first));
        to += line.bytes;
        if (line.counts) counted_bytes_ += line.bytes;
        if (stays && has_cr) text[to++] = '\r';
        if (stays && whole) {
            text[to++] = '\n';
            counted_bytes_ += 2;
        }
        if (whole && line.bytes > 0) first = false;
        from = next;
    }
    kept_bytes_ = to;
}

}  // namespace pulse
