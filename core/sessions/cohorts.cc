// Shares of users, and cohorts that outlive a change.
#include "core/sessions/cohorts.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "core/sip_hash.h"

namespace pulse {
namespace {

// No secret: shares are the same in all servers.
constexpr SipKey kShareKey{0x636f686f72747331, 0x7368617265733131};

bool has_label(std::string_view labels, std::string_view wanted) {
    while (!labels.empty()) {
        const size_t end = std::min(labels.find(' '), labels.size());
        if (labels.substr(0, end) == wanted) return true;
        labels.remove_prefix(std::min(end + 1, labels.size()));
    }
    return false;
}

}  // namespace

uint32_t cohort_place(const std::vector<std::string>& labels, std::string_view user) {
    std::string match;
    for (const std::string& label : labels) match.append(label).append(" ");
    const SipKey salted{sip_hash(kShareKey, match), kShareKey[1]};
    return static_cast<uint32_t>(sip_hash(salted, user) % kCohortShares);
}

bool CohortPolicy::is_for(std::string_view user, std::string_view has) const {
    const bool all =
        std::ranges::all_of(labels, [&](const auto& label) { return has_label(has, label); });
    return all && (share == kCohortShares || cohort_place(labels, user) < share);
}

Cohorts::Cohorts(const Cohorts& before, const std::vector<CohortPolicy>& policies, CohortSet free)
    : Cohorts(before) {
    PULSE_ASSERT(policies.size() <= kPoliciesMax);
    ++changes_;
    order_.clear();
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort) {
        Member& member = members_[cohort];
        const bool stays = std::ranges::any_of(
            policies, [&](const auto& each) { return each.text == member.policy.text; });
        if (member.in_force && !stays) {
            member.in_force = false;
            freed_[cohort] = changes_;
        }
    }
    for (const CohortPolicy& policy : policies) {
        Cohort cohort = in_force_with(policy.text);
        if (cohort == kNoCohort) {
            cohort = oldest_of(free);
            free &= ~set_of(cohort);
            members_[cohort] = {++numbers_, policy, true};
        }
        order_.push_back(cohort);
    }
}

Cohort Cohorts::in_force_with(std::string_view text) const {
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort)
        if (members_[cohort].in_force && members_[cohort].policy.text == text) return cohort;
    return kNoCohort;
}

CohortSet Cohorts::free(uint64_t learned, CohortSet held) const {
    CohortSet free = 0;
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort)
        if (!members_[cohort].in_force && freed_[cohort] <= learned) free |= set_of(cohort);
    return free & ~held;
}

bool Cohorts::has_room_for(const std::vector<CohortPolicy>& policies, CohortSet free) const {
    const auto fresh = std::ranges::count_if(policies, [this](const CohortPolicy& policy) {
        return in_force_with(policy.text) == kNoCohort;
    });
    return fresh <= std::popcount(free);
}

// Of them the one that was given back first.
Cohort Cohorts::oldest_of(CohortSet free) const {
    Cohort oldest = kNoCohort;
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort) {
        if ((free & set_of(cohort)) == 0) continue;
        if (oldest == kNoCohort || freed_[cohort] < freed_[oldest]) oldest = cohort;
    }
    PULSE_ASSERT(oldest != kNoCohort);
    return oldest;
}

bool Cohorts::has_share_of_all() const {
    return std::ranges::any_of(
        order_, [this](Cohort cohort) { return members_[cohort].policy.labels.empty(); });
}

Cohort Cohorts::of(std::string_view user, std::string_view labels) const {
    for (const Cohort cohort : order_)
        if (members_[cohort].policy.is_for(user, labels)) return cohort;
    return kRestCohort;
}

}  // namespace pulse
