// Policies for cohorts of users: which are in force, what the sessions of each do beside the rest,
// and changes of them.
#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "net/control/body.h"
#include "net/control/cohort_figures.h"
#include "net/control/limits.h"
#include "net/control/routes.h"

namespace pulse {
namespace {

Json cohort_json(const CohortFigures::Row& row) {
    const CohortCounts& counts = row.counts;
    return {{"policy", row.policy.empty() ? Json() : Json(row.policy)},
            {"sessions", counts.sessions},
            {"session_s", counts.session_ms / 1'000},
            {"joined", counts.joined},
            {"heartbeats", counts.heartbeats},
            {"probes", counts.probes},
            {"ended", counts.ended},
            {"evicted", counts.evicted},
            {"limited", counts.limited}};
}

}  // namespace

CohortFigures cohort_figures(std::span<const std::shared_ptr<StatsJob>> jobs) {
    CohortFigures figures;
    const Cohorts* cohorts = nullptr;
    for (const auto& job : jobs) {
        const bool newer = job->finished() && job->cohorts != nullptr &&
                           (cohorts == nullptr || job->cohorts->changes() > cohorts->changes());
        if (newer) cohorts = job->cohorts.get();
    }
    if (cohorts == nullptr) return figures;
    std::array<CohortCounts, kCohortsMax> sums{};
    for (const auto& job : jobs) {
        if (!job->finished()) continue;
        for (Cohort cohort = kRestCohort; cohort < kCohortsMax; ++cohort) {
            const CohortCounts& counts = job->cohort_counts[cohort];
            const bool known =
                cohorts->in_force(cohort) && counts.number == cohorts->number(cohort);
            if (known || cohort == kRestCohort)
                sums[cohort] += counts;
            else
                figures.leaving += counts.sessions;
        }
    }
    if (cohorts->order().empty()) return figures;
    for (const Cohort cohort : cohorts->order())
        figures.rows.push_back({cohorts->policy(cohort)->text, sums[cohort]});
    figures.rows.push_back({"", sums[kRestCohort]});
    return figures;
}

Reply Routes::policies(const Ask& ask) {
    const Measured measured = measure(ask);
    if (!measured.outcome.all()) return unanswered(measured.outcome);
    const CohortFigures figures = cohort_figures(measured.jobs);
    Json rows = Json::array();
    for (const CohortFigures::Row& row : figures.rows) rows.push_back(cohort_json(row));
    return json_reply({{"cohorts", std::move(rows)}, {"leaving", figures.leaving}});
}

Reply Routes::set_policies(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"policies"}); !known) return bad(known.error());
    const auto list = ask.body.find("policies");
    if (list == ask.body.end() || !list->is_array())
        return bad("policies: is missing, or not a list; write {\"policies\": [TEXT, ...]}");
    std::vector<std::string> texts;
    for (const Json& text : *list) {
        if (!text.is_string()) return bad("policies: must hold strings; write one for each policy");
        texts.push_back(text.get<std::string>());
    }
    const auto set = target_.set_policies(texts);
    if (!set) return error_reply(503, "main thread", set.error());
    if (!*set) return error_reply(400, "policies", set->error());
    return policies(ask);
}

Reply Routes::roll_back_policies(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {}); !known) return bad(known.error());
    const auto rolled = target_.roll_back_policies();
    if (!rolled) return error_reply(503, "main thread", rolled.error());
    if (!*rolled) return error_reply(409, "policies", rolled->error());
    return policies(ask);
}

}  // namespace pulse
