// What a run was asked for and where it ran, for its reports.
#pragma once

#include "tools/pulseload/run/load_options.h"
#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/run.h"

namespace pulse::load {

// Version, machine, settings, and how many connections there are of each kind.
void describe_run(const LoadOptions& options, const Layout& layout, RunResult& result);

std::string name_of_signal(int number);  // "SIGINT"

}  // namespace pulse::load
