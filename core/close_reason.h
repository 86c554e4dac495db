// Why a connection ended, as one small enum that the wire, the log and the counters share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulse {

enum class CloseReason : uint8_t {
#define X(name, code, party, text, advice) name,
#include "core/close_reason.def"
#undef X
};

inline constexpr size_t kCloseReasons = 0
#define X(name, code, party, text, advice) +1
#include "core/close_reason.def"
#undef X
    ;

// What ended a connection (core/close_reason.def).
enum class CloseParty : uint8_t { by_peer, by_network, by_operator, by_server };

constexpr std::string_view name_of(CloseParty party) {
    constexpr std::string_view kNames[] = {"peer", "network", "operator", "server"};
    return kNames[static_cast<size_t>(party)];
}

struct CloseReasonInfo {
    std::string_view name;    // snake_case, the key in JSON and metrics
    uint16_t code;            // the close code on the wire
    CloseParty party;         // what ended it
    std::string_view text;    // for people
    std::string_view advice;  // for operators: what to look at; empty for `none`
};

inline constexpr CloseReasonInfo kCloseReasonInfos[kCloseReasons] = {
#define X(name, code, party, text, advice) {#name, code, CloseParty::party, text, advice},
#include "core/close_reason.def"
#undef X
};

constexpr const CloseReasonInfo& describe(CloseReason reason) {
    return kCloseReasonInfos[static_cast<size_t>(reason)];
}

}  // namespace pulse
