// ASCII by words, the rest by simdjson, the seams between pieces byte by byte.
#include "proto/utf8.h"

// With json.* the only file that includes simdjson: its vectorised validator, chosen for the
// processor at run time, does the long stretches that are not ASCII. It judges whole texts only, so
// the characters that a piece cuts in half are walked byte by byte on both sides of it.
#include <simdjson.h>

#include <cstddef>
#include <cstring>

namespace pulse {
namespace {

// Below this the call into simdjson costs more than walking the bytes does.
constexpr size_t kWalkBytesMax = 32;

size_t ascii_prefix_bytes(const uint8_t* bytes, size_t count) {
    constexpr uint64_t kHighBits = 0x8080808080808080;
    size_t at = 0;
    for (; at + 32 <= count; at += 32) {
        uint64_t words[4];
        std::memcpy(words, bytes + at, sizeof(words));
        if (((words[0] | words[1] | words[2] | words[3]) & kHighBits) != 0) break;
    }
    for (; at + 8 <= count; at += 8) {
        uint64_t word;
        std::memcpy(&word, bytes + at, sizeof(word));
        if ((word & kHighBits) != 0) break;
    }
    while (at < count && bytes[at] < 0x80) ++at;
    return at;
}

bool step_lead(Utf8State& state, uint8_t byte) {
    if (byte < 0x80) return true;
    if (byte < 0xC2) return false;
    if (byte < 0xE0) {
        state = Utf8State::one_more;
    } else if (byte < 0xF0) {
        state = byte == 0xE0   ? Utf8State::two_after_e0
                : byte == 0xED ? Utf8State::two_after_ed
                               : Utf8State::two_more;
    } else if (byte < 0xF5) {
        state = byte == 0xF0   ? Utf8State::three_after_f0
                : byte == 0xF4 ? Utf8State::three_after_f4
                               : Utf8State::three_more;
    } else {
        return false;
    }
    return true;
}

bool step(Utf8State& state, uint8_t byte) {
    struct Rule {
        uint8_t low, high;
        Utf8State next;
    };
    static constexpr Rule kRules[] = {
        {},  // boundary: step_lead
        {0x80, 0xBF, Utf8State::boundary},
        {0x80, 0xBF, Utf8State::one_more},
        {0x80, 0xBF, Utf8State::two_more},
        {0xA0, 0xBF, Utf8State::one_more},
        {0x80, 0x9F, Utf8State::one_more},
        {0x90, 0xBF, Utf8State::two_more},
        {0x80, 0x8F, Utf8State::two_more},
    };
    if (state == Utf8State::boundary) return step_lead(state, byte);
    const Rule& rule = kRules[static_cast<size_t>(state)];
    if (byte < rule.low || byte > rule.high) return false;
    state = rule.next;
    return true;
}

// Returns how many bytes at the end start a character and do not finish it, by its lead byte alone.
size_t unfinished_bytes(const uint8_t* bytes, size_t count) {
    for (size_t back = 1; back <= 3 && back <= count; ++back) {
        const uint8_t byte = bytes[count - back];
        if (byte < 0x80) return 0;
        if (byte < 0xC0) continue;
        const size_t length = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
        return length > back ? back : 0;
    }
    return 0;
}

}  // namespace

bool utf8_continue(Utf8State& state, std::span<const uint8_t> piece) {
    const uint8_t* bytes = piece.data();
    size_t left = piece.size();
    for (; left > 0 && state != Utf8State::boundary; ++bytes, --left)
        if (!step(state, *bytes)) return false;
    const size_t ascii_bytes = ascii_prefix_bytes(bytes, left);
    bytes += ascii_bytes;
    left -= ascii_bytes;
    if (left > kWalkBytesMax) {
        const size_t whole = left - unfinished_bytes(bytes, left);
        if (!simdjson::validate_utf8(reinterpret_cast<const char*>(bytes), whole)) return false;
        bytes += whole;
        left -= whole;
    }
    for (; left > 0; ++bytes, --left)
        if (!step(state, *bytes)) return false;
    return true;
}

}  // namespace pulse
