// Reading and writing of quantities: one scanner, one table of units a kind.
#include "core/units.h"

#include <cstddef>
#include <optional>
#include <span>

namespace pulse {
namespace {

using Wide = unsigned __int128;

struct Unit {
    std::string_view name;
    uint64_t size;
};

constexpr Unit kDurationUnits[] = {{"ns", 1},
                                   {"us", 1'000},
                                   {"ms", 1'000'000},
                                   {"s", 1'000'000'000},
                                   {"m", 60'000'000'000},
                                   {"h", 3'600'000'000'000},
                                   {"d", 86'400'000'000'000}};
constexpr Unit kSizeUnits[] = {{"B", 1},
                               {"KiB", uint64_t{1} << 10},
                               {"MiB", uint64_t{1} << 20},
                               {"GiB", uint64_t{1} << 30},
                               {"TiB", uint64_t{1} << 40}};
constexpr Unit kCountUnits[] = {{"", 1}, {"k", 1'000}, {"M", 1'000'000}};
constexpr Unit kRatePeriods[] = {{"s", 1}, {"m", 60}, {"h", 3'600}};

// What is said of a text that cannot be read.
Error unreadable(std::string_view text, std::string_view what, std::string_view example) {
    std::string message = "'";
    message.append(text).append("' ").append(what).append("; write ").append(example);
    return {std::move(message)};
}

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

// Units differ by more than their case nowhere but in m and M, which no kind has both of.
const Unit* find_unit(std::span<const Unit> units, std::string_view name) {
    for (const Unit& unit : units) {
        if (unit.name.size() != name.size()) continue;
        bool same = true;
        for (size_t at = 0; at < name.size(); ++at) same &= lower(unit.name[at]) == lower(name[at]);
        if (same) return &unit;
    }
    return nullptr;
}

// digits[.digits] at the front of `rest`, as an integer over a power of ten. Nothing if there is no
// digit, or more of them than any quantity needs.
struct Decimal {
    Wide digits = 0;
    Wide scale = 1;
};
std::optional<Decimal> take_decimal(std::string_view& rest) {
    constexpr size_t kDigitsMax = 24;  // digits * unit stays below 2^128
    Decimal number;
    size_t digits = 0;
    bool after_point = false;
    size_t at = 0;
    for (; at < rest.size(); ++at) {
        const char c = rest[at];
        if (c == '.' && !after_point && digits > 0) {
            after_point = true;
        } else if (is_digit(c)) {
            if (++digits > kDigitsMax) return std::nullopt;
            number.digits = number.digits * 10 + static_cast<unsigned>(c - '0');
            if (after_point) number.scale *= 10;
        } else if (c != '_' || at == 0 || !is_digit(rest[at - 1])) {
            break;
        }
    }
    if (digits == 0 || !is_digit(rest[at - 1])) return std::nullopt;
    rest.remove_prefix(at);
    return number;
}
std::string_view take_word(std::string_view& rest) {
    size_t end = 0;
    while (end < rest.size() && is_letter(rest[end])) ++end;
    const std::string_view word = rest.substr(0, end);
    rest.remove_prefix(end);
    return word;
}

constexpr Wide kQuantityMax =
    INT64_MAX;  // so that every quantity fits a signed 64-bit word, as JSON

// number * unit / divisor, if that is whole and fits.
Result<uint64_t> scale(std::string_view text, Decimal number, uint64_t unit, uint64_t divisor,
                       std::string_view fraction_remedy) {
    const Wide product = number.digits * unit;
    const Wide divide_by = number.scale * divisor;
    if (product % divide_by != 0)
        return unreadable(text, "does not come out whole", fraction_remedy);
    if (product / divide_by > kQuantityMax) return unreadable(text, "is too large", "less");
    return static_cast<uint64_t>(product / divide_by);
}

std::string format_with(std::span<const Unit> units, uint64_t value) {
    size_t best = 0;
    for (size_t at = 0; at < units.size(); ++at) {
        if (value != 0 && value % units[at].size == 0) best = at;
    }
    return std::to_string(value / units[best].size).append(units[best].name);
}

}  // namespace

Result<Nanos> parse_duration(std::string_view text) {
    constexpr std::string_view kExample = "a duration such as 250ms, 30s, 2m or 1h30m";
    if (text == "0") return Nanos{0};
    std::string_view rest = text;
    uint64_t sum = 0;
    do {
        const std::optional<Decimal> number = take_decimal(rest);
        if (!number) return unreadable(text, "is not a duration", kExample);
        const std::string_view name = take_word(rest);
        if (name.empty() && rest.empty()) return unreadable(text, "has no unit", kExample);
        const Unit* unit = find_unit(kDurationUnits, name);
        if (unit == nullptr) return unreadable(text, "has a unit that is not known", kExample);
        const Result<uint64_t> part = scale(text, *number, unit->size, 1, "whole nanoseconds");
        if (!part) return Error{part.error()};
        sum += *part;
        if (sum > kQuantityMax) return unreadable(text, "is too large", "less than 292 years");
    } while (!rest.empty());
    return static_cast<Nanos>(sum);
}

Result<uint64_t> parse_size(std::string_view text) {
    constexpr std::string_view kExample = "a size such as 4096, 64KiB or 1MiB";
    std::string_view rest = text;
    const std::optional<Decimal> number = take_decimal(rest);
    if (!number) return unreadable(text, "is not a size", kExample);
    const std::string_view name = take_word(rest);
    if (!rest.empty()) return unreadable(text, "is not a size", kExample);
    const Unit* unit = name.empty() ? &kSizeUnits[0] : find_unit(kSizeUnits, name);
    if (unit == nullptr) return unreadable(text, "has a unit that is not known", kExample);
    return scale(text, *number, unit->size, 1, "whole bytes");
}

Result<uint64_t> parse_rate(std::string_view text) {
    constexpr std::string_view kExample = "a rate such as 1000/s, 20k/s or 600/m, or off";
    if (text == "off") return uint64_t{0};
    std::string_view rest = text;
    const std::optional<Decimal> number = take_decimal(rest);
    if (!number) return unreadable(text, "is not a rate", kExample);
    const Unit* unit = find_unit(kCountUnits, take_word(rest));
    if (unit == nullptr) return unreadable(text, "is not a rate", kExample);
    if (rest.empty()) return unreadable(text, "lacks its period", kExample);
    const Unit* period = rest[0] == '/' ? find_unit(kRatePeriods, rest.substr(1)) : nullptr;
    if (period == nullptr) return unreadable(text, "is not a rate", kExample);
    return scale(text, *number, unit->size, period->size, "a whole number a second");
}

Result<uint64_t> parse_count(std::string_view text) {
    constexpr std::string_view kExample = "a whole number such as 50000, 50k or 1M";
    std::string_view rest = text;
    const std::optional<Decimal> number = take_decimal(rest);
    if (!number) return unreadable(text, "is not a number", kExample);
    const Unit* unit = find_unit(kCountUnits, take_word(rest));
    if (unit == nullptr || !rest.empty()) return unreadable(text, "is not a number", kExample);
    return scale(text, *number, unit->size, 1, kExample);
}

Result<uint64_t> parse_ratio(std::string_view text) {
    constexpr std::string_view kExample = "a part of all, such as 1%, 0.05% or 0.01";
    std::string_view rest = text;
    const std::optional<Decimal> number = take_decimal(rest);
    const bool percent = rest == "%";
    if (!number || (!rest.empty() && !percent)) return unreadable(text, "is not a ratio", kExample);
    const Result<uint64_t> part =
        scale(text, *number, kRatioWhole, percent ? 100 : 1, "whole millionths, such as 0.0001%");
    if (part && *part > kRatioWhole) return unreadable(text, "is more than all", "at most 100%");
    return part;
}

std::string format_duration(Nanos duration) {
    PULSE_ASSERT(duration >= 0);
    if (duration == 0) return "0s";
    return format_with(kDurationUnits, static_cast<uint64_t>(duration));
}

std::string format_size(uint64_t bytes) { return format_with(kSizeUnits, bytes); }

std::string format_rate(uint64_t per_second) {
    return per_second == 0 ? "off" : format_with(kCountUnits, per_second) + "/s";
}

std::string format_count(uint64_t count) { return format_with(kCountUnits, count); }

std::string format_ratio(uint64_t millionths) {
    constexpr uint64_t kPercent = kRatioWhole / 100;
    std::string text = std::to_string(millionths / kPercent);
    if (const uint64_t rest = millionths % kPercent; rest > 0) {
        const std::string digits = std::to_string(kPercent + rest).substr(1);
        text.append(".").append(digits, 0, digits.find_last_not_of('0') + 1);
    }
    return text.append("%");
}

}  // namespace pulse
