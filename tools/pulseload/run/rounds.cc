// Medians.
#include "tools/pulseload/run/rounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {
namespace {

std::string human_rate(double value) {
    return human_count(static_cast<uint64_t>(std::llround(value))) + "/s";
}
std::string human_whole(double value) {
    return human_count(static_cast<uint64_t>(std::llround(value)));
}
std::string human_nanos(double value) { return human_duration(static_cast<Nanos>(value)); }

using Value = std::optional<double>;

template <Timed timed, int per_mille>
Value percentile(const RunResult& result) {
    const Histogram& histogram = reported_latency(result, timed);
    constexpr double kPercent = per_mille / 10.0;
    if (histogram.count() == 0 || histogram.count() < values_for_percentile(kPercent))
        return std::nullopt;
    return static_cast<double>(histogram.percentile(kPercent));
}

struct Source {
    std::string_view name;
    std::string_view unit;
    std::string (*human)(double);
    Value (*value)(const RunResult&);
};

constexpr Source kSources[] = {
    {"connects", "1/s", human_rate, connect_rate},
    {"connect p99", "ns", human_nanos, percentile<Timed::connect, 990>},
    {"heartbeats", "1/s", human_rate, heartbeat_rate},
    {"heartbeat p50", "ns", human_nanos, percentile<Timed::heartbeat, 500>},
    {"heartbeat p99", "ns", human_nanos, percentile<Timed::heartbeat, 990>},
    {"heartbeat p99.9", "ns", human_nanos, percentile<Timed::heartbeat, 999>},
    {"heartbeat max", "ns", human_nanos, percentile<Timed::heartbeat, 1000>},
    {"message p50", "ns", human_nanos, percentile<Timed::message, 500>},
    {"message p99", "ns", human_nanos, percentile<Timed::message, 990>},
    {"false evictions", "1", human_whole,
     [](const RunResult& result) {
         return result.detection.timeout == 0
                    ? Value()
                    : Value(static_cast<double>(result.detection.false_evictions));
     }},
    {"eviction delay max", "ns", human_nanos,
     [](const RunResult& result) {
         const Histogram late = silenced_peers(result.detection).late_by;
         return late.count() == 0 ? Value() : Value(static_cast<double>(late.max()));
     }},
    {"server CPU", "1", human_share,
     [](const RunResult& result) {
         const auto cost = server_cost(result);
         return cost ? Value(cost->cores) : Value();
     }},
    {"server RSS a connection", "B", human_bytes,
     [](const RunResult& result) {
         const auto cost = server_cost(result);
         return cost ? rss_per_connection(cost->at_the_end, cost->open) : Value();
     }},
    {"generator CPU", "1", human_share, generator_cores},
};

std::vector<const Attempt*> valid_rounds(const TargetRounds& rounds) {
    std::vector<const Attempt*> valid;
    for (const Attempt* round : rounds.rounds) {
        if (round->verdict.valid()) valid.push_back(round);
    }
    return valid;
}

}  // namespace

double Headline::median() const {
    std::vector<double> sorted = values;
    std::ranges::sort(sorted);
    const size_t middle = sorted.size() / 2;
    if (sorted.size() % 2 == 1) return sorted[middle];
    return (sorted[middle - 1] + sorted[middle]) / 2;
}
double Headline::min() const { return std::ranges::min(values); }
double Headline::max() const { return std::ranges::max(values); }

std::vector<Headline> headlines_of(const TargetRounds& rounds) {
    std::vector<Headline> headlines;
    const std::vector<const Attempt*> valid = valid_rounds(rounds);
    for (const Source& source : kSources) {
        Headline headline{.name = std::string(source.name),
                          .unit = std::string(source.unit),
                          .human = source.human,
                          .values = {}};
        for (const Attempt* round : valid) {
            if (const Value value = source.value(round->result)) headline.values.push_back(*value);
        }
        if (!headline.values.empty()) headlines.push_back(std::move(headline));
    }
    return headlines;
}

RunState state_of(const TargetRounds& rounds) {
    if (2 * valid_rounds(rounds).size() > rounds.rounds.size()) return RunState::valid;
    RunState worst = RunState::valid;
    for (const Attempt* round : rounds.rounds) worst = std::max(worst, round->verdict.state);
    return worst;
}

std::vector<ObjectiveResult> objectives_of(const TargetRounds& rounds) {
    const std::vector<const Attempt*> valid = valid_rounds(rounds);
    std::vector<ObjectiveResult> judged;
    for (size_t at = 0; !valid.empty() && at < valid.front()->objectives.size(); ++at) {
        size_t met = 0;
        for (const Attempt* round : valid) met += round->objectives[at].met;
        judged.push_back({valid.front()->objectives[at].objective,
                          fmt::format("met in {} of {} valid rounds", met, valid.size()),
                          2 * met > valid.size(), ""});
    }
    return judged;
}

const Attempt& typical_round(const TargetRounds& rounds) {
    std::vector<const Attempt*> valid = valid_rounds(rounds);
    if (valid.empty()) return *rounds.rounds.front();
    const auto p99 = [](const Attempt* round) {
        return reported_latency(round->result, Timed::heartbeat).percentile(99);
    };
    std::ranges::stable_sort(valid, {}, p99);
    return *valid[valid.size() / 2];
}

}  // namespace pulse::load
