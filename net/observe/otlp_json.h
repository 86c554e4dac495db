// Traces as an OpenTelemetry collector takes them: OTLP 1, ExportTraceServiceRequest in its JSON
// encoding (ids in hexadecimal, 64-bit numbers as strings, enums as numbers).
//
//     connection   SERVER, from the accept to the close of the socket; its parent is what a
//                  traceparent named. Events: upgraded, hello, its end was decided
//       eviction   INTERNAL, from the last proof of life to the decision. Events: last byte in and
//                  out, last acknowledged, last proof of life, each probe sent and missed
//     drain        INTERNAL, a trace of its own, from the order to the end of the last reactor
//
// Attributes are OpenTelemetry's where it has a name for them, and pulsewheel.NAME otherwise. Pure:
// time is a parameter.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"
#include "net/loop/trace_queue.h"

namespace pulse {

// Instants are of CLOCK_MONOTONIC.
struct DrainTrace {
    SpanIds ids{};
    Nanos began_at = 0;
    Nanos ended_at = 0;
    uint64_t connections = 0;  // when it began
    uint64_t goodbyes_per_second = 0;
    uint64_t reset = 0;      // connections that were, without their goodbye having been taken
    bool cut_short = false;  // some peers did not take their goodbye in time
    bool stopped_hard = false;
};

// Of the process that traces.
struct TraceSource {
    std::string version;
    std::string instance;  // a UUID of this process
    std::string host;
    int64_t pid = 0;
    std::vector<std::string> listeners;  // by number, as they are given to --listen
};

struct TraceBatch {
    std::vector<TraceRecord> records;
    std::optional<DrainTrace> drain;
    bool empty() const { return records.empty() && !drain; }
};

// Spans that a record becomes, and a batch.
size_t spans_of(const TraceRecord& record);
size_t spans_of(const TraceBatch& batch);

// The body of a request. `wall_offset` is what the time since 1970 is ahead of CLOCK_MONOTONIC: the
// same for all of a batch, so that durations are exact whatever steps the wall clock made.
std::string otlp_request(const TraceBatch& batch, const TraceSource& source, Nanos wall_offset);

// What the body of a 200 says: spans that the endpoint took none of, and why.
struct OtlpPartialSuccess {
    uint64_t rejected_spans = 0;
    std::string message;
};
// Nothing of a body that is not what OTLP says: then all was taken.
OtlpPartialSuccess read_otlp_answer(std::string_view body);

}  // namespace pulse
