// Simulated days of a server, as the anomaly watch sees them: a sample each 10 s, with what is
// normal in them (days, weeks, bursts, deploys, restarts, noise with heavy tails) and faults whose
// beginnings and ends are known. All of it from a seed.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/anomaly/series.h"

namespace pulse::study {

inline constexpr uint32_t kSampleSeconds = 10;
inline constexpr uint32_t kSamplesADay = 86'400 / kSampleSeconds;

enum class FaultKind : uint8_t { prefix_loss, slow_drift, storm, stall };
inline constexpr std::string_view kFaultNames[] = {"loss of a prefix", "slow RTT drift",
                                                   "reconnect storm", "stalled reactor"};
inline constexpr size_t kFaultKinds = 4;

// In samples from the start of the server. What begins an alarm in [begins, over) has found it.
struct PlannedFault {
    FaultKind kind;
    uint32_t begins;
    uint32_t ends;        // of the cause
    uint32_t over;        // of its consequences, such as the return of those that were lost
    double strength = 0;  // what it means depends on the kind
};

struct Point {
    AnomalySample sample;
    bool faulty = false;     // an effect of a fault is in it
    bool restarted = false;  // the server began anew: detectors know nothing any more
};

// One server over some days.
struct Server {
    uint64_t seed;
    std::vector<Point> points;
    std::vector<PlannedFault> faults;
};

Server simulate(uint64_t seed, uint32_t days);

}  // namespace pulse::study
