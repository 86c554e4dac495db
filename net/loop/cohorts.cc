// Which connections are treated otherwise than the rest, by the policies for their users
// (core/sessions/cohorts.h): decided when a user logs in, and by its shard when policies change. Of
// connections that are not logged in this reactor decides alone, from the first message on that
// says that they are none of a user: a heartbeat, or a hello without one.
#include <algorithm>
#include <ranges>

#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/public_name.h"
#include "net/loop/session.h"

namespace pulse {

// By the options in force. A cohort that has another policy than before counts anew; sessions that
// are in it already were told of the policy before this reactor was.
void Connections::set_cohorts() {
    const Cohorts* const cohorts = config_.options->cohorts.get();
    const bool counted = counts_cohorts_;
    counts_cohorts_ = cohorts != nullptr && !cohorts->order().empty();
    groups_anonymous_ = counts_cohorts_ && cohorts->has_share_of_all() && anonymous_.turn_on();
    if (counts_cohorts_ && !counted) restart_counts(kRestCohort, 0);
    if (counts_cohorts_ && !groups_anonymous_ && cohorts->has_share_of_all() && config_.warn)
        config_.warn(
            "no address space for cohorts: policies without labels pass over anonymous "
            "connections (--policy)");
    if (tuning_.done()) fresh_cohorts_ = 0;
    for (Cohort cohort = kRestCohort + 1; cohort < kCohortsMax; ++cohort) {
        const uint64_t number = cohorts == nullptr ? 0 : cohorts->number(cohort);
        if (cohort_counts_[cohort].number == number) continue;
        restart_counts(cohort, number);
        departures_[cohort] = {};
        const auto name =
            std::ranges::find(config_.profile_names, cohorts->policy(cohort)->profile);
        const bool named = name != config_.profile_names.end();
        cohort_profiles_[cohort] =
            named ? static_cast<uint8_t>(name - config_.profile_names.begin()) : uint8_t{0};
        fresh_cohorts_ |= uint32_t{1} << cohort;
    }
    if (table_.live() > 0) tuning_ = Sweep(table_.limit());
    if (config_.cohort_use != nullptr && cohorts != nullptr)
        config_.cohort_use->learn(config_.number, cohorts->changes());
}

void Connections::restart_counts(Cohort cohort, uint64_t number) {
    CohortCounts& counts = cohort_counts_[cohort];
    counts = {.number = number, .sessions = counts.sessions, .at = io_.now()};
}

std::array<CohortCounts, kCohortsMax> Connections::cohort_counts() const {
    std::array<CohortCounts, kCohortsMax> counts = cohort_counts_;
    for (CohortCounts& each : counts) each.count_time(io_.now());
    return counts;
}

// Else a shard has learnt of its policy and this reactor has not yet: what it is told meanwhile
// takes effect when it does (tune_one).
bool Connections::is_known(Cohort cohort) const {
    const Cohorts* const cohorts = config_.options->cohorts.get();
    return cohort <= kRestCohort || (cohorts != nullptr && cohorts->in_force(cohort));
}

// nullptr: it has none, or one that this reactor has not learnt of, or that is over.
const CohortPolicy* Connections::policy_of(Index index) const {
    const Cohort cohort = cohort_of(index);
    return cohort > kRestCohort && is_known(cohort) ? config_.options->cohorts->policy(cohort)
                                                    : nullptr;
}

Cohort Connections::cohort_of(Index index) const {
    const SessionBook::Entry* const login = logins_.entry_of(table_[index]);
    return login != nullptr ? static_cast<Cohort>(login->cohort) : anonymous_.cohort(index);
}

uint8_t Connections::kept_profile(Index index) const {
    const SessionBook::Entry* const login = logins_.entry_of(table_[index]);
    return login != nullptr ? static_cast<uint8_t>(login->profile) : anonymous_.profile(index);
}

// One whose intervals are to be adaptive, and are not yet, has its first level from now on; where a
// round trip is wanted the silence goes on, and is not cut short.
uint8_t Connections::own_profile(Index index) {
    const uint8_t now = place_told(index);
    const bool is_kept = cohort_of(index) != kNoCohort;
    const uint8_t own = is_kept ? kept_profile(index) : asked_profile(now);
    const bool adapts = own == kProfileDefault && adapts_;
    if (adapts && is_adaptive(now)) return now;
    if (adapts && heartbeat_of(at(index)).liveness == Liveness::any) return place_for(index, own);
    return is_kept ? place_of(own) : now;
}

void Connections::keep_profile(Index index, uint8_t profile) {
    const Cohort cohort = cohort_of(index);
    if (cohort == kNoCohort) return;
    profile = asked_profile(profile);
    if (is_logged_in(at(index)))
        logins_.keep_profile(at(index), profile);
    else
        anonymous_.set(index, cohort, profile);
}

void Connections::retune(Index index, uint8_t profile) {
    keep_profile(index, profile);
    announce(index, place_for(index, profile));
}

// ----------------------------------------------------------------------------------- in and out

void Connections::join_cohort(Index index, Cohort cohort, bool tells) {
    const Connection& connection = at(index);
    if (cohort_of(index) == kNoCohort)
        logins_.keep_profile(connection, asked_profile(place_told(index)));
    count_in_cohort(index, cohort);
    if (is_known(cohort)) tune_to_cohort(index, tells);
}

void Connections::tune_again(Index index) {
    if (is_known(cohort_of(index))) tune_to_cohort(index, true);
}

void Connections::move_to_cohort(Index index, Cohort cohort) {
    if (!is_live(at(index).stage) || cohort_of(index) == cohort) return;
    count_in_cohort(index, cohort);
    if (!is_known(cohort)) return;
    tune_to_cohort(index, true);
    send_away_paced(index);
}

// One with a token of its upgrade logs in without a hello, and is of a user.
void Connections::group_anonymous(Index index, bool tells) {
    const Connection& connection = at(index);
    if (!groups_anonymous_ || is_logged_in(connection)) return;
    if (!is_live(connection.stage) || profile_at(connection.profile) < kProfileDefault)
        return;
    if (is_side(connection) || stays_.of(index).until != 0) return;
    if (authentication_.is_upgraded(index)) return;
    anonymous_.set(index, anonymous_.cohort(index), asked_profile(place_told(index)));
    count_in_cohort(index, anonymous_cohort(index));
    tune_to_cohort(index, tells);
    // It may have lived for long when it beats under policies that have just come. Else it is sent
    // away behind its welcome.
    if (tells) send_away_paced(index);
}

Cohort Connections::anonymous_cohort(Index index) const {
    if (!groups_anonymous_) return kNoCohort;
    const auto name = public_name(config_.number, table_.id(index));
    return config_.options->cohorts->of(name.view(), {});
}

void Connections::count_in_cohort(Index index, Cohort cohort) {
    const Cohort before = cohort_of(index);
    if (before == cohort) return;
    const auto count = [this](Cohort of) -> CohortCounts& {
        cohort_counts_[of].count_time(io_.now());
        return cohort_counts_[of];
    };
    if (before != kNoCohort) {
        --count(before).sessions;
        if (config_.cohort_use != nullptr) config_.cohort_use->leave(before);
    }
    if (cohort != kNoCohort) {
        if (config_.cohort_use != nullptr) config_.cohort_use->enter(cohort);
        ++count(cohort).sessions;
        ++cohort_counts_[cohort].joined;
    }
    if (is_logged_in(at(index)))
        logins_.set_cohort(at(index), cohort);
    else
        anonymous_.set(index, cohort, anonymous_.profile(index));
    count_stay(index);
}

void Connections::leave_anonymous(Index index) {
    if (!is_logged_in(at(index))) count_in_cohort(index, kNoCohort);
    count_stay(index);
}

void Connections::leave_cohort(Cohort cohort, CloseReason reason) {
    if (cohort == kNoCohort) return;
    CohortCounts& counts = cohort_counts_[cohort];
    counts.count_time(io_.now());
    --counts.sessions;
    if (config_.cohort_use != nullptr) config_.cohort_use->leave(cohort);
    if (reason != CloseReason::none) ++counts.ended;
    if (reason == CloseReason::idle_timeout || reason == CloseReason::slow_upload) ++counts.evicted;
    if (reason == CloseReason::message_rate || reason == CloseReason::user_message_rate)
        ++counts.limited;
}

void Connections::end_anonymous(Index index, CloseReason reason) {
    const Cohort cohort = anonymous_.cohort(index);
    if (cohort == kNoCohort) return;
    leave_cohort(cohort, reason);
    anonymous_.begin(index);
}

void Connections::count_cohort_heartbeat(Index index) {
    if (cohort_of(index) == kNoCohort) group_anonymous(index, true);
    ++cohort_counts_[cohort_of(index)].heartbeats;
}

// -------------------------------------------------------------------------------------- effects

// Returns whether it had, or was to have, other heartbeats. What it knows already it is not sent
// again, and its silence goes on.
bool Connections::tune_to_cohort(Index index, bool tells) {
    const uint8_t wanted = cohort_profiles_[cohort_of(index)];
    const uint8_t place = place_for(index, wanted != 0 ? wanted : kept_profile(index));
    const uint8_t now = place_told(index);
    if (place == now) return false;
    const bool is_same = config_.profiles[now] == config_.profiles[place] &&
                         config_.interval_ms[now] == config_.interval_ms[place] &&
                         config_.timeout_ms[now] == config_.timeout_ms[place];
    if (is_same && now == at(index).profile)
        change_profile(index, place);
    else if (tells)
        announce(index, place);
    else
        announce_by_welcome(index, place, false);
    return true;
}

// Policies have changed: of sessions, those of cohorts that this reactor has just learnt of.
uint32_t Connections::tune_one(Index index) {
    if (!is_live(at(index).stage)) return kPassCost;
    const Cohort before = cohort_of(index);
    if (before == kNoCohort) return kPassCost;
    if (!is_logged_in(at(index))) count_in_cohort(index, anonymous_cohort(index));
    const Cohort cohort = cohort_of(index);
    const bool fresh = (fresh_cohorts_ >> cohort & 1) != 0;
    if ((cohort == before && !fresh) || !is_known(cohort)) return kPassCost;
    const bool tuned = tune_to_cohort(index, true);
    const Tick stayed_until = stays_.of(index).until;
    send_away_paced(index);
    const bool sent = stays_.of(index).until != stayed_until || !is_live(at(index).stage);
    return tuned || sent ? kEvictCost : kPassCost;
}

// Where its protocol can say goodbye ahead of its end it is served until its peer is elsewhere, so
// that this is never without a connection; and told once.
void Connections::send_away(Index index) {
    const CohortPolicy* const policy = policy_of(index);
    if (policy == nullptr || policy->move_to.empty()) return;
    if (stays_.of(index).until != 0) return;
    if (!stays_.turn_on() || !Session(*this, index).send_move(policy->move_to))
        return begin_close(index, {CloseReason::moved, policy->move_to});
    if (!is_live(at(index).stage)) return;  // it had no room for that
    const Nanos away = 2 * config_.options->drain_retry_after;
    const Tick until = config_.clock.up(io_.clock() + away + kMoveStayNs);
    stays_.at(index) = {.until = until};
    count_stay(index);
    wheel_.arm(index, until);
}

// Among those of the cohort that it is in now.
void Connections::count_stay(Index index) {
    if (stays_.of(index).until == 0) return;
    Stay& stay = stays_.at(index);
    const Cohort cohort = cohort_of(index);
    if (stay.cohort == cohort) return;
    if (stay.cohort != kNoCohort) --staying_[stay.cohort];
    if (cohort != kNoCohort) ++staying_[cohort];
    stay.cohort = cohort;
}

// It closes. True if it was sent away before.
bool Connections::end_stay(Index index) {
    const Stay stay = stays_.of(index);
    if (stay.until == 0) return false;
    if (stay.cohort != kNoCohort) --staying_[stay.cohort];
    stays_.begin(index);
    return true;
}

void Connections::send_away_paced(Index index) {
    const CohortPolicy* const policy = policy_of(index);
    if (policy == nullptr || policy->move_to.empty()) return;
    if (policy->move_over == Nanos{0}) return send_away(index);
    departures_due_at_ = std::min(departures_due_at_, io_.now());
}

// Those of a cohort are as many as are counted in it, but for those that were told already.
void Connections::send_some_away(uint32_t& budget) {
    uint32_t due = 0;  // cohorts, by their bits
    bool some_wait = false;
    for (const Cohort cohort : config_.options->cohorts->order()) {
        const CohortPolicy& policy = *config_.options->cohorts->policy(cohort);
        const uint64_t sessions = cohort_counts_[cohort].sessions;
        const uint64_t untold = sessions - std::min(sessions, staying_[cohort]);
        const uint64_t waiting = policy.move_to.empty() ? 0 : untold;
        departures_[cohort].look(waiting, policy.move_over.value_or(kMoveOverDefaultNs), io_.now());
        if (departures_[cohort].allows()) due |= uint32_t{1} << cohort;
        some_wait |= waiting > 0;
    }
    departures_due_at_ = some_wait ? io_.now() + kGoodbyeEveryNs : kNever;
    while (due != 0 && budget > 0) {
        budget -= std::min(budget, kPassCost);
        if (departing_ >= table_.limit()) departing_ = 0;
        const Index index = departing_++;
        if (++departing_passed_ > table_.limit()) {  // what is counted is not there now
            departing_passed_ = 0;
            departures_due_at_ = io_.now() + kSecond;
            return;
        }
        if (!is_live(at(index).stage) || stays_.of(index).until != 0) continue;
        const Cohort cohort = cohort_of(index);
        if ((due >> cohort & 1) == 0) continue;
        departing_passed_ = 0;
        budget -= std::min(budget, kEvictCost);
        departures_[cohort].spend();
        if (!departures_[cohort].allows()) due &= ~(uint32_t{1} << cohort);
        send_away(index);
    }
    if (due != 0) departures_due_at_ = io_.now();
}

bool Connections::drains_in(Index index, CohortPolicy::Drains pass) const {
    const CohortPolicy* const policy = policy_of(index);
    return (policy != nullptr ? policy->drains : CohortPolicy::Drains::with_the_rest) <= pass;
}

}  // namespace pulse
