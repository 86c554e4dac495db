// Whether a run says something about the server, or only about the generator that made it.
//
// A run is INVALID where the generator was the bottleneck: it made less than it was to make, its
// own waiting is a large part of the latencies that it reports, or a thread of it had no time left.
// Without data there is no such verdict: a run that sent no heartbeats is not invalid for that.
// Pure function.
#pragma once

#include <string>
#include <vector>

#include "tools/pulseload/result.h"

namespace pulse::load {

// Below this share of what the schedule held, the server was not asked what the run claims to have
// asked. A healthy generator makes all of it; what is due in the very last turn, and what an
// exhausted wait loses, is well under a twentieth.
inline constexpr double kMadeShareMin = 0.95;
// Above this share of a latency at p99, the number describes the generator more than the server.
inline constexpr double kOwnShareMax = 0.5;
// ... but only where it is more than the scheduler of a shared machine takes now and then (a slice
// or two of a neighbour's): below it, both are small, and the lateness beside them says it.
inline constexpr Nanos kOwnLatencyMin = 5 * kMillisecond;
// Fewer values have no 99th percentile to speak of: it would be their maximum.
inline constexpr uint64_t kValuesMin = 100;
// A thread above this share of a core had no reserve: it queues, and what it measures is its queue.
inline constexpr double kBusyShareMax = 0.95;

struct Verdict {
    bool valid = true;
    std::vector<std::string> evidence;  // sentences with numbers; empty where valid
    std::vector<std::string> remedies;  // what to do, in the same order, none twice
};

Verdict judge_validity(const RunResult& result);

}  // namespace pulse::load
