// UTF-8 checked as it arrives: whole, or in pieces cut anywhere.
//
// What is refused is what RFC 3629 refuses: overlong forms, surrogates, code points over U+10FFFF,
// stray and missing continuation bytes; and it is refused in the piece that holds the first byte
// that no valid text could have there. One byte of memory between pieces.
#pragma once

#include <cstdint>
#include <span>

namespace pulse {

// Where a piece ended: between characters (boundary, the initial state), or what must come next.
enum class Utf8State : uint8_t {
    boundary,
    one_more,  // 80..BF
    two_more,
    three_more,
    two_after_e0,    // A0..BF, then one more: no overlong form
    two_after_ed,    // 80..9F, then one more: no surrogate
    three_after_f0,  // 90..BF, then two more: no overlong form
    three_after_f4,  // 80..8F, then two more: nothing over U+10FFFF
};

// Goes on with `piece`. False: this is no UTF-8, whatever follows; `state` is then worth nothing.
[[nodiscard]] bool utf8_continue(Utf8State& state, std::span<const uint8_t> piece);

[[nodiscard]] inline bool utf8_valid(std::span<const uint8_t> whole) {
    Utf8State state = Utf8State::boundary;
    return utf8_continue(state, whole) && state == Utf8State::boundary;
}

}  // namespace pulse
