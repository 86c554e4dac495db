// What the server's watch has found: its series, and the events with their evidence.
#include <fmt/format.h>

#include "tools/pulsectl/actions.h"
#include "tools/pulsectl/answers.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

using Align = Table::Align;

constexpr std::string_view kGoesOn = "goes on";

// 412, 18.3 ms; - where it is not known.
std::string value_of(const Json& row, const char* name) {
    const auto found = row.find(name);
    if (found == row.end() || !found->is_number()) return "-";
    const double value = found->get<double>();
    if (text_of(row, "unit") == "s") return fmt::format("{:.1f} ms", value * 1'000);
    return fmt::format("{:.1f}", value);
}

std::string spreads_of(const Json& row) {
    const auto found = row.find("spreads");
    const bool known = found != row.end() && found->is_number();
    return known ? fmt::format("{:.1f}", found->get<double>()) : "-";
}

// What holds most of it, of what is named.
std::string origin_of(const Json& event) {
    std::string text;
    for (const char* name : {"prefix", "listener", "label"}) {
        if (!event.contains(name) || !event[name].is_object()) continue;
        text.append(text.empty() ? "" : ", ");
        text += fmt::format("{} ({:.0f} %)", text_of(event[name], "of"),
                            100 * event[name].value("part", 0.0));
    }
    if (event.contains("reactor") && event["reactor"].is_number())
        text = "reactor " + std::to_string(number_of(event, "reactor"));
    return text.empty() ? "-" : text;
}

std::string state_of(const Json& event) {
    if (event.value("taken_as_normal", false)) return "taken as normal";
    return text_of(event, "over", "").empty() ? std::string(kGoesOn) : "over";
}

}  // namespace

std::vector<std::string> lines_of_living_anomalies(const Json& answer) {
    std::vector<std::string> lines;
    const auto events = answer.find("events");
    const bool on = text_of(answer, "on_anomaly", "off") != "off";
    if (!on || events == answer.end() || !events->is_array()) return lines;
    for (const Json& event : *events) {
        if (state_of(event) != kGoesOn) continue;
        lines.push_back(fmt::format("anomaly: {}, peak {}, normal {}, since {}; from {}",
                                    text_of(event, "series"), value_of(event, "peak"),
                                    value_of(event, "normal"), text_of(event, "since"),
                                    origin_of(event)));
    }
    return lines;
}

int run_anomalies(Client& client, const Request& request) {
    const Result<Json> answer = client.get_json("/api/v1/anomalies");
    if (!answer) return refused(answer.error());
    if (request.json) return print_json(*answer);
    Table series({{"SERIES"},
                  {"NOW", Align::right},
                  {"NORMAL", Align::right},
                  {"SPREADS", Align::right},
                  {"ANOMALIES", Align::right}});
    for (const Json& row : (*answer)["series"]) {
        series.add({text_of(row, "series"), value_of(row, "value"), value_of(row, "normal"),
                    spreads_of(row), grouped(number_of(row, "anomalies"))});
    }
    Table events({{"SINCE"},
                  {"SERIES"},
                  {"STATE"},
                  {"PEAK", Align::right},
                  {"NORMAL", Align::right},
                  {"MOST OF IT FROM"}});
    for (const Json& event : (*answer)["events"]) {
        events.add({text_of(event, "since"), text_of(event, "series"), state_of(event),
                    value_of(event, "peak"), value_of(event, "normal"), origin_of(event)});
    }
    const std::string mode = text_of(*answer, "on_anomaly");
    if (mode == "off") return print("the server does not look for anomalies (--on-anomaly off)\n");
    return print(
        fmt::format("{} samples, one each {}; overload step: {}\n\n{}\n{}",
                    grouped(number_of(*answer, "samples")),
                    short_time(static_cast<int64_t>(answer->value("interval_s", 0.0) * 1'000)),
                    text_of(*answer, "overload_step"), series.text(), events.text()));
}

}  // namespace pulse::ctl
