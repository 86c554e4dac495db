// Retry-After in its two forms.
#include "net/observe/trace_batches.h"

#include <charconv>
#include <ctime>
#include <string>

namespace pulse {
namespace {

Nanos bounded(int64_t seconds) {
    constexpr int64_t kMost = kTraceRetryAfterMostNs / kSecond;
    return std::min(seconds, kMost) * kSecond;
}

}  // namespace

std::optional<Nanos> parse_retry_after(std::string_view text, Nanos wall_now) {
    int64_t seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error == std::errc{} && end == text.data() + text.size())
        return seconds >= 0 ? std::optional(bounded(seconds)) : std::nullopt;
    std::tm parts{};
    const std::string date(text);
    const char* const rest = strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (rest == nullptr || *rest != '\0') return std::nullopt;
    seconds = timegm(&parts) - wall_now / kSecond;
    return seconds > 0 ? std::optional(bounded(seconds)) : std::nullopt;
}

}  // namespace pulse
