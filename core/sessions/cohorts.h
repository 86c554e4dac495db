// Cohorts: users that are treated otherwise than the rest, by policies that an operator gives.
//
//     ring=canary,10%: profile=mobile message-rate=20/s
//     labels, a share  effects
//
// A policy is for the sessions that have all of its labels, of a share of the users. The first that
// is for a session has it; what none has is the rest, a cohort of its own to compare with. An
// anonymous connection has no labels, and the name of the connection in place of the user's. Pure.
//
// Which users are in a share is decided by a hash of the name under one of the labels: the same in
// every server and after each restart, independent of policies with other labels, and growing: a
// user in 10 % is also in 20 %.
//
// A policy keeps its cohort for as long as it is among those of the operator, whatever comes before
// or behind it. Reactors learn of a change one after the other, and what a session's cohort is may
// be a message on its way; so a cohort is given again once no session can be in it any more
// (net/loop/cohort_use.h), and messages also have the number of its policy.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "core/rate_limiter.h"
#include "core/types.h"

namespace pulse {

struct CohortPolicy {
    std::string text{};                 // as it was given
    std::vector<std::string> labels{};  // each as sessions keep them: "ring=canary"
    uint32_t share = kCohortShares;     // of kCohortShares
    // Effects.
    std::string profile{};      // of heartbeats; empty: what the hello asked for
    RateLimit message_rate{};   // of a connection; 0 events: that of the server
    uint32_t sessions_max = 0;  // of a user; 0: that of the server
    std::string move_to{};      // a URI of another server, to which its connections are sent
    // Those that live already are sent evenly over so long; 0: at once; nullopt: by default.
    std::optional<Nanos> move_over{};
    // When its connections are sent a drain's goodbyes.
    enum class Drains : uint8_t { first, with_the_rest, last };
    Drains drains = Drains::with_the_rest;

    // `labels` is what a session keeps: "region=eu ring=canary".
    bool is_for(std::string_view user, std::string_view labels) const;
};

// Where in the shares a user is, for policies of these labels: below kCohortShares.
uint32_t cohort_place(const std::vector<std::string>& labels, std::string_view user);

using Cohort = uint8_t;
inline constexpr Cohort kNoCohort = 0;    // it is not known yet, or none is counted
inline constexpr Cohort kRestCohort = 1;  // no policy is for it
// Cohorts by their bits.
using CohortSet = uint32_t;
static_assert(kCohortsMax <= 32);
constexpr CohortSet set_of(Cohort cohort) { return CohortSet{1} << cohort; }

// The policies of an operator, in their order, and which cohort each has. Never changes.
class Cohorts {
  public:
    struct Member {
        uint64_t number = 0;  // 1 for the first policy of a server, and so on; 0: none yet
        CohortPolicy policy;
        bool in_force = false;
    };

    Cohorts() = default;
    // Those that follow `before`; new ones are put into `free`. Requires: at most kPoliciesMax, no
    // text twice, and before.has_room_for(policies, free).
    Cohorts(const Cohorts& before, const std::vector<CohortPolicy>& policies, CohortSet free);
    // The same where no session is in one that was taken back.
    Cohorts(const Cohorts& before, const std::vector<CohortPolicy>& policies)
        : Cohorts(before, policies, before.free(before.changes(), 0)) {}
    // Which may be given to a new policy, where all reactors have learnt of so many changes and
    // have sessions in `held`.
    CohortSet free(uint64_t learned, CohortSet held) const;
    bool has_room_for(const std::vector<CohortPolicy>& policies, CohortSet free) const;

    Cohort of(std::string_view user, std::string_view labels) const;
    // nullptr: it is none of a policy, or of one that was never given.
    const CohortPolicy* policy(Cohort cohort) const {
        return members_[cohort].number == 0 ? nullptr : &members_[cohort].policy;
    }
    uint64_t number(Cohort cohort) const { return members_[cohort].number; }
    bool in_force(Cohort cohort) const { return members_[cohort].in_force; }
    // A policy in force has no labels, so that it may be for anonymous connections, too.
    bool has_share_of_all() const;
    // How many Cohorts were before these.
    uint64_t changes() const { return changes_; }
    // Cohorts of policies in force, in their order.
    const std::vector<Cohort>& order() const { return order_; }

  private:
    Cohort in_force_with(std::string_view text) const;
    Cohort oldest_of(CohortSet free) const;

    std::array<Member, kCohortsMax> members_;
    std::array<uint64_t, kCohortsMax> freed_{};  // when it was given back, by changes()
    std::vector<Cohort> order_;
    uint64_t numbers_ = 0;
    uint64_t changes_ = 0;
};

// What is compared, of one cohort of one reactor, since it has its policy; of the rest, since there
// are policies. By time that sessions lasted, cohorts of any size and age compare.
struct CohortCounts {
    uint64_t number = 0;      // Cohorts::number
    uint64_t sessions = 0;    // now, anonymous connections included
    uint64_t session_ms = 0;  // together, until `at`
    Nanos at = 0;
    uint64_t joined = 0;  // logins, and sessions that a change brought
    uint64_t heartbeats = 0;
    uint64_t probes = 0;   // that were sent
    uint64_t ended = 0;    // sessions whose connection ended, for any reason
    uint64_t evicted = 0;  // of them, for silence
    uint64_t limited = 0;  // of them, for too many messages

    // Time that has passed is that of so many sessions. `now` never moves back.
    void count_time(Nanos now) {
        const int64_t passed_ms = now / kMillisecond - at / kMillisecond;
        session_ms += sessions * static_cast<uint64_t>(passed_ms);
        at = now;
    }
    // The same cohort of another reactor.
    CohortCounts& operator+=(const CohortCounts& other) {
        sessions += other.sessions;
        session_ms += other.session_ms;
        joined += other.joined;
        heartbeats += other.heartbeats;
        probes += other.probes;
        ended += other.ended;
        evicted += other.evicted;
        limited += other.limited;
        return *this;
    }
};

}  // namespace pulse
