// Why a connection ended, as one small enum that the wire, the log and the counters share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulse {

enum class CloseReason : uint8_t {
#define X(name, code, text) name,
#include "core/close_reason.def"
#undef X
};

inline constexpr size_t kCloseReasons = 0
#define X(name, code, text) +1
#include "core/close_reason.def"
#undef X
    ;

struct CloseReasonInfo {
    std::string_view name;  // snake_case, the key in JSON and metrics
    uint16_t code;          // the close code on the wire
    std::string_view text;  // for people
};

inline constexpr CloseReasonInfo kCloseReasonInfos[kCloseReasons] = {
#define X(name, code, text) {#name, code, text},
#include "core/close_reason.def"
#undef X
};

constexpr const CloseReasonInfo& describe(CloseReason reason) {
    return kCloseReasonInfos[static_cast<size_t>(reason)];
}

}  // namespace pulse
