// base64url without padding (RFC 4648 section 5), as the parts of a token are written (RFC 7515
// section 2), read strictly: each sequence of bytes has exactly one spelling.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace pulse {

// Bytes that `text_bytes` characters stand for, at most.
constexpr size_t base64url_decoded_bytes(size_t text_bytes) { return text_bytes / 4 * 3 + 2; }

// Writes what `text` stands for to the front of `to`. Returns how many bytes that are; none where a
// character is not of the alphabet (padding and blanks are not), the length is impossible, or bits
// behind the last byte are set. Requires: `to` has base64url_decoded_bytes(text.size()).
std::optional<size_t> decode_base64url(std::string_view text, std::span<uint8_t> to);

}  // namespace pulse
