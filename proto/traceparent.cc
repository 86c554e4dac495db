// Four fields of fixed length.
#include "proto/traceparent.h"

#include <cstdint>
#include <span>

namespace pulse {
namespace {

constexpr size_t kTextBytes = 55;
constexpr size_t kTraceAt = 3, kParentAt = 36, kFlagsAt = 53;
constexpr uint8_t kInvalidVersion = 0xFF;
constexpr uint8_t kSampledFlag = 1;

// -1: not a digit. HEXDIGLC has no capitals.
int digit_of(char byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

// Two digits a byte.
bool read_hex(std::string_view text, std::span<uint8_t> to) {
    for (size_t at = 0; at < to.size(); ++at) {
        const int high = digit_of(text[2 * at]), low = digit_of(text[2 * at + 1]);
        if (high < 0 || low < 0) return false;
        to[at] = static_cast<uint8_t>(high << 4 | low);
    }
    return true;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view text) {
    if (text.size() < kTextBytes) return std::nullopt;
    uint8_t version = 0;
    uint8_t flags = 0;
    TraceContext context;
    if (!read_hex(text, {&version, 1}) || !read_hex(text.substr(kTraceAt), context.trace) ||
        !read_hex(text.substr(kParentAt), context.parent) ||
        !read_hex(text.substr(kFlagsAt), {&flags, 1})) {
        return std::nullopt;
    }
    for (const size_t dash : {kTraceAt - 1, kParentAt - 1, kFlagsAt - 1})
        if (text[dash] != '-') return std::nullopt;
    if (version == kInvalidVersion) return std::nullopt;
    if (text.size() > kTextBytes && (version == 0 || text[kTextBytes] != '-')) return std::nullopt;
    if (!is_present(context.trace) || !is_present(context.parent)) return std::nullopt;
    context.sampled = (flags & kSampledFlag) != 0;
    return context;
}

}  // namespace pulse
