// The manual of a program whose command line CLI11 reads, and the flag that prints it:
//
//     manual::add_generate_flag(app);     once every other flag is there, or before
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tools/manual/manual.h"

namespace pulse::manual {

Manual manual_of(const CLI::App& app);

// --generate KIND, in the group of --help: prints and ends as --version does.
void add_generate_flag(CLI::App& app);

}  // namespace pulse::manual
