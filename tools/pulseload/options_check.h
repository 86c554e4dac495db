// What must hold between flags: a flag that has no effect in this run is an error, because the run
// would not be the one that its command line describes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "tools/pulseload/run/load_options.h"

namespace pulse::load {

// `given` returns whether a flag was on the command line. Returns the offender, the reason and the
// remedy; empty where nothing is wrong.
std::string find_contradiction(const LoadOptions& options,
                               const std::function<bool(std::string_view)>& given);

}  // namespace pulse::load
