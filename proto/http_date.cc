// Read from left to right; the name of the day is passed over.
#include "proto/http_date.h"

#include <array>

namespace pulse {
namespace {

constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
constexpr int kNone = -1;
constexpr int64_t kDaySeconds = 86'400;
constexpr int64_t kYearSeconds = 31'556'952;  // in the mean of 400 years

bool is_letter(char byte) { return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z'); }

// Each call takes what it names off the front, if it is there.
class Scanner {
  public:
    explicit Scanner(std::string_view text) : rest_(text) {}

    bool take(std::string_view literal) {
        if (!rest_.starts_with(literal)) return false;
        rest_.remove_prefix(literal.size());
        return true;
    }
    size_t take_letters() {
        size_t count = 0;
        for (; !rest_.empty() && is_letter(rest_[0]); ++count) rest_.remove_prefix(1);
        return count;
    }
    int take_number(size_t digits) {
        if (rest_.size() < digits) return kNone;
        int number = 0;
        for (const char digit : rest_.substr(0, digits)) {
            if (digit < '0' || digit > '9') return kNone;
            number = 10 * number + (digit - '0');
        }
        rest_.remove_prefix(digits);
        return number;
    }
    int take_month() {
        for (size_t month = 0; month < kMonths.size(); ++month)
            if (take(kMonths[month])) return static_cast<int>(month) + 1;
        return kNone;
    }
    // "08:49:37" in seconds; a minute may have a leap second.
    int take_time() {
        const int hours = take_number(2);
        const int minutes = take(":") ? take_number(2) : kNone;
        const int seconds = take(":") ? take_number(2) : kNone;
        const bool is_time = hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60 &&
                             seconds >= 0 && seconds <= 60;
        return is_time ? (hours * 60 + minutes) * 60 + seconds : kNone;
    }
    bool at_end() const { return rest_.empty(); }

  private:
    std::string_view rest_;
};

struct Parts {
    int day = kNone, month = kNone, year = kNone, time = kNone;
    bool is_whole = false;
    bool has_century = true;
};

// "Sun, 06 Nov 1994 08:49:37 GMT" or "Sunday, 06-Nov-94 08:49:37 GMT", behind the name of the day.
Parts read_dated(Scanner scan, bool is_short) {
    const std::string_view between = is_short ? " " : "-";
    Parts parts{.has_century = is_short};
    parts.day = scan.take_number(2);
    if (scan.take(between)) parts.month = scan.take_month();
    if (scan.take(between)) parts.year = scan.take_number(is_short ? 4 : 2);
    if (scan.take(" ")) parts.time = scan.take_time();
    parts.is_whole = scan.take(" GMT") && scan.at_end();
    return parts;
}

// "Sun Nov  6 08:49:37 1994", behind the name of the day.
Parts read_asctime(Scanner scan) {
    Parts parts;
    parts.month = scan.take_month();
    if (scan.take(" ")) parts.day = scan.take(" ") ? scan.take_number(1) : scan.take_number(2);
    if (scan.take(" ")) parts.time = scan.take_time();
    if (scan.take(" ")) parts.year = scan.take_number(4);
    parts.is_whole = scan.at_end();
    return parts;
}

bool is_leap(int year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

int days_of_month(int year, int month) {
    if (month == 2) return is_leap(year) ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

// Since 1 March of the year 0. A year begins with March here, so that a leap day is its last.
int64_t days_before(int year, int month) {
    const int of_year = month > 2 ? year : year - 1;
    const int of_month = month > 2 ? month - 3 : month + 9;
    return int64_t{365} * of_year + of_year / 4 - of_year / 100 + of_year / 400 +
           (153 * of_month + 2) / 5;
}
static_assert((153 * 11 + 2) / 5 == 337, "days from 1 March to 1 February");

}  // namespace

std::optional<int64_t> parse_http_date(std::string_view text, int64_t now) {
    Scanner scan(text);
    const bool is_short = scan.take_letters() == 3;
    Parts parts;
    if (scan.take(", "))
        parts = read_dated(scan, is_short);
    else if (is_short && scan.take(" "))
        parts = read_asctime(scan);
    if (!parts.is_whole || parts.day < 0 || parts.month < 0 || parts.year < 0 || parts.time < 0)
        return std::nullopt;
    if (!parts.has_century) {
        const int this_year = static_cast<int>(1970 + now / kYearSeconds);
        parts.year += this_year - this_year % 100;
        if (parts.year > this_year + 50) parts.year -= 100;
    }
    if (parts.day == 0 || parts.day > days_of_month(parts.year, parts.month)) return std::nullopt;
    const int64_t days =
        days_before(parts.year, parts.month) - days_before(1970, 1) + parts.day - 1;
    return days * kDaySeconds + parts.time;
}

}  // namespace pulse
