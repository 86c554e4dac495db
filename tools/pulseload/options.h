// The command line, read and checked.
#pragma once

#include <optional>

#include "tools/pulseload/run/load_options.h"

namespace pulse::load {

// Reads and checks. Returns nothing where there is nothing more to do, with `exit_code` set: help
// or the version was printed, or an error was, to stderr.
std::optional<LoadOptions> parse_options(int argc, const char* const* argv, int& exit_code);

}  // namespace pulse::load
