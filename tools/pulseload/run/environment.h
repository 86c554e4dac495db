// Where a run took place: what a reader needs to compare it with another, or to repeat it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pulse::load {

// A name and a value each, in the order in which they are shown. Unknown values are left out.
using Facts = std::vector<std::pair<std::string, std::string>>;

// CPU, kernel, virtualisation, mitigations, limits, system settings that matter to connections, the
// load before the run, and how this program was built.
Facts describe_environment();

}  // namespace pulse::load
