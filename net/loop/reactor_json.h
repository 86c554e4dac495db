// What one reactor, or the sum of several, reports of itself, as JSON. The member names are those
// of the .def files, and net/README.md, Statistics, lists them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "net/loop/reactor_stats.h"

namespace pulse {

nlohmann::ordered_json to_json(const ReactorStats& stats);

}  // namespace pulse
