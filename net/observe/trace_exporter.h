// Sends traces to an OpenTelemetry collector, on a thread of its own (OTLP/HTTP, JSON).
//
//     reactors --> a queue each --> batches --> a request --> the endpoint
//      never wait                 by size, age   tried again on 429, 502, 503, 504 and no answer
//
// Everything is bounded (limits.h), and what finds no room is dropped and counted by reason. The
// thread never ends a server: what it cannot do, for want of memory or otherwise, is a drop, too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/loop/trace_queue.h"
#include "net/observe/otlp_endpoint.h"
#include "net/observe/otlp_json.h"

namespace pulse {

// One of trace_counters.def.
struct TraceCounter {
    std::string_view family, reason, help;
    uint64_t value = 0;
};

class TraceExporter {
  public:
    // Lines for the operator, on the exporter's thread: one when the endpoint stops to take what it
    // is sent, and one a minute at most while it does not.
    using LogLine = std::function<void(const std::string& line)>;
    // The error says why there can be no thread. `queues` are popped by this alone.
    static Result<std::unique_ptr<TraceExporter>> start(OtlpEndpoint endpoint,
                                                        std::vector<std::string> listeners,
                                                        std::shared_ptr<TraceQueues> queues,
                                                        LogLine warn);
    // Without finish(): drops what waits.
    ~TraceExporter();
    TraceExporter(const TraceExporter&) = delete;
    TraceExporter& operator=(const TraceExporter&) = delete;

    // Sends what is left, a drain's span last, within kTraceFlushNs, and ends the thread. Where it
    // hangs in a lookup of a name it is left behind. Once, after the last reactor has ended.
    void finish(std::optional<DrainTrace> drain);

    // Any thread.
    std::vector<TraceCounter> counters() const;
    // What the exporter may hold, with the parts of so many reactors.
    static size_t memory_bytes_max(size_t reactors);

  private:
    struct Shared;
    explicit TraceExporter(std::shared_ptr<Shared> shared);
    std::shared_ptr<Shared> shared_;
};

}  // namespace pulse
