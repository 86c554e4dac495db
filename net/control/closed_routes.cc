// Answers that are about connections which ended.
#include <fmt/format.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <utility>

#include "core/sessions/explain.h"
#include "core/units.h"
#include "net/control/limits.h"
#include "net/control/routes.h"
#include "net/loop/public_name.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

int64_t to_ms(Nanos nanos) { return nanos / kMillisecond; }

// "AT_NS.REACTOR.NUMBER"
std::optional<ClosedKey> parse_cursor(const std::string& text) {
    ClosedKey key;
    int read = 0;
    if (std::sscanf(text.c_str(), "%" SCNd64 ".%" SCNu32 ".%" SCNu64 "%n", &key.at, &key.reactor,
                    &key.number, &read) != 3 ||
        static_cast<size_t>(read) != text.size()) {
        return std::nullopt;
    }
    return key;
}

std::string_view word_of(SocketEnd end) {
    constexpr std::string_view kWords[] = {"open", "orderly", "reset"};
    return kWords[static_cast<size_t>(end)];
}

}  // namespace

Json Routes::closed_json(const Evidence& facts, const Clocks& clocks) const {
    const std::vector<std::string> listeners = target_.listeners();
    const CloseReasonInfo& info = describe(facts.reason);
    const Nanos ended = facts.ended_at != 0 ? facts.ended_at : facts.at;
    const bool timed = facts.accepted_at != 0;
    const std::string error = facts.error != 0 ? std::strerror(facts.error) : "";
    const ConnectionNames names{
        .name = {}, .peer = {}, .protocol = {}, .listener = {}, .error = error};
    return {{"id", public_name(facts.reactor, facts.id).view()},
            {"reactor", facts.reactor},
            {"reason", info.name},
            {"ended_by", name_of(info.party)},
            {"protocol", all_protocols()[facts.protocol]->name},
            {"listener", facts.listener < listeners.size() ? listeners[facts.listener] : ""},
            {"address", facts.peer.present() ? Json(socket_address(facts.peer).text()) : Json()},
            {"closed_at", clocks.text(facts.at)},
            {"ago_ms", to_ms(std::max<Nanos>(0, clocks.monotonic - facts.at))},
            {"lasted_ms", timed ? Json(to_ms(ended - facts.accepted_at)) : Json()},
            {"cause", explain_cause(facts, names)}};
}

// All reactors are asked for their newest, of which the newest are the page.
Reply Routes::closed(const Ask& ask) {
    const auto given = [&](const char* key, std::string_view otherwise) {
        const auto found = ask.query.find(key);
        return found == ask.query.end() ? std::string(otherwise) : found->second;
    };
    const std::string limit_text = given("limit", std::to_string(kPageDefault));
    const Result<uint64_t> limit = parse_count(limit_text);
    if (!limit || *limit == 0 || *limit > kPageMax) {
        return error_reply(400, "limit", pulse::quoted(limit_text) + " is not the length of a page",
                           fmt::format("write 1 to {}", kPageMax));
    }
    const std::string cursor = given("cursor", "");
    const std::optional<ClosedKey> after = parse_cursor(cursor);
    if (!cursor.empty() && !after) {
        return error_reply(400, "cursor", pulse::quoted(cursor) + " is not of a page of these",
                           "give back what 'next' was");
    }
    ClosedFilter filter;
    for (const auto& [key, value] : ask.query) {
        if (key == "limit" || key == "cursor") continue;
        if (Result<void> set = set_filter(filter, filter_names(), key, value); !set)
            return error_reply(400, "query", set.error());
    }
    std::vector<std::shared_ptr<ClosedPageJob>> pages;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        pages.push_back(
            std::make_shared<ClosedPageJob>(filter, after, static_cast<uint32_t>(*limit)));
        jobs.push_back(pages.back());
    }
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    std::vector<const ClosedPageJob::Found*> all;
    uint64_t kept = 0;
    for (const auto& job : pages) {
        kept += job->kept;
        if (!job->finished()) continue;
        for (const ClosedPageJob::Found& found : job->found) all.push_back(&found);
    }
    std::ranges::sort(all, std::greater{}, [](const auto* found) { return found->key; });
    const bool more = all.size() >= *limit;
    all.resize(std::min<size_t>(all.size(), *limit));
    const Clocks clocks = Clocks::now();
    Json list = Json::array();
    for (const ClosedPageJob::Found* found : all) list.push_back(closed_json(found->facts, clocks));
    Json next = nullptr;
    if (more) {
        const ClosedKey& key = all.back()->key;
        next = fmt::format("{}.{}.{}", key.at, key.reactor, key.number);
    }
    return json_reply({{"closed", std::move(list)}, {"next", std::move(next)}, {"kept", kept}});
}

Reply Routes::closed_one(const Ask& ask) {
    const std::optional<PublicName> name = parse_public_name(ask.id);
    if (!name) {
        return error_reply(400, "id", pulse::quoted(ask.id) + " is not the name of a connection",
                           "write one like r3-000123-9");
    }
    auto job = std::make_shared<ClosedJob>(name->id);
    if (name->reactor < errands_.reactors()) {
        const auto outcome = errands_.run(only(name->reactor, job), kAdminAnswerNs, ask.gone);
        if (!outcome.all()) return unanswered(outcome);
    }
    if (!job->facts) {
        return error_reply(404, "id",
                           pulse::quoted(ask.id) + " is not among the last that ended (--ledger)",
                           "list those that are with /api/v1/closed");
    }
    const Evidence& facts = *job->facts;
    const Clocks clocks = Clocks::now();
    Json object = closed_json(facts, clocks);
    object["detail"] = facts.detail.view();
    object["error"] = facts.error != 0 ? Json(std::strerror(facts.error)) : Json();
    object["peer_code"] = facts.peer_code != 0 ? Json(facts.peer_code) : Json();
    object["said_goodbye"] = facts.said_goodbye;
    object["goodbye_taken"] = facts.goodbye_taken;
    object["peer_ended"] = facts.peer_ended;
    object["socket"] = word_of(facts.end);
    object["probes_unanswered"] = facts.probes_sent;
    object["interval_ms"] = to_ms(facts.interval);
    object["timeout_ms"] = to_ms(facts.timeout);
    object["queued_bytes"] = facts.queued_bytes;
    object["unfinished_bytes"] = facts.unfinished_bytes;
    object["explanation"] = job->explained;
    object["timeline"] = timeline_json(facts, clocks);
    object["transport"] = transport_json(facts.transport);
    return json_reply(object);
}

}  // namespace pulse
