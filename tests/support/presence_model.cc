// The oracle of the directory: written from the words of directory.h, not from its code.
#include "tests/support/presence_model.h"

#include <algorithm>

namespace pulse::test {

using Kind = PresenceChange::Kind;
using Presence = Directory::Presence;
using Verdict = LoginAnswer::Verdict;

std::pair<PresenceModel::Found, size_t> PresenceModel::find(const ConnectionRef& connection) {
    for (auto& user : users_)
        for (size_t at = 0; at < user.second.sessions.size(); ++at)
            if (user.second.sessions[at].connection == connection) return {&user, at};
    return {nullptr, 0};
}

void PresenceModel::change(const std::string& name, User& user, Kind kind,
                           const ConnectionRef& cause) {
    const bool ends = kind == Kind::left || kind == Kind::offline;
    changes_.push_back({name, user.generation, ++user.sequence, kind,
                        ends ? user.reason : CloseReason::none, cause});
}

void PresenceModel::say_suspect(const std::string& name, User& user, const ConnectionRef& cause) {
    const bool suspect = !user.sessions.empty() &&
                         std::ranges::all_of(user.sessions, [](auto& at) { return at.suspect; });
    if (suspect == user.said_suspect) return;
    user.said_suspect = suspect;
    change(name, user, suspect ? Kind::suspect : Kind::well, cause);
}

LoginAnswer PresenceModel::decide(const User& user, const Session& wanted, bool comes,
                                  size_t& replaced) const {
    std::vector<size_t> same;
    for (size_t at = 0; at < user.sessions.size(); ++at)
        if (user.sessions[at].device == wanted.device) same.push_back(at);
    const size_t most = config_.duplicate == DuplicateRule::allow ? config_.same_device_max : 1;
    LoginAnswer answer;
    if (same.size() >= most) {
        if (config_.duplicate == DuplicateRule::reject)
            std::erase_if(same, [&](size_t at) { return !user.sessions[at].suspect; });
        answer.replaces = !same.empty();
        if (!answer.replaces) answer.verdict = Verdict::duplicate;
        if (answer.replaces) replaced = same.front();
        if (answer.replaces) answer.replaced = user.sessions[replaced].connection;
    } else if (comes && user.sessions.size() >= config_.per_user_max) {
        answer.verdict = Verdict::user_full;
    }
    return answer;
}

LoginAnswer PresenceModel::login(const std::string& name, const Session& wanted, bool had_session,
                                 Nanos now) {
    const auto [owner, own] = find(wanted.connection);
    LoginAnswer answer;
    if (had_session && owner == nullptr) {
        answer.verdict = Verdict::replaced;
        return answer;
    }
    User& user = users_[name];
    size_t replaced = 0;
    const bool is_refresh = owner != nullptr;
    if (!is_refresh || user.sessions[own].device != wanted.device)
        answer = decide(user, wanted, !is_refresh, replaced);
    if (answer.verdict != Verdict::accepted) {
        if (user.generation == 0) users_.erase(name);
        return answer;
    }
    const Presence before = std::exchange(user.presence, Presence::online);
    user.seen_at = now;
    if (is_refresh) {
        Session& mine = user.sessions[own];
        const bool changed = mine.device != wanted.device || mine.labels != wanted.labels;
        mine.device = wanted.device;
        mine.labels = wanted.labels;
        if (answer.replaces) user.sessions.erase(user.sessions.begin() + replaced);
        if (changed) change(name, user, Kind::refreshed, wanted.connection);
        answer.verdict = Verdict::refreshed;
    } else {
        if (answer.replaces) user.sessions.erase(user.sessions.begin() + replaced);
        user.sessions.push_back(wanted);
        if (before == Presence::offline) {
            user.generation = ++generations_;
            user.sequence = 0;
            change(name, user, Kind::online, wanted.connection);
        } else {
            const bool takes = answer.replaces || before == Presence::lingering;
            change(name, user, takes ? Kind::replaced : Kind::joined, wanted.connection);
        }
    }
    say_suspect(name, user, wanted.connection);
    return answer;
}

bool PresenceModel::logout(const ConnectionRef& connection, CloseReason reason, Nanos now) {
    const auto [owner, at] = find(connection);
    if (owner == nullptr) return false;
    User& user = owner->second;
    user.sessions.erase(user.sessions.begin() + at);
    user.seen_at = now;
    user.reason = reason;
    if (!user.sessions.empty()) {
        change(owner->first, user, Kind::left, connection);
        say_suspect(owner->first, user, user.sessions.front().connection);
    } else if (config_.linger > 0) {
        user.presence = Presence::lingering;
        user.order = ++order_;
    } else {
        go_offline(owner->first, user);
    }
    return true;
}

bool PresenceModel::set_suspect(const ConnectionRef& connection, bool suspect, Nanos now) {
    const auto [owner, at] = find(connection);
    if (owner == nullptr) return false;
    Session& session = owner->second.sessions[at];
    if (session.suspect == suspect) return true;
    session.suspect = suspect;
    if (!suspect) owner->second.seen_at = now;
    say_suspect(owner->first, owner->second, connection);
    return true;
}

void PresenceModel::go_offline(const std::string& name, User& user) {
    user.presence = Presence::offline;
    user.said_suspect = false;
    user.order = ++order_;
    change(name, user, Kind::offline, ConnectionRef{});
    const auto is_offline = [](const auto& at) { return at.second.presence == Presence::offline; };
    if (std::ranges::count_if(users_, is_offline) <= config_.offline_max) return;
    auto oldest = users_.end();
    for (auto at = users_.begin(); at != users_.end(); ++at)
        if (is_offline(*at) && (oldest == users_.end() || at->second.order < oldest->second.order))
            oldest = at;
    users_.erase(oldest);
}

void PresenceModel::advance(Nanos now) {
    while (true) {
        std::pair<const std::string, User>* due = nullptr;
        for (auto& user : users_) {
            const bool is_due = user.second.presence == Presence::lingering &&
                                user.second.seen_at + config_.linger <= now;
            if (is_due && (due == nullptr || user.second.order < due->second.order)) due = &user;
        }
        if (due == nullptr) return;
        const std::string name = due->first;
        go_offline(name, due->second);
    }
}

}  // namespace pulse::test
