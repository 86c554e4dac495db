// Widths, padding, and numbers for people.
#include "tools/pulsectl/table.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/check.h"
#include "proto/printable.h"

namespace pulse::ctl {
namespace {

// Of what a terminal shows: continuation bytes of UTF-8 take no column.
size_t columns_of(std::string_view text) {
    return static_cast<size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

void Table::add(std::vector<std::string> row) {
    PULSE_ASSERT(row.size() == columns_.size());
    for (std::string& cell : row) cell = printable(cell);
    rows_.push_back(std::move(row));
}

std::vector<std::string> Table::lines() const {
    std::vector<size_t> widths;
    for (size_t column = 0; column < columns_.size(); ++column) {
        size_t width = columns_of(columns_[column].title);
        for (const auto& row : rows_) width = std::max(width, columns_of(row[column]));
        widths.push_back(width);
    }
    std::vector<std::string> lines;
    const auto add_line = [&](auto&& cell) {
        std::string line;
        for (size_t column = 0; column < columns_.size(); ++column) {
            const std::string text(cell(column));
            const std::string padding(widths[column] - columns_of(text), ' ');
            line += column > 0 ? "  " : "";
            line += columns_[column].align == Align::right ? padding + text : text + padding;
        }
        while (!line.empty() && line.back() == ' ') line.pop_back();
        lines.push_back(std::move(line));
    };
    add_line([&](size_t column) { return columns_[column].title; });
    for (const auto& row : rows_) add_line([&](size_t column) { return row[column]; });
    return lines;
}

std::string Table::text() const {
    std::string text;
    for (const std::string& line : lines()) text += line + "\n";
    return text;
}

void append_wrapped(std::string& out, std::string_view text, size_t indent) {
    size_t column = indent;
    while (!text.empty()) {
        const std::string_view word = text.substr(0, text.find(' '));
        text.remove_prefix(std::min(word.size() + 1, text.size()));
        if (column > indent && column + 1 + word.size() > kColumns) {
            out.append("\n").append(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
    }
    out += '\n';
}

std::string grouped(uint64_t number) {
    std::string digits = std::to_string(number);
    for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
    return digits;
}

std::string short_rate(double per_second, std::string_view unit) {
    constexpr std::string_view kPrefixes[] = {"", "k", "M", "G", "T"};
    size_t prefix = 0;
    while (per_second >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
        per_second /= 1'000;
        ++prefix;
    }
    const int decimals = prefix == 0 ? 0 : per_second < 9.995 ? 2 : per_second < 99.95 ? 1 : 0;
    const std::string_view space = prefix == 0 && unit.empty() ? "" : " ";
    return fmt::format("{:.{}f}{}{}{}", per_second, decimals, space, kPrefixes[prefix], unit);
}

std::string short_time(int64_t ms) {
    if (ms < 1'000) return fmt::format("{} ms", ms);
    if (ms < 60'000) return fmt::format("{:.1f} s", static_cast<double>(ms) / 1'000);
    const int64_t s = ms / 1'000;
    if (s < 3'600) return fmt::format("{} m {:02} s", s / 60, s % 60);
    return fmt::format("{} h {:02} m", s / 3'600, s / 60 % 60);
}

}  // namespace pulse::ctl
