// Quantities as the summary, the page and the live table show them: rounded, with units.
// Exact ones, which can be read back, are core/units.h's. Pure functions.
#pragma once

#include <cstdint>
#include <string>

#include "core/types.h"

namespace pulse::load {

std::string human_duration(Nanos duration);  // three digits: "312 us", "4.07 ms", "12.5 s"
std::string human_seconds(double seconds);   // "20.0 s", "12 m 30 s", "3 h 5 m"
std::string human_count(uint64_t count);     // "1,000,000"
std::string human_bytes(double bytes);       // "85 B", "4.06 KiB"
std::string human_share(double share);       // 0.934 is "93.4 %", 1 is "100 %"
// Without zeros that carry nothing, for numbers that are round: "10.0 ms" is "10 ms".
std::string without_zeros(std::string text);

}  // namespace pulse::load
