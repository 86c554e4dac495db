// What is known of a connection as JSON: instants of two clocks, its timeline, its transport.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/sessions/evidence.h"
#include "net/control/target.h"

namespace pulse {

// One instant by the clock of reactors and by that of people.
struct Clocks {
    Nanos monotonic = 0;
    Nanos wall = 0;
    static Clocks now();
    // RFC 3339 with milliseconds, of an instant of a reactor's clock.
    std::string text(Nanos at) const;
};

// A list of {at, ago_ms, what}; what is to come has a negative `ago_ms`.
Json timeline_json(const Evidence& facts, const Clocks& clocks);
// An object; null where the kernel could not be asked.
Json transport_json(const TransportFacts& facts);

}  // namespace pulse
