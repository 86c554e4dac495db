// What a run showed, for a reader who sees this program for the first time: about ten lines of
// words, then the tables behind them. Pure functions.
//
//     Held        20,000 of 20,000 connections for 20.0 s; all were open after 1.8 s (11,100/s).
//     Heartbeats  398,211 of 398,214 were answered: half within 312 us, 99 % within 1.90 ms.
//     The silent  500 of 500 were evicted after their deadline of 3 s, by 14.2 ms at most.
//     The others  were kept: none that beat in time was evicted (0 false evictions).
//     The server  used 42.1 % of a core, and 85 B of its own and 4.06 KiB of kernel memory ...
//     Trust       these numbers: 99 % of sends were within 90 us of the plan.
//     Report      build/run/report.html
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

enum class Mood : uint8_t { plain, good, bad };

// A label, "Held", and its text. An empty label goes on with the one before.
struct SummaryLine {
    std::string label;
    std::string words;
    Mood mood = Mood::plain;
};
std::vector<SummaryLine> summary_lines(const RunResult& result, const Verdict& verdict,
                                       const std::vector<ObjectiveResult>& objectives);

// Ends with a line feed; at most 100 columns a line but for what the user named. `color` marks good
// and bad with ANSI colours. Control characters of what was given are shown as '?'.
std::string summary_text(const RunResult& result, const Verdict& verdict,
                         const std::vector<ObjectiveResult>& objectives, bool color);

}  // namespace pulse::load
