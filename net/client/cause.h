// Why a connection ended, or did not come up.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/types.h"

namespace pulse::client {

struct Cause {
    std::string name;     // a row of the policy table, a reason of the server, close_CODE, closed
    uint16_t code = 0;    // of a goodbye or a close frame; 0: none
    uint16_t status = 0;  // of HTTP; 0: none
    std::optional<Nanos> retry_after{};  // before which the server does not want the client back
    std::string move_to{};               // the server that it sends the client to
    std::string message{};               // for people
};

}  // namespace pulse::client
