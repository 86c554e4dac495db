// Questions, answers and reports, and what they do to connections.
#include "net/loop/logins.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "net/loop/connections.h"
#include "net/loop/session.h"

namespace pulse {

namespace {

using Rejection = LoginAnswer::Verdict;

// Another secret than that which chooses shards, made from it.
SipKey table_key(const SipKey& key) { return {sip_hash(key, 0, 1), sip_hash(key, 1, 0)}; }

}  // namespace

Logins::Logins(const ReactorConfig& config, Connections& connections, ReactorMetrics& metrics,
               uint32_t places)
    : config_(config),
      connections_(connections),
      metrics_(metrics),
      directory_(config.directory, table_key(config.user_key)),
      book_(places + static_cast<uint32_t>(kLoginsWaitingMax)),
      mail_(config.mailboxes, config.sender) {}

Logins::Place Logins::place_of(std::string_view user) const {
    const uint64_t hash = sip_hash(config_.user_key, user);
    return {hash, static_cast<uint32_t>((hash >> 32) % mail_.reactors())};
}

// ---------------------------------------------------------------------------------------- logins

std::string_view Logins::reason_to_wait(Index index, const UserHello& hello) const {
    const Connection& connection = connections_.at(index);
    if (is_logged_in(connection) && book_.entry(connection.user).waiting)
        return "the hello before is not answered yet; wait for its welcome, and try again";
    if (waiting_.size() >= kLoginsWaitingMax && place_of(hello.user).shard != config_.number)
        return "too many logins wait; try again later";
    return {};
}

void Logins::begin(Index index, const UserHello& hello) {
    Connection& connection = connections_.at(index);
    const auto [user, shard] = place_of(hello.user);
    if (is_logged_in(connection) && !book_.entry(connection.user).is_of(user)) {
        // Its session ends, and it lives on: of its cohort that is no end.
        connections_.leave_cohort(book_.entry(connection.user).cohort, CloseReason::none);
        book_.set_cohort(connection.user, kNoCohort);
        ended(index, CloseReason::peer_closed);
    }
    const ConnectionId id = connections_.table().id(index);
    const SessionBook::Handle entry = book_.begin(is_logged_in(connection) ? connection.user : 0,
                                                  id, shard, user, connection.user);
    PULSE_ASSERT(entry != 0);  // one for each place, and for each login that waits
    connections_.leave_anonymous(index);
    connection.user = entry;
    const SessionHandle session = book_.entry(entry).session;
    if (shard == config_.number) {
        const LoginAnswer answer =
            judge({hello.user, hello.device, hello.labels, ref_of(id), session});
        take_answer(entry, answer, hello);
        return close_replaced(answer);
    }
    Waiting& waiting = waiting_[entry];
    waiting = {
        .texts = {std::string(hello.user), std::string(hello.device), std::string(hello.labels)},
        .sequence = hello.sequence,
        .asks_answer_every = hello.asks_answer_every,
        .is_quiet = hello.is_quiet};
    mail_.post(shard, {.body = Message::Login{ref_of(id), entry, session},
                       .payload = Payload::of(waiting.texts)});
}

void Logins::take_answer(SessionBook::Handle entry, const LoginAnswer& answer,
                         const UserHello& hello) {
    const SessionBook::Outcome outcome = book_.answered(entry, answer);
    const Index index = outcome.entry.connection.index;
    switch (outcome.step) {
        case SessionBook::Step::none:
            return;
        case SessionBook::Step::report:
            return report_end(outcome.entry);
        case SessionBook::Step::welcome:
            metrics_.add(answer.verdict == Rejection::refreshed ? Metric::logins_refreshed
                                                                : Metric::logins);
            connections_.join_cohort(index, answer.cohort, hello.is_quiet);
            if (hello.is_quiet) return connections_.send_away(index);
            Session(connections_, index).welcome_user(hello, answer);
            connections_.authentication().logged_in(index);
            return connections_.send_away(index);
        case SessionBook::Step::refuse:
            break;
    }
    const bool keeps_its_session = outcome.entry.session != 0;
    if (!keeps_its_session) {
        connections_.leave_cohort(outcome.entry.cohort, CloseReason::none);
        connections_.at(index).user = outcome.entry.accepted;
        connections_.authentication().not_logged_in(index);
    }
    refuse(index, answer.verdict, keeps_its_session);
    if (!connections_.counts_cohorts() || !is_live(connections_.at(index).stage)) return;
    // The hello was answered by no welcome, and took it out of its cohort.
    if (keeps_its_session)
        connections_.tune_again(index);
    else
        Session(connections_, index).send_interval();
}

// A refusal of what the rules forbid closes the connection, so that it does not stay as another
// one; of its second hello it does not: the session that it has goes on as it was.
void Logins::refuse(Index index, Rejection verdict, bool keeps_its_session) {
    Session session(connections_, index);
    switch (verdict) {
        case Rejection::duplicate:
            metrics_.add(Metric::logins_duplicate);
            return session.refuse_login(CloseReason::duplicate_login,
                                        "duplicate: this device of the user is logged in",
                                        !keeps_its_session);
        case Rejection::user_full:
            metrics_.add(Metric::logins_user_full);
            return session.refuse_login(CloseReason::user_full,
                                        "user_full: the user has as many sessions as it may have",
                                        !keeps_its_session);
        case Rejection::out_of_memory:
            metrics_.add(Metric::logins_out_of_memory);
            return session.refuse_login(CloseReason::out_of_memory,
                                        "out_of_memory: no room for this user; try again later",
                                        false);
        case Rejection::replaced:
            return connections_.begin_close(index, CloseReason::taken_over);
        case Rejection::accepted:
        case Rejection::refreshed:
            PULSE_ASSERT(false && "it is not refused");
    }
}

// ------------------------------------------------------------------------------------------- ends

void Logins::ended(Index index, CloseReason reason) {
    uint32_t& user = connections_.at(index).user;
    connections_.leave_cohort(book_.entry(user).cohort, reason);
    book_.set_cohort(user, kNoCohort);
    const SessionBook::Handle entry = std::exchange(user, book_.entry(user).accepted);
    const SessionBook::Outcome outcome = book_.ended(entry, reason);
    if (outcome.step == SessionBook::Step::report) report_end(outcome.entry);
}

void Logins::report_end(const SessionBook::Entry& entry) {
    const ConnectionRef connection = ref_of(entry.connection);
    if (entry.shard == config_.number) {
        directory_.logout(entry.session, connection, entry.reason, connections_.now());
    } else {
        mail_.post(entry.shard, {Message::SessionEnded{entry.session, connection, entry.reason}});
    }
}

bool Logins::set_suspect(Index index, bool suspect) {
    const SessionBook::Handle handle = connections_.at(index).user;
    const SessionBook::Entry& entry = book_.entry(handle);
    if (entry.session == 0 || entry.suspect == suspect) return true;
    const ConnectionRef connection = ref_of(entry.connection);
    if (entry.shard == config_.number) {
        directory_.set_suspect(entry.session, connection, suspect, connections_.now());
    } else if (!mail_.try_post(entry.shard,
                               {Message::SessionSuspect{entry.session, connection, suspect}})) {
        return false;
    }
    book_.told_suspect(handle, suspect);
    return true;
}

void Logins::close_replaced(const LoginAnswer& answer) {
    if (!answer.replaces) return;
    const Message::SessionTaken taken{answer.replaced.id, answer.replaced_session, config_.number};
    if (answer.replaced.reactor == config_.number) return handle(taken);
    mail_.post(answer.replaced.reactor, {taken});
}

// --------------------------------------------------------------------------------------- messages

void Logins::handle(const Message::Login& login, const LoginTexts& texts) {
    const LoginAnswer answer =
        judge({texts.user, texts.device, texts.labels, login.connection, login.session});
    mail_.post(login.connection.reactor,
               {Message::LoginAnswered{login.entry, answer.session, answer.verdict, answer.replaces,
                                       answer.cohort}});
    close_replaced(answer);
}

void Logins::handle(const Message::LoginAnswered& answered) {
    const auto waiting = waiting_.find(answered.entry);
    PULSE_ASSERT(waiting != waiting_.end());
    const auto [texts, sequence, asks_answer_every, is_quiet] = std::move(waiting->second);
    waiting_.erase(waiting);
    take_answer(answered.entry,
                {.verdict = answered.verdict,
                 .replaces = answered.replaces,
                 .session = answered.session,
                 .cohort = answered.cohort},
                {texts.user, texts.device, texts.labels, sequence, asks_answer_every, is_quiet});
}

void Logins::handle(const Message::SessionEnded& ended) {
    directory_.logout(ended.session, ended.connection, ended.reason, connections_.now());
}

void Logins::handle(const Message::SessionSuspect& suspect) {
    directory_.set_suspect(suspect.session, suspect.connection, suspect.suspect,
                           connections_.now());
}

void Logins::handle(const Message::SessionTaken& taken) {
    const Connection* const connection = connections_.find(taken.connection);
    if (connection == nullptr || !is_logged_in(*connection)) return;
    const SessionBook::Entry& entry = book_.entry(connection->user);
    if (entry.session != taken.session || entry.shard != taken.shard) return;
    book_.lost(connection->user);
    connections_.begin_close(taken.connection.index, CloseReason::taken_over);
}

// ---------------------------------------------------------------------------------------- cohorts

// The shard alone decides it: a login that it answers is in its walk, or comes after the policies.
Cohort Logins::cohort_of(std::string_view user, std::string_view labels) const {
    const Cohorts* const cohorts = config_.options->cohorts.get();
    return cohorts == nullptr ? kRestCohort : cohorts->of(user, labels);
}

// What this shard says to a login, by the rules of the user's cohort.
LoginAnswer Logins::judge(Login login) {
    const Cohort cohort = cohort_of(login.user, login.labels);
    if (cohort > kRestCohort)
        login.sessions_max = config_.options->cohorts->policy(cohort)->sessions_max;
    LoginAnswer answer = directory_.login(login, connections_.now());
    answer.cohort = cohort;
    return answer;
}

void Logins::regroup_some(uint32_t& budget) {
    regroup_waits_ = false;
    while (regroup_next_ != 0 && budget > 0) {
        if (regroup_next_ > directory_.last_user()) {
            regroup_next_ = 0;
            return;
        }
        budget -= std::min(budget, kPassCost);
        const Directory::User* const user = directory_.user(regroup_next_);
        // One whose sessions found no room is told again from the first: once more is once.
        regroup_waits_ = user != nullptr && !regroup(*user, budget);
        if (regroup_waits_) return;
        ++regroup_next_;
    }
}

bool Logins::regroup(const Directory::User& user, uint32_t& budget) {
    // Telling one of this reactor may end any session, for the memory of a goodbye, and its user.
    struct Told {
        uint32_t reactor;
        Message::Regroup regroup;
    };
    std::array<Told, kSessionsPerUserMax> told;
    size_t count = 0;
    const std::string_view name = directory_.text(user.name);
    for (SessionHandle at = user.first; at != 0; at = directory_.session(at).next) {
        const Directory::Session& session = directory_.session(at);
        const Cohort cohort = cohort_of(name, directory_.text(session.labels));
        told[count++] = {session.reactor, {session.connection, at, config_.number, cohort}};
    }
    // Else a user whose lane is full, told again from the first, would never be told whole.
    static_assert(kSessionsPerUserMax <= kMailboxSlots);
    for (const Told& each : std::span(told).first(count)) {
        budget -= std::min(budget, kEvictCost);
        if (each.reactor == config_.number)
            handle(each.regroup);
        else if (!mail_.try_post(each.reactor, {each.regroup}))
            return false;
    }
    return true;
}

void Logins::handle(const Message::Regroup& regroup) {
    const Connection* const connection = connections_.find(regroup.connection);
    if (connection == nullptr || !is_logged_in(*connection)) return;
    const SessionBook::Entry& entry = book_.entry(connection->user);
    if (entry.session != regroup.session || entry.shard != regroup.shard) return;
    connections_.move_to_cohort(regroup.connection.index, regroup.cohort);
}

// ----------------------------------------------------------------------------------------- a turn

bool Logins::advance() {
    const bool more = directory_.advance(connections_.now(), kLingerBudgetPerTurn);
    const bool posted = mail_.deliver();
    const bool waits = !mail_.empty() || regroup_waits_;
    retry_at_ = waits ? connections_.now() + kMailRetryNs : kNever;
    count();
    return more || (posted && !mail_.empty());
}

Nanos Logins::next_deadline() const { return std::min(directory_.next_deadline(), retry_at_); }

// The directory counts for itself; what has grown since the turn before is the reactor's.
void Logins::count() {
    const Directory::Counts& now = directory_.counts();
    const auto add = [this](Metric metric, uint64_t value, uint64_t& counted) {
        if (value != counted) metrics_.add(metric, value - std::exchange(counted, value));
    };
    add(Metric::takeovers, now.takeovers, counted_.takeovers);
    add(Metric::presence_blips, now.blips, counted_.blips);
    add(Metric::stale_reports, now.stale, counted_.stale);
    add(Metric::mail_delayed, mail_.delayed(), delayed_counted_);
}

void Logins::fill(Gauges& gauges) const {
    const Directory::Counts& counts = directory_.counts();
    gauges.sessions = counts.sessions;
    gauges.users = counts.users;
    gauges.users_suspect = counts.suspects;
    gauges.users_lingering = counts.lingering;
    gauges.users_offline = counts.offline;
    gauges.logins_waiting = waiting_.size();
    gauges.sessions_bytes = directory_.bytes() + book_.bytes();
}

}  // namespace pulse
