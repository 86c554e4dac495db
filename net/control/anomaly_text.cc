// Lines of the log.
#include "net/control/anomaly_text.h"

#include <fmt/format.h>

#include <string_view>

#include "core/units.h"

namespace pulse {
namespace {

std::string value_text(const AnomalySeriesInfo& info, double value) {
    if (info.scale == SeriesScale::count) return fmt::format("{:.0f} {}", value, info.unit);
    return format_duration(static_cast<Nanos>(value * 1e6) * 1'000);
}

std::string end_line(const AnomalyEvent& event, std::string_view how) {
    const AnomalySeriesInfo& info = info_of(event.series);
    const Nanos lasted = (event.over_at - event.since_at) / kSecond * kSecond;
    return fmt::format("anomaly {}: {}: {} after {}; at most {}", event.number, info.name, how,
                       format_duration(lasted), value_text(info, event.peak));
}

}  // namespace

std::string raised_line(const AnomalyEvent& event, Nanos interval) {
    const AnomalySeriesInfo& info = info_of(event.series);
    std::string text = fmt::format(
        "anomaly {}: {}: {} in {}, normal is {}; since {} before this line", event.number,
        info.name, value_text(info, event.value), format_duration(interval),
        value_text(info, event.expected), format_duration(event.raised_at - event.since_at));
    if (event.reactor) text += fmt::format("; most of it in reactor {}", *event.reactor);
    for (const AnomalyShare* share : {&event.prefix, &event.listener, &event.label})
        if (!share->of.empty())
            text += fmt::format("; {:.0f} % of {} examined: {}", 100 * share->part, event.examined,
                                share->of);
    return text;
}

std::string over_line(const AnomalyEvent& event) {
    return end_line(event, event.adopted ? "taken as normal" : "over");
}

std::string given_up_line(const AnomalyEvent& event) {
    return end_line(event, "not followed any more");
}

}  // namespace pulse
