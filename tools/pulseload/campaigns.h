// What pulseload does with its runs: one, several rounds, or a search. Each returns the exit code.
#pragma once

#include <atomic>

#include "tools/pulseload/options.h"

namespace pulse::load {

int run_single(const LoadOptions& options, const std::atomic<int>& interrupted);
// --repeat: with several targets each is run by itself, in turn.
int run_rounds(const LoadOptions& options, const std::atomic<int>& interrupted);
// --find-max. Prints the highest load that met to stdout; the reports are of its run.
int run_search(LoadOptions options, const std::atomic<int>& interrupted);

}  // namespace pulse::load
