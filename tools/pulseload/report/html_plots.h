// Which plots the report page has, made of a run's samples. Pure function.
#pragma once

#include <string>

#include "tools/pulseload/run/result.h"

namespace pulse::load {

// Figures, one after the other; empty where the run has no samples and no evictions.
std::string html_plots(const RunResult& result);

}  // namespace pulse::load
