// Families of series from the tables, written by prometheus-cpp: one at a time, so that what a
// scrape takes of memory is its text and one family.
#include "net/control/metrics_text.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string_view>
#include <utility>

namespace pulse {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using Series = prometheus::ClientMetric;
using ReactorList = std::vector<const ReactorStats*>;
// Of each reactor the values of one table, in its order; empty: it has not answered.
using Values = std::vector<std::vector<double>>;

constexpr Nanos kUs = 1'000;
constexpr Nanos kMs = kMillisecond;

// Upper ends of buckets.
constexpr Nanos kDelayBounds[] = {
    100 * kUs,     250 * kUs,     500 * kUs,      1 * kMs,      2'500 * kUs,  5 * kMs,
    10 * kMs,      25 * kMs,      50 * kMs,       100 * kMs,    250 * kMs,    500 * kMs,
    1 * kSecond,   2'500 * kMs,   5 * kSecond,    10 * kSecond, 30 * kSecond, 60 * kSecond,
    300 * kSecond, 900 * kSecond, 3'600 * kSecond};
constexpr Nanos kWorkBounds[] = {
    10 * kUs, 25 * kUs, 50 * kUs, 100 * kUs, 250 * kUs, 500 * kUs, 1 * kMs,   2'500 * kUs,
    5 * kMs,  10 * kMs, 25 * kMs, 50 * kMs,  100 * kMs, 250 * kMs, 500 * kMs, 1 * kSecond};
constexpr auto kAmountBounds = [] {
    std::array<Nanos, 13> bounds{};  // 1 to 4,096
    for (size_t at = 0; at < bounds.size(); ++at) bounds[at] = Histogram::amount(uint64_t{1} << at);
    return bounds;
}();

// Buckets, and what an upper end is divided by to be shown.
struct Scale {
    std::span<const Nanos> bounds;
    Nanos unit;
};
Scale scale_of(DistributionScale scale) {
    switch (scale) {
        case DistributionScale::delay:
            return {kDelayBounds, kSecond};
        case DistributionScale::work:
            return {kWorkBounds, kSecond};
        case DistributionScale::amount:
            break;
    }
    return {kAmountBounds, Histogram::amount(1)};
}

double seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

class Exposition {
  public:
    // A family: add() and add_histogram() are of the one that was begun last.
    void begin(std::string name, MetricType type, std::string_view help) {
        write();
        family().name = std::move(name);
        family().type = type;
        family().help = std::string(help) + ".";
    }
    void add(std::vector<Series::Label> labels, double value) {
        Series& series = next();
        series.label = std::move(labels);
        (family().type == MetricType::Counter ? series.counter.value : series.gauge.value) = value;
    }
    void add_histogram(const Histogram& values, const Scale& scale,
                       std::vector<Series::Label> labels = {});
    void single(std::string name, MetricType type, std::string_view help, double value) {
        begin(std::move(name), type, help);
        add({}, value);
    }
    // A value of each reactor that has answered.
    void by_reactor(std::string name, MetricType type, std::string_view help, const Values& values,
                    size_t column) {
        begin(std::move(name), type, help);
        for (size_t reactor = 0; reactor < values.size(); ++reactor)
            if (!values[reactor].empty()) add({label(reactor)}, values[reactor][column]);
    }
    std::string take() {
        write();
        return std::move(text_).str();
    }
    static Series::Label label(size_t reactor) { return {"reactor", std::to_string(reactor)}; }

  private:
    MetricFamily& family() { return families_.front(); }
    Series& next() { return family().metric.emplace_back(); }
    void write() {
        if (!family().metric.empty()) prometheus::TextSerializer().Serialize(text_, families_);
        family().metric.clear();
    }

    std::ostringstream text_;
    std::vector<MetricFamily> families_{1};
};

// What was recorded in a counter of the histogram is in the bucket that its lowest value is in: a
// thousandth of it may be in the next.
void Exposition::add_histogram(const Histogram& values, const Scale& scale,
                               std::vector<Series::Label> labels) {
    const std::span<const Nanos> bounds = scale.bounds;
    const auto unit = static_cast<double>(scale.unit);
    Series& series = next();
    series.label = std::move(labels);
    Series::Histogram& shown = series.histogram;
    for (const Nanos bound : bounds) {
        shown.bucket.push_back(
            {.cumulative_count = 0, .upper_bound = static_cast<double>(bound) / unit});
    }
    size_t bucket = 0;
    uint64_t below = 0;
    values.visit([&](Nanos lowest, Nanos, uint64_t count) {
        for (; bucket < bounds.size() && bounds[bucket] < lowest; ++bucket)
            shown.bucket[bucket].cumulative_count = below;
        below += count;
    });
    for (; bucket < bounds.size(); ++bucket) shown.bucket[bucket].cumulative_count = below;
    shown.sample_count = values.count();
    shown.sample_sum = values.mean() * static_cast<double>(values.count()) / unit;
}

template <class Row>
Values values_of(const ReactorList& reactors, Row&& row) {
    Values values(reactors.size());
    for (size_t reactor = 0; reactor < reactors.size(); ++reactor)
        if (reactors[reactor] != nullptr) values[reactor] = row(*reactors[reactor]);
    return values;
}

// bytes_received becomes pulsewheel_received_bytes_total: the unit is last.
std::string counter_name(std::string_view name, std::string_view unit) {
    constexpr std::string_view kBytes = "bytes_";
    std::string text = "pulsewheel_";
    if (unit == "bytes" && name.starts_with(kBytes))
        return text.append(name.substr(kBytes.size())).append("_bytes_total");
    return text.append(name).append("_total");
}

void counters(Exposition& out, const ReactorList& reactors) {
    const Values values = values_of(reactors, [](const ReactorStats& stats) {
        const auto& counters = stats.metrics.counters;
        return std::vector<double>(counters.begin(), counters.end());
    });
    for (size_t metric = 0; metric < kMetrics; ++metric) {
        const MetricInfo& info = kMetricInfos[metric];
        out.by_reactor(counter_name(info.name, info.unit), MetricType::Counter, info.help, values,
                       metric);
    }
}

void population(Exposition& out, const ReactorStats& total, const PopulationNames& names) {
    out.begin("pulsewheel_connections_by_state", MetricType::Gauge,
              "Connections by what they speak and where they are in their life");
    for (size_t protocol = 0; protocol < total.population.size(); ++protocol) {
        for (size_t stage = 1; stage < Population::kStages; ++stage) {  // 0: free
            out.add({{"protocol", std::string(names.protocols[protocol])},
                     {"state", std::string(names.stages[stage])}},
                    total.population[protocol][stage]);
        }
    }
}

void reasons(Exposition& out, const ReactorStats& total) {
    const auto family = [&](std::string_view name, std::string_view help, const auto& counts) {
        out.begin(std::string(name), MetricType::Counter, help);
        for (size_t reason = 0; reason < kCloseReasons; ++reason) {
            out.add({{"reason", std::string(kCloseReasonInfos[reason].name)}},
                    static_cast<double>(counts[reason]));
        }
    };
    family("pulsewheel_closed_by_reason_total", "Connections that ended, by reason",
           total.metrics.closed);
    family("pulsewheel_refused_by_reason_total", "Connections that were refused, by reason",
           total.metrics.refused);
    out.begin("pulsewheel_tokens_refused_by_reason_total", MetricType::Counter,
              "Tokens that were not right, or that a peer did not have");
    for (size_t failure = 1; failure < kAuthFailures; ++failure) {  // 0: none
        out.add({{"reason", std::string(kAuthFailureInfos[failure].word)}},
                static_cast<double>(total.metrics.tokens_refused[failure]));
    }
}

std::vector<double> gauge_values(const ReactorStats& stats) {
    std::vector<double> values;
    for_each_gauge(
        [&](const GaugeInfo& info, const auto& value) {
            values.push_back(is_time(info.unit) ? seconds(static_cast<Nanos>(value))
                                                : static_cast<double>(value));
        },
        stats.gauges);
    return values;
}

// judge_lag_us becomes pulsewheel_judge_lag_seconds; what is named _total only grows.
void gauges(Exposition& out, const ReactorList& reactors) {
    const Values values = values_of(reactors, gauge_values);
    for (size_t gauge = 0; gauge < std::size(kGaugeInfos); ++gauge) {
        const GaugeInfo& info = kGaugeInfos[gauge];
        if (info.unit == GaugeUnit::bytes) continue;
        std::string_view base = info.member;
        if (is_time(info.unit)) base = base.substr(0, base.rfind('_'));
        const bool grows = info.name.ends_with("_total");
        std::string name = "pulsewheel_";
        name.append(base).append(is_time(info.unit) ? "_seconds" : "");
        out.by_reactor(name.append(grows ? "_total" : ""),
                       grows ? MetricType::Counter : MetricType::Gauge, info.help, values, gauge);
    }
    out.begin("pulsewheel_memory_bytes", MetricType::Gauge,
              "Memory of each reactor, by what it is for");
    for (size_t gauge = 0; gauge < std::size(kGaugeInfos); ++gauge) {
        const GaugeInfo& info = kGaugeInfos[gauge];
        if (info.unit != GaugeUnit::bytes) continue;
        const std::string kind(info.member.substr(0, info.member.rfind('_')));
        for (size_t reactor = 0; reactor < values.size(); ++reactor)
            if (!values[reactor].empty())
                out.add({Exposition::label(reactor), {"kind", kind}}, values[reactor][gauge]);
    }
}

void distributions(Exposition& out, const ReactorStats& total) {
    for_each_distribution(
        [&](const DistributionInfo& info, const Histogram& histogram) {
            if (info.scale == DistributionScale::amount) return;
            std::string name = "pulsewheel_";
            out.begin(name.append(info.name).append("_seconds"), MetricType::Histogram, info.help);
            out.add_histogram(histogram, scale_of(info.scale));
        },
        total.distributions);
}

// Of each reactor: the mean of all would hide one whose turns are small.
void amounts(Exposition& out, const ReactorList& reactors) {
    for (const DistributionInfo& wanted : kDistributionInfos) {
        if (wanted.scale != DistributionScale::amount) continue;
        std::string name = "pulsewheel_";
        out.begin(name.append(wanted.name), MetricType::Histogram, wanted.help);
        for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
            if (reactors[reactor] == nullptr) continue;
            for_each_distribution(
                [&](const DistributionInfo& info, const Histogram& histogram) {
                    if (info.name != wanted.name) return;
                    out.add_histogram(histogram, scale_of(info.scale),
                                      {Exposition::label(reactor)});
                },
                reactors[reactor]->distributions);
        }
    }
}

void io_counters(Exposition& out, const ReactorList& reactors) {
    const Values values = values_of(reactors, [](const ReactorStats& stats) {
        std::vector<double> row;
        for_each_io_counter([&](const IoCounterInfo&,
                                uint64_t value) { row.push_back(static_cast<double>(value)); },
                            stats.io);
        return row;
    });
    for (size_t counter = 0; counter < std::size(kIoCounterInfos); ++counter) {
        std::string name = "pulsewheel_io_";
        out.by_reactor(name.append(kIoCounterInfos[counter].name).append("_total"),
                       MetricType::Counter, kIoCounterInfos[counter].help, values, counter);
    }
}

// The label is the policy as it was given; no policy is called "rest".
void cohort_lines(Exposition& out, const CohortFigures& figures) {
    using Counts = CohortCounts;
    const auto family = [&](std::string_view name, MetricType type, std::string_view help,
                            auto value) {
        out.begin(std::string("pulsewheel_cohort_").append(name), type, help);
        for (const CohortFigures::Row& row : figures.rows)
            out.add({{"policy", row.policy.empty() ? "rest" : row.policy}}, value(row.counts));
    };
    const auto of = [](uint64_t Counts::* member) {
        return [member](const Counts& counts) { return static_cast<double>(counts.*member); };
    };
    constexpr MetricType kCounter = MetricType::Counter;
    family("sessions", MetricType::Gauge, "Sessions that a policy is for now",
           of(&Counts::sessions));
    family("session_seconds_total", kCounter, "How long sessions have lasted under a policy",
           [](const Counts& counts) { return static_cast<double>(counts.session_ms) / 1'000; });
    family("joined_total", kCounter, "Sessions that a policy became the one for",
           of(&Counts::joined));
    family("heartbeats_total", kCounter, "Proofs of life of those sessions",
           of(&Counts::heartbeats));
    family("probes_total", kCounter, "Probes that they were sent", of(&Counts::probes));
    family("ended_total", kCounter, "Of them, those that have ended", of(&Counts::ended));
    family("evicted_total", kCounter, "Of them, those that were evicted", of(&Counts::evicted));
    family("limited_total", kCounter, "Of them, those closed for too many messages",
           of(&Counts::limited));
}

// The names of Prometheus' own exporters end so where a value is a moment.
void certificate_lines(Exposition& out, const std::vector<CertificateEnd>& certificates) {
    out.begin("pulsewheel_tls_certificate_not_after_timestamp_seconds", MetricType::Gauge,
              "When a certificate of --tls-cert ends, since 1970");
    for (const CertificateEnd& one : certificates)
        out.add({{"certificate", one.file}}, static_cast<double>(one.not_after_s));
}

// The names that all of Prometheus' client libraries have for this, and what is of no reactor.
void process_lines(Exposition& out, const ServingState& serving, const Json& process) {
    out.begin("pulsewheel_build_info", MetricType::Gauge,
              "The version, and the backend that was chosen");
    out.add({{"version", process.value("version", "")}, {"backend", process.value("backend", "")}},
            1);
    out.single("pulsewheel_draining", MetricType::Gauge, "1 while the server drains",
               serving.draining ? 1 : 0);
    out.single("pulsewheel_connections_limit", MetricType::Gauge,
               "Connections at once, --max-connections", serving.connections_max);
    const struct {
        const char* name;
        MetricType type;
        const char* help;
        const char* member;
    } kProcess[] = {
        {"process_cpu_seconds_total", MetricType::Counter, "CPU time, user and system", "cpu_s"},
        {"process_start_time_seconds", MetricType::Gauge, "When the server began, since 1970",
         "start_time_s"},
        {"process_resident_memory_bytes", MetricType::Gauge, "Resident memory", "rss_bytes"},
        {"process_virtual_memory_bytes", MetricType::Gauge, "Virtual memory", "virtual_bytes"},
        {"pulsewheel_memory_available_bytes", MetricType::Gauge,
         "Memory that the machine, its control groups and the limits of the process leave",
         "memory_available_bytes"},
        {"process_open_fds", MetricType::Gauge,
         "Descriptors in the table of the main thread; a reactor may have its own", "descriptors"},
        {"process_max_fds", MetricType::Gauge, "Descriptors that a table may hold",
         "descriptors_max"},
    };
    for (const auto& line : kProcess) {
        const double value = process.value(line.member, 0.0);
        if (value > 0) out.single(line.name, line.type, line.help, value);  // 0: not known
    }
}

// By the series of the watch; 0 while it is off.
void anomaly_lines(Exposition& out, const AnomalyReport& report) {
    const auto family = [&](std::string_view name, MetricType type, std::string_view help,
                            const auto& value_of) {
        out.begin(std::string(name), type, help);
        for (size_t series = 0; series < kAnomalySeries; ++series) {
            out.add({{"series", std::string(kAnomalySeriesInfos[series].name)}},
                    static_cast<double>(value_of(report.series[series])));
        }
    };
    using State = AnomalyReport::Series;
    family("pulsewheel_anomaly_active", MetricType::Gauge,
           "1 while the series is not normal (--on-anomaly)",
           [](const State& state) { return state.active ? 1 : 0; });
    family("pulsewheel_anomaly_score_ratio", MetricType::Gauge,
           "How much of an anomaly there is in the series: 1 is one",
           [](const State& state) { return state.score; });
    family("pulsewheel_anomalies_total", MetricType::Counter, "Anomalies that began",
           [](const State& state) { return state.anomalies; });
}

void thread_counters(Exposition& out, std::span<const ThreadCounter> counters) {
    std::string_view family;
    for (const ThreadCounter& counter : counters) {
        if (counter.family != std::exchange(family, counter.family))
            out.begin(std::string(counter.family), MetricType::Counter, counter.help);
        std::vector<Series::Label> labels;
        if (!counter.reason.empty()) labels.push_back({"reason", std::string(counter.reason)});
        out.add(std::move(labels), static_cast<double>(counter.value));
    }
}

}  // namespace

std::string metrics_text(const ReactorList& reactors, const PopulationNames& names,
                         const ServingState& serving, const Json& process,
                         const AnomalyReport& anomalies,
                         std::span<const ThreadCounter> counters_of_threads,
                         const CohortFigures& cohorts) {
    Exposition out;
    process_lines(out, serving, process);
    certificate_lines(out, serving.certificates);
    anomaly_lines(out, anomalies);
    thread_counters(out, counters_of_threads);
    ReactorStats total;
    uint64_t most = 0;
    size_t up = 0;
    out.begin("pulsewheel_reactor_up", MetricType::Gauge,
              "0: the reactor has not answered in time");
    for (size_t reactor = 0; reactor < reactors.size(); ++reactor) {
        const ReactorStats* const stats = reactors[reactor];
        out.add({Exposition::label(reactor)}, stats != nullptr ? 1 : 0);
        if (stats == nullptr) continue;
        ++up;
        most = std::max(most, stats->gauges.live);
        total += *stats;
    }
    out.single("pulsewheel_imbalance_ratio", MetricType::Gauge,
               "Connections of the reactor that holds most, by the mean of all",
               imbalance_of(most, total.gauges.live, up));
    population(out, total, names);
    counters(out, reactors);
    gauges(out, reactors);
    // Without one of them a sum would look like a counter that began anew; a gap does not.
    if (up == reactors.size()) {
        reasons(out, total);
        distributions(out, total);
        cohort_lines(out, cohorts);
    }
    amounts(out, reactors);
    io_counters(out, reactors);
    return out.take();
}

}  // namespace pulse
