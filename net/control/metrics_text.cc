// Families of lines from the tables.
#include "net/control/metrics_text.h"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

namespace pulse {
namespace {

using Out = std::back_insert_iterator<std::string>;

double seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

void head(Out out, std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(out, "# HELP {0} {2}.\n# TYPE {0} {1}\n", name, type, help);
}

// bytes_received becomes received_bytes: the unit is last.
std::string counter_name(std::string_view name, std::string_view unit) {
    constexpr std::string_view kBytes = "bytes_";
    if (unit == "bytes" && name.starts_with(kBytes))
        return fmt::format("pulsewheel_{}_bytes_total", name.substr(kBytes.size()));
    return fmt::format("pulsewheel_{}_total", name);
}

void counters(Out out, const std::vector<const ReactorStats*>& reactors) {
    for (size_t metric = 0; metric < kMetrics; ++metric) {
        const MetricInfo& info = kMetricInfos[metric];
        const std::string name = counter_name(info.name, info.unit);
        head(out, name, "counter", info.help);
        for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
            if (reactors[reactor] == nullptr) continue;
            fmt::format_to(out, "{}{{reactor=\"{}\"}} {}\n", name, reactor,
                           reactors[reactor]->metrics.counters[metric]);
        }
    }
}

// Of all reactors: 256 of them with every reason each would be tens of thousands of series.
void reasons(Out out, const ReactorStats& total) {
    const auto family = [&](std::string_view name, std::string_view help, const auto& counts) {
        head(out, name, "counter", help);
        for (size_t reason = 0; reason < kCloseReasons; ++reason) {
            fmt::format_to(out, "{}{{reason=\"{}\"}} {}\n", name, kCloseReasonInfos[reason].name,
                           counts[reason]);
        }
    };
    family("pulsewheel_closed_by_reason_total", "Connections that ended, by reason",
           total.metrics.closed);
    family("pulsewheel_refused_by_reason_total", "Connections that were refused, by reason",
           total.metrics.refused);
    constexpr std::string_view kTokens = "pulsewheel_tokens_refused_by_reason_total";
    head(out, kTokens, "counter", "Tokens that were not right, or that a peer did not have");
    for (size_t failure = 1; failure < kAuthFailures; ++failure) {  // 0: none
        fmt::format_to(out, "{}{{reason=\"{}\"}} {}\n", kTokens, kAuthFailureInfos[failure].word,
                       total.metrics.tokens_refused[failure]);
    }
}

// judge_lag_us becomes pulsewheel_judge_lag_seconds; what is named _total only grows.
void gauges(Out out, const std::vector<const ReactorStats*>& reactors) {
    static const Gauges kNone;
    for_each_gauge(
        [&](const GaugeInfo& info, const auto&) {
            std::string_view base = info.member;
            if (is_time(info.unit)) base = base.substr(0, base.rfind('_'));
            const bool grows = info.name.ends_with("_total");
            const std::string name =
                fmt::format("pulsewheel_{}{}{}", base, is_time(info.unit) ? "_seconds" : "",
                            grows ? "_total" : "");
            head(out, name, grows ? "counter" : "gauge", info.help);
            for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
                if (reactors[reactor] == nullptr) continue;
                for_each_gauge(
                    [&](const GaugeInfo& other, const auto& value) {
                        if (other.name != info.name) return;
                        const double shown = is_time(info.unit) ? seconds(static_cast<Nanos>(value))
                                                                : static_cast<double>(value);
                        fmt::format_to(out, "{}{{reactor=\"{}\"}} {}\n", name, reactor, shown);
                    },
                    reactors[reactor]->gauges);
            }
        },
        kNone);
}

void distributions(Out out, const ReactorStats& total) {
    for_each_distribution(
        [&](const DistributionInfo& info, const Histogram& histogram) {
            const std::string name = fmt::format("pulsewheel_{}_seconds", info.name);
            head(out, name, "summary", info.help);
            constexpr std::pair<const char*, double> kQuantiles[] = {
                {"0.5", 50}, {"0.9", 90}, {"0.99", 99}, {"0.999", 99.9}, {"1", 100}};
            for (const auto& [quantile, percent] : kQuantiles) {
                fmt::format_to(out, "{}{{quantile=\"{}\"}} {}\n", name, quantile,
                               seconds(histogram.percentile(percent)));
            }
            const double sum = histogram.mean() * static_cast<double>(histogram.count());
            fmt::format_to(out, "{0}_sum {1}\n{0}_count {2}\n", name, sum / kSecond,
                           histogram.count());
        },
        total.distributions);
}

void io_counters(Out out, const std::vector<const ReactorStats*>& reactors) {
    static const IoCounters kNone;
    for_each_io_counter(
        [&](const IoCounterInfo& info, uint64_t) {
            const std::string name = fmt::format("pulsewheel_io_{}_total", info.name);
            head(out, name, "counter", info.help);
            for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
                if (reactors[reactor] == nullptr) continue;
                for_each_io_counter(
                    [&](const IoCounterInfo& other, uint64_t value) {
                        if (other.name != info.name) return;
                        fmt::format_to(out, "{}{{reactor=\"{}\"}} {}\n", name, reactor, value);
                    },
                    reactors[reactor]->io);
            }
        },
        kNone);
}

void single(Out out, std::string_view name, std::string_view type, std::string_view help,
            double value) {
    head(out, name, type, help);
    fmt::format_to(out, "{} {}\n", name, value);
}

void process_lines(Out out, const ServingState& serving, const Json& process) {
    head(out, "pulsewheel_build_info", "gauge", "The version, and the backend that was chosen");
    fmt::format_to(out, "pulsewheel_build_info{{version=\"{}\",backend=\"{}\"}} 1\n",
                   process.value("version", ""), process.value("backend", ""));
    single(out, "pulsewheel_draining", "gauge", "1 while the server drains",
           serving.draining ? 1 : 0);
    single(out, "pulsewheel_connections_limit", "gauge", "Connections at once, --max-connections",
           serving.connections_max);
    single(out, "process_resident_memory_bytes", "gauge", "Resident memory",
           process.value("rss_bytes", 0.0));
    single(out, "process_cpu_seconds_total", "counter", "CPU time, user and system",
           process.value("cpu_s", 0.0));
}

}  // namespace

std::string metrics_text(const std::vector<const ReactorStats*>& reactors,
                         const ServingState& serving, const Json& process) {
    std::string text;
    const Out out = std::back_inserter(text);
    process_lines(out, serving, process);
    head(out, "pulsewheel_reactor_up", "gauge", "0: the reactor has not answered in time");
    ReactorStats total;
    for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
        fmt::format_to(out, "pulsewheel_reactor_up{{reactor=\"{}\"}} {}\n", reactor,
                       reactors[reactor] != nullptr ? 1 : 0);
        if (reactors[reactor] != nullptr) total += *reactors[reactor];
    }
    counters(out, reactors);
    reasons(out, total);
    gauges(out, reactors);
    distributions(out, total);
    io_counters(out, reactors);
    return text;
}

}  // namespace pulse
