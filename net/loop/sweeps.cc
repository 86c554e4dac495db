// What is done to every connection: new heartbeats, the goodbyes of a server that stops, its end,
// and what other threads have done (job.h). Each is a walk in slices (core/sweep.h): a turn does a
// bounded part of it, and the next turn starts at once.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "core/random.h"
#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/session.h"

namespace pulse {
namespace {

// The other of the two places that a profile's heartbeats have.
uint8_t other_place(uint8_t place) {
    return static_cast<uint8_t>(place < kRetunedProfiles ? place + kRetunedProfiles
                                                         : place - kRetunedProfiles);
}

}  // namespace

bool Connections::sweep() {
    if (!draining_ && io_.now() >= drain_at_) begin_goodbyes();
    // New settings take half of a turn where others wait for it, too, and else all.
    const bool others_wait =
        draining_ || !idling_.done() || !ending_.done() || !jobs_.empty() || !revoking_.done();
    uint32_t budget = kSweepBudgetPerTurn;
    uint32_t of_settings = others_wait ? budget / 2 : budget;
    budget -= of_settings;
    apply_some_settings(of_settings);
    const bool settings_left = of_settings == 0;
    budget += of_settings;
    if (!revoking_.done()) revoke_some(budget);
    if (draining_) drain_step(budget);
    if (!idling_.done()) close_idle_some(budget);
    if (!ending_.done()) ending_.advance(budget, [this](Index index) { return end_one(index); });
    if (!jobs_.empty() && budget > 0) jobs_.run(*this, io_.now(), budget);
    return settings_left || budget == 0;
}

// Of a reload: heartbeats, and policies for cohorts.
void Connections::apply_some_settings(uint32_t& budget) {
    if (!draining_ && io_.now() >= departures_due_at_) {
        // They have their times, and walks over all that follow have none.
        uint32_t of_departures = budget / 2;
        budget -= of_departures;
        send_some_away(of_departures);
        budget += of_departures;
    }
    if (retuning_.done() && io_.now() >= settle_look_at_) retuning_ = Sweep(table_.limit());
    while (budget > 0 && !retuning_.done()) retune_some(budget);
    if (!tuning_.done()) tuning_.advance(budget, [this](Index index) { return tune_one(index); });
    logins_.regroup_some(budget);
}

void Connections::revoke(std::string_view token_id) {
    authentication_.revoke(token_id);
    if (revoking_.done()) {
        revoking_ = Sweep(table_.limit());
    } else {
        revoke_again_ = true;
    }
}

void Connections::revoke_some(uint32_t& budget) {
    revoking_.advance(
        budget, [this](Index index) { return close_if_revoked(index) ? kEvictCost : kPassCost; });
    if (revoking_.done() && std::exchange(revoke_again_, false)) revoking_ = Sweep(table_.limit());
}

bool Connections::close_if_revoked(Index index) {
    if (!authentication_.has_revoked_token(index)) return false;
    metrics_.add(Metric::closed_by_revocation);
    Session(*this, index).refuse_token(AuthFailure::revoked);
    return true;
}

void Connections::reload(std::shared_ptr<const LoopOptions> options) {
    const std::shared_ptr<const Cohorts> cohorts = config_.options->cohorts;
    config_.options = std::move(options);
    if (config_.options->cohorts != cohorts) {
        set_cohorts();
        logins_.begin_regroup();
    }
    authentication_.use(*config_.options);
    set_logging();
    set_limits();
    set_idle();
    logins_.set_rules(make_reactor_config(config_.options).directory);
    if (retuning_.done()) begin_retune();
}

// A profile changes under the connections that have it: each is told (announcing.cc), so that none
// is judged by a promise that it was not given. Until it has the new heartbeats it keeps those that
// it knows, in the other of two places. Options that come in the meantime wait until none is left
// there, but for those that bring back what is there, as the end of a stretch that begins again; of
// several reloads the last counts.
void Connections::begin_retune() {
    const bool stretched = overload_step_ >= OverloadStep::stretch;
    const ReactorConfig fresh =
        make_reactor_config(config_.options, 1, stretched ? kOverloadStretch : 1);
    for (size_t profile = kProfileDefault; profile < kRetunedProfiles; ++profile)
        if (begin_retune_of(profile, fresh)) retuning_ = Sweep(table_.limit());
}

// True: its place is another now.
bool Connections::begin_retune_of(size_t profile, const ReactorConfig& fresh) {
    const auto is_at = [&](uint8_t place) {
        return fresh.profiles[profile] == config_.profiles[place] &&
               fresh.interval_ms[profile] == config_.interval_ms[place] &&
               fresh.timeout_ms[profile] == config_.timeout_ms[place];
    };
    uint8_t& place = profile_place_[profile];
    const uint8_t other = other_place(place);
    if (is_at(place) || (settling_[profile] && !is_at(other))) return false;
    place = other;
    config_.profiles[place] = fresh.profiles[profile];
    config_.interval_ms[place] = fresh.interval_ms[profile];
    config_.timeout_ms[place] = fresh.timeout_ms[profile];
    settling_[profile] = true;
    settles_at_[profile] = kNever;
    return true;
}

void Connections::retune_some(uint32_t& budget) {
    settle_look_at_ = kNever;
    retuning_.advance(budget, [this](Index index) { return retune_one(index); });
    if (retuning_.done()) end_retune();
}

uint32_t Connections::retune_one(Index index) {
    const Connection& connection = at(index);
    if (!is_live(connection.stage)) return kPassCost;
    const uint8_t told = place_told(index);
    const uint8_t wanted = place_of(profile_at(told));
    if (told != wanted) announce(index, wanted);
    const size_t profile = profile_at(connection.profile);
    if (connection.profile != place_of(static_cast<uint8_t>(profile))) unsettled_[profile] = true;
    return told != wanted ? kEvictCost : kPassCost;
}

// Whether any are left that do not have them yet is looked at soon, when most have, and when each
// has had one of its timeouts of before.
void Connections::end_retune() {
    settling_ &= std::exchange(unsettled_, {});
    for (size_t profile = kProfileDefault; profile < kRetunedProfiles; ++profile) {
        if (!settling_[profile]) continue;
        const uint8_t before = other_place(profile_place_[profile]);
        const Nanos timeout = config_.timeout_ms[before] * kMillisecond;
        Nanos& settles_at = settles_at_[profile];
        const Nanos soon = io_.now() + kSettleLookNs;
        settle_look_at_ =
            std::min(settle_look_at_, settles_at == kNever ? soon : std::max(soon, settles_at));
        if (settles_at == kNever || settles_at <= soon) settles_at = soon + timeout;
    }
    begin_retune();
}

// --------------------------------------------------------------------------------------- stopping

void Connections::drain() {
    if (!ready()) return;
    const Nanos delay = config_.options->drain_delay;
    drain_at_ = io_.clock() + delay;  // now() may be from before a pause of this thread
    if (delay == 0) begin_goodbyes();
}

void Connections::begin_goodbyes() {
    draining_ = true;
    logins_.stop_holding();
    // What the end of the server takes away anyway is not given up for overload.
    if (overload_step_ != OverloadStep::none) enter_overload(OverloadStep::none);
    drain_began_ = io_.clock();
    drain_total_ = table_.live();
    goodbyes_ = Sweep(table_.limit());
    // One walk over all, or where policies have an order one for each place in it.
    goodbyes_pass_ = counts_cohorts_ ? CohortPolicy::Drains::first : CohortPolicy::Drains::last;
    const Result<void> stopped = io_.listen({});
    PULSE_ASSERT(stopped);
}

Nanos Connections::draw_time_away(Nanos least) {
    const auto least_ms = static_cast<uint64_t>(least / kMillisecond);
    const uint64_t drawn = mix64(config_.probe_key[0] ^ ++retries_told_);
    const uint64_t more_ms = least_ms == 0 ? 0 : drawn % least_ms;
    return static_cast<Nanos>(least_ms + more_ms) * kMillisecond;
}

// Goodbyes are said at the pace of the config, or spread evenly over the first three quarters of
// the window, so that the peers do not all come back in one instant; what the pace has left by then
// is due at once, and the last of them has a quarter to take it. Where this thread was away for so
// long that goodbyes are late, the last quarter begins behind them; and where it was away in that
// quarter, what it has sent meanwhile is followed by FIN first.
void Connections::drain_step(uint32_t& budget) {
    if (table_.live() == 0 || window_over_) return;
    const Nanos elapsed = std::max<Nanos>(0, io_.now() - drain_began_);
    const Nanos window = config_.options->drain_timeout;  // a reload may have changed it
    if (goodbyes_took_ &&
        elapsed >=
            std::max(window, *goodbyes_took_ + std::min<Nanos>(window / 4, kCloseLingerNs))) {
        if (++turns_after_window_ < kTurnsAfterWindow) return;
        window_over_ = true;
        ending_ = Sweep(table_.limit());
        return;
    }
    const Nanos spread = std::max<Nanos>(1, window / 4 * 3);
    say_goodbyes(elapsed, spread, budget);
    const bool all = goodbyes_.done() || goodbyes_said_ == drain_total_;
    if (all && !goodbyes_took_) goodbyes_took_ = elapsed;
}

void Connections::say_goodbyes(Nanos elapsed, Nanos spread, uint32_t& budget) {
    const double share = std::min(1.0, static_cast<double>(elapsed) / static_cast<double>(spread));
    const auto due = static_cast<uint32_t>(std::ceil(share * drain_total_));
    SharedPace* const pace = config_.drain_pace;
    const bool paced = pace != nullptr && pace->per_second() > 0 && elapsed < spread;
    constexpr auto kLast = CohortPolicy::Drains::last;
    while (!goodbyes_.done() && budget > 0 && (paced || goodbyes_said_ < due)) {
        const Index index = goodbyes_.peek();
        const bool inside = is_live(at(index).stage) &&
                            (goodbyes_pass_ == kLast || drains_in(index, goodbyes_pass_));
        if (inside && paced && !pace->allows(io_.now())) return;
        goodbyes_.next();
        budget -= std::min(budget, inside ? kEvictCost : kPassCost);
        if (goodbyes_.done() && goodbyes_pass_ != kLast) {
            goodbyes_ = Sweep(table_.limit());
            goodbyes_pass_ =
                static_cast<CohortPolicy::Drains>(static_cast<int>(goodbyes_pass_) + 1);
        }
        if (!inside) continue;
        begin_close(index, CloseReason::going_away);
        ++goodbyes_said_;
    }
}

// All are reset from now on, those too that a drain's end would close in order.
void Connections::stop_hard() {
    if (!draining_) begin_goodbyes();
    stopping_hard_ = true;
    window_over_ = true;
    ending_ = Sweep(table_.limit());
}

// The window is over. A connection whose goodbye and FIN the kernel has taken is closed in order,
// however long its peer lingers: a reset could destroy the goodbye. Any other makes this a drain
// that was cut short.
uint32_t Connections::end_one(Index index) {
    const Connection& connection = at(index);
    if (connection.stage == Stage::free || connection.stage == Stage::closed) {
        return kPassCost;
    }
    const bool told = connection.stage == Stage::closing && (connection.flags & kFinished) != 0;
    if (!stopping_hard_) cut_short_ |= !told;
    const bool in_order = told && !stopping_hard_;
    close_socket(index, CloseReason::hard_stop, in_order ? CloseMode::orderly : CloseMode::reset);
    return kEvictCost;
}

}  // namespace pulse
