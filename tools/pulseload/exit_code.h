// How pulseload ends; README.md and --help list the codes.
#pragma once

#include <algorithm>
#include <vector>

#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

enum ExitCode {
    kOk = 0,
    kCouldNotRun = 1,  // or not one connection opened, or a file could not be written
    kUsage = 2,
    kInvalid = 3,
    kMissed = 4,
    kIncomplete = 5,
};

inline int exit_code_of(RunState state, const std::vector<ObjectiveResult>& objectives) {
    switch (state) {
        case RunState::not_connected:
            return kCouldNotRun;
        case RunState::invalid:
            return kInvalid;
        case RunState::incomplete:
            return kIncomplete;
        case RunState::valid:
            break;
    }
    const bool met = std::ranges::all_of(objectives, &ObjectiveResult::met);
    return met ? kOk : kMissed;
}

}  // namespace pulse::load
