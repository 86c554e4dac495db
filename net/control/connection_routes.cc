// Answers that are about connections: lists, one of them, and what is done to many.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <optional>
#include <utility>

#include "core/units.h"
#include "net/control/body.h"
#include "net/control/limits.h"
#include "net/control/routes.h"
#include "net/protocols/protocol.h"
#include "proto/limits.h"

namespace pulse {
namespace {

int64_t to_ms(Nanos nanos) { return nanos / kMillisecond; }

// Parameters of a query that are not of a filter are `others`.
Result<ConnectionFilter> filter_of_query(const Ask& ask, const FilterNames& names,
                                         std::initializer_list<std::string_view> others) {
    ConnectionFilter filter;
    for (const auto& [key, value] : ask.query) {
        if (std::ranges::find(others, key) != others.end()) continue;
        if (Result<void> set = set_filter(filter, names, key, value); !set)
            return Error{set.error()};
    }
    return filter;
}

}  // namespace

std::vector<std::shared_ptr<Job>> Routes::only(uint32_t reactor, std::shared_ptr<Job> job) const {
    std::vector<std::shared_ptr<Job>> jobs(errands_.reactors());
    jobs[reactor] = std::move(job);
    return jobs;
}

Json Routes::row_json(const ConnectionRow& row) const {
    const std::vector<std::string> listeners = target_.listeners();
    return {{"id", row.name},
            {"reactor", row.reactor},
            {"protocol", all_protocols()[row.protocol]->name},
            {"state", kStageNames[static_cast<size_t>(row.stage)]},
            {"listener", row.listener < listeners.size() ? listeners[row.listener] : ""},
            {"address", row.address},
            {"user", row.user.empty() ? Json(nullptr) : Json(row.user)},
            {"device", row.device.empty() ? Json(nullptr) : Json(row.device)},
            {"labels", labels_json(row.labels)},
            {"profile", row.profile.empty() ? Json(nullptr) : Json(row.profile)},
            {"age_ms", row.age != 0 ? Json(to_ms(row.age)) : Json(nullptr)},
            {"idle_ms", to_ms(row.idle)},
            {"probes_unanswered", row.probes_unanswered},
            {"queued_bytes", row.queued_bytes},
            {"unfinished_bytes", row.unfinished_bytes}};
}

// ----------------------------------------------------------------------------------------- lists

Reply Routes::count(const Ask& ask) {
    const Result<ConnectionFilter> filter = filter_of_query(ask, filter_names(), {});
    if (!filter) return error_reply(400, "query", filter.error());
    Chosen chosen = choose(ask, *filter);
    if (chosen.refused) return *std::move(chosen.refused);
    std::vector<std::shared_ptr<CountJob>> counts;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        counts.push_back(std::make_shared<CountJob>(chosen.filters[reactor]));
        jobs.push_back(counts.back());
    }
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    uint64_t total = 0;
    Json by_protocol = Json::object(), by_state = Json::object();
    const auto add = [](Json& object, std::string_view name, uint64_t count) {
        const std::string key(name);
        if (count > 0) object[key] = object.value(key, uint64_t{0}) + count;
    };
    for (const auto& job : counts) {
        if (!job->finished()) continue;  // its reactor has ended
        total += job->total;
        for (size_t row = 0; row < job->by_protocol.size(); ++row)
            add(by_protocol, all_protocols()[row]->name, job->by_protocol[row]);
        for (size_t stage = 0; stage < job->by_stage.size(); ++stage)
            add(by_state, kStageNames[stage], job->by_stage[stage]);
    }
    return json_reply({{"connections", total},
                       {"by_protocol", std::move(by_protocol)},
                       {"by_state", std::move(by_state)}});
}

Reply Routes::connections(const Ask& ask) {
    const auto given = [&](const char* key, std::string_view otherwise) {
        const auto found = ask.query.find(key);
        return found == ask.query.end() ? std::string(otherwise) : found->second;
    };
    const std::string sort = given("sort", "id");
    const std::string cursor = given("cursor", "");
    const std::string limit_text = given("limit", std::to_string(kPageDefault));
    const Result<uint64_t> limit = parse_count(limit_text);
    if (!limit || *limit == 0 || *limit > kPageMax) {
        return error_reply(400, "limit", pulse::quoted(limit_text) + " is not the length of a page",
                           fmt::format("write 1 to {}", kPageMax));
    }
    const Result<ConnectionFilter> filter =
        filter_of_query(ask, filter_names(), {"sort", "limit", "cursor"});
    if (!filter) return error_reply(400, "query", filter.error());
    if (sort != "id" && sort != "idle" && sort != "age")
        return error_reply(400, "sort", pulse::quoted(sort) + " is not an order",
                           "write id, idle or age");
    Chosen chosen = choose(ask, *filter);
    if (chosen.refused) return *std::move(chosen.refused);
    const auto most = static_cast<uint32_t>(*limit);
    if (sort == "id") return page_by_id(ask, chosen.filters, most, cursor);
    const auto order = sort == "idle" ? LongestJob::Order::idle : LongestJob::Order::age;
    return page_by_length(ask, chosen.filters, order, most, cursor);
}

// By reactor and place, so that one which lives all the while is in exactly one of the pages. The
// cursor is where the next page begins: "REACTOR.PLACE".
Reply Routes::page_by_id(const Ask& ask, const std::vector<ConnectionFilter>& filters,
                         uint32_t limit, std::string_view cursor) {
    uint32_t reactor = 0;
    Index place = 0;
    if (!cursor.empty()) {
        int read = 0;
        const std::string text(cursor);
        if (std::sscanf(text.c_str(), "%" SCNu32 ".%" SCNu32 "%n", &reactor, &place, &read) != 2 ||
            static_cast<size_t>(read) != text.size() || reactor >= errands_.reactors()) {
            return error_reply(400, "cursor",
                               pulse::quoted(cursor) + " is not of a page sorted by id",
                               "give back what 'next' was");
        }
    }
    Json list = Json::array();
    Json next = nullptr;
    while (reactor < errands_.reactors()) {
        const auto found = static_cast<uint32_t>(list.size());
        auto job = std::make_shared<PageJob>(filters[reactor], place, limit - found);
        const Errands::Outcome outcome = errands_.run(only(reactor, job), kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return unanswered(outcome);
        std::vector<ConnectionRow*> rows;
        for (ConnectionRow& row : job->rows) rows.push_back(&row);
        name_sessions(ask, rows);
        for (const ConnectionRow* row : rows) list.push_back(row_json(*row));
        const bool over = job->over || !job->finished();
        reactor += over ? 1 : 0;
        place = over ? 0 : job->next;
        if (list.size() < limit || reactor == errands_.reactors()) continue;
        next = fmt::format("{}.{}", reactor, place);
        break;
    }
    return json_reply({{"connections", std::move(list)}, {"next", std::move(next)}});
}

// The longest first. Of those by idle time one that sends something meanwhile moves to the end, and
// may be missed or seen again. The cursor is the order's key of the last that was looked at, which
// may have closed: "SINCE_NS.REACTOR.PLACE".
Reply Routes::page_by_length(const Ask& ask, const std::vector<ConnectionFilter>& filters,
                             LongestJob::Order order, uint32_t limit, std::string_view cursor) {
    std::optional<LongestJob::Key> after;
    if (!cursor.empty()) {
        after.emplace();
        int read = 0;
        const std::string text(cursor);
        if (std::sscanf(text.c_str(), "%" SCNd64 ".%" SCNu32 ".%" SCNu32 "%n", &after->since,
                        &after->reactor, &after->index, &read) != 3 ||
            static_cast<size_t>(read) != text.size()) {
            return error_reply(400, "cursor",
                               pulse::quoted(cursor) + " is not of a page in this order",
                               "give back what 'next' was");
        }
    }
    std::vector<std::shared_ptr<LongestJob>> longest;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        longest.push_back(std::make_shared<LongestJob>(filters[reactor], order, after, limit));
        jobs.push_back(longest.back());
    }
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    std::erase_if(longest,
                  [](const auto& job) { return !job->finished(); });  // its reactor has ended
    const LongestPage page = page_of(longest, limit);
    std::vector<ConnectionRow*> rows;
    for (LongestJob::Found* found : page.found) rows.push_back(&found->row);
    name_sessions(ask, rows);
    Json list = Json::array();
    for (const ConnectionRow* row : rows) list.push_back(row_json(*row));
    Json next = nullptr;
    if (page.next)
        next = fmt::format("{}.{}.{}", page.next->since, page.next->reactor, page.next->index);
    return json_reply({{"connections", std::move(list)}, {"next", std::move(next)}});
}

// ------------------------------------------------------------------------------------ one of them

Reply Routes::connection(const Ask& ask) {
    const std::optional<PublicName> name = parse_public_name(ask.id);
    if (!name) {
        return error_reply(400, "id", pulse::quoted(ask.id) + " is not the name of a connection",
                           "write one like r3-000123-9");
    }
    auto job = std::make_shared<FactsJob>(name->id);
    if (name->reactor < errands_.reactors()) {
        const auto outcome = errands_.run(only(name->reactor, job), kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return unanswered(outcome);
    }
    if (!job->facts) {
        return error_reply(404, "id", pulse::quoted(ask.id) + " is not connected",
                           "look at /api/v1/closed/" + ask.id + ", or list /api/v1/connections");
    }
    ConnectionFacts& facts = *job->facts;
    name_sessions(ask, std::array{&facts.row});
    Json object = row_json(facts.row);
    object["proxied"] = facts.proxied;
    object["interval_ms"] = facts.interval_ms;
    object["timeout_ms"] = facts.timeout_ms;
    object["probes"] = facts.probes;
    object["closes_in_ms"] = to_ms(facts.deadline_in);
    object["parked"] = facts.held_off;
    object["offences"] = facts.offences;
    object["explanation"] = facts.explained;
    object["timeline"] = timeline_json(facts.evidence, Clocks::now());
    object["transport"] = transport_json(facts.evidence.transport);
    return json_reply(object);
}

Reply Routes::kick_one(const Ask& ask) {
    const std::optional<PublicName> name = parse_public_name(ask.id);
    if (!name) {
        return error_reply(400, "id", pulse::quoted(ask.id) + " is not the name of a connection",
                           "write one like r3-000123-9");
    }
    auto job = std::make_shared<KickOneJob>(name->id, std::string());
    if (name->reactor < errands_.reactors()) {
        const auto outcome = errands_.run(only(name->reactor, job), kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return unanswered(outcome);
    }
    if (!job->found) {
        return error_reply(404, "id", pulse::quoted(ask.id) + " is not connected",
                           "list those that are with /api/v1/connections");
    }
    return json_reply({{"done", 1}, {"skipped", 0}});
}

// ------------------------------------------------------------------------------ many of them

Reply Routes::act(const Ask& ask, std::span<const std::shared_ptr<ActJob>> acts, Nanos most) {
    const std::vector<std::shared_ptr<Job>> jobs(acts.begin(), acts.end());
    const Errands::Outcome outcome = errands_.run(jobs, most, ask.gone);
    uint64_t done = 0, skipped = 0;
    for (uint32_t reactor = 0; reactor < acts.size(); ++reactor) {
        if (std::ranges::count(outcome.unanswered, reactor) > 0) continue;
        done += acts[reactor]->done;
        skipped += acts[reactor]->skipped;
    }
    Json object = {{"done", done}, {"skipped", skipped}};
    if (!outcome.all()) return unanswered(outcome, std::move(object));
    return json_reply(object);
}

template <class Make>
Reply Routes::act_on_all(const Ask& ask, const ConnectionFilter& filter, Nanos most, Make&& make) {
    Chosen chosen = choose(ask, filter);
    if (chosen.refused) return *std::move(chosen.refused);
    std::vector<std::shared_ptr<ActJob>> jobs;
    for (const ConnectionFilter& each : chosen.filters) jobs.push_back(make(each));
    return act(ask, jobs, most);
}

Reply Routes::kick(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"filter", "all", "rate", "reason"}); !known)
        return bad(known.error());
    const Result<ConnectionFilter> filter = whom(ask.body, filter_names());
    if (!filter) return bad(filter.error());
    const Result<std::string> reason = text_of(ask.body, "reason", kKickReasonBytesMax);
    if (!reason) return bad(reason.error());
    const Result<uint64_t> rate = rate_of(ask.body);
    if (!rate) return bad(rate.error());
    const uint64_t per_second = *rate;
    const auto run = [&](Nanos most) {
        const auto pace = std::make_shared<SharedPace>(per_second);
        return act_on_all(ask, *filter, most, [&](const ConnectionFilter& each) {
            return std::make_shared<KickJob>(each, *reason, pace);
        });
    };
    if (per_second == 0) return run(kAdminActNs);
    if (long_ones_.fetch_add(1) >= kAdminLongAtOnce) {
        --long_ones_;
        return error_reply(503, "rate",
                           fmt::format("{} kicks with a rate run already", kAdminLongAtOnce),
                           "wait for one of them");
    }
    Reply reply = run(kAdminLongNs);
    --long_ones_;
    return reply;
}

Reply Routes::broadcast(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"filter", "all", "text"}); !known)
        return bad(known.error());
    const Result<ConnectionFilter> filter = whom(ask.body, filter_names());
    if (!filter) return bad(filter.error());
    const Result<std::string> text = text_of(ask.body, "text", kBroadcastBytesMax);
    if (!text) return bad(text.error());
    return send_text(ask, *filter, *text);
}

Reply Routes::send_text(const Ask& ask, const ConnectionFilter& filter, const std::string& text) {
    if (text.empty()) return bad("text: is missing or empty; write what is to be sent");
    const size_t wire_bytes = BroadcastJob::wire_bytes_of(text);
    if (wire_bytes > target_.send_queue_bytes()) {
        return error_reply(413, "text",
                           fmt::format("takes up to {} bytes of each send queue, which has {} "
                                       "(--send-queue-bytes)",
                                       wire_bytes, target_.send_queue_bytes()),
                           "write a shorter one");
    }
    return act_on_all(ask, filter, kAdminActNs, [&](const ConnectionFilter& each) {
        return std::make_shared<BroadcastJob>(each, text);
    });
}

Reply Routes::send_to_user(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"text"}); !known) return bad(known.error());
    ConnectionFilter filter;
    if (Result<void> set = set_filter(filter, filter_names(), "user", ask.id); !set)
        return error_reply(400, "user", set.error());
    const Result<std::string> text = text_of(ask.body, "text", kBroadcastBytesMax);
    if (!text) return bad(text.error());
    Reply reply = send_text(ask, filter, *text);
    const Json done = Json::parse(reply.body, nullptr, false);
    if (reply.status != 200 || done.value("done", 0) + done.value("skipped", 0) > 0) return reply;
    return error_reply(404, "user", pulse::quoted(ask.id) + " has no session",
                       "list those that are online with /api/v1/users?state=online");
}

Reply Routes::retune(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"filter", "all", "profile"}); !known)
        return bad(known.error());
    const Result<ConnectionFilter> filter = whom(ask.body, filter_names());
    if (!filter) return bad(filter.error());
    const Result<std::string> name = text_of(ask.body, "profile", 64);
    if (!name) return bad(name.error());
    ConnectionFilter chosen;  // reads the name as a filter would
    if (Result<void> set = set_filter(chosen, filter_names(), "profile", *name); !set)
        return error_reply(400, "profile", set.error());
    return act_on_all(ask, *filter, kAdminActNs, [&](const ConnectionFilter& each) {
        return std::make_shared<RetuneJob>(each, chosen.profiles.front());
    });
}

// It is never given up: where a reactor has not done it in time, or the client has gone, its job
// goes on; and for those that had no room for one the main thread's order stands, which is posted
// until it is taken. What is left then is a reactor that had none and a main thread that does not
// answer: the only error.
Reply Routes::revoke(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"token_id"}); !known) return bad(known.error());
    const Result<std::string> token_id = text_of(ask.body, "token_id", kTokenIdBytesMax);
    if (!token_id) return bad(token_id.error());
    if (token_id->empty())
        return bad(
            "token_id: is missing or empty; write the jti of the token, or the id of its line");
    std::vector<std::shared_ptr<RevokeJob>> revocations;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        revocations.push_back(std::make_shared<RevokeJob>(*token_id));
        jobs.push_back(revocations.back());
    }
    const Errands::Outcome outcome =
        errands_.run(jobs, kAdminAnswerNs, ask.gone, Errands::Late::goes_on);
    uint64_t closed = 0;
    for (uint32_t reactor = 0; reactor < revocations.size(); ++reactor)
        if (std::ranges::count(outcome.unanswered, reactor) == 0)
            closed += revocations[reactor]->closed;
    Json object = {{"done", closed}, {"skipped", 0}};
    if (outcome.all()) return json_reply(object);
    const Result<void> ordered = target_.revoke(*token_id);
    if (!ordered && !outcome.not_asked.empty())
        return error_reply(503, "main thread", ordered.error());
    object["not_yet"] = outcome.unanswered;
    return json_reply(object, 202);
}

}  // namespace pulse
