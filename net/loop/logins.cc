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
      mail_(config.mailboxes, config.sender),
      resumption_(config, metrics) {}

Logins::Place Logins::place_of(std::string_view user) const {
    const uint64_t hash = sip_hash(config_.user_key, user);
    return {hash, static_cast<uint32_t>((hash >> 32) % mail_.reactors())};
}

// ---------------------------------------------------------------------------------------- logins

std::string_view Logins::reason_to_wait(Index index, const UserHello& hello) const {
    const Connection& connection = connections_.at(index);
    if (is_logged_in(connection) && book_.entry(connection.user).waiting)
        return "the hello before is not answered yet; wait for its welcome, and try again";
    const bool waits = hello.resume.wanted || place_of(hello.user).shard != config_.number;
    if (waits && waiting_.size() >= kLoginsWaitingMax)
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
        resumption_.detach(index);  // it is not waited for: its client is another user now
        ended(index, CloseReason::peer_closed);
    }
    const ConnectionId id = connections_.table().id(index);
    const SessionBook::Handle entry = book_.begin(is_logged_in(connection) ? connection.user : 0,
                                                  id, shard, user, connection.user);
    PULSE_ASSERT(entry != 0);  // one for each place, and for each login that waits
    connections_.leave_anonymous(index);
    connection.user = entry;
    const SessionHandle session = book_.entry(entry).session;
    // Of a session that goes on there is nothing to be resumed.
    const bool resumes = hello.resume.wanted && resumption_.on() && session == 0;
    if (shard == config_.number && !resumes) {
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
        .is_quiet = hello.is_quiet,
        .seen = hello.seen};
    if (resumes) waiting.texts.resume = hello.resume;
    const Message::Login login{ref_of(id), entry, session};
    if (shard == config_.number) return serve(login, waiting.texts);
    mail_.post(shard, {.body = login, .payload = Payload::of(waiting.texts)});
}

void Logins::take_answer(SessionBook::Handle entry, const LoginAnswer& answer,
                         const UserHello& hello, Parcel parcel, Parcel left) {
    const SessionBook::Outcome outcome = book_.answered(entry, answer);
    const Index index = outcome.entry.connection.index;
    switch (outcome.step) {
        case SessionBook::Step::none:
            return;
        case SessionBook::Step::report:
            // One that is new is known to no client.
            if (parcel && parcel->resumed && is_resumable(outcome.entry.reason))
                left = std::move(parcel);
            return report_end(outcome.entry, std::move(left));
        case SessionBook::Step::welcome:
            return welcome(index, hello, answer, std::move(parcel));
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

void Logins::welcome(Index index, const UserHello& hello, const LoginAnswer& answer,
                     Parcel parcel) {
    metrics_.add(answer.verdict == Rejection::refreshed ? Metric::logins_refreshed
                                                        : Metric::logins);
    connections_.join_cohort(index, answer.cohort, hello.is_quiet);
    if (hello.is_quiet) return connections_.send_away(index);
    std::optional<ResumeWelcome> resumable;
    if (parcel)
        resumable = resumption_.attach(index, answer.session, connections_.at(index).protocol,
                                       hello.seen, std::move(*parcel));
    Session session(connections_, index);
    session.welcome_user(hello, answer, resumable ? &*resumable : nullptr);
    connections_.authentication().logged_in(index);
    if (resumable && resumable->resumed) session.send_again();
    connections_.send_away(index);
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
        case Rejection::resumed:
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
    Parcel parcel;
    if (resumption_.any()) parcel = resumption_.detach(index);
    // Unless what it may be resumed by is over with it.
    if (index != resuming_ && !is_resumable(reason)) parcel.reset();
    if (outcome.step == SessionBook::Step::report)
        report_end(outcome.entry, std::move(parcel));
    else if (const auto waiting = waiting_.find(entry); waiting != waiting_.end())
        waiting->second.left = std::move(parcel);
}

void Logins::report_end(const SessionBook::Entry& entry, Parcel parcel) {
    const ConnectionRef connection = ref_of(entry.connection);
    if (entry.shard == config_.number)
        return session_ended(entry.session, connection, entry.reason, std::move(parcel));
    Message message{Message::SessionEnded{entry.session, connection, entry.reason}};
    if (parcel) message.payload = Payload::of(resumption_.keep_sent(std::move(*parcel)));
    mail_.post(entry.shard, message);
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
    take_away(answer.replaced, answer.replaced_session, false);
}

// --------------------------------------------------------------------------------------- messages

void Logins::handle(const Message::Login& login, const LoginTexts& texts) { serve(login, texts); }

void Logins::handle(const Message::LoginAnswered& answer, const Payload& payload) {
    Parcel parcel;
    if (payload.present()) parcel = payload.as<SentParcel>().take();
    answered(answer.entry,
             {.verdict = answer.verdict,
              .replaces = answer.replaces,
              .session = answer.session,
              .cohort = heard_cohort(answer.cohort, answer.cohort_number).value_or(kRestCohort)},
             std::move(parcel));
}

void Logins::answered(SessionBook::Handle entry, const LoginAnswer& answer, Parcel parcel) {
    const auto at = waiting_.find(entry);
    PULSE_ASSERT(at != waiting_.end());
    Waiting waiting = std::move(at->second);
    waiting_.erase(at);
    const LoginTexts& texts = waiting.texts;
    take_answer(entry, answer,
                {.user = texts.user,
                 .device = texts.device,
                 .labels = texts.labels,
                 .sequence = waiting.sequence,
                 .asks_answer_every = waiting.asks_answer_every,
                 .is_quiet = waiting.is_quiet,
                 .seen = waiting.seen},
                std::move(parcel), std::move(waiting.left));
}

void Logins::handle(const Message::SessionEnded& ended, const Payload& payload) {
    Parcel parcel;
    if (payload.present()) parcel = payload.as<SentParcel>().take();
    session_ended(ended.session, ended.connection, ended.reason, std::move(parcel));
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
    if (taken.resumes) {
        resuming_ = taken.connection.index;
    } else {
        book_.lost(connection->user);
        resumption_.detach(taken.connection.index);
    }
    connections_.begin_close(taken.connection.index, CloseReason::taken_over);
    resuming_ = kNoIndex;
}

// --------------------------------------------------------------------------------------- resuming

// A login at this shard, of whichever reactor's connection. It is answered at once, but where the
// session that it names is not home yet.
void Logins::serve(const Message::Login& login, const LoginTexts& texts) {
    const ResumeAsk& ask = texts.resume;
    Resumption::Session* const named = ask.names_session ? resumption_.find(ask) : nullptr;
    const bool is_its_user =
        named != nullptr &&
        directory_.text(directory_.user(directory_.session(ask.session).user)->name) == texts.user;
    if (is_its_user) return resume(*named, login, texts);
    const LoginAnswer answer =
        judge({texts.user, texts.device, texts.labels, login.connection, login.session});
    Parcel parcel;
    if (ask.wanted && answer.verdict == Rejection::accepted) {
        parcel = resumption_.create(answer.session, login.connection);
        if (ask.names_session) parcel->miss = ResumeParcel::Miss::unknown;
    }
    give_answer(login.connection, login.entry, answer, std::move(parcel));
    close_replaced(answer);
}

// The session is this connection's from now on; what it is resumed by follows, once it is home.
void Logins::resume(Resumption::Session& session, const Message::Login& login,
                    const LoginTexts& texts) {
    const SessionHandle handle = texts.resume.session;
    const bool is_fetched = session.waiter.has_value();
    give_up_waiter(session);
    directory_.adopt(handle, login.connection, connections_.now());
    LoginAnswer answer =
        judge({texts.user, texts.device, texts.labels, login.connection, handle});
    // There is no room for other labels: it keeps those that it has.
    if (answer.verdict == Rejection::out_of_memory) answer.session = handle;
    if (answer.session == 0) {  // it names another device, and that is one too many
        if (!session.held && !is_fetched) take_away(session.holder, handle, false);
        forget(handle);
        directory_.logout(handle, login.connection, CloseReason::duplicate_login,
                          connections_.now());
        return give_answer(login.connection, login.entry, answer);
    }
    answer.verdict = Rejection::resumed;
    if (session.held) {
        session.holder = login.connection;
        give_answer(login.connection, login.entry, answer,
                    resumption_.release(handle, connections_.now()));
    } else {
        session.waiter = {login.connection, login.entry, answer};
        if (!is_fetched) take_away(session.holder, handle, true);
    }
    close_replaced(answer);
}

// Has the connection closed that the session is with. With `resumes` what it is resumed by comes
// home; where the connection has ended already, that is on its way.
void Logins::take_away(const ConnectionRef& holder, SessionHandle session, bool resumes) {
    const Message::SessionTaken taken{holder.id, session, config_.number, resumes};
    if (holder.reactor != config_.number) return mail_.post(holder.reactor, {taken});
    // The connection may have to be told first that it has the session.
    if (own_posts_.empty()) return handle(taken);
    own_posts_.push_back({.taken = taken});
}

void Logins::give_answer(const ConnectionRef& to, uint32_t entry, const LoginAnswer& answer,
                         Parcel parcel) {
    if (to.reactor == config_.number) {
        own_posts_.push_back({.entry = entry, .answer = answer, .parcel = std::move(parcel)});
        return;
    }
    Message message{Message::LoginAnswered{entry, answer.session, answer.verdict, answer.replaces,
                                           answer.cohort, number_of_cohort(answer.cohort)}};
    if (parcel) message.payload = Payload::of(resumption_.keep_sent(std::move(*parcel)));
    mail_.post(to.reactor, message);
}

void Logins::give_own() {
    while (!own_posts_.empty()) {
        OwnPost own = std::move(own_posts_.front());
        own_posts_.pop_front();
        if (own.entry == 0) {
            handle(own.taken);
            continue;
        }
        // Policies may have changed in this turn, and the main thread know that this reactor lets
        // none into what they took back. The walk that follows tells its cohort.
        Cohort& cohort = own.answer.cohort;
        cohort = heard_cohort(cohort, number_of_cohort(cohort)).value_or(kRestCohort);
        answered(own.entry, own.answer, std::move(own.parcel));
    }
}

// Another connection of the same client has come meanwhile.
void Logins::give_up_waiter(Resumption::Session& session) {
    const std::optional<Resumption::Waiter> waiter = std::exchange(session.waiter, std::nullopt);
    if (waiter) give_answer(waiter->connection, waiter->entry, {.verdict = Rejection::replaced});
}

// Requires: a login waits for it.
void Logins::came_home(SessionHandle handle, Resumption::Session& session, Parcel parcel) {
    Resumption::Waiter waiter = *std::exchange(session.waiter, std::nullopt);
    const Directory::Session& own = directory_.session(handle);
    waiter.answer.cohort = cohort_of(directory_.text(directory_.user(own.user)->name),
                                     directory_.text(own.labels));  // policies may have changed
    session.holder = waiter.connection;
    if (!parcel) {  // an operator has closed it meanwhile
        parcel.emplace();
        parcel->secret = session.secret;
        parcel->miss = ResumeParcel::Miss::ended;
    }
    give_answer(waiter.connection, waiter.entry, waiter.answer, std::move(parcel));
}

void Logins::session_ended(SessionHandle handle, const ConnectionRef& connection,
                           CloseReason reason, Parcel parcel) {
    Resumption::Session* const session = resumption_.find(handle);
    if (session != nullptr && session->holder == connection) {
        if (session->waiter) return came_home(handle, *session, std::move(parcel));
        if (parcel && holds_) {
            directory_.set_suspect(handle, connection, true, connections_.now());
            const SessionHandle over =
                resumption_.hold(handle, reason, *parcel, connections_.now());
            return over == 0 ? void() : end_held(over);
        }
        forget(handle);
    }
    directory_.logout(handle, connection, reason, connections_.now());
}

// The session is over, whether or not it can be resumed.
void Logins::forget(SessionHandle handle) {
    Resumption::Session* const session = resumption_.find(handle);
    if (session == nullptr) return;
    give_up_waiter(*session);
    resumption_.erase(handle);
}

void Logins::end_held(SessionHandle handle) {
    const Resumption::Session& session = *resumption_.find(handle);
    const ConnectionRef holder = session.holder;
    const CloseReason reason = session.reason;
    metrics_.add(Metric::resume_over);
    resumption_.erase(handle);
    directory_.logout(handle, holder, reason, connections_.now());
}

// Returns whether some are left.
bool Logins::end_held_due(uint32_t budget) {
    for (;;) {
        const SessionHandle over = resumption_.next_over(connections_.now(), !holds_);
        if (over == 0) return false;
        if (budget-- == 0) return true;
        end_held(over);
    }
}

// ---------------------------------------------------------------------------------------- cohorts

// The shard alone decides it: a login that it answers is in its walk, or comes after the policies.
Cohort Logins::cohort_of(std::string_view user, std::string_view labels) const {
    const Cohorts* const cohorts = config_.options->cohorts.get();
    return cohorts == nullptr ? kRestCohort : cohorts->of(user, labels);
}

uint32_t Logins::number_of_cohort(Cohort cohort) const {
    const Cohorts* const cohorts = config_.options->cohorts.get();
    return cohorts == nullptr ? 0 : static_cast<uint32_t>(cohorts->number(cohort));
}

// A cohort that a shard has named, under the policies that the shard knew. Of a policy that this
// reactor has not learnt of yet it keeps the cohort, without an effect until it does
// (Connections::is_known). Empty: it was taken back since; the shard is about to learn that, too,
// and tells all of its sessions again.
std::optional<Cohort> Logins::heard_cohort(Cohort cohort, uint32_t number) const {
    if (cohort <= kRestCohort) return cohort;
    const uint32_t known = number_of_cohort(cohort);
    if (static_cast<int32_t>(number - known) > 0) return cohort;
    const bool holds = number == known && config_.options->cohorts->in_force(cohort);
    return holds ? std::optional(cohort) : std::nullopt;
}

// What this shard says to a login, by the rules of the user's cohort.
LoginAnswer Logins::judge(Login login) {
    const Cohort cohort = cohort_of(login.user, login.labels);
    if (cohort > kRestCohort)
        login.sessions_max = config_.options->cohorts->policy(cohort)->sessions_max;
    LoginAnswer answer = directory_.login(login, connections_.now());
    // One that is here goes before those that are waited for.
    for (uint32_t left = kForgottenPerLogin; left > 0; --left) {
        if (answer.verdict != Rejection::out_of_memory) break;
        const SessionHandle over = resumption_.next_over(connections_.now(), true);
        if (over == 0 || over == login.session) break;
        end_held(over);
        answer = directory_.login(login, connections_.now());
    }
    answer.cohort = cohort;
    // Before the place of what it replaces is known by the session that may have it now.
    if (answer.replaces) forget(answer.replaced_session);
    return answer;
}

void Logins::regroup_some(uint32_t& budget) {
    regroup_waits_ = false;
    give_own();
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
        told[count++] = {session.reactor, {session.connection, at, config_.number, cohort,
                                           number_of_cohort(cohort)}};
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
    const std::optional<Cohort> cohort = heard_cohort(regroup.cohort, regroup.cohort_number);
    if (cohort) connections_.move_to_cohort(regroup.connection.index, *cohort);
}

// ----------------------------------------------------------------------------------------- a turn

bool Logins::advance() {
    give_own();
    bool more = end_held_due(kLingerBudgetPerTurn);
    more |= directory_.advance(connections_.now(), kLingerBudgetPerTurn);
    more |= !own_posts_.empty();
    const bool posted = mail_.deliver();
    const bool waits = !mail_.empty() || regroup_waits_;
    retry_at_ = waits ? connections_.now() + kMailRetryNs : kNever;
    count();
    return more || (posted && !mail_.empty());
}

Nanos Logins::next_deadline() const {
    return std::min({directory_.next_deadline(), retry_at_, resumption_.next_deadline()});
}

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
    gauges.resume_held = resumption_.held();
    gauges.resume_bytes = resumption_.bytes();
    gauges.sessions_bytes = directory_.bytes() + book_.bytes();
}

}  // namespace pulse
