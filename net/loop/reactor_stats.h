// What one reactor can say about itself at one moment.
#pragma once

#include <cstdint>

#include "core/histogram.h"
#include "core/metrics.h"
#include "core/types.h"
#include "net/io/io_backend.h"

namespace pulse {

// Memory in user space that the server takes knowingly, by what it is for.
struct MemoryByKind {
    uint64_t records_bytes = 0;
    uint64_t wheel_bytes = 0;
    uint64_t buffers_bytes = 0;
    uint64_t backend_bytes = 0;
};

// One reactor, copied on its own thread.
struct ReactorStats {
    uint32_t live = 0;
    uint64_t wheel_entries = 0;
    MetricsSnapshot metrics;
    IoCounters io;
    Histogram eviction_delay;
    Histogram turn_time;
    Histogram wheel_slice;
    Histogram wheel_slice_cpu;
    Nanos wait_total = 0;
    Nanos judge_lag = 0;
    Nanos judge_lag_max = 0;
    MemoryByKind memory;

    ReactorStats& operator+=(const ReactorStats& other);
};

}  // namespace pulse
