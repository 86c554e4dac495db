// One character at a time.
#include "proto/printable.h"

#include <algorithm>
#include <cstdint>
#include <span>

#include "proto/utf8.h"

namespace pulse {
namespace {

constexpr char kHex[] = "0123456789abcdef";

struct Character {
    uint32_t code = 0;
    size_t bytes = 0;  // 0: not UTF-8
};

Character first_character(std::string_view text) {
    const auto* const raw = reinterpret_cast<const uint8_t*>(text.data());
    const uint8_t first = raw[0];
    if (first < 0x80) return {first, 1};
    const size_t bytes = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (text.size() < bytes || !utf8_valid({raw, bytes})) return {};
    uint32_t code = first & (0xFFu >> (bytes + 1));
    for (size_t at = 1; at < bytes; ++at) code = code << 6 | (raw[at] & 0x3F);
    return {code, bytes};
}

bool is_control(uint32_t code) { return code < 0x20 || (code >= 0x7F && code < 0xA0); }

bool turns_direction(uint32_t code) {
    return code == 0x200E || code == 0x200F || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0x2028 || code == 0x2029;
}

void append_hex(std::string& to, std::string_view mark, uint32_t code, int digits) {
    to += mark;
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) to += kHex[code >> shift & 15];
}

}  // namespace

std::string printable(std::string_view text) {
    std::string shown;
    shown.reserve(text.size());
    while (!text.empty()) {
        const Character character = first_character(text);
        if (character.bytes == 0) {
            append_hex(shown, "\\x", static_cast<uint8_t>(text[0]), 2);
        } else if (is_control(character.code)) {
            append_hex(shown, "\\x", character.code, 2);
        } else if (turns_direction(character.code)) {
            append_hex(shown, "\\u", character.code, 4);
        } else {
            shown += text.substr(0, character.bytes);
        }
        text.remove_prefix(character.bytes == 0 ? 1 : character.bytes);
    }
    return shown;
}

std::string printable_lines(std::string_view text) {
    std::string shown;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find_first_of("\n\t", at), text.size());
        shown += printable(text.substr(at, end - at));
        if (end < text.size()) shown += text[end];
        at = end + 1;
    }
    return shown;
}

}  // namespace pulse
