// Many seeds on many cores: worker processes that each simulate a seed at a time, so that of one
// that aborts the seed is known, and the others go on.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/sim/simulation.h"

namespace pulse {

struct CampaignOptions {
    uint64_t first_seed = 1;
    uint64_t last_seed = 1;
    uint32_t jobs = 1;           // processes at once
    uint32_t failures_max = 10;  // no new seed is begun after so many
    SimulationOptions simulation;
    std::string trace;  // a file; only with one seed
};

// What is kept of one seed. Trivially copyable: it crosses a pipe.
struct SeedResult {
    uint64_t seed;
    uint64_t hash;
    uint64_t violations;
    uint64_t turns;
    uint64_t connections;
    uint64_t beats;
    uint64_t probes;
    uint64_t evictions;
    uint64_t refusals;
    Nanos virtual_time;
    Nanos judge_lag_max;
    int32_t signal;  // that ended the worker; the rest is zero then
    char faults[300];
    char words[800];  // of the first breaches, a line each
};

struct CampaignResult {
    uint64_t seeds = 0;
    uint64_t hash = 0;  // of all of them, in whatever order they ran
    SeedResult total{};
    std::vector<SeedResult> failed;  // in the order of their seeds
};

// Calls `progress` after each seed. An error is the machine's (no process, no file).
Result<CampaignResult> run_campaign(const CampaignOptions& options,
                                    const std::function<void(const CampaignResult&)>& progress);

}  // namespace pulse
