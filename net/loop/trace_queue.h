// What a reactor hands over to the exporter of traces (net/observe/): a record of fixed size for
// each traced connection that ended, by a queue of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/sessions/evidence.h"
#include "core/spsc_ring.h"
#include "core/trace.h"
#include "core/types.h"

namespace pulse {

// Instants are of the reactor's clock, CLOCK_MONOTONIC; 0: not known, or it did not happen.
struct TraceRecord {
    // As the ledger has it. Of a peer that was refused: where, when, why, and its address.
    Evidence facts{};
    SpanIds ids{};
    bool refused = false;
    bool sampled = false;        // else traced for how it ended
    bool anomaly = false;        // how it ended is worth a trace, sampled or not
    bool parent_remote = false;  // the peer's traceparent named its trace
    Nanos accepted_at = 0;       // to 34 ms; exact, of one that was sampled as it came
    Nanos upgraded_at = 0;
    Nanos hello_at = 0;
    Nanos ended_at = 0;
    // Of one that was sampled.
    uint64_t messages = 0;    // complete ones, heartbeats included
    uint64_t heartbeats = 0;  // pings of the peer
    uint32_t probes = 0;
    uint32_t probe_answers = 0;
};
static_assert(std::is_trivially_copyable_v<TraceRecord>);

using TraceQueue = SpscRing<TraceRecord>;
// By reactor. Shared by the server and the exporter: what reads it may end after the other.
using TraceQueues = std::vector<std::unique_ptr<TraceQueue>>;

}  // namespace pulse
