// Objectives that a run is to meet (--slo, --find-max): read from text, judged on what it saw.
//
//     p99<10ms,rtt.p99.9<=50ms,connect.p50<1ms,false-evictions=0,connect-rate>20000/s
//
// METRIC COMPARISON VALUE, separated by commas; comparisons are < <= = >= >. A metric is
// - a latency: [what.]STATISTIC with p0 ... p100 (any fraction), mean, min or max. What: rtt or
//   heartbeat (the default), connect, message, the same with -service (from when it did begin
//   instead of from when it should have), lateness (of the generator) and eviction-delay (behind
//   the deadline). Values are durations.
// - a count: false-evictions, missed-evictions, early-evictions, lost, refused, connect-failures,
//   protocol-errors, server-closes, error-frames, connected.
// - a rate: connect-rate, heartbeat-rate. Values are rates.
// - recovery: how long the slowest storm took until 99 % were back. A duration.
//
// What was not measured is not met. Pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

struct Metric;  // slo.cc has the table

enum class Comparison : uint8_t { less, less_equal, equal, greater_equal, greater };

struct Objective {
    std::string text;                // as it was given, without white space
    const Metric* metric = nullptr;  // of static life
    double percent = 0;              // of a latency's percentile
    Comparison comparison = Comparison::less;
    double bound = 0;  // nanoseconds, a count, or events a second
};

struct ObjectiveResult {
    std::string objective;  // its text
    std::string measured;   // with unit; empty if it was not
    bool met = false;
    std::string why;  // it was not measured; else empty
};

// At least one; an error names the offender and what is known instead.
Result<std::vector<Objective>> parse_objectives(std::string_view text);

std::vector<ObjectiveResult> judge(const std::vector<Objective>& objectives,
                                   const RunResult& result);

}  // namespace pulse::load
