// The same run several times (--repeat): medians with their spread instead of one number that a
// busy moment may have made. Pure functions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/pulseload/run/attempt.h"

namespace pulse::load {

// A number of the first screen, of each round that has it.
struct Headline {
    std::string name;
    std::string unit;  // of the values: "1/s", "ns", "1", "B"
    std::string (*human)(double value) = nullptr;
    std::vector<double> values;  // in the order of the rounds

    double median() const;  // of an even number, the mean of the middle two
    double min() const;
    double max() const;
};

struct TargetRounds {
    std::string target;
    std::vector<const Attempt*> rounds;  // of life elsewhere
};

// Of the valid rounds; those that no round has are left out.
std::vector<Headline> headlines_of(const TargetRounds& rounds);

// Valid where more than half of the rounds were; else the worst of them.
RunState state_of(const TargetRounds& rounds);

// An objective is met where it was in more than half of the valid rounds.
std::vector<ObjectiveResult> objectives_of(const TargetRounds& rounds);

// The valid round whose heartbeat p99 is the median one; the first round where none is valid.
const Attempt& typical_round(const TargetRounds& rounds);

}  // namespace pulse::load
