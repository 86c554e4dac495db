// WebSocket frames for tests, right or wrong, made without the encoder under test.
#pragma once

#include <array>
#include <optional>

#include "tests/support/recording_sink.h"

namespace pulse::test {

inline constexpr std::array<uint8_t, 4> kTestMask = {0x37, 0xFA, 0x21, 0x3D};

enum class LengthForm : uint8_t { shortest, bits7, bits16, bits64 };

struct FrameSpec {
    uint8_t first = 0x81;  // FIN, reserved bits, opcode
    Bytes payload;
    std::optional<std::array<uint8_t, 4>> mask = kTestMask;
    LengthForm form = LengthForm::shortest;
    std::optional<uint64_t> declared{};  // a length that is not the payload's
};

inline Bytes build(const FrameSpec& spec) {
    const uint64_t length = spec.declared.value_or(spec.payload.size());
    LengthForm form = spec.form;
    if (form == LengthForm::shortest)
        form = length < 126      ? LengthForm::bits7
               : length < 65'536 ? LengthForm::bits16
                                 : LengthForm::bits64;
    const int extra = form == LengthForm::bits7 ? 0 : form == LengthForm::bits16 ? 2 : 8;
    const uint64_t code = extra == 0 ? length : extra == 2 ? 126 : 127;
    Bytes wire = {spec.first, static_cast<uint8_t>((spec.mask ? 0x80 : 0) | code)};
    for (int at = extra - 1; at >= 0; --at)
        wire.push_back(static_cast<uint8_t>(length >> (8 * at)));
    if (spec.mask) wire.insert(wire.end(), spec.mask->begin(), spec.mask->end());
    for (size_t at = 0; at < spec.payload.size(); ++at)
        wire.push_back(
            static_cast<uint8_t>(spec.payload[at] ^ (spec.mask ? (*spec.mask)[at % 4] : 0)));
    return wire;
}

// A masked frame; first: 0x81 text, 0x82 binary, 0x01 and 0x02 first fragments, 0x00 and 0x80
// continuations, 0x88 close, 0x89 ping, 0x8A pong.
inline Bytes frame(uint8_t first, const Bytes& payload) {
    return build({.first = first, .payload = payload});
}
inline Bytes frame(uint8_t first, std::string_view payload = "") {
    return frame(first, bytes_of(payload));
}

inline Bytes close_frame(uint16_t code, std::string_view reason = "") {
    return frame(0x88, Bytes{static_cast<uint8_t>(code >> 8), static_cast<uint8_t>(code)} +
                           bytes_of(reason));
}

}  // namespace pulse::test
