// What one reactor reports of itself at one moment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/distributions.h"
#include "core/gauges.h"
#include "core/metrics.h"
#include "core/wheel_rings.h"
#include "net/io/io_counters.h"
#include "net/loop/population.h"

namespace pulse {

// One reactor, copied on its own thread; or the sum of several.
struct ReactorStats {
    MetricsSnapshot metrics;
    Gauges gauges;
    Distributions distributions;
    IoCounters io;
    Population::Counts population;  // connections by protocol and stage
    WheelRings rings;

    ReactorStats& operator+=(const ReactorStats& other) {
        metrics += other.metrics;
        gauges += other.gauges;
        distributions += other.distributions;
        io += other.io;
        Population::add(population, other.population);
        rings += other.rings;
        return *this;
    }
};

// What the reactor that holds most connections has, by the mean of all; 1 where none are held.
inline double imbalance_of(uint64_t most, uint64_t all, size_t reactors) {
    if (all == 0) return 1;
    return static_cast<double>(most) * static_cast<double>(reactors) / static_cast<double>(all);
}

}  // namespace pulse
