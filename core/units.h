// Quantities as people write them, read exactly and written back short.
//
//     parse_duration("1m30s")  90 s in ns      format_duration(...)  "90s"
//     parse_size("64KiB")      65,536 bytes    format_size(65'536)   "64KiB"
//     parse_rate("20k/s")      20,000 a second format_rate(20'000)   "20k/s"
//     parse_count("1M")        1,000,000       format_count(...)     "1M"
//     parse_ratio("1%")        10,000 of 10^6  format_ratio(...)     "1%"
//
// What format_ writes, parse_ reads back as the same value. A fraction is taken if it comes out
// whole: 1.5KiB is 1,536 bytes, 1.5B is an error. Upper and lower case are the same but for m
// (minutes, never millions of seconds) and M. An error quotes what was given, says what is wrong
// with it and gives an example of what is right; it does not know which flag it was for. All
// functions are pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/types.h"

namespace pulse {

// Number and unit, or several of them (1h30m): ns us ms s m h d. A bare 0 needs no unit.
Result<Nanos> parse_duration(std::string_view text);
// Bytes: B KiB MiB GiB TiB; without a unit, bytes. KB and the like are refused, because
// they are ambiguous.
Result<uint64_t> parse_size(std::string_view text);
// Events a second: 1000/s, 20k/s, 600/m, 3600/h. "off" is 0.
Result<uint64_t> parse_rate(std::string_view text);
// A whole number, with k or M for thousands and millions, and _ between digits.
Result<uint64_t> parse_count(std::string_view text);
// A part of a whole, in millionths of it: 1%, 0.05%, 0.01, 1. At most all of it.
inline constexpr uint64_t kRatioWhole = 1'000'000;
Result<uint64_t> parse_ratio(std::string_view text);

std::string format_duration(Nanos duration);  // not negative
std::string format_size(uint64_t bytes);
std::string format_rate(uint64_t per_second);
std::string format_count(uint64_t count);
std::string format_ratio(uint64_t millionths);

}  // namespace pulse
