// What a reactor measures of itself: counters that any thread reads, gauges and distributions that
// travel in snapshots.
#pragma once

#include "core/distributions.h"
#include "core/gauges.h"
#include "core/metrics.h"

namespace pulse {

struct ReactorMetrics : Metrics {
    // Of the reactor's thread. Gauges that Reactor::fill reads at a snapshot stay 0 here.
    Gauges gauges;
    Distributions distributions;

    ReactorMetrics() {
        for_each_distribution([](const DistributionInfo&, Histogram& one) { one.reserve(); },
                              distributions);
    }
};

}  // namespace pulse
