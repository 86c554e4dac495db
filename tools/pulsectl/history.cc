// What became of connections: the last that ended, and explanations of one.
#include <fmt/format.h>

#include <utility>

#include "tools/pulsectl/actions.h"
#include "tools/pulsectl/answers.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

using Align = Table::Align;

// The server refuses those that such a list cannot have.
constexpr const char* kClosedFlags[] = {"reason",   "user",     "since", "address",
                                        "protocol", "listener", "state", "profile",
                                        "idle",     "age",      "label", "id"};

// "2 m 05 s ago", or "in 12.0 s".
std::string ago(int64_t ms) { return ms < 0 ? "in " + short_time(-ms) : short_time(ms) + " ago"; }

std::string time_or_dash(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number() ? short_time(found->get<int64_t>()) : "-";
}

// Sentences, instants, and the rest as it is.
std::string explained(const Json& facts) {
    std::string text;
    append_wrapped(text, text_of(facts, "explanation"), 0);
    Table instants({{"AT"}, {"WHEN", Align::right}, {"WHAT"}});
    for (const Json& moment : facts.value("timeline", Json::array()))
        instants.add({text_of(moment, "at"), ago(moment.value("ago_ms", int64_t{0})),
                      text_of(moment, "what")});
    text += "\n" + instants.text();
    Table table({{"FACT"}, {"VALUE"}});
    const auto add = [&](const std::string& name, const Json& value) {
        if (value.is_null() || value.is_array()) return;
        const bool is_time = name.ends_with("_ms") && value.is_number();
        std::string shown = value.is_string() ? value.get<std::string>() : value.dump();
        if (is_time) shown = short_time(value.get<int64_t>());
        table.add({is_time ? name.substr(0, name.size() - 3) : name, std::move(shown)});
    };
    for (const auto& [name, value] : facts.items()) {
        if (name == "explanation" || name == "cause") continue;
        if (!value.is_object()) {
            add(name, value);
            continue;
        }
        for (const auto& [inner, number] : value.items()) add(name + "." + inner, number);
    }
    return text + "\n" + table.text();
}

}  // namespace

int list_closed(Client& client, const Request& request, uint64_t wanted) {
    if (request.has("sort")) return usage("--sort: the newest come first; leave it out");
    std::string target = "/api/v1/closed?";
    for (const char* flag : kClosedFlags) {
        for (const std::string& value : request.all_of(flag))
            target.append(flag).append("=").append(percent_encoded(value)).append("&");
    }
    if (target.ends_with('&')) target.pop_back();
    Table table({{"ID"},
                 {"CLOSED", Align::right},
                 {"LASTED", Align::right},
                 {"REASON"},
                 {"BY"},
                 {"PROTOCOL"},
                 {"ADDRESS"}});
    uint64_t found = 0;
    int code = kDone;
    const Result<bool> more = for_each_row(client, target, "closed", wanted, [&](const Json& row) {
        ++found;
        if (request.json) return (code = print_json(row)) == kDone;
        table.add({text_of(row, "id"), ago(row.value("ago_ms", int64_t{0})),
                   time_or_dash(row, "lasted_ms"), text_of(row, "reason"), text_of(row, "ended_by"),
                   text_of(row, "protocol"), text_of(row, "address")});
        return true;
    });
    if (!more) return refused(more.error());
    if (request.json) return code;
    return print(table.text() + fmt::format("{} connections that ended{}\n", grouped(found),
                                            *more ? "; there are more (--limit)" : ""));
}

// One that is open, or else one that ended.
int run_explain(Client& client, const Request& request) {
    const std::string id = percent_encoded(request.argument);
    Result<Answer> answer = client.get("/api/v1/connections/" + id);
    if (answer && answer->status == 404) answer = client.get("/api/v1/closed/" + id);
    const Result<Json> facts = Client::json(answer);
    if (!facts) return refused(facts.error());
    return request.json ? print_json(*facts) : print(explained(*facts));
}

}  // namespace pulse::ctl
