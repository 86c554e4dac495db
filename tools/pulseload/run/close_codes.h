// Names of the codes that a connection ends with.
#pragma once

#include <cstdint>
#include <string>

namespace pulse::load {

// "1001 going away", "4003 idle_timeout", "4321"; 0: "none given". Codes below 4000 have the names
// of IANA's WebSocket Close Code Number Registry, those from 4000 ours.
std::string name_of_close_code(uint16_t code);

}  // namespace pulse::load
