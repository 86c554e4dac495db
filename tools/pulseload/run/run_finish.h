// What the threads of a run counted, put together when it has ended.
#pragma once

#include "tools/pulseload/run/load_options.h"
#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/worker.h"

namespace pulse::load {

// Detection, close codes, errors, and where each connection is.
void finish_clients(const LoadOptions& options, const Workers& workers, RunResult& result);

// Requires: the samples. `began` is the run's.
void finish_storms(const LoadOptions& options, const Workers& workers, Nanos began,
                   RunResult& result);

// Whether connections that ended without a goodbye were evictions, or the target went away: its
// process ended, most ended together, or the target refuses a connect now. Requires: the samples
// and the detection of finish_clients. May take a second, for the connect.
void find_target_gone(const LoadOptions& options, RunResult& result);

}  // namespace pulse::load
