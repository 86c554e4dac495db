// A table of metrics; a small scanner; the comparison.
#include "tools/pulseload/run/slo.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/check.h"
#include "core/units.h"
#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

namespace pulse::load {

enum class MetricKind : uint8_t { latency, duration, count, rate };

// One of `histogram` and `measure`, by kind. Either may have nothing; `missing` is the reason then.
struct Metric {
    std::string_view name;
    MetricKind kind;
    std::string_view missing;
    Histogram (*histogram)(const RunResult&);
    std::optional<double> (*measure)(const RunResult&);
};

namespace {

using Value = std::optional<double>;

template <Timed timed>
Histogram latency_of(const RunResult& result) {
    return reported_latency(result, timed);
}
template <uint64_t Counts::* field>
Value count_of(const RunResult& result) {
    return static_cast<double>(result.counts.*field);
}
template <uint64_t Detection::Row::* field>
Value evictions(const RunResult& result) {
    if (!any_judged(result.detection)) return std::nullopt;
    return static_cast<double>(silenced_peers(result.detection).*field);
}
Value false_evictions(const RunResult& result) {
    if (result.detection.timeout == 0) return std::nullopt;
    return static_cast<double>(result.detection.false_evictions);
}
Value lost(const RunResult& result) {
    const std::optional<ConnectionOutcome> found = connection_outcome(result);
    return found ? Value(static_cast<double>(found->lost)) : std::nullopt;
}
// The slowest storm's of those after which a client came back; never, where one did not recover.
Value recovery(const RunResult& result) {
    Value slowest;
    for (const StormResult& storm : result.storms) {
        if (storm.tries == 0) continue;
        if (storm.recovery_s <= 0) return static_cast<double>(kNever);
        slowest = std::max(slowest.value_or(0), storm.recovery_s * 1e9);
    }
    return slowest;
}

constexpr std::string_view kNoDeadline =
    "no silenced peer came to its deadline, or the server's timeout is not known";
constexpr Metric kMetrics[] = {
    {"heartbeat", MetricKind::latency, "no heartbeat was answered", latency_of<Timed::heartbeat>,
     nullptr},
    {"connect", MetricKind::latency, "nothing connected", latency_of<Timed::connect>, nullptr},
    {"message", MetricKind::latency, "no message came back", latency_of<Timed::message>, nullptr},
    {"heartbeat-service", MetricKind::latency, "no heartbeat was answered",
     latency_of<Timed::heartbeat_service>, nullptr},
    {"connect-service", MetricKind::latency, "nothing connected",
     latency_of<Timed::connect_service>, nullptr},
    {"message-service", MetricKind::latency, "no message came back",
     latency_of<Timed::message_service>, nullptr},
    {"tls-handshake", MetricKind::latency, "no handshake of TLS was made",
     latency_of<Timed::tls_handshake>, nullptr},
    {"lateness", MetricKind::latency, "nothing was sent",
     [](const RunResult& result) { return result.generator.lateness; }, nullptr},
    {"eviction-delay", MetricKind::latency, kNoDeadline,
     [](const RunResult& result) { return silenced_peers(result.detection).late_by; }, nullptr},
    {"false-evictions", MetricKind::count, "the server's timeout is not known", nullptr,
     false_evictions},
    {"missed-evictions", MetricKind::count, kNoDeadline, nullptr,
     evictions<&Detection::Row::missed>},
    {"early-evictions", MetricKind::count, kNoDeadline, nullptr, evictions<&Detection::Row::early>},
    {"lost", MetricKind::count, "the run ended before the hold", nullptr, lost},
    {"refused", MetricKind::count, "", nullptr, count_of<&Counts::refusals>},
    {"connect-failures", MetricKind::count, "", nullptr, count_of<&Counts::connect_failures>},
    {"tls-failures", MetricKind::count, "", nullptr, count_of<&Counts::tls_failed>},
    {"protocol-errors", MetricKind::count, "", nullptr, count_of<&Counts::protocol_errors>},
    {"server-closes", MetricKind::count, "", nullptr, count_of<&Counts::server_closes>},
    {"error-frames", MetricKind::count, "", nullptr, count_of<&Counts::error_frames>},
    {"connected", MetricKind::count, "", nullptr, count_of<&Counts::connected>},
    {"connect-rate", MetricKind::rate, "nothing connected", nullptr, connect_rate},
    {"heartbeat-rate", MetricKind::rate, "the run ended before the hold", nullptr, heartbeat_rate},
    {"recovery", MetricKind::duration, "no storm let its clients come back", nullptr, recovery},
};

const Metric* find_metric(std::string_view name) {
    if (name == "rtt") name = "heartbeat";
    for (const Metric& metric : kMetrics) {
        if (metric.name == name) return &metric;
    }
    return nullptr;
}

std::string known_metrics() {
    std::string latencies = "rtt";
    std::string others;
    for (const Metric& metric : kMetrics) {
        std::string& list = metric.kind == MetricKind::latency ? latencies : others;
        if (!list.empty()) list += ", ";
        list += metric.name;
    }
    return fmt::format(
        "known are p99 (any pN, mean, min, max; of heartbeats, or with one of these "
        "and a dot in front: {}), {}",
        latencies, others);
}

// ---------------------------------------------------------------------------------------- reading

constexpr double kMean = -1;  // instead of a percent
constexpr double kMin = -2;

// Of "p99.9", "mean", "min", "max". Nothing if it is none of them.
std::optional<double> parse_statistic(std::string_view text) {
    if (text == "mean") return kMean;
    if (text == "min") return kMin;
    if (text == "max") return 100;
    if (text.size() < 2 || text[0] != 'p' || text[1] < '0' || text[1] > '9') return std::nullopt;
    double percent = 0;
    const char* const end = text.data() + text.size();
    const auto [stopped, error] =
        std::from_chars(text.data() + 1, end, percent, std::chars_format::fixed);
    if (error != std::errc() || stopped != end || percent > 100) return std::nullopt;
    return percent;
}

// Metric and statistic of "connect.p99.9", "p99.9", "refused".
bool find_measured(std::string_view name, Objective& objective) {
    const size_t dot = name.find('.');
    std::string_view statistic = name;
    objective.metric = find_metric("heartbeat");
    if (dot != std::string_view::npos && find_metric(name.substr(0, dot)) != nullptr) {
        objective.metric = find_metric(name.substr(0, dot));
        statistic = name.substr(dot + 1);
    }
    if (objective.metric->kind == MetricKind::latency) {
        if (const std::optional<double> percent = parse_statistic(statistic)) {
            objective.percent = *percent;
            return true;
        }
    }
    objective.metric = find_metric(name);
    return objective.metric != nullptr && objective.metric->kind != MetricKind::latency;
}

Result<double> parse_bound(MetricKind kind, std::string_view text) {
    const auto as_double = [](const auto& parsed) -> Result<double> {
        if (!parsed) return Error{parsed.error()};
        return static_cast<double>(*parsed);
    };
    if (kind == MetricKind::count) return as_double(parse_count(text));
    if (kind == MetricKind::rate) return as_double(parse_rate(text));
    return as_double(parse_duration(text));
}

constexpr std::string_view kComparisons[] = {"<", "<=", "=", ">=", ">"};

Result<Objective> parse_objective(std::string_view text) {
    Objective objective;
    objective.text = text;
    const size_t at = text.find_first_of("<=>");
    if (text.empty())
        return Error{"an objective is empty; write such as p99<10ms,false-evictions=0"};
    if (at == std::string_view::npos) {
        return Error{fmt::format(
            "'{}' compares with nothing; write METRIC<VALUE such as p99<10ms (or <= = >= >)",
            text)};
    }
    size_t end = at + 1;
    if (end < text.size() && text[end] == '=' && text[at] != '=') ++end;
    const auto* found =
        std::find(std::begin(kComparisons), std::end(kComparisons), text.substr(at, end - at));
    PULSE_ASSERT(found != std::end(kComparisons));  // there is one for each way to get here
    objective.comparison = static_cast<Comparison>(found - std::begin(kComparisons));
    const std::string_view name = text.substr(0, at);
    if (!find_measured(name, objective)) {
        const bool lacks_statistic = find_metric(name) != nullptr;
        const std::string what = lacks_statistic
                                     ? " needs a statistic, such as " + std::string(name) + ".p99"
                                     : " is not known";
        return Error{fmt::format("'{}' in '{}'{}; {}", name, text, what, known_metrics())};
    }
    const Result<double> bound = parse_bound(objective.metric->kind, text.substr(end));
    if (!bound) return Error{fmt::format("in '{}': {}", text, bound.error())};
    objective.bound = *bound;
    return objective;
}

// ---------------------------------------------------------------------------------------- judging

// What was measured, or why not.
Result<double> measure(const Objective& objective, const RunResult& result) {
    const Metric& metric = *objective.metric;
    if (metric.kind != MetricKind::latency) {
        const std::optional<double> value = metric.measure(result);
        return value ? Result<double>(*value) : Error{std::string(metric.missing)};
    }
    const Histogram histogram = metric.histogram(result);
    if (histogram.count() == 0) return Error{std::string(metric.missing)};
    if (objective.percent == kMean) return histogram.mean();
    if (objective.percent == kMin) return static_cast<double>(histogram.min());
    const uint64_t needed = values_for_percentile(objective.percent);
    if (histogram.count() < needed) {
        return Error{fmt::format("{} values have no such percentile, it takes {}",
                                 human_count(histogram.count()), human_count(needed))};
    }
    return static_cast<double>(histogram.percentile(objective.percent));
}

std::string human_value(const Metric& metric, double value) {
    switch (metric.kind) {
        case MetricKind::count:
            return human_count(static_cast<uint64_t>(value));
        case MetricKind::rate:
            return human_count(static_cast<uint64_t>(value)) + "/s";
        case MetricKind::latency:
        case MetricKind::duration:
            break;
    }
    // Finer than elsewhere: 10.004 ms misses p99<10ms and must not read as 10.0 ms.
    if (value >= static_cast<double>(kNever)) return "never";
    if (value < 1e6) return fmt::format("{:.0f} us", value / 1e3);
    if (value < 1e9) return without_zeros(fmt::format("{:.3f} ms", value / 1e6));
    return without_zeros(fmt::format("{:.6f} s", value / 1e9));
}

bool compare(double value, Comparison comparison, double bound) {
    switch (comparison) {
        case Comparison::less:
            return value < bound;
        case Comparison::less_equal:
            return value <= bound;
        case Comparison::equal:
            return value == bound;
        case Comparison::greater_equal:
            return value >= bound;
        case Comparison::greater:
            break;
    }
    return value > bound;
}

}  // namespace

Result<std::vector<Objective>> parse_objectives(std::string_view text) {
    std::string squeezed;
    std::copy_if(text.begin(), text.end(), std::back_inserter(squeezed),
                 [](char c) { return c != ' ' && c != '\t' && c != '\n' && c != '\r'; });
    std::vector<Objective> objectives;
    for (std::string_view rest = squeezed;;) {
        const size_t comma = rest.find(',');
        Result<Objective> objective = parse_objective(rest.substr(0, comma));
        if (!objective) return Error{objective.error()};
        objectives.push_back(*std::move(objective));
        if (comma == std::string_view::npos) return objectives;
        rest.remove_prefix(comma + 1);
    }
}

std::vector<ObjectiveResult> judge(const std::vector<Objective>& objectives,
                                   const RunResult& result) {
    std::vector<ObjectiveResult> judged;
    for (const Objective& objective : objectives) {
        const Result<double> value = measure(objective, result);
        if (!value) {
            judged.push_back({objective.text, "", false, value.error()});
            continue;
        }
        judged.push_back({objective.text, human_value(*objective.metric, *value),
                          compare(*value, objective.comparison, objective.bound), ""});
    }
    return judged;
}

}  // namespace pulse::load
