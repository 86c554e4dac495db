// Bounds of what is exported: how much waits for an endpoint, how long, and how often it is tried.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// --------------------------------------------------------------------------------------- batches
// Records of one request, as many as OpenTelemetry's batch processors take by default.
inline constexpr size_t kTraceBatchRecords = 512;
// After so much time a batch is sent that is not full: what an operator waits for its trace.
inline constexpr int64_t kTraceBatchAgeNs = 1'000'000'000;
// Between two looks at the queues of the reactors, which do not wake the exporter.
inline constexpr int64_t kTracePollNs = 100'000'000;
// Records that wait behind the request that is tried: eight batches, 2.3 MiB. More are dropped, the
// newest first, as they would be in the reactors' queues.
inline constexpr size_t kTracePendingMax = 4'096;
// Of them for anomalies alone, as in the reactors' queues: a batch.
inline constexpr size_t kTracePendingReserve = kTraceBatchRecords;

// ---------------------------------------------------------------------------------------- retries
// The wait after the first failure, doubled after each, up to the most; each between half of it and
// one and a half of it, so that servers whose collector comes back do not all come at once.
inline constexpr int64_t kTraceRetryFirstNs = 1'000'000'000;
inline constexpr int64_t kTraceRetryMostNs = 30'000'000'000;
// How long one request is tried: a collector that is restarted or moved is back by then.
inline constexpr int64_t kTraceRetryForNs = 120'000'000'000;
// The longest Retry-After that is kept to; a longer one is taken for this.
inline constexpr int64_t kTraceRetryAfterMostNs = 300'000'000'000;

// --------------------------------------------------------------------------------------- requests
// A connect to an address that drops what it is sent; and each read and write of a request, and
// the whole body of its answer. The latter is OTLP's default.
inline constexpr int64_t kTraceConnectNs = 1'000'000'000;
inline constexpr int64_t kTraceRequestNs = 10'000'000'000;
// Of an answer, whose only content is a partial success.
inline constexpr size_t kTraceAnswerBytesMax = size_t{64} << 10;
// Of a record as JSON, an eviction with 64 events and what is escaped included; otlp_thread_test.cc
// makes the longest and measures it.
inline constexpr size_t kTraceRecordJsonBytesMax = size_t{16} << 10;
// Between two log lines that the endpoint does not take what it is sent.
inline constexpr int64_t kTraceFailureLogNs = 60'000'000'000;
// At the end: what is left has so long to be sent, and a request that hangs then so long to notice
// that it was cancelled. A name that is being looked up cannot be, and is left behind.
inline constexpr int64_t kTraceFlushNs = 2'000'000'000;
inline constexpr int64_t kTraceCancelNs = 500'000'000;
// Events of a span, of which probes in a long silence are most: probes_sent of Evidence is a byte.
inline constexpr size_t kTraceEventsMax = 64;
// Of the path of --otlp-endpoint, and of its host: DNS names have 253.
inline constexpr size_t kOtlpPathBytesMax = 1'024;
inline constexpr size_t kOtlpHostBytesMax = 253;

}  // namespace pulse
