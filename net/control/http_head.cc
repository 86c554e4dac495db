// One pass over the lines, without recursion: its stack does not grow with what a client sends.
#include "net/control/http_head.h"

#include <algorithm>
#include <string>

namespace pulse {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// RFC 9110 5.6.2.
bool is_token(std::string_view text) {
    constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::ranges::all_of(text, [&](char c) {
        return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
               kMarks.find(c) != kMarks.npos;
    });
}

bool is_visible(char c) { return c > ' ' && c <= '~'; }

// Of a header's value: no control character but the tab.
bool is_text(char c) { return c == '\t' || (c != '\x7f' && static_cast<unsigned char>(c) >= ' '); }

std::string_view trimmed(std::string_view value) {
    const size_t from = value.find_first_not_of(" \t");
    if (from == std::string_view::npos) return {};
    return value.substr(from, value.find_last_not_of(" \t") + 1 - from);
}

// Takes a line and its break from the text.
std::string_view take_line(std::string_view& text) {
    const size_t end = text.find("\r\n");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
    return line;
}

Result<void> check_fields(const HttpHead& head) {
    size_t hosts = 0, lengths = 0;
    for (std::string_view left = head.fields; !left.empty();) {
        const std::string_view line = take_line(left);
        if (line.empty()) break;
        const size_t colon = line.find(':');
        if (colon == std::string_view::npos || !is_token(line.substr(0, colon)) ||
            !std::ranges::all_of(line.substr(colon + 1), is_text)) {
            return Error{
                "a header is not NAME: VALUE; write one a line, without control "
                "characters, and no space before the colon"};
        }
        hosts += is_same_word(line.substr(0, colon), "host");
        lengths += is_same_word(line.substr(0, colon), "content-length");
    }
    if (hosts > 1 || lengths > 1)
        return Error{"Host or Content-Length is given twice; send each once"};
    return {};
}

}  // namespace

bool is_same_word(std::string_view given, std::string_view lower_case) {
    return std::ranges::equal(given, lower_case, {}, lower);
}

std::optional<std::string_view> HttpHead::header(std::string_view name) const {
    for (std::string_view left = fields; !left.empty();) {
        const std::string_view line = take_line(left);
        const size_t colon = line.find(':');
        if (colon != std::string_view::npos && is_same_word(line.substr(0, colon), name))
            return trimmed(line.substr(colon + 1));
    }
    return std::nullopt;
}

Result<HttpHead> parse_http_head(std::string_view text) {
    const std::string_view line = take_line(text);
    const size_t first = line.find(' ');
    const size_t last = line.rfind(' ');
    const Error wrong{
        "the first line is not METHOD TARGET HTTP/1.1; write one space between them, and '%20' for "
        "a space in the target"};
    if (first == std::string_view::npos || first == last) return wrong;
    const HttpHead head{.method = line.substr(0, first),
                        .target = line.substr(first + 1, last - first - 1),
                        .version = line.substr(last + 1),
                        .fields = text};
    if (!is_token(head.method) || head.target.empty() ||
        !std::ranges::all_of(head.target, is_visible) ||
        (head.version != "HTTP/1.1" && head.version != "HTTP/1.0")) {
        return wrong;
    }
    if (Result<void> fields = check_fields(head); !fields) return Error{fields.error()};
    return head;
}

}  // namespace pulse
