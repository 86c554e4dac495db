// The command line, read and checked.
#pragma once

#include <optional>

#include "tools/pulseload/run/load_options.h"

namespace pulse::load {

// Reads and checks. Nothing: there is nothing more to do, and `exit_code` says how it went (help
// and version were printed; errors were, to stderr).
std::optional<LoadOptions> parse_options(int argc, const char* const* argv, int& exit_code);

}  // namespace pulse::load
