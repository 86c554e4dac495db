// The table, and the answers that are about the whole server.
#include "net/control/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/units.h"
#include "net/control/anomaly_json.h"
#include "net/control/cohort_figures.h"
#include "net/control/limits.h"
#include "net/control/metrics_text.h"
#include "net/loop/reactor_json.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

using enum Access;

}  // namespace

struct RouteTable {
    static constexpr Route kRoutes[] = {
        {"GET", "/healthz", open, false, &Routes::healthz, "whether the process runs"},
        {"GET", "/readyz", open, false, &Routes::readyz,
         "whether it takes new connections; 503 with reasons where not"},
        {"GET", "/", open, true, &Routes::page, "a page that shows what the server does"},
        {"GET", "/page.js", open, true, &Routes::page, "its program"},
        {"GET", "/page.css", open, true, &Routes::page, "its looks"},
        {"GET", "/icon.svg", open, true, &Routes::page, "its icon"},
        {"GET", "/metrics", token, true, &Routes::metrics, "what is measured, for Prometheus"},
        {"GET", "/api/v1", token, false, &Routes::index, "this table"},
        {"GET", "/api/v1/server", token, true, &Routes::server,
         "the process, and the sum of all reactors"},
        {"GET", "/api/v1/reactors", token, true, &Routes::reactors, "each reactor apart"},
        {"GET", "/api/v1/stream", token, true, &Routes::stream,
         "all figures each second, as Server-Sent Events: what the page draws"},
        {"GET", "/api/v1/config", token, true, &Routes::config,
         "the settings in force, and where each was given"},
        {"GET", "/api/v1/limits", token, true, &Routes::limits,
         "each limit, what is in use of it, and how often it refused"},
        {"GET", "/api/v1/anomalies", token, false, &Routes::anomalies,
         "what is not normal now, since when and where it comes from, and what was not before"},
        {"GET", "/api/v1/log-level", token, true, &Routes::log_level, "the log level"},
        {"POST", "/api/v1/log-level", token, true, &Routes::set_log_level,
         "another log level, until the next reload: {level}"},
        {"GET", "/api/v1/policies", token, true, &Routes::policies,
         "the policies for cohorts of users, and what their sessions do beside the rest"},
        {"POST", "/api/v1/policies", token, true, &Routes::set_policies,
         "others, until the next reload: {policies}"},
        {"POST", "/api/v1/policies/rollback", token, true, &Routes::roll_back_policies,
         "those that were in force before the last change"},
        {"POST", "/api/v1/reload", token, true, &Routes::reload, "what SIGHUP does"},
        {"GET", "/api/v1/drain", token, false, &Routes::drain_state, "how far a drain has come"},
        {"POST", "/api/v1/drain", token, true, &Routes::drain,
         "begins a drain, as SIGTERM does, or one of a {listener} or {filter}, at a {rate}"},
        {"GET", "/api/v1/count", token, true, &Routes::count,
         "how many connections match a filter, by protocol and state"},
        {"GET", "/api/v1/connections", token, true, &Routes::connections,
         "a page of those that match a filter: sort, limit, cursor"},
        {"GET", "/api/v1/connections/{id}", token, true, &Routes::connection,
         "what is known of one, with its timeline and an explanation"},
        {"GET", "/api/v1/closed", token, true, &Routes::closed,
         "a page of the last that ended, the newest first: reason, user, address, since, limit"},
        {"GET", "/api/v1/closed/{id}", token, true, &Routes::closed_one,
         "why one of them ended, with the evidence"},
        {"DELETE", "/api/v1/connections/{id}", token, true, &Routes::kick_one, "closes one"},
        {"POST", "/api/v1/kick", token, true, &Routes::kick,
         "closes those that match: {filter} or {all}, {rate}, {reason}"},
        {"POST", "/api/v1/broadcast", token, true, &Routes::broadcast,
         "sends a text to those that match: {text}, {filter} or {all}"},
        {"POST", "/api/v1/retune", token, true, &Routes::retune,
         "moves those that match to a profile: {profile}, {filter} or {all}"},
        {"GET", "/api/v1/users", token, true, &Routes::users,
         "a page of the users that are known: state, limit, cursor"},
        {"GET", "/api/v1/users/{name}", token, true, &Routes::user, "one user, and its sessions"},
        {"POST", "/api/v1/users/{name}/send", token, true, &Routes::send_to_user,
         "sends a text to all sessions of a user: {text}"},
        {"GET", "/api/v1/presence", token, true, &Routes::presence,
         "who is online, and then each change, as Server-Sent Events; Last-Event-ID goes on"},
        {"POST", "/api/v1/tokens/revoke", token, true, &Routes::revoke,
         "closes those that have given a token, and refuses it from now on: {token_id}"},
    };
};

std::span<const Route> Routes::table() { return RouteTable::kRoutes; }

Reply Routes::index(const Ask&) {
    Json routes = Json::array();
    for (const Route& route : table()) {
        routes.push_back({{"method", route.method},
                          {"path", route.path},
                          {"token", route.access == Access::token},
                          {"about", route.about}});
    }
    return json_reply({{"routes", std::move(routes)}});
}

// -------------------------------------------------------------------------------------- balancers

Reply Routes::healthz(const Ask&) { return json_reply({{"status", "ok"}}); }

Reply Routes::readyz(const Ask&) {
    const ServingState state = target_.serving();
    Json reasons = Json::array();
    for (std::string& reason : reasons_of_drains()) reasons.push_back(std::move(reason));
    if (state.connections >= state.connections_max) {
        reasons.push_back(fmt::format("it holds {} of {} connections (--max-connections)",
                                      state.connections, state.connections_max));
    }
    if (state.reactors_stuck > 0)
        reasons.push_back(fmt::format("{} reactors do not answer", state.reactors_stuck));
    // A balancer that sends nothing is for when most of what it sends would be refused.
    if (state.reactors_overloaded > 0 &&
        2 * state.reactors_overloaded >= target_.reactors().count()) {
        reasons.push_back(fmt::format("{} of {} reactors are overloaded (--overload)",
                                      state.reactors_overloaded, target_.reactors().count()));
    }
    const bool ready = reasons.empty();
    return json_reply({{"ready", ready}, {"reasons", std::move(reasons)}}, ready ? 200 : 503);
}

// ----------------------------------------------------------------------------------- measurements

bool Routes::Measured::has(uint32_t reactor) const {
    const auto& late = outcome.unanswered;
    return std::ranges::find(late, reactor) == late.end() && jobs[reactor]->finished();
}

Routes::Measured Routes::measure(const Ask& ask) {
    Measured measured;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        measured.jobs.push_back(std::make_shared<StatsJob>());
        jobs.push_back(measured.jobs.back());
    }
    measured.outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    return measured;
}

Reply Routes::metrics(const Ask& ask) {
    const Measured measured = measure(ask);
    std::vector<const ReactorStats*> reactors;
    for (uint32_t reactor = 0; reactor < measured.jobs.size(); ++reactor)
        reactors.push_back(measured.has(reactor) ? measured.jobs[reactor]->stats.get() : nullptr);
    PopulationNames names{.protocols = {}, .stages = kStageNames};
    for (const Protocol* protocol : all_protocols()) names.protocols.push_back(protocol->name);
    const std::vector<ThreadCounter> counters = target_.counters();
    return {200,
            metrics_text(reactors, names, target_.serving(), target_.process(), target_.anomalies(),
                         counters, cohort_figures(measured.jobs)),
            "text/plain; version=0.0.4"};
}

// A reactor that has ended has no figures any more; one that is stuck is named.
Reply Routes::server(const Ask& ask) {
    const Measured measured = measure(ask);
    ReactorStats total;
    for (uint32_t reactor = 0; reactor < measured.jobs.size(); ++reactor)
        if (measured.has(reactor)) total += *measured.jobs[reactor]->stats;
    const ServingState state = target_.serving();
    Json object = target_.process();
    object["state"] = state.draining ? "draining" : "serving";
    object["reactors"] = errands_.reactors();
    object["connections"] = state.connections;
    object["max_connections"] = state.connections_max;
    object["unanswered_reactors"] = measured.outcome.unanswered;
    object["total"] = to_json(total);
    return json_reply(object);
}

Reply Routes::reactors(const Ask& ask) {
    const Measured measured = measure(ask);
    Json list = Json::array();
    for (uint32_t reactor = 0; reactor < measured.jobs.size(); ++reactor) {
        const bool late = std::ranges::count(measured.outcome.unanswered, reactor) > 0;
        const bool has = measured.has(reactor);
        Json object = {{"reactor", reactor}, {"state", has ? "serving" : late ? "stuck" : "ended"}};
        if (has) object.update(to_json(*measured.jobs[reactor]->stats));
        list.push_back(std::move(object));
    }
    return json_reply({{"uptime_s", target_.process().value("uptime_s", 0.0)},
                       {"cpu_s", target_.process().value("cpu_s", 0.0)},
                       {"reactors", std::move(list)}});
}

Reply Routes::anomalies(const Ask&) { return json_reply(to_json(target_.anomalies())); }

// ------------------------------------------------------------------------------ the main thread

Reply Routes::config(const Ask&) {
    const Result<Json> config = target_.config();
    if (!config) return error_reply(503, "main thread", config.error());
    return json_reply({{"settings", *config}});
}

Reply Routes::log_level(const Ask&) {
    const Result<std::string> level = target_.log_level();
    if (!level) return error_reply(503, "main thread", level.error());
    return json_reply({{"level", *level}});
}

Reply Routes::set_log_level(const Ask& ask) {
    if (!ask.body.contains("level") || !ask.body["level"].is_string())
        return error_reply(400, "level", "is missing, or not a string",
                           "write {\"level\": \"debug\"}");
    const auto set = target_.set_log_level(ask.body["level"].get<std::string>());
    if (!set) return error_reply(503, "main thread", set.error());
    if (!*set) return error_reply(400, "level", set->error());
    return log_level(ask);
}

Reply Routes::reload(const Ask&) {
    const Result<Result<Json>> reloaded = target_.reload();
    if (!reloaded) return error_reply(503, "main thread", reloaded.error());
    if (!*reloaded) return error_reply(409, "reload", reloaded->error());
    return json_reply(**reloaded);
}

Reply Routes::unanswered(const Errands::Outcome& outcome, Json so_far) const {
    std::string which;
    for (const uint32_t reactor : outcome.unanswered)
        which.append(which.empty() ? "" : ", ").append(std::to_string(reactor));
    Json object = {
        {"error",
         {{"status", 503},
          {"offender", "reactors " + which},
          {"reason", outcome.abandoned ? std::string("the request was abandoned")
                                       : "have not finished in time, or have too much to do"},
          {"remedy", "try again; /api/v1/reactors shows which are stuck"}}}};
    if (!so_far.is_null()) object["so_far"] = std::move(so_far);
    return json_reply(object, 503);
}

}  // namespace pulse
