// What the sessions of each cohort of users have done, of all reactors together.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/sessions/cohorts.h"
#include "net/control/jobs.h"

namespace pulse {

struct CohortFigures {
    struct Row {
        std::string policy;  // as it was given; empty: of those that no policy is for
        CohortCounts counts;
    };
    // Of the policies in force, in their order, and of the rest. Empty: there is no policy.
    std::vector<Row> rows;
    // Sessions that have not left the cohort of a former policy yet.
    uint64_t leaving = 0;
};

// Of the jobs that are finished. A reactor that has not come to the last change of policies yet has
// no counts of what is new in it.
CohortFigures cohort_figures(std::span<const std::shared_ptr<StatsJob>> jobs);

}  // namespace pulse
