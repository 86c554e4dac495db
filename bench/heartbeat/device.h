// One device in its world (world.h), that beats in one way (strategy.h), and what comes of it.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/heartbeat/strategy.h"
#include "bench/heartbeat/world.h"

namespace pulse::study {

struct Outcome {
    double on_s = 0;  // switched on
    uint64_t packets = 0;
    // Connections that ended though the device was there and had not moved: forgotten by the
    // network, given up by the device, evicted by the server.
    uint64_t lost_forgotten = 0, lost_given_up = 0, lost_evicted = 0;
    // From when it was switched off to when the server knew, where it had a connection.
    std::vector<double> detection_s;
    uint64_t trials = 0;  // silences on other connections
    uint64_t samples = 0;  // of those, that counted
    // What they found first, when, after how many samples and trials; 0: nothing.
    double found_s = 0, found_at_s = 0;
    uint64_t found_after = 0, found_trials = 0;
    // The last interval, when it was at nine tenths of that for the first time, and how many
    // heartbeats and trials were before.
    double interval_s = 0, settled_s = 0;
    uint64_t settled_after = 0;

    uint64_t lost() const { return lost_forgotten + lost_given_up + lost_evicted; }
};

Outcome run_device(const World& world, Strategy& strategy);

}  // namespace pulse::study
