// What is measured as Prometheus reads it: text format 0.0.4, names with their unit last, counters
// in _total. Made from the tables of what is measured (.def files): a new line there is a new name.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "net/control/target.h"
#include "net/loop/reactor_stats.h"

namespace pulse {

// Of reactors by number; of one that has not answered, nothing but pulsewheel_reactor_up 0.
std::string metrics_text(const std::vector<const ReactorStats*>& reactors,
                         const ServingState& serving, const Json& process);

}  // namespace pulse
