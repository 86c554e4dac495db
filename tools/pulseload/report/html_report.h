// A run as one page for a browser: verdict, what happened as text, tiles, plots, tables, settings.
//
// The file is self-contained: no script, no network (its own content security policy forbids both),
// light and dark as the reader's system is, from a phone's width up. Outside input is escaped.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

// `above`: HTML between the title and the verdict.
std::string html_page(const RunResult& result, const Verdict& verdict,
                      const std::vector<ObjectiveResult>& objectives,
                      const std::string& above = {});

Result<void> write_html(const std::string& path, const RunResult& result, const Verdict& verdict,
                        const std::vector<ObjectiveResult>& objectives);

}  // namespace pulse::load
