// The grammar of HTTP field values, as far as a handshake needs it.
#include "proto/http_fields.h"

namespace pulse {
namespace {

constexpr char lower(char byte) {
    return byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + ('a' - 'A')) : byte;
}
constexpr bool is_blank(char byte) { return byte == ' ' || byte == '\t'; }

}  // namespace

bool is_token_char(char byte) {
    const char small = lower(byte);
    if ((small >= 'a' && small <= 'z') || (byte >= '0' && byte <= '9')) return true;
    return byte != '\0' && std::string_view("!#$%&'*+-.^_`|~").find(byte) != std::string_view::npos;
}

bool is_token(std::string_view text) {
    for (const char byte : text)
        if (!is_token_char(byte)) return false;
    return !text.empty();
}

bool equal_ignoring_case(std::string_view left, std::string_view right) {
    if (left.size() != right.size()) return false;
    for (size_t at = 0; at < left.size(); ++at)
        if (lower(left[at]) != lower(right[at])) return false;
    return true;
}

std::string_view trim_blanks(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    return text;
}

void FieldScanner::skip_blanks() {
    while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
}

bool FieldScanner::take(char byte) {
    if (rest_.empty() || rest_.front() != byte) return false;
    rest_.remove_prefix(1);
    return true;
}

std::string_view FieldScanner::take_token() {
    size_t bytes = 0;
    while (bytes < rest_.size() && is_token_char(rest_[bytes])) ++bytes;
    const std::string_view token = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return token;
}

std::string_view FieldScanner::take_value() {
    if (!take('"')) return take_token();
    const std::string_view token = take_token();
    return take('"') ? token : std::string_view{};
}

}  // namespace pulse
