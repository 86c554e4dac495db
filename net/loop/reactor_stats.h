// What one reactor reports of itself at one moment.
#pragma once

#include "core/distributions.h"
#include "core/gauges.h"
#include "core/metrics.h"
#include "net/io/io_counters.h"

namespace pulse {

// One reactor, copied on its own thread; or the sum of several.
struct ReactorStats {
    MetricsSnapshot metrics;
    Gauges gauges;
    Distributions distributions;
    IoCounters io;

    ReactorStats& operator+=(const ReactorStats& other) {
        metrics += other.metrics;
        gauges += other.gauges;
        distributions += other.distributions;
        io += other.io;
        return *this;
    }
};

}  // namespace pulse
