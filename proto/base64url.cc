// One table, four characters at a time.
#include "proto/base64url.h"

#include <array>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint8_t kNone = 0xFF;

constexpr std::array<uint8_t, 256> make_values() {
    std::array<uint8_t, 256> values{};
    values.fill(kNone);
    uint8_t value = 0;
    for (const char byte : std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                            "0123456789-_"))
        values[static_cast<uint8_t>(byte)] = value++;
    return values;
}
constexpr std::array<uint8_t, 256> kValues = make_values();

}  // namespace

std::optional<size_t> decode_base64url(std::string_view text, std::span<uint8_t> to) {
    PULSE_ASSERT(to.size() >= base64url_decoded_bytes(text.size()));
    size_t written = 0;
    uint32_t bits = 0;
    uint32_t pending = 0;  // bits that are not written yet
    for (const char byte : text) {
        const uint8_t value = kValues[static_cast<uint8_t>(byte)];
        if (value == kNone) return std::nullopt;
        bits = bits << 6 | value;
        pending += 6;
        if (pending < 8) continue;
        pending -= 8;
        to[written++] = static_cast<uint8_t>(bits >> pending);
        bits &= (1u << pending) - 1;
    }
    // Six bits alone are not a byte, and what is left over is zero.
    if (pending == 6 || bits != 0) return std::nullopt;
    return written;
}

}  // namespace pulse
