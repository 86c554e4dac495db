// What a reactor measures of itself: counters for anybody, distributions for whoever asks by a
// snapshot message.
#pragma once

#include "core/histogram.h"
#include "core/metrics.h"
#include "core/types.h"

namespace pulse {

struct ReactorMetrics : Metrics {
    // The rest belongs to the reactor's thread.
    Histogram eviction_delay;  // from the deadline to the eviction
    // From the end of poll's wait to the turn's end, decoding and answering included: what a turn
    // keeps a peer waiting.
    Histogram turn_time;
    Histogram wheel_slice;      // the judging part of a turn, by the clock
    Histogram wheel_slice_cpu;  // and in CPU time, of turns that had something to judge
    Nanos wait_total = 0;       // poll's waiting for something to do
    Nanos judge_lag = 0;        // how late the judge came to the oldest look that was due
    Nanos judge_lag_max = 0;
};

}  // namespace pulse
