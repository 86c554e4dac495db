// Questions, answers and reports, and what they do to connections.
#include "net/loop/logins.h"

#include <algorithm>
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
    if (is_logged_in(connection) && !book_.entry(connection.user).is_of(user))
        ended(index, CloseReason::peer_closed);
    const ConnectionId id = connections_.table().id(index);
    const SessionBook::Handle entry = book_.begin(is_logged_in(connection) ? connection.user : 0,
                                                  id, shard, user, connection.user);
    PULSE_ASSERT(entry != 0);  // one for each place, and for each login that waits
    connection.user = entry;
    const SessionHandle session = book_.entry(entry).session;
    if (shard == config_.number) {
        const LoginAnswer answer = directory_.login(
            {hello.user, hello.device, hello.labels, ref_of(id), session}, connections_.now());
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
            if (hello.is_quiet) return;
            Session(connections_, index).welcome_user(hello, answer);
            return connections_.authentication().logged_in(index);
        case SessionBook::Step::refuse:
            break;
    }
    const bool keeps_its_session = outcome.entry.session != 0;
    if (!keeps_its_session) {
        connections_.at(index).user = outcome.entry.accepted;
        connections_.authentication().not_logged_in(index);
    }
    refuse(index, answer.verdict, keeps_its_session);
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
        directory_.login({texts.user, texts.device, texts.labels, login.connection, login.session},
                         connections_.now());
    mail_.post(login.connection.reactor, {Message::LoginAnswered{login.entry, answer.session,
                                                                 answer.verdict, answer.replaces}});
    close_replaced(answer);
}

void Logins::handle(const Message::LoginAnswered& answered) {
    const auto waiting = waiting_.find(answered.entry);
    PULSE_ASSERT(waiting != waiting_.end());
    const auto [texts, sequence, asks_answer_every, is_quiet] = std::move(waiting->second);
    waiting_.erase(waiting);
    take_answer(
        answered.entry,
        {.verdict = answered.verdict, .replaces = answered.replaces, .session = answered.session},
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

// ----------------------------------------------------------------------------------------- a turn

bool Logins::advance() {
    const bool more = directory_.advance(connections_.now(), kLingerBudgetPerTurn);
    const bool posted = mail_.deliver();
    retry_at_ = mail_.empty() ? kNever : connections_.now() + kMailRetryNs;
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
