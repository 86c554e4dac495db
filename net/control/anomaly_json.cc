// Objects of numbers and of instants as text.
#include "net/control/anomaly_json.h"

#include <nlohmann/json.hpp>

#include "net/control/evidence_json.h"

namespace pulse {
namespace {

std::string time_text(Nanos wall) { return Clocks{}.text(wall); }

Json share_json(const AnomalyShare& share) {
    if (share.of.empty()) return nullptr;
    return {{"of", share.of}, {"part", share.part}};
}

Json event_json(const AnomalyEvent& event) {
    const AnomalySeriesInfo& info = info_of(event.series);
    Json object = {{"number", event.number},
                   {"series", info.name},
                   {"unit", info.unit},
                   {"since", time_text(event.since)},
                   {"raised", time_text(event.raised)},
                   {"over", nullptr},
                   {"taken_as_normal", event.adopted},
                   {"value", event.value},
                   {"normal", event.expected},
                   {"spreads", event.distance},
                   {"peak", event.peak},
                   {"examined", event.examined},
                   {"prefix", share_json(event.prefix)},
                   {"listener", share_json(event.listener)},
                   {"label", share_json(event.label)},
                   {"reactor", nullptr}};
    if (event.over != 0) object["over"] = time_text(event.over);
    if (event.reactor) object["reactor"] = *event.reactor;
    return object;
}

}  // namespace

Json to_json(const AnomalyReport& report) {
    Json series = Json::array();
    for (size_t at = 0; at < kAnomalySeries; ++at) {
        const AnomalySeriesInfo& info = kAnomalySeriesInfos[at];
        const AnomalyReport::Series& state = report.series[at];
        const bool known = state.measured && state.learned;
        series.push_back({{"series", info.name},
                          {"unit", info.unit},
                          {"about", info.about},
                          {"active", state.active},
                          {"value", state.measured ? Json(state.value) : Json()},
                          {"normal", known ? Json(state.expected) : Json()},
                          {"spreads", known ? Json(state.distance) : Json()},
                          {"score", state.score},
                          {"anomalies", state.anomalies}});
    }
    Json events = Json::array();
    for (const AnomalyEvent& event : report.events) events.push_back(event_json(event));
    const char* const mode = !report.on ? "off" : report.degrades ? "degrade" : "log";
    return {{"on_anomaly", mode},
            {"interval_s", static_cast<double>(report.interval) / kSecond},
            {"samples", report.samples},
            {"draining", report.draining},
            {"overload_step", name_of(report.step)},
            {"series", std::move(series)},
            {"events", std::move(events)}};
}

Json active_json(const AnomalyReport& report) {
    Json list = Json::array();
    for (const AnomalyEvent& event : report.events)
        if (event.over == 0) list.push_back(event_json(event));
    return list;
}

}  // namespace pulse
