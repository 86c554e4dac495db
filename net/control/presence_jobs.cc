// Walks over a shard, in the slices that a turn has for them.
#include "net/control/presence_jobs.h"

#include <algorithm>

#include "net/control/limits.h"
#include "net/loop/connections.h"

namespace pulse {
namespace {

void spend(uint32_t& budget, uint32_t cost) { budget -= std::min(budget, cost); }

UserState state_of(const Directory::User& user) {
    if (user.presence == Directory::Presence::offline) return UserState::offline;
    return user.said_suspect ? UserState::suspect : UserState::online;
}

UserRow row_of(const Directory& directory, const Directory::User& user) {
    return {.name = std::string(directory.text(user.name)),
            .state = state_of(user),
            .lingering = user.presence == Directory::Presence::lingering,
            .sessions = user.sessions,
            .generation = user.generation,
            .sequence = user.sequence,
            .seen_at = user.seen_at,
            .reason = user.reason};
}

}  // namespace

bool has_label(std::string_view labels, std::string_view wanted) {
    const bool with_value = wanted.find('=') != std::string_view::npos;
    while (!labels.empty()) {
        const size_t end = std::min(labels.find(' '), labels.size());
        const std::string_view label = labels.substr(0, end);
        labels.remove_prefix(std::min(end + 1, labels.size()));
        if (with_value ? label == wanted : label.substr(0, label.find('=')) == wanted) return true;
    }
    return false;
}

Nanos UsersJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    const Directory& directory = connections.directory();
    while (budget > 0 && next <= directory.last_user() && rows.size() < most) {
        const Directory::User* const user = directory.user(next++);
        uint32_t cost = kPassCost;
        if (user != nullptr) {
            const UserState is = state_of(*user);
            if (state ? is == *state : offline || is != UserState::offline) {
                rows.push_back(row_of(directory, *user));
                cost += kDescribeUserCost;
            }
        }
        spend(budget, cost);
    }
    over = next > directory.last_user();
    return over || rows.size() == most ? kNever : now;
}

Nanos UserJob::step(Connections& connections, Nanos, uint32_t& budget) {
    const Directory& directory = connections.directory();
    spend(budget, kDescribeUserCost);
    const Directory::User* const user = directory.find(name);
    if (user == nullptr) return kNever;
    row = row_of(directory, *user);
    for (SessionHandle at = user->first; at != 0; at = directory.session(at).next) {
        const Directory::Session& session = directory.session(at);
        spend(budget, kDescribeUserCost);
        sessions.push_back({.device = std::string(directory.text(session.device)),
                            .labels = std::string(directory.text(session.labels)),
                            .connection = session.ref(),
                            .suspect = session.suspect,
                            .since = Nanos{session.since_s} * kSecond});
    }
    return kNever;
}

std::string_view name_of(PresenceChange::Kind kind) {
    constexpr std::string_view kNames[] = {"online", "offline", "suspect",  "well",
                                           "joined", "left",    "replaced", "refreshed"};
    return kNames[static_cast<size_t>(kind)];
}

Nanos ChangesJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    const Directory& directory = connections.directory();
    const PresenceStream& stream = directory.stream();
    if (position < stream.first() || position > stream.end()) {
        gap = true;
        position = std::clamp(position, stream.first(), stream.end());
    }
    while (budget > 0 && position < stream.end() && events.size() < most) {
        const PresenceChange& change = stream.at(position++);
        spend(budget, kDescribeUserCost);
        events.push_back({.user = std::string(directory.text(change.user)),
                          .device = std::string(directory.text(change.device)),
                          .generation = change.generation,
                          .sequence = change.sequence,
                          .connection = change.connection,
                          .at = change.at,
                          .kind = change.kind,
                          .reason = change.reason});
    }
    at_end = position == stream.end();
    return at_end || events.size() == most ? kNever : now;
}

LabelChoice::LabelChoice(const std::vector<std::string>& wanted)
    : size_(static_cast<uint32_t>(wanted.size())) {
    const auto name_of = [](std::string_view label) { return label.substr(0, label.find('=')); };
    for (const std::string& label : wanted) {
        const auto same = std::ranges::find_if(by_name_, [&](const auto& alternatives) {
            return name_of(alternatives.front()) == name_of(label);
        });
        if (same == by_name_.end())
            by_name_.push_back({label});
        else
            same->push_back(label);
    }
}

bool LabelChoice::matches(std::string_view labels) const {
    return std::ranges::all_of(by_name_, [&](const auto& alternatives) {
        return std::ranges::any_of(alternatives,
                                   [&](const auto& each) { return has_label(labels, each); });
    });
}

bool ChooseJob::add_sessions(const Directory& directory, const Directory::User& owner) {
    for (SessionHandle at = owner.first; at != 0; at = directory.session(at).next) {
        const Directory::Session& session = directory.session(at);
        if (!labels.matches(directory.text(session.labels))) continue;
        if (chosen.size() == kChosenMax) return false;
        chosen.push_back(session.ref());
    }
    return true;
}

Nanos ChooseJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    const Directory& directory = connections.directory();
    const auto cost = [this](const Directory::User& owner) {
        return kLabelCost * owner.sessions * std::max<uint32_t>(1, labels.size());
    };
    for (; budget > 0 && next_user_ < users.size() && !too_many; ++next_user_) {
        spend(budget, kPassCost);
        const Directory::User* const owner = directory.find(users[next_user_]);
        if (owner == nullptr) continue;
        spend(budget, cost(*owner));
        too_many = !add_sessions(directory, *owner);
    }
    if (!users.empty()) return too_many || next_user_ == users.size() ? kNever : now;
    for (; budget > 0 && next_ <= directory.last_user() && !too_many; ++next_) {
        spend(budget, kPassCost);
        const Directory::User* const owner = directory.user(next_);
        if (owner == nullptr || owner->sessions == 0) continue;
        spend(budget, cost(*owner));
        too_many = !add_sessions(directory, *owner);
    }
    return too_many || next_ > directory.last_user() ? kNever : now;
}

Nanos NamesJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    const Directory& directory = connections.directory();
    for (; budget > 0 && next_ < sessions.size(); ++next_) {
        Session& wanted = sessions[next_];
        spend(budget, kDescribeUserCost);
        const Directory::Session* const session =
            directory.session_of(wanted.handle, wanted.connection);
        if (session == nullptr) continue;
        wanted.user = directory.text(directory.user(session->user)->name);
        wanted.device = directory.text(session->device);
        wanted.labels = directory.text(session->labels);
    }
    return next_ == sessions.size() ? kNever : now;
}

}  // namespace pulse
