// One character at a time, by RFC 3629's table.
#include "tools/pulseload/printable.h"

#include <fmt/format.h>

#include <cstdint>

namespace pulse::load {
namespace {

struct Character {
    uint32_t code = 0;
    size_t bytes = 0;  // 0: not UTF-8
};

Character first_character(std::string_view text) {
    const auto byte_at = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
    const uint8_t first = byte_at(0);
    if (first < 0x80) return {first, 1};
    const size_t bytes = first >= 0xC2 && first < 0xE0   ? 2
                         : first >= 0xE0 && first < 0xF0 ? 3
                         : first >= 0xF0 && first < 0xF5 ? 4
                                                         : 0;
    if (bytes == 0 || text.size() < bytes) return {};
    uint32_t code = first & (0xFFu >> (bytes + 1));
    for (size_t at = 1; at < bytes; ++at) {
        if ((byte_at(at) & 0xC0) != 0x80) return {};
        code = code << 6 | (byte_at(at) & 0x3F);
    }
    const bool too_long = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (too_long || surrogate || code > 0x10FFFF) return {};
    return {code, bytes};
}

bool is_control(uint32_t code) { return code < 0x20 || (code >= 0x7F && code < 0xA0); }

bool turns_direction(uint32_t code) {
    return code == 0x200E || code == 0x200F || (code >= 0x202A && code <= 0x202E) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0x2028 || code == 0x2029;
}

}  // namespace

std::string printable(std::string_view text) {
    std::string shown;
    shown.reserve(text.size());
    while (!text.empty()) {
        const Character character = first_character(text);
        if (character.bytes == 0) {
            shown += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[0]));
        } else if (is_control(character.code)) {
            shown += fmt::format("\\x{:02x}", character.code);
        } else if (turns_direction(character.code)) {
            shown += fmt::format("\\u{:04x}", character.code);
        } else {
            shown += text.substr(0, character.bytes);
        }
        text.remove_prefix(character.bytes == 0 ? 1 : character.bytes);
    }
    return shown;
}

}  // namespace pulse::load
