// Commands that are a request or two, and a table.
#include "tools/pulsectl/actions.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>

#include "core/units.h"
#include "proto/printable.h"
#include "tools/pulsectl/answers.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

using Align = Table::Align;

// Between two looks at a drain.
constexpr unsigned kDrainLookUs = 250'000;
// Looks in a row that may fail, all but one.
constexpr uint32_t kDrainTries = 5;

constexpr const char* kFilterFlags[] = {"protocol", "state", "listener", "address", "profile",
                                        "idle",     "age",   "user",     "label",   "id"};

// What was given of a filter's flag; of --label also those that commas separate, since the server
// compares a label as a whole.
std::vector<std::string> values_of(const Request& request, const std::string& flag) {
    std::vector<std::string> values = request.all_of(flag);
    if (flag != "label") return values;
    std::vector<std::string> labels;
    for (const std::string& text : values) {
        for (size_t from = 0; from < text.size();) {
            const size_t end = std::min(text.find(',', from), text.size());
            labels.push_back(text.substr(from, end - from));
            from = end + 1;
        }
    }
    return labels;
}

Json filter_of(const Request& request) {
    Json filter = Json::object();
    for (const char* flag : kFilterFlags) {
        if (!request.has(flag)) continue;
        const std::vector<std::string> values = values_of(request, flag);
        filter[flag] = values.size() == 1 ? Json(values.front()) : Json(values);
    }
    return filter;
}

std::string query_of(const Request& request) {
    std::string query;
    const auto add = [&](std::string_view name, const std::string& value) {
        query.append(query.empty() ? "?" : "&").append(name).append("=");
        query.append(percent_encoded(value));
    };
    for (const char* flag : kFilterFlags)
        for (const std::string& value : values_of(request, flag)) add(flag, value);
    return query;
}

// "filter", or "all".
Json body_of(const Request& request) {
    Json body = Json::object();
    const Json filter = filter_of(request);
    if (!filter.empty()) body["filter"] = filter;
    if (request.has("all")) body["all"] = true;
    return body;
}

// "3 connections were closed, 1 was skipped"
int print_done(const Result<Json>& answer, const Request& request, std::string_view what) {
    if (!answer) return refused(answer.error());
    if (request.json) return print_json(*answer);
    const uint64_t done = number_of(*answer, "done"), skipped = number_of(*answer, "skipped");
    std::string text = fmt::format("{} connections {}", grouped(done), what);
    if (skipped > 0) text += fmt::format(", {} were skipped", grouped(skipped));
    return print(text + "\n");
}

void add_row(Table& table, const Json& row) {
    table.add({text_of(row, "id"), text_of(row, "protocol"), text_of(row, "state"),
               text_of(row, "address"), text_of(row, "user"), text_of(row, "profile"),
               short_time(static_cast<int64_t>(number_of(row, "idle_ms"))),
               std::to_string(number_of(row, "probes_unanswered")),
               std::to_string(number_of(row, "queued_bytes")), text_of(row, "listener")});
}

}  // namespace

int refused(const std::string& error) {
    std::fprintf(stderr, "pulsectl: %s\n", printable_lines(error).c_str());
    return kRefused;
}

int usage(const std::string& error) {
    std::fprintf(stderr, "pulsectl: %s\n", printable_lines(error).c_str());
    return kUsage;
}

int print(const std::string& text) {
    if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kDone;
    return refused("stdout cannot be written; give it a file or a pipe that takes the output");
}

int print_json(const Json& object) {
    return print(object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

// ----------------------------------------------------------------------------------- connections

// Pages until there are enough, or none is left. JSON is a list of one object a line, so that a
// million of them are not held.
int run_ls(Client& client, const Request& request) {
    const Result<uint64_t> wanted = wanted_of(request);
    if (!wanted) return usage(wanted.error());
    if (request.has("closed")) return list_closed(client, request, *wanted);
    for (const char* flag : {"reason", "since"}) {
        if (request.has(flag))
            return usage("--" + std::string(flag) +
                         ": is of connections that ended; give --closed as well");
    }
    Table table({{"ID"},
                 {"PROTOCOL"},
                 {"STATE"},
                 {"ADDRESS"},
                 {"USER"},
                 {"PROFILE"},
                 {"IDLE", Align::right},
                 {"PROBES", Align::right},
                 {"QUEUED", Align::right},
                 {"LISTENER"}});
    std::string query = query_of(request);
    query += (query.empty() ? "?" : "&");
    query += "sort=" + percent_encoded(request.get("sort", "id"));
    uint64_t found = 0;
    int code = kDone;
    const Result<bool> more = for_each_row(client, "/api/v1/connections" + query, "connections",
                                           *wanted, [&](const Json& row) {
                                               ++found;
                                               if (request.json)
                                                   return (code = print_json(row)) == kDone;
                                               add_row(table, row);
                                               return true;
                                           });
    if (!more) return refused(more.error());
    if (request.json) return code;
    return print(table.text() + fmt::format("{} connections{}\n", grouped(found),
                                            *more ? "; there are more (--limit)" : ""));
}

int run_count(Client& client, const Request& request) {
    const Result<Json> count = client.get_json("/api/v1/count" + query_of(request));
    if (!count) return refused(count.error());
    if (request.json) return print_json(*count);
    std::string text = grouped(number_of(*count, "connections")) + " connections\n";
    for (const char* by : {"by_protocol", "by_state"}) {
        Table table({{by == std::string_view("by_state") ? "STATE" : "PROTOCOL"},
                     {"CONNECTIONS", Align::right}});
        for (const auto& [name, value] : (*count)[by].items())
            table.add({name, grouped(value.get<uint64_t>())});
        if (!(*count)[by].empty()) text += "\n" + table.text();
    }
    return print(text);
}

int run_kick(Client& client, const Request& request) {
    const bool has_filter = !filter_of(request).empty() || request.has("all");
    if (request.argument.empty()) {
        Json body = body_of(request);
        for (const char* flag : {"rate", "reason"})
            if (request.has(flag)) body[flag] = request.get(flag);
        return print_done(client.post_json("/api/v1/kick", body), request, "were closed");
    }
    if (has_filter || request.has("rate") || request.has("reason"))
        return usage(
            "kick: an ID and a filter, --rate or --reason exclude each other; give one of them");
    const auto answer = client.remove("/api/v1/connections/" + percent_encoded(request.argument));
    return print_done(Client::json(answer), request, "were closed");
}

int run_broadcast(Client& client, const Request& request) {
    Json body = body_of(request);
    body["text"] = request.argument;
    return print_done(client.post_json("/api/v1/broadcast", body), request, "were sent the text");
}

int run_send(Client& client, const Request& request) {
    const bool to_user = request.has("user");
    if (to_user == request.has("id")) return usage("send: name one of --user and --id");
    const Json text = {{"text", request.argument}};
    if (to_user) {
        const std::string target =
            "/api/v1/users/" + percent_encoded(request.get("user")) + "/send";
        return print_done(client.post_json(target, text), request, "were sent the text");
    }
    Json body = text;
    body["filter"] = filter_of(request);
    return print_done(client.post_json("/api/v1/broadcast", body), request, "were sent the text");
}

int run_retune(Client& client, const Request& request) {
    Json body = body_of(request);
    body["profile"] = request.argument;
    return print_done(client.post_json("/api/v1/retune", body), request,
                      "have profile " + request.argument);
}

int run_revoke(Client& client, const Request& request) {
    const Json body = {{"token_id", request.argument}};
    const Result<Json> answer = client.post_json("/api/v1/tokens/revoke", body);
    const int code = print_done(answer, request, "had given it and were closed");
    if (code != kDone || request.json || !answer->contains("not_yet")) return code;
    std::string which;
    for (const Json& reactor : (*answer)["not_yet"])
        which.append(which.empty() ? "" : ", ").append(reactor.dump());
    return print("reactors " + which + " have not come to it yet, and will\n");
}

// ------------------------------------------------------------------------------------ the server

namespace {

std::string drain_line(const Json& state, uint64_t first) {
    const double since = state.value("since_s", 0.0), delay = state.value("delay_s", 0.0);
    if (text_of(state, "phase") == "not_ready")
        return fmt::format("draining: not ready, accepts for {:.1f} s more", delay - since);
    const uint64_t left = number_of(state, "connections");
    return fmt::format("draining: {} of {} connections closed at {}/s, {:.1f} s of {:.0f} s",
                       grouped(first - std::min(first, left)), grouped(first),
                       grouped(number_of(state, "goodbyes_per_s")), since - delay,
                       state.value("window_s", 0.0));
}

// The same for a part of the server, which goes on serving.
int drain_part(Client& client, const Request& request, const Json& filter) {
    Json body = Json::object();
    if (filter.size() == 1 && filter.contains("listener") && filter["listener"].is_array())
        return usage("--listener: several; drain one listener, and then the next");
    if (filter.contains("listener") && filter.size() == 1)
        body["listener"] = filter["listener"];
    else
        body["filter"] = filter;
    if (request.has("rate")) body["rate"] = request.get("rate");
    Result<Json> state = client.post_json("/api/v1/drain", body);
    if (!state) return refused(state.error());
    const uint64_t number = number_of((*state)["parts"].back(), "number");
    const bool terminal = ::isatty(STDOUT_FILENO) == 1 && !request.json;
    for (uint32_t looks = 0;; ++looks) {
        const Json* part = nullptr;
        for (const Json& each : (*state)["parts"])
            if (number_of(each, "number") == number) part = &each;
        if (part == nullptr)
            return refused("drain: it is not shown any more; others came after it");
        const bool over = request.has("no-wait") || part->value("finished", false);
        const std::string line = fmt::format(
            "draining {}: {} of {} connections closed at {}/s, {:.1f} s",
            part->contains("listener") ? text_of(*part, "listener") : "a part",
            grouped(number_of(*part, "closed")), grouped(number_of(*part, "connections")),
            grouped(number_of(*part, "goodbyes_per_s")), part->value("since_s", 0.0));
        int code = kDone;
        if (request.json)
            code = print_json(*part);
        else if (terminal)
            code = print("\r" + line + "\x1b[K" + (over ? "\n" : ""));
        else if (over || looks % 4 == 0)
            code = print(line + "\n");
        if (code != kDone || over) return code;
        ::usleep(kDrainLookUs);
        state = client.get_json("/api/v1/drain");
        if (!state) return refused(state.error());
    }
}

}  // namespace

// A line that is renewed on a terminal, and a line a second elsewhere. The server ends with the
// drain, and its endpoint with it: that it is gone is the end that was asked for.
// The drain a moment later; nothing once the server has ended, which is where nothing listens any
// more. Whatever else fails on the way is asked again before it is an error.
Result<std::optional<Json>> look_at_drain(Client& client) {
    for (uint32_t tries = 1;; ++tries) {
        ::usleep(kDrainLookUs);
        const Result<Answer> answer = client.get("/api/v1/drain");
        if (!answer && client.nothing_listens()) return std::optional<Json>();
        if (!answer && tries < kDrainTries) continue;
        Result<Json> state = Client::json(answer);
        if (!state) return Error{state.error()};
        return std::optional<Json>(*std::move(state));
    }
}

// The drain that was begun; nothing if the server had so little to close that it ended before its
// answer was whole.
Result<std::optional<Json>> begin_drain(Client& client) {
    const Result<Json> begun = client.post_json("/api/v1/drain", Json::object());
    if (begun) return std::optional<Json>(*begun);
    if (!client.nothing_listens()) {
        const Result<std::optional<Json>> now = look_at_drain(client);
        if (now && !*now) return std::optional<Json>();
    }
    return Error{begun.error()};
}

int run_drain(Client& client, const Request& request) {
    const Json filter = filter_of(request);
    if (!filter.empty()) return drain_part(client, request, filter);
    if (request.has("rate"))
        return refused("drain: --rate is for a listener or a filter; the server's is --drain-rate");
    const Result<std::optional<Json>> begun = begin_drain(client);
    if (!begun) return refused(begun.error());
    if (!*begun) return request.json ? kDone : print("the server has ended\n");
    Json state = **begun;
    if (request.has("no-wait"))
        return request.json ? print_json(state) : print("the drain has begun\n");
    const bool terminal = ::isatty(STDOUT_FILENO) == 1 && !request.json;
    const uint64_t first = number_of(state, "connections_at_drain");
    for (uint32_t looks = 0;; ++looks) {
        const std::string line = drain_line(state, first);
        int code = kDone;
        if (request.json) {
            code = print_json(state);
        } else if (terminal) {
            code = print("\r" + line + "\x1b[K");
        } else if (looks % 4 == 0) {
            code = print(line + "\n");
        }
        if (code != kDone) return code;
        const Result<std::optional<Json>> next = look_at_drain(client);
        if (!next) return refused(next.error());
        if (!*next) break;
        state = **next;
    }
    if (request.json) return kDone;
    return print(std::string(terminal ? "\r\x1b[K" : "") + "the server has ended\n");
}

int run_ready(Client& client, const Request& request) {
    const Result<Answer> answer = client.get("/readyz");
    if (!answer) return refused(answer.error());
    const Json state = Json::parse(answer->body, nullptr, false);
    if (!state.is_object() || !state.contains("ready"))
        return refused(Client::json(answer) ? "the answer is not that of a pulsewheel"
                                            : Client::json(answer).error());
    const bool ready = state["ready"] == true;
    int code = kDone;
    if (request.json) {
        code = print_json(state);
    } else {
        std::string text = ready ? "ready\n" : "not ready:";
        for (const Json& reason : state["reasons"])
            text += (text.ends_with(":") ? " " : ", ") + printable(reason.get<std::string>());
        code = print(ready ? text : text + "\n");
    }
    return ready ? code : kRefused;
}

int run_stats(Client& client, const Request& request) {
    const Result<Json> server = client.get_json("/api/v1/server");
    if (!server) return refused(server.error());
    if (request.json) return print_json(*server);
    Table table({{"FIGURE"}, {"VALUE", Align::right}});
    const auto add = [&](const std::string& name, const Json& value) {
        if (value.is_number_unsigned() || value.is_number_integer())
            table.add({name, grouped(value.get<uint64_t>())});
        else if (value.is_number())
            table.add({name, fmt::format("{:.2f}", value.get<double>())});
        else if (value.is_string())
            table.add({name, value.get<std::string>()});
    };
    for (const auto& [name, value] : server->items()) add(name, value);
    for (const auto& [name, value] : (*server)["total"].items()) {
        add(name, value);
        if (!value.is_object()) continue;
        const bool distribution = value.contains("count");
        for (const auto& [inner, number] : value.items()) {
            const bool shown = !distribution || inner == "count" || inner == "p50_us" ||
                               inner == "p99_us" || inner == "max_us";
            if (shown) add(name + "." + inner, number);
        }
    }
    return print(table.text());
}

int run_limits(Client& client, const Request& request) {
    const Result<Json> answer = client.get_json("/api/v1/limits");
    if (!answer) return refused(answer.error());
    if (request.json) return print_json(*answer);
    Table table({{"LIMIT"},
                 {"OF"},
                 {"VALUE", Align::right},
                 {"USED", Align::right},
                 {"REFUSED", Align::right}});
    for (const Json& row : (*answer)["limits"]) {
        const bool used = row.contains("used") && row["used"].is_number();
        table.add({text_of(row, "limit"), text_of(row, "of"), text_of(row, "value"),
                   used ? grouped(number_of(row, "used")) : "-",
                   grouped(number_of(row, "refused"))});
    }
    return print(table.text());
}

namespace {

// Of a cohort, for each hour that one of its sessions lasted.
std::string each_hour(const Json& row, const char* member) {
    const auto seconds = static_cast<double>(number_of(row, "session_s"));
    if (seconds == 0) return "-";
    return fmt::format("{:.3f}", static_cast<double>(number_of(row, member)) * 3'600 / seconds);
}

int print_policies(const Result<Json>& answer, const Request& request) {
    if (!answer) return refused(answer.error());
    if (request.json) return print_json(*answer);
    if ((*answer)["cohorts"].empty()) return print("there is no policy\n");
    constexpr const char* kCompared[] = {"heartbeats", "probes", "ended", "evicted", "limited"};
    Table table({{"POLICY"},
                 {"SESSIONS", Align::right},
                 {"JOINED", Align::right},
                 {"HEARTBEATS/H", Align::right},
                 {"PROBES/H", Align::right},
                 {"ENDED/H", Align::right},
                 {"EVICTED/H", Align::right},
                 {"LIMITED/H", Align::right}});
    for (const Json& row : (*answer)["cohorts"]) {
        const bool ruled = row.contains("policy") && row["policy"].is_string();
        std::vector<std::string> cells = {ruled ? text_of(row, "policy") : "the rest",
                                          grouped(number_of(row, "sessions")),
                                          grouped(number_of(row, "joined"))};
        for (const char* member : kCompared) cells.push_back(each_hour(row, member));
        table.add(std::move(cells));
    }
    const uint64_t leaving = number_of(*answer, "leaving");
    const std::string more =
        leaving == 0 ? "" : grouped(leaving) + " sessions have not left a former policy yet\n";
    return print(table.text() + more);
}

}  // namespace

int run_policy(Client& client, const Request& request) {
    if (request.argument.empty())
        return print_policies(client.get_json("/api/v1/policies"), request);
    if (request.argument == "rollback") {
        return print_policies(client.post_json("/api/v1/policies/rollback", Json::object()),
                              request);
    }
    Json list = Json::array();
    if (request.argument != "off") list.push_back(request.argument);
    return print_policies(client.post_json("/api/v1/policies", {{"policies", std::move(list)}}),
                          request);
}

int run_config(Client& client, const Request& request) {
    const Result<Json> config = client.get_json("/api/v1/config");
    if (!config) return refused(config.error());
    if (request.json) return print_json(*config);
    Table table({{"SETTING"}, {"VALUE"}, {"GIVEN BY"}, {"A RELOAD"}});
    for (const Json& setting : (*config)["settings"]) {
        const std::string origin = text_of(setting, "origin");
        if (request.has("given") && origin == "default") continue;
        const bool live = text_of(setting, "reload") == "live";
        table.add({text_of(setting, "name"), text_of(setting, "value"), origin,
                   live ? "applies it" : "waits for a restart"});
    }
    return print(table.text());
}

int run_reload(Client& client, const Request& request) {
    const Result<Json> reloaded = client.post_json("/api/v1/reload", Json::object());
    if (!reloaded) return refused(reloaded.error());
    if (request.json) return print_json(*reloaded);
    std::string text;
    const auto add = [&](const char* list, std::string_view behind) {
        for (const Json& change : (*reloaded)[list]) {
            text += printable(fmt::format("{}: {} -> {}{}", text_of(change, "setting"),
                                          text_of(change, "before"), text_of(change, "after"),
                                          behind)) +
                    "\n";
        }
    };
    add("applied", "");
    add("wait_for_a_restart", " (waits for a restart)");
    return print(text.empty() ? "nothing has changed\n" : text);
}

int run_log_level(Client& client, const Request& request) {
    const Result<Json> level =
        request.argument.empty()
            ? client.get_json("/api/v1/log-level")
            : client.post_json("/api/v1/log-level", {{"level", request.argument}});
    if (!level) return refused(level.error());
    return request.json ? print_json(*level) : print(text_of(*level, "level") + "\n");
}

}  // namespace pulse::ctl
