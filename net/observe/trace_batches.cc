// Retry-After in its two forms.
#include "net/observe/trace_batches.h"

#include <charconv>

#include "proto/http_date.h"

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
    const int64_t now = wall_now / kSecond;
    const std::optional<int64_t> date = parse_http_date(text, now);
    return date && *date > now ? std::optional(bounded(*date - now)) : std::nullopt;
}

}  // namespace pulse
