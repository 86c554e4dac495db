// What a run's numbers may be used for.
//
//   not connected   not one connection opened: there are no numbers
//   invalid         the generator was the bottleneck or did not run for a while: it made less than
//                   it was to make, its own waiting is a large part of the latencies, a thread had
//                   no time left, or stood still
//   incomplete      the run was cut short, the target went away, or fewer connections were held
//                   than were asked for
//   valid           none of these
//
// The first that applies is the state, but for a bottleneck (without a standstill) in an incomplete
// run: that is incomplete. The evidence of all is listed. Without data there is no such
// verdict: a run that sent no heartbeats is not invalid for that. Pure function.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "tools/pulseload/run/result.h"

namespace pulse::load {

// Below this share of what the schedule held, the server was not asked what the run claims to have
// asked. A healthy generator makes all of it; what is due in the very last turn, and what an
// exhausted wait loses, is well under a twentieth.
inline constexpr double kMadeShareMin = 0.95;
// Above this share of a latency at p99, the number describes the generator more than the server.
inline constexpr double kOwnShareMax = 0.5;
// ... but only where it is more than the scheduler of a shared machine takes now and then (a slice
// or two of a neighbour's): below it, both are small, and the lateness beside them shows it.
inline constexpr Nanos kOwnLatencyMin = 5 * kMillisecond;
// Fewer values have no 99th percentile to speak of: it would be their maximum.
inline constexpr uint64_t kValuesMin = 100;
// A thread above this share of a core had no reserve: it queues, and what it measures is its queue.
inline constexpr double kBusyShareMax = 0.95;

// A thread that did not look at its connections for longer than this has answered and beaten late,
// and an eviction may be its own doing.
inline constexpr Nanos kGapMax = kSecond;

enum class RunState : uint8_t { valid, incomplete, invalid, not_connected };
constexpr std::string_view name_of(RunState state) {
    constexpr std::string_view kNames[] = {"valid", "incomplete", "invalid", "not connected"};
    return kNames[static_cast<size_t>(state)];
}

struct Verdict {
    RunState state = RunState::valid;
    bool valid() const { return state == RunState::valid; }
    std::vector<std::string> evidence;  // sentences with numbers; empty where valid
    std::vector<std::string> remedies;  // what to do, in the same order, none twice
};

Verdict judge_validity(const RunResult& result);

}  // namespace pulse::load
