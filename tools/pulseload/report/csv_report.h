// A run's samples as CSV (RFC 4180, LF): a header with units in its names, a row for each second.
//
// Counts are totals up to at_s; latencies are of the row's own second. A cell is empty where
// nothing was measured.
#pragma once

#include <string>

#include "core/result.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

std::string csv_text(const RunResult& result);
Result<void> write_csv(const std::string& path, const RunResult& result);

}  // namespace pulse::load
