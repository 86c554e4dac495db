// Rounding and units for readers.
#include "tools/pulseload/run/human.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace pulse::load {
namespace {

// Three digits that count, and no more zeros than that: 4.07, 12.5, 312.
std::string three_digits(double value) {
    if (value < 9.995) return fmt::format("{:.2f}", value);
    if (value < 99.95) return fmt::format("{:.1f}", value);
    return fmt::format("{:.0f}", value);
}

}  // namespace

std::string human_duration(Nanos duration) {
    if (duration < 0) return "-" + human_duration(-duration);
    const auto nanos = static_cast<double>(duration);
    if (nanos < 999'500) return fmt::format("{:.0f} us", nanos / 1e3);
    if (nanos < 999'500'000) return three_digits(nanos / 1e6) + " ms";
    if (nanos < 600e9) return three_digits(nanos / 1e9) + " s";
    return human_seconds(nanos / 1e9);
}

std::string human_seconds(double seconds) {
    if (seconds < 599.95) return fmt::format("{:.1f} s", seconds);
    const auto whole = static_cast<int64_t>(std::llround(seconds));
    if (whole < 3'600) return fmt::format("{} m {} s", whole / 60, whole % 60);
    return fmt::format("{} h {} m", whole / 3'600, whole % 3'600 / 60);
}

std::string human_count(uint64_t count) {
    std::string digits = std::to_string(count);
    for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
        digits.insert(static_cast<size_t>(at), 1, ',');
    return digits;
}

std::string human_bytes(double bytes) {
    constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; bytes >= 1'023.5 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1'024;
    if (unit == 0) return fmt::format("{:.0f} B", bytes);
    return three_digits(bytes) + " " + kUnits[unit];
}

std::string human_share(double share) {
    const double percent = share * 100;
    // 99.97 % must not read as all of it, nor 0.02 % as nothing.
    if (percent > 99.95 && percent < 100) return "99.9 %";
    if (percent > 0 && percent < 0.1) return "0.1 %";
    if (percent == std::round(percent) || percent >= 99.95) return fmt::format("{:.0f} %", percent);
    return fmt::format("{:.1f} %", percent);
}

std::string without_zeros(std::string text) {
    const size_t point = text.find('.');
    if (point == std::string::npos) return text;
    const size_t end = std::min(text.find_first_not_of("0123456789", point + 1), text.size());
    const size_t kept = text.find_last_not_of('0', end - 1);
    text.erase(kept == point ? point : kept + 1, end - (kept == point ? point : kept + 1));
    return text;
}

}  // namespace pulse::load
