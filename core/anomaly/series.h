// What the anomaly watch looks at: a few series of the whole server, a sample each interval.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace pulse {

enum class AnomalySeries : uint8_t { evictions, missed_probes, round_trip, newcomers, loop_lag };
inline constexpr size_t kAnomalySeries = 5;

// How the values of a series are made comparable: see Baseline.
enum class SeriesScale : uint8_t {
    count,  // events in the interval: the square root has the same noise at every rate
    time,   // seconds: the logarithm
};

struct AnomalySeriesInfo {
    std::string_view name;
    SeriesScale scale;
    std::string_view unit;
    // Of a time: what is added before the logarithm, in seconds; differences well below it
    // do not count.
    double floor;
    // The least spread: of counts that of a Poisson process is 1, of times a part of the value.
    double spread_min;
    // And of counts at least this part of the scaled level: below (1 + 4 parts)^2 times what is
    // normal a difference does not matter.
    double spread_part;
    std::string_view about;
};

inline constexpr std::array<AnomalySeriesInfo, kAnomalySeries> kAnomalySeriesInfos = {{
    {"evictions", SeriesScale::count, "connections", 0, 1, 0.15,
     "connections that ended because the peer or its network was gone"},
    {"missed_probes", SeriesScale::count, "probes", 0, 1, 0.15, "probes that nothing had followed"},
    {"round_trip", SeriesScale::time, "s", 0.001, 0.05, 0,
     "round trip of probes, the geometric mean of the interval"},
    {"newcomers", SeriesScale::count, "connections", 0, 1, 0.2,
     "connections that came, let in or not"},
    {"loop_lag", SeriesScale::time, "s", 0.05, 0.25, 0,
     "the longest turn, judge lag or wait for an answer of any reactor"},
}};

constexpr const AnomalySeriesInfo& info_of(AnomalySeries series) {
    return kAnomalySeriesInfos[static_cast<size_t>(series)];
}

// The value of a series that had nothing to measure, such as a round trip without a probe.
inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

struct AnomalySample {
    std::array<double, kAnomalySeries> values{};  // counts of the interval; seconds
    uint32_t second_of_day = 0;                   // of any time zone, always the same

    double& operator[](AnomalySeries series) { return values[static_cast<size_t>(series)]; }
    double operator[](AnomalySeries series) const { return values[static_cast<size_t>(series)]; }
};

}  // namespace pulse
