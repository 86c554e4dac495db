// Columns of text for a terminal: as wide as what is in them, numbers to the right.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pulse::ctl {

class Table {
  public:
    enum class Align : uint8_t { left, right };
    struct Column {
        std::string_view title;
        Align align = Align::left;
    };
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

    // Requires: one text a column. Control characters are shown as what they are.
    void add(std::vector<std::string> row);
    // A line each, the titles first.
    std::vector<std::string> lines() const;
    std::string text() const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

// Lines of at most so many columns, broken between words, all but the first indented.
inline constexpr size_t kColumns = 96;
void append_wrapped(std::string& out, std::string_view text, size_t indent);

// 1,234,567
std::string grouped(uint64_t number);
// 12.3 MB/s and the like: three digits and a unit of 1,000.
std::string short_rate(double per_second, std::string_view unit);
// 950 ms, 12.3 s, 4 m 05 s, 3 h 20 m
std::string short_time(int64_t ms);

}  // namespace pulse::ctl
