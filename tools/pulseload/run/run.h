// One run: as many threads of clients as descriptors demand, watched once a second, from the first
// connect to the last goodbye.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/run/load_options.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

// How connections are shared among threads and source addresses; known before anything is opened.
struct Layout {
    uint32_t threads = 0;
    uint32_t per_thread = 0;             // connections, at most
    uint64_t descriptor_limit = 0;       // of each descriptor table
    bool own_tables = true;              // one for each thread; else all share the process's
    uint32_t ports = 0;                  // the kernel may choose from, for each source address
    uint32_t ports_used = 0;             // of them, at most
    std::vector<SocketAddress> sources;  // empty: the kernel chooses
    std::vector<std::string> lines;      // the arithmetic, for people
};
// Fails with what is short and how to get more.
Result<Layout> lay_out(const LoadOptions& options);

// ISO 8601.
std::string format_utc(int64_t epoch_seconds);

// What happened since the last sample.
struct Interval {
    const RunResult& so_far;
    const Sample& now;
    const Sample& before;
    const Latencies& latency;
    double begin_s;
    double length_s;
};

// `on_sample` is called on this thread; `interrupted`, the number of a signal, ends
// the run early, with all it has.
Result<RunResult> run_load(const LoadOptions& options, const Layout& layout,
                           const std::atomic<int>& interrupted,
                           const std::function<void(const Interval&)>& on_sample);

}  // namespace pulse::load
