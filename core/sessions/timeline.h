// The instants of a connection, in order: what its evidence knows of when.
#pragma once

#include <string_view>
#include <vector>

#include "core/sessions/evidence.h"

namespace pulse {

struct Moment {
    Nanos at = 0;  // of the reactor's clock
    std::string_view what;
};

// Those that are known, the earliest first. Of one that is open the last may be to come: its next
// probe and its deadline.
std::vector<Moment> timeline(const Evidence& facts);

}  // namespace pulse
