// What is measured as Prometheus reads it: text format 0.0.4, base units, names with their unit
// last, counters in _total, distributions as histograms. Made from the tables of what is measured
// (.def files): a new line there is a new name.
//
// Of counters and gauges each reactor has a series; what has many values besides (reasons, buckets)
// is of all reactors together, so that 256 of them are one answer (kAdminAnswerBytesMax). Of
// cohorts each policy in force has a series, kPoliciesMax at most, and the rest has one.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/control/cohort_figures.h"
#include "net/control/target.h"
#include "net/loop/reactor_stats.h"

namespace pulse {

// What ReactorStats::population is by.
struct PopulationNames {
    std::vector<std::string_view> protocols;
    std::span<const std::string_view> stages;
};

// Of reactors by number; of one that has not answered, nothing but pulsewheel_reactor_up 0.
std::string metrics_text(const std::vector<const ReactorStats*>& reactors,
                         const PopulationNames& names, const ServingState& serving,
                         const Json& process, const AnomalyReport& anomalies = {},
                         std::span<const ThreadCounter> counters = {},
                         const CohortFigures& cohorts = {});

}  // namespace pulse
