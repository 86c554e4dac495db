// One run with its live table, and what it left.
#pragma once

#include <atomic>
#include <vector>

#include "tools/pulseload/outputs.h"

namespace pulse::load {

struct Attempt {
    RunResult result;
    Verdict verdict;
    std::vector<ObjectiveResult> objectives;
};

// `outputs` may be null. The error says what kept it from running.
Result<Attempt> attempt(const LoadOptions& options, const std::vector<Objective>& objectives,
                        Outputs* outputs, const std::atomic<int>& interrupted);

}  // namespace pulse::load
