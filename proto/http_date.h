// Dates in HTTP fields (RFC 9110 section 5.6.7): the form of today, and two that are read besides.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pulse {

// In seconds since 1970, whatever the locale. None: `text` is something else, or there is no such
// day. `now`, of the same clock: two digits of a year name one of the 50 behind it at most.
std::optional<int64_t> parse_http_date(std::string_view text, int64_t now);

}  // namespace pulse
