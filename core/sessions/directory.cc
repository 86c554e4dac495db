// Logins, ends, takeovers, lingering: the changes of one shard.
#include "core/sessions/directory.h"

#include <cstdint>
#include <utility>

namespace pulse {

namespace {

using Kind = PresenceChange::Kind;
using Verdict = LoginAnswer::Verdict;

uint32_t seconds(Nanos at) { return static_cast<uint32_t>(at / kSecond); }

}  // namespace

Directory::Directory(const DirectoryConfig& config, const SipKey& key)
    : config_(config),
      texts_(key, config.text_bytes_max),
      users_(config.users_max),
      sessions_(config.sessions_max),
      stream_(texts_, config.changes_kept) {
    PULSE_ASSERT(config.same_device_max >= 1 && config.per_user_max >= 1 &&
                 config.per_user_max <= kSessionsPerUserMax);
}

void Directory::set_rules(const DirectoryConfig& config) {
    config_.duplicate = config.duplicate;
    config_.same_device_max = config.same_device_max;
    config_.per_user_max = config.per_user_max;
    config_.linger = config.linger;
}

// ----------------------------------------------------------------------------------------- login

LoginAnswer Directory::login(const Login& login, Nanos now) {
    PULSE_ASSERT(!login.user.empty() && login.user.size() <= kUserBytesMax &&
                 login.device.size() <= kDeviceBytesMax);
    if (login.session != 0 && !is_of(login.session, login.connection)) {
        ++counts_.rejected;
        return {.verdict = Verdict::replaced};
    }
    Session wanted;
    wanted.connection = login.connection.id;
    wanted.reactor = static_cast<uint16_t>(login.connection.reactor);
    LoginAnswer answer{.verdict = Verdict::out_of_memory};
    if (!hold(login.device, wanted.device)) return answer;
    if (!hold(login.labels, wanted.labels)) {
        texts_.drop(wanted.device);
        return answer;
    }
    PULSE_ASSERT(login.session == 0 ||
                 texts_.text(users_[sessions_[login.session].user].name) == login.user);
    const TextStore::Handle name = texts_.find(login.user);
    uint32_t user = name == 0 ? 0 : texts_.mark(name);
    if (user == 0) user = create_user(login.user);
    if (user != 0) {
        const SessionHandle own = session_of(users_[user], login.connection);
        const uint32_t most = login.sessions_max != 0 ? login.sessions_max : config_.per_user_max;
        answer = own != 0 ? refresh(own, wanted, now) : admit(user, wanted, most, now);
        if (answer.session != 0) return answer;
        if (users_[user].generation == 0) forget(user);  // it was made for this login
    }
    texts_.drop(wanted.device);
    texts_.drop(wanted.labels);
    ++counts_.rejected;
    return answer;
}

// The text, if need be in place of users that were offline for longest.
bool Directory::hold(std::string_view text, TextStore::Handle& handle) {
    for (uint32_t forgotten = 0; !texts_.hold(text, handle); ++forgotten) {
        if (forgotten == kForgottenPerLogin || offline_.first == 0) return false;
        forget(offline_.first);
    }
    return true;
}

// A user without a generation yet, in no queue; 0 if there is no room.
uint32_t Directory::create_user(std::string_view name) {
    TextStore::Handle held = 0;
    if (!hold(name, held)) return 0;
    uint32_t user = users_.take();
    if (user == 0 && offline_.first != 0) {
        forget(offline_.first);
        user = users_.take();
    }
    if (user == 0) {
        texts_.drop(held);
        return 0;
    }
    users_[user].name = held;
    texts_.mark(held) = user;
    return user;
}

void Directory::forget(uint32_t user) {
    User& forgotten = users_[user];
    PULSE_ASSERT(forgotten.presence == Presence::offline && forgotten.first == 0);
    if (forgotten.generation != 0) {
        unlink(offline_, user);
        --counts_.offline;
    }
    texts_.mark(forgotten.name) = 0;
    texts_.drop(std::exchange(forgotten.name, 0));
    users_.release(user);
}

SessionHandle Directory::session_of(const User& user, const ConnectionRef& connection) const {
    SessionHandle session = user.first;
    while (session != 0 && sessions_[session].ref() != connection)
        session = sessions_[session].next;
    return session;
}

LoginAnswer Directory::refresh(SessionHandle session, const Session& wanted, Nanos now) {
    Session& own = sessions_[session];
    LoginAnswer answer;
    // It does not come, and so is not one too many.
    if (own.device != wanted.device) answer = decide(users_[own.user], wanted.device, UINT32_MAX);
    if (answer.verdict != Verdict::accepted) return answer;
    if (answer.replaces) take_over(own.user, answer.replaced);
    const bool changed = own.device != wanted.device || own.labels != wanted.labels;
    texts_.drop(std::exchange(own.device, wanted.device));
    texts_.drop(std::exchange(own.labels, wanted.labels));
    users_[own.user].seen_at = now;
    if (changed) change(own.user, Kind::refreshed, own, now);
    say_suspect(own.user, own, now);
    answer.verdict = Verdict::refreshed;
    answer.session = session;
    return answer;
}

// Which session gives way to one more of `device`, if there may be one: of a user that may have
// `limit` of them.
LoginAnswer Directory::decide(const User& user, TextStore::Handle device, uint32_t limit) const {
    uint32_t same = 0;
    SessionHandle oldest = 0, suspect = 0;
    for (SessionHandle at = user.first; at != 0; at = sessions_[at].next) {
        if (sessions_[at].device != device) continue;
        ++same;
        if (oldest == 0) oldest = at;
        if (suspect == 0 && sessions_[at].suspect) suspect = at;
    }
    const uint32_t most = config_.duplicate == DuplicateRule::allow ? config_.same_device_max : 1;
    LoginAnswer answer;
    if (same >= most) {
        if (config_.duplicate == DuplicateRule::reject) oldest = suspect;
        if (oldest == 0) return {.verdict = Verdict::duplicate};
        answer.replaces = true;
        answer.replaced = sessions_[oldest].ref();
        answer.replaced_session = oldest;
    }
    if (!answer.replaces && user.sessions >= limit) return {.verdict = Verdict::user_full};
    return answer;
}

LoginAnswer Directory::admit(uint32_t user, const Session& wanted, uint32_t most, Nanos now) {
    LoginAnswer answer = decide(users_[user], wanted.device, most);
    if (answer.verdict != Verdict::accepted) return answer;
    if (answer.replaces) take_over(user, answer.replaced);  // so that there is a place for it
    answer.session = sessions_.take();
    if (answer.session == 0) return {.verdict = Verdict::out_of_memory};
    Session& session = sessions_[answer.session];
    session = wanted;
    session.user = user;
    session.since_s = seconds(now);
    append(user, answer.session);
    users_[user].seen_at = now;
    announce(user, session, answer.replaces, now);
    return answer;
}

void Directory::take_over(uint32_t user, const ConnectionRef& connection) {
    remove(session_of(users_[user], connection));
    ++counts_.takeovers;
}

// The change that a new session is to those that look.
void Directory::announce(uint32_t user, const Session& session, bool replaces, Nanos now) {
    User& owner = users_[user];
    const Presence before = std::exchange(owner.presence, Presence::online);
    if (before == Presence::offline) {
        if (owner.generation != 0) {
            unlink(offline_, user);
            --counts_.offline;
        }
        owner.generation = ++generations_;
        owner.sequence = 0;
        ++counts_.users;
        return change(user, Kind::online, session, now);
    }
    if (before == Presence::lingering) {
        unlink(lingering_, user);
        --counts_.lingering;
        ++counts_.blips;
    }
    const bool takes_a_place = replaces || before == Presence::lingering;
    change(user, takes_a_place ? Kind::replaced : Kind::joined, session, now);
    say_suspect(user, session, now);
}

// ---------------------------------------------------------------------------------------- reports

const Directory::Session* Directory::session_of(SessionHandle session,
                                                const ConnectionRef& connection) const {
    if (session != 0 && session <= sessions_.last() && sessions_[session].user != 0 &&
        sessions_[session].ref() == connection)
        return &sessions_[session];
    return nullptr;
}

bool Directory::is_of(SessionHandle session, const ConnectionRef& connection) {
    if (session_of(session, connection) != nullptr) return true;
    ++counts_.stale;
    return false;
}

bool Directory::logout(SessionHandle session, const ConnectionRef& connection, CloseReason reason,
                       Nanos now) {
    if (!is_of(session, connection)) return false;
    const Session ended = sessions_[session];
    texts_.hold(ended.device);  // for the change, whichever it is
    User& user = users_[ended.user];
    remove(session);
    user.seen_at = now;
    user.reason = reason;
    if (user.sessions > 0) {
        change(ended.user, Kind::left, ended, now);
        say_suspect(ended.user, sessions_[user.first], now);
    } else if (config_.linger > 0) {
        user.presence = Presence::lingering;
        push(lingering_, ended.user);
        ++counts_.lingering;
    } else {
        go_offline(ended.user, now);
    }
    texts_.drop(ended.device);
    return true;
}

void Directory::adopt(SessionHandle session, const ConnectionRef& to, Nanos now) {
    Session& own = sessions_[session];
    User& user = users_[own.user];
    own.connection = to.id;
    own.reactor = static_cast<uint16_t>(to.reactor);
    if (std::exchange(own.suspect, false)) --user.suspects;
    user.seen_at = now;
    change(own.user, Kind::replaced, own, now);
    say_suspect(own.user, own, now);
}

bool Directory::set_suspect(SessionHandle session, const ConnectionRef& connection, bool suspect,
                            Nanos now) {
    if (!is_of(session, connection)) return false;
    Session& own = sessions_[session];
    User& user = users_[own.user];
    if (own.suspect == suspect) return true;
    own.suspect = suspect;
    user.suspects = static_cast<uint16_t>(user.suspects + (suspect ? 1 : -1));
    if (!suspect) user.seen_at = now;
    say_suspect(own.user, own, now);
    return true;
}

// Followers learn it when all sessions are suspect, and when one is not any more.
void Directory::say_suspect(uint32_t user, const Session& cause, Nanos now) {
    User& owner = users_[user];
    const bool suspect = owner.sessions > 0 && owner.suspects == owner.sessions;
    if (suspect == owner.said_suspect) return;
    owner.said_suspect = suspect;
    counts_.suspects += suspect ? 1 : -1;
    change(user, suspect ? Kind::suspect : Kind::well, cause, now);
}

bool Directory::advance(Nanos now, uint32_t budget) {
    while (next_deadline() <= now) {
        if (budget-- == 0) return true;
        const uint32_t user = lingering_.first;
        unlink(lingering_, user);
        --counts_.lingering;
        go_offline(user, now);
    }
    return false;
}

Nanos Directory::next_deadline() const {
    return lingering_.first == 0 ? kNever : users_[lingering_.first].seen_at + config_.linger;
}

void Directory::go_offline(uint32_t user, Nanos now) {
    User& gone = users_[user];
    if (std::exchange(gone.said_suspect, false)) --counts_.suspects;
    gone.presence = Presence::offline;
    --counts_.users;
    change(user, Kind::offline, Session{}, now);
    push(offline_, user);
    if (++counts_.offline > config_.offline_max) forget(offline_.first);
}

// -------------------------------------------------------------------------------------- the lists

void Directory::append(uint32_t user, SessionHandle session) {
    SessionHandle* link = &users_[user].first;
    while (*link != 0) link = &sessions_[*link].next;
    *link = session;
    ++users_[user].sessions;
    ++counts_.sessions;
}

void Directory::remove(SessionHandle session) {
    Session& removed = sessions_[session];
    User& user = users_[removed.user];
    SessionHandle* link = &user.first;
    while (*link != session) link = &sessions_[*link].next;
    *link = removed.next;
    --user.sessions;
    if (removed.suspect) --user.suspects;
    --counts_.sessions;
    texts_.drop(removed.device);
    texts_.drop(removed.labels);
    removed.user = 0;
    sessions_.release(session);
}

void Directory::change(uint32_t user, Kind kind, const Session& cause, Nanos now) {
    User& changed = users_[user];
    const bool ends = kind == Kind::left || kind == Kind::offline;
    stream_.append({.user = changed.name,
                    .device = cause.device,
                    .generation = changed.generation,
                    .sequence = ++changed.sequence,
                    .at = now,
                    .connection = cause.ref(),
                    .kind = kind,
                    .reason = ends ? changed.reason : CloseReason::none});
}

void Directory::push(Queue& queue, uint32_t user) {
    users_[user].previous = queue.last;
    users_[user].next = 0;
    (queue.last == 0 ? queue.first : users_[queue.last].next) = user;
    queue.last = user;
}

void Directory::unlink(Queue& queue, uint32_t user) {
    const User& gone = users_[user];
    (gone.previous == 0 ? queue.first : users_[gone.previous].next) = gone.next;
    (gone.next == 0 ? queue.last : users_[gone.next].previous) = gone.previous;
}

// -------------------------------------------------------------------------------------- questions

const Directory::User* Directory::find(std::string_view name) const {
    const TextStore::Handle handle = name.empty() ? 0 : texts_.find(name);
    const uint32_t user = handle == 0 ? 0 : texts_.mark(handle);
    return user == 0 ? nullptr : &users_[user];
}

void Directory::validate() const {
    Counts seen;
    uint32_t stored = 0;
    for (uint32_t handle = 1; handle <= last_user(); ++handle) {
        const User* at = user(handle);
        if (at == nullptr) continue;
        ++stored;
        PULSE_ASSERT(texts_.mark(at->name) == handle && at->generation != 0);
        uint32_t sessions = 0, suspects = 0;
        for (SessionHandle next = at->first; next != 0; next = sessions_[next].next) {
            PULSE_ASSERT(sessions_[next].user == handle);
            ++sessions;
            suspects += sessions_[next].suspect;
        }
        PULSE_ASSERT(sessions == at->sessions && suspects == at->suspects);
        PULSE_ASSERT((at->presence == Presence::online) == (sessions > 0));
        PULSE_ASSERT(sessions == 0 || at->said_suspect == (suspects == sessions));
        seen.sessions += sessions;
        seen.users += at->presence != Presence::offline;
        seen.suspects += at->said_suspect;
        seen.lingering += at->presence == Presence::lingering;
        seen.offline += at->presence == Presence::offline;
    }
    PULSE_ASSERT(stored == users_.taken() && seen.sessions == sessions_.taken());
    PULSE_ASSERT(seen.sessions == counts_.sessions && seen.users == counts_.users &&
                 seen.suspects == counts_.suspects && seen.lingering == counts_.lingering &&
                 seen.offline == counts_.offline);
    uint32_t queued = 0;
    for (uint32_t at = lingering_.first; at != 0; at = users_[at].next) ++queued;
    PULSE_ASSERT(queued == counts_.lingering);
    for (uint32_t at = offline_.first; at != 0; at = users_[at].next) ++queued;
    PULSE_ASSERT(queued == counts_.lingering + counts_.offline);
}

}  // namespace pulse
