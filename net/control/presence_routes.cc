// Answers that are about users: who is online, with which sessions, and the connections that a
// filter names by them.
#include <fmt/format.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "core/units.h"
#include "net/control/limits.h"
#include "net/control/routes.h"

namespace pulse {
namespace {

int64_t to_ms(Nanos nanos) { return nanos / kMillisecond; }

Json user_json(const UserRow& row, const Clocks& clocks) {
    const bool gone = row.state == UserState::offline || row.lingering;
    return {{"user", row.name},
            {"state", kUserStateNames[static_cast<size_t>(row.state)]},
            {"lingering", row.lingering},
            {"sessions", row.sessions},
            {"generation", row.generation},
            {"sequence", row.sequence},
            {"seen_at", clocks.text(row.seen_at)},
            {"seen_ago_ms", to_ms(std::max<Nanos>(0, clocks.monotonic - row.seen_at))},
            {"reason", gone ? Json(describe(row.reason).name) : Json(nullptr)}};
}

}  // namespace

// ----------------------------------------------------------------------- whom a filter names

// By name at once, and by the directory where users or labels are given. Where both are, what the
// directory chose must also be named.
Routes::Chosen Routes::choose(const Ask& ask, const ConnectionFilter& filter) {
    Chosen chosen{std::vector<ConnectionFilter>(errands_.reactors(), filter)};
    if (!filter.names_some()) return chosen;
    std::vector<std::vector<ConnectionId>> lists(errands_.reactors());
    if (!filter.users.empty() || !filter.labels.empty()) {
        std::vector<std::shared_ptr<ChooseJob>> shards;
        std::vector<std::shared_ptr<Job>> jobs;
        for (uint32_t shard = 0; shard < errands_.reactors(); ++shard) {
            shards.push_back(std::make_shared<ChooseJob>(filter.users, filter.labels));
            jobs.push_back(shards.back());
        }
        const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return {{}, unanswered(outcome)};
        size_t total = 0;
        for (const auto& job : shards) {
            if (!job->finished()) continue;  // its reactor has ended
            total += job->chosen.size();
            if (job->too_many || total > kChosenMax) {
                return {{},
                        error_reply(400, "label",
                                    fmt::format("names more than {} connections", kChosenMax),
                                    "use a filter without users and labels, or narrower ones")};
            }
            for (const ConnectionRef& each : job->chosen) lists[each.reactor].push_back(each.id);
        }
    } else {
        for (const PublicName& name : filter.ids)
            if (name.reactor < lists.size()) lists[name.reactor].push_back(name.id);
    }
    for (uint32_t reactor = 0; reactor < lists.size(); ++reactor) {
        std::vector<ConnectionId>& list = lists[reactor];
        const auto is_named = [&](ConnectionId id) {
            return std::ranges::find(filter.ids, PublicName{reactor, id}) != filter.ids.end();
        };
        if (!filter.ids.empty())
            std::erase_if(list, [&](ConnectionId id) { return !is_named(id); });
        std::ranges::sort(list, {}, &ConnectionId::index);
        chosen.filters[reactor].chosen =
            std::make_shared<const std::vector<ConnectionId>>(std::move(list));
    }
    return chosen;
}

// Asks the shards for the names of sessions. One that has not answered leaves them empty.
void Routes::name_sessions(const Ask& ask, std::span<ConnectionRow* const> rows) {
    std::vector<std::shared_ptr<Job>> jobs(errands_.reactors());
    std::vector<std::shared_ptr<NamesJob>> names(errands_.reactors());
    for (size_t place = 0; place < rows.size(); ++place) {
        const ConnectionRow& row = *rows[place];
        if (row.session == 0) continue;
        auto& job = names[row.shard];
        if (job == nullptr) jobs[row.shard] = job = std::make_shared<NamesJob>();
        job->sessions.push_back({{row.id, row.reactor}, row.session, place});
    }
    if (std::ranges::all_of(jobs, [](const auto& job) { return job == nullptr; })) return;
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    for (uint32_t shard = 0; shard < names.size(); ++shard) {
        if (names[shard] == nullptr || std::ranges::count(outcome.unanswered, shard) > 0) continue;
        for (NamesJob::Session& session : names[shard]->sessions) {
            ConnectionRow& row = *rows[session.place];
            row.user = std::move(session.user);
            row.device = std::move(session.device);
            row.labels = std::move(session.labels);
        }
    }
}

// ------------------------------------------------------------------------------------------ users

// By shard and handle: one that is known all the while is in exactly one page. The cursor is where
// the next page begins: "SHARD.HANDLE".
Reply Routes::users(const Ask& ask) {
    uint32_t shard = 0, handle = 1;
    uint64_t limit = kPageDefault;
    std::optional<UserState> state;
    for (const auto& [key, value] : ask.query) {
        if (key == "limit") {
            const Result<uint64_t> given = parse_count(value);
            if (!given || *given == 0 || *given > kPageMax) {
                return error_reply(400, key, pulse::quoted(value) + " is not the length of a page",
                                   fmt::format("write 1 to {}", kPageMax));
            }
            limit = *given;
        } else if (key == "cursor") {
            int read = 0;
            if (std::sscanf(value.c_str(), "%" SCNu32 ".%" SCNu32 "%n", &shard, &handle, &read) !=
                    2 ||
                static_cast<size_t>(read) != value.size() || shard >= errands_.reactors() ||
                handle == 0) {
                return error_reply(400, key, pulse::quoted(value) + " is not of a page of users",
                                   "give back what 'next' was");
            }
        } else if (key == "state") {
            const auto word = std::ranges::find(kUserStateNames, value);
            if (word == std::end(kUserStateNames)) {
                return error_reply(400, key, pulse::quoted(value) + " is not a state of users",
                                   "write online, suspect or offline");
            }
            state = static_cast<UserState>(word - std::begin(kUserStateNames));
        } else {
            return error_reply(400, key, "is not read here", "write state, limit or cursor");
        }
    }
    const Clocks clocks = Clocks::now();
    Json list = Json::array();
    while (shard < errands_.reactors() && list.size() < limit) {
        const auto job = std::make_shared<UsersJob>(state, true, handle,
                                                    static_cast<uint32_t>(limit - list.size()));
        const Errands::Outcome outcome = errands_.run(only(shard, job), kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return unanswered(outcome);
        for (const UserRow& row : job->rows) list.push_back(user_json(row, clocks));
        const bool over = job->over || !job->finished();
        shard += over ? 1 : 0;
        handle = over ? 1 : job->next;
    }
    const bool more = shard < errands_.reactors();
    return json_reply({{"users", std::move(list)},
                       {"next", more ? Json(fmt::format("{}.{}", shard, handle)) : Json(nullptr)}});
}

Reply Routes::user(const Ask& ask) {
    std::vector<std::shared_ptr<UserJob>> shards;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t shard = 0; shard < errands_.reactors(); ++shard) {
        shards.push_back(std::make_shared<UserJob>(ask.id));
        jobs.push_back(shards.back());
    }
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    const auto found = std::ranges::find_if(shards, [](const auto& job) { return bool{job->row}; });
    if (found == shards.end()) {
        return error_reply(404, "user",
                           pulse::quoted(ask.id) + " has not logged in, or was forgotten since",
                           "list those that are known with /api/v1/users");
    }
    const Clocks clocks = Clocks::now();
    Json object = user_json(*(*found)->row, clocks);
    Json devices = Json::array();
    for (const SessionRow& session : (*found)->sessions) {
        devices.push_back(
            {{"device", session.device},
             {"labels", labels_json(session.labels)},
             {"connection", public_name(session.connection.reactor, session.connection.id).view()},
             {"suspect", session.suspect},
             {"since", clocks.text(session.since)}});
    }
    object["devices"] = std::move(devices);
    return json_reply(object);
}

Reply Routes::presence(const Ask& ask) {
    Result<std::shared_ptr<HttpStream>> stream = hub_.follow(ask.last_event_id);
    if (!stream) return error_reply(503, "presence", stream.error());
    if (*stream == nullptr) {
        return error_reply(503, "presence",
                           fmt::format("{} clients follow already", kPresenceFollowersMax),
                           "end one of them, or try again later");
    }
    Reply reply;
    reply.stream = std::move(*stream);
    return reply;
}

}  // namespace pulse
