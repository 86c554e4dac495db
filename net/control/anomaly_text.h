// What the log says of an anomaly: when it begins, when it is over, and when it is given up.
#pragma once

#include <string>

#include "core/types.h"
#include "net/control/anomaly_report.h"

namespace pulse {

// "anomaly 3: evictions: 412 connections in 10s, normal is 3 connections; since 20s before this
// line; 93 % of 380 examined: 198.51.100.0/24"
std::string raised_line(const AnomalyEvent& event, Nanos interval);
// "anomaly 3: evictions: over after 2m; at most 412 connections". Requires: event.over_at is set.
std::string over_line(const AnomalyEvent& event);
// The watch was turned off or begins anew. Requires: as above.
std::string given_up_line(const AnomalyEvent& event);

}  // namespace pulse
