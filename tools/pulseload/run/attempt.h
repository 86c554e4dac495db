// One run and what was judged of it.
#pragma once

#include <vector>

#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

struct Attempt {
    RunResult result;
    Verdict verdict;
    std::vector<ObjectiveResult> objectives;
};

}  // namespace pulse::load
