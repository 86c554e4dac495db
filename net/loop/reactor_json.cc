// One object from the tables of what is measured.
#include "net/loop/reactor_json.h"

#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

namespace pulse {
namespace {

using Json = nlohmann::ordered_json;

int64_t to_us(Nanos nanos) { return nanos / 1'000; }
double to_seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

// The names of pulseload's JSON; those of amounts have no unit.
Json distribution(const Histogram& histogram, DistributionScale scale) {
    if (histogram.count() == 0) return {{"count", 0}};
    const auto named = [&](std::string_view name) {
        if (scale == DistributionScale::amount) name.remove_suffix(std::strlen("_us"));
        return std::string(name);
    };
    Json object = {{"count", histogram.count()},
                   {named("min_us"), to_us(histogram.min())},
                   {named("mean_us"), histogram.mean() / 1'000}};
    constexpr std::pair<const char*, double> kPercentiles[] = {
        {"p50_us", 50}, {"p75_us", 75},     {"p90_us", 90},       {"p95_us", 95},
        {"p99_us", 99}, {"p99_9_us", 99.9}, {"p99_99_us", 99.99}, {"p99_999_us", 99.999}};
    for (const auto& [name, percent] : kPercentiles)
        object[named(name)] = to_us(histogram.percentile(percent));
    object[named("max_us")] = to_us(histogram.max());
    return object;
}

// Only reasons that occurred: a script that wants one that did not reads 0 by default.
Json by_reason(const std::array<uint64_t, kCloseReasons>& counts) {
    Json object = Json::object();
    for (size_t i = 0; i < kCloseReasons; ++i) {
        if (counts[i] > 0) object[std::string(kCloseReasonInfos[i].name)] = counts[i];
    }
    return object;
}

Json by_failure(const std::array<uint64_t, kAuthFailures>& counts) {
    Json object = Json::object();
    for (size_t i = 0; i < kAuthFailures; ++i) {
        if (counts[i] > 0) object[std::string(kAuthFailureInfos[i].word)] = counts[i];
    }
    return object;
}

void add_gauges(Json& object, const Gauges& gauges, bool (*is_wanted)(GaugeUnit)) {
    for_each_gauge(
        [&](const GaugeInfo& info, auto value) {
            if (!is_wanted(info.unit)) return;
            Json& member = object[std::string(info.member)];
            if (info.unit == GaugeUnit::seconds) {
                member = to_seconds(static_cast<Nanos>(value));
            } else if (info.unit == GaugeUnit::microseconds) {
                member = to_us(static_cast<Nanos>(value));
            } else {
                member = value;
            }
        },
        gauges);
}

Json to_json(const IoCounters& io) {
    Json object = Json::object();
    const auto per_batch = [&] {
        if (io.batches == 0) return 0.0;
        return static_cast<double>(io.completions) / static_cast<double>(io.batches);
    };
    for_each_io_counter(
        [&](const IoCounterInfo& info, uint64_t value) {
            object[std::string(info.name)] = value;
            if (info.name == "batches") object["completions_per_batch"] = per_batch();
        },
        io);
    return object;
}

}  // namespace

// Counts first, then times; what is in bytes has an object of its own at the end.
Json to_json(const ReactorStats& stats) {
    Json object = Json::object();
    add_gauges(object, stats.gauges, [](GaugeUnit unit) {
        return unit == GaugeUnit::count || unit == GaugeUnit::payload;
    });
    for (size_t i = 0; i < kMetrics; ++i) {
        object[std::string(kMetricInfos[i].name)] = stats.metrics.counters[i];
    }
    object["refused_by_reason"] = by_reason(stats.metrics.refused);
    object["closed_by_reason"] = by_reason(stats.metrics.closed);
    object["tokens_refused_by_reason"] = by_failure(stats.metrics.tokens_refused);
    for_each_distribution(
        [&](const DistributionInfo& info, const Histogram& histogram) {
            object[std::string(info.name)] = distribution(histogram, info.scale);
        },
        stats.distributions);
    add_gauges(object, stats.gauges, is_time);
    object["io"] = to_json(stats.io);
    Json memory = Json::object();
    add_gauges(memory, stats.gauges, [](GaugeUnit unit) { return unit == GaugeUnit::bytes; });
    object["memory"] = std::move(memory);
    return object;
}

}  // namespace pulse
