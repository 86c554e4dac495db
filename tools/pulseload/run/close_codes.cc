// RFC 6455 7.4.1 and the registry behind it.
#include "tools/pulseload/run/close_codes.h"

#include <string_view>

#include "core/close_reason.h"

namespace pulse::load {
namespace {

std::string_view registered_name(uint16_t code) {
    switch (code) {
        case 1000:
            return "normal closure";
        case 1001:
            return "going away";
        case 1002:
            return "protocol error";
        case 1003:
            return "unsupported data";
        case 1005:
            return "no status received";
        case 1006:
            return "abnormal closure";
        case 1007:
            return "invalid payload data";
        case 1008:
            return "policy violation";
        case 1009:
            return "message too big";
        case 1010:
            return "mandatory extension";
        case 1011:
            return "internal error";
        case 1012:
            return "service restart";
        case 1013:
            return "try again later";
        case 1014:
            return "bad gateway";
        default:
            return {};
    }
}

}  // namespace

std::string name_of_close_code(uint16_t code) {
    if (code == 0) return "none given";
    std::string_view name = registered_name(code);
    for (size_t reason = 0; code >= 4000 && reason < kCloseReasons; ++reason) {
        if (kCloseReasonInfos[reason].code == code) name = kCloseReasonInfos[reason].name;
    }
    return std::to_string(code) + (name.empty() ? "" : " ") + std::string(name);
}

}  // namespace pulse::load
