// --stats-json and /metrics against the tables that they are made from: each line of a .def is a
// member of one and a family of the other. A test for each line, so that the names are in the
// output of a run.
#include "net/server/stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "net/control/limits.h"
#include "net/control/metrics_text.h"

namespace pulse {
namespace {

// Of a text for Prometheus: series to their values, and families to their types.
struct Scrape {
    explicit Scrape(const std::string& text) {
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            const size_t end = line.rfind(' ');
            if (line.starts_with("# TYPE ")) types[line.substr(7, end - 7)] = line.substr(end + 1);
            if (line.starts_with('#')) continue;
            const double value = std::stod(line.substr(end));
            EXPECT_TRUE(series.emplace(line.substr(0, end), value).second) << line;
        }
    }
    // NaN: it is not there.
    double operator[](const std::string& name) const {
        const auto at = series.find(name);
        return at == series.end() ? std::nan("") : at->second;
    }

    std::map<std::string, double> series;
    std::map<std::string, std::string> types;
};

constexpr std::string_view kStages[] = {"free", "proxy", "tls", "detect", "http",
                                        "open", "closing", "closed"};
static_assert(std::size(kStages) == Population::kStages);
const PopulationNames kNames{.protocols = {"undetected", "websocket"}, .stages = kStages};

// Two reactors whose figures all differ, and their sum.
class Stats : public ::testing::Test {
  protected:
    Stats() {
        fill(first_, 1);
        fill(second_, 1'000);
        stats_.total = first_;
        stats_.total += second_;
        stats_.reactors = {first_, second_};
        object_ = Json::parse(stats_.json(true));
        total_ = object_["total"];
    }
    Scrape metrics() const {
        return Scrape(
            metrics_text({&first_, nullptr, &second_}, kNames, {}, stats_.process_json()));
    }
    // All have answered.
    Scrape whole_metrics() const {
        return Scrape(metrics_text({&first_, &second_}, kNames, {}, stats_.process_json()));
    }
    // Of the first and of the second; one between them has not answered.
    static void expect_series(const Scrape& metrics, const std::string& name, const char* type,
                              double first, double second) {
        EXPECT_EQ(metrics.types.at(name), type);
        EXPECT_DOUBLE_EQ(metrics[name + "{reactor=\"0\"}"], first);
        EXPECT_TRUE(std::isnan(metrics[name + "{reactor=\"1\"}"]));
        EXPECT_DOUBLE_EQ(metrics[name + "{reactor=\"2\"}"], second);
    }

    // Values that are whole milliseconds where they are times, so that every unit shows them.
    static void fill(ReactorStats& stats, uint64_t factor) {
        uint64_t next = 0;
        for (uint64_t& counter : stats.metrics.counters) counter = ++next * factor;
        for (uint64_t& counter : stats.metrics.refused) counter = ++next * factor;
        for (uint64_t& counter : stats.metrics.closed) counter = ++next * factor;
        for (size_t at = 1; at < kAuthFailures; ++at)
            stats.metrics.tokens_refused[at] = ++next * factor;
        for_each_gauge(
            [&](const GaugeInfo& info, auto& value) {
                value = ++next * factor;
                if (is_time(info.unit)) value *= kMillisecond;
            },
            stats.gauges);
        for_each_distribution(
            [&](const DistributionInfo&, Histogram& histogram) {
                histogram.record(kMillisecond, static_cast<uint32_t>(++next * factor));
            },
            stats.distributions);
        for_each_io_counter([&](const IoCounterInfo&, uint64_t& value) { value = ++next * factor; },
                            stats.io);
        stats.population.resize(2);
        for (auto& by_stage : stats.population)
            for (uint32_t& count : by_stage) count = static_cast<uint32_t>(++next * factor);
    }

    ReactorStats first_;
    ReactorStats second_;
    ServerStats stats_;
    Json object_;
    Json total_;
};

template <class Info>
std::string name_of(const ::testing::TestParamInfo<Info>& info) {
    return std::string(info.param.name);
}

// ---------------------------------------------------------------------------------------- gauges
struct GaugeInJson : Stats, ::testing::WithParamInterface<GaugeInfo> {};

TEST_P(GaugeInJson, IsAMemberInItsUnit) {
    const GaugeInfo wanted = GetParam();
    const auto expect = [&](const Json& object, const Gauges& gauges) {
        const std::string member(wanted.member);
        const Json& holder = wanted.unit == GaugeUnit::bytes ? object["memory"] : object;
        ASSERT_TRUE(holder.contains(member));
        for_each_gauge(
            [&](const GaugeInfo& info, auto value) {
                if (info.name != wanted.name) return;
                const auto plain = static_cast<double>(value);
                const double unit = info.unit == GaugeUnit::seconds        ? kSecond
                                    : info.unit == GaugeUnit::microseconds ? kMillisecond / 1'000
                                                                           : 1;
                EXPECT_DOUBLE_EQ(holder[member].get<double>(), plain / unit);
            },
            gauges);
    };
    expect(total_, stats_.total.gauges);
    expect(object_["reactors"][0], first_.gauges);
    expect(object_["reactors"][1], second_.gauges);
}

TEST_P(GaugeInJson, IsAFamilyOfMetrics) {
    const GaugeInfo wanted = GetParam();
    const auto value_in = [&](const ReactorStats& stats) {
        double found = 0;
        for_each_gauge(
            [&](const GaugeInfo& info, auto value) {
                if (info.name == wanted.name) found = static_cast<double>(value);
            },
            stats.gauges);
        return is_time(wanted.unit) ? found / kSecond : found;
    };
    const std::string member(wanted.member);
    const std::string base = member.substr(0, member.rfind('_'));
    const Scrape all = metrics();
    if (wanted.unit == GaugeUnit::bytes) {
        const std::string kind = ",kind=\"" + base + "\"}";
        EXPECT_EQ(all["pulsewheel_memory_bytes{reactor=\"0\"" + kind], value_in(first_));
        EXPECT_EQ(all["pulsewheel_memory_bytes{reactor=\"2\"" + kind], value_in(second_));
        return;
    }
    const bool grows = wanted.name.ends_with("_total");
    const std::string name = "pulsewheel_" + (is_time(wanted.unit) ? base + "_seconds" : member) +
                             (grows ? "_total" : "");
    expect_series(all, name, grows ? "counter" : "gauge", value_in(first_), value_in(second_));
}

TEST_P(GaugeInJson, IsSummedAsItsLineSays) {
    const GaugeInfo wanted = GetParam();
    for (const bool swapped : {false, true}) {
        Gauges total = swapped ? second_.gauges : first_.gauges;
        total += swapped ? first_.gauges : second_.gauges;
        for_each_gauge(
            [&](const GaugeInfo& info, auto sum, auto one, auto other) {
                if (info.name != wanted.name) return;
                EXPECT_EQ(sum, info.total == GaugeTotal::sum ? one + other : std::max(one, other));
            },
            total, first_.gauges, second_.gauges);
    }
}

TEST_P(GaugeInJson, EndsAsItsUnitDoes) {
    const std::string_view member = GetParam().member;
    const bool in_seconds = member.ends_with("_s");
    const bool in_microseconds = member.ends_with("_us");
    EXPECT_EQ(in_seconds, GetParam().unit == GaugeUnit::seconds);
    EXPECT_EQ(in_microseconds, GetParam().unit == GaugeUnit::microseconds);
    const bool in_bytes =
        GetParam().unit == GaugeUnit::bytes || GetParam().unit == GaugeUnit::payload;
    EXPECT_EQ(member.ends_with("_bytes"), in_bytes);
}
INSTANTIATE_TEST_SUITE_P(Gauges, GaugeInJson, ::testing::ValuesIn(kGaugeInfos), name_of<GaugeInfo>);

// --------------------------------------------------------------------------------- distributions
struct DistributionInJson : Stats, ::testing::WithParamInterface<DistributionInfo> {};

TEST_P(DistributionInJson, IsAMemberWithItsSum) {
    const std::string name(GetParam().name);
    const auto count = [&](const Json& object) {
        return object.at(name).at("count").get<uint64_t>();
    };
    EXPECT_GT(count(object_["reactors"][0]), 0u);
    EXPECT_EQ(count(object_["reactors"][1]), count(object_["reactors"][0]) * 1'000);
    EXPECT_EQ(count(total_), count(object_["reactors"][0]) * 1'001);
    const bool is_amount = GetParam().scale == DistributionScale::amount;
    EXPECT_EQ(total_[name][is_amount ? "max" : "max_us"], 1'000);
}

// A thousand of something, where the scale is of amounts: of each reactor apart.
TEST_P(DistributionInJson, IsAHistogramOfMetrics) {
    if (GetParam().scale == DistributionScale::amount) {
        const std::string own(GetParam().name);
        const Scrape some = metrics();
        const auto count = total_[own]["count"].get<double>() / 1'001;
        const std::string family = "pulsewheel_" + own;
        EXPECT_EQ(some.types.at(family), "histogram");
        EXPECT_EQ(some[family + "_count{reactor=\"0\"}"], count);
        EXPECT_TRUE(std::isnan(some[family + "_count{reactor=\"1\"}"])) << "it did not answer";
        EXPECT_EQ(some[family + "_count{reactor=\"2\"}"], count * 1'000);
        EXPECT_NEAR(some[family + "_sum{reactor=\"0\"}"], count * 1'000, 1e-6);
        const std::string first = family + "_bucket{reactor=\"0\",le=";
        EXPECT_EQ(some[first + "\"512\"}"], 0);
        EXPECT_EQ(some[first + "\"1024\"}"], count);
        EXPECT_EQ(some[first + "\"+Inf\"}"], count);
        return;
    }
    const std::string name = "pulsewheel_" + std::string(GetParam().name) + "_seconds";
    const Scrape all = whole_metrics();
    const auto count = total_[std::string(GetParam().name)]["count"].get<double>();
    EXPECT_EQ(all.types.at(name), "histogram");
    EXPECT_EQ(all[name + "_count"], count);
    EXPECT_NEAR(all[name + "_sum"], count * 1e-3, 1e-6);
    EXPECT_EQ(all[name + "_bucket{le=\"0.0005\"}"], 0) << "all of them took a millisecond";
    EXPECT_EQ(all[name + "_bucket{le=\"0.001\"}"], count);
    EXPECT_EQ(all[name + "_bucket{le=\"+Inf\"}"], count);
}
INSTANTIATE_TEST_SUITE_P(Distributions, DistributionInJson, ::testing::ValuesIn(kDistributionInfos),
                         name_of<DistributionInfo>);

// -------------------------------------------------------------------------------------- counters
struct CounterInJson : Stats, ::testing::WithParamInterface<MetricInfo> {};

TEST_P(CounterInJson, IsAMemberWithItsSum) {
    const auto position = static_cast<size_t>(
        std::find_if(std::begin(kMetricInfos), std::end(kMetricInfos),
                     [&](const MetricInfo& info) { return info.name == GetParam().name; }) -
        std::begin(kMetricInfos));
    EXPECT_EQ(total_[std::string(GetParam().name)], (position + 1) * 1'001);
}

TEST_P(CounterInJson, IsAFamilyOfMetrics) {
    const std::string own(GetParam().name);
    const std::string name = own.starts_with("bytes_") ? own.substr(6) + "_bytes" : own;
    const auto total = total_[own].get<double>();
    expect_series(metrics(), "pulsewheel_" + name + "_total", "counter", total / 1'001,
                  total / 1'001 * 1'000);
}
INSTANTIATE_TEST_SUITE_P(Counters, CounterInJson, ::testing::ValuesIn(kMetricInfos),
                         name_of<MetricInfo>);

struct IoCounterInJson : Stats, ::testing::WithParamInterface<IoCounterInfo> {};

TEST_P(IoCounterInJson, IsAMemberOfIoWithItsSum) {
    const std::string name(GetParam().name);
    for_each_io_counter(
        [&](const IoCounterInfo& info, uint64_t value) {
            if (info.name != GetParam().name) return;
            EXPECT_EQ(object_["reactors"][0]["io"][name], value);
            EXPECT_EQ(total_["io"][name], value * 1'001);
        },
        first_.io);
}

TEST_P(IoCounterInJson, IsAFamilyOfMetrics) {
    const std::string name(GetParam().name);
    const auto total = total_["io"][name].get<double>();
    expect_series(metrics(), "pulsewheel_io_" + name + "_total", "counter", total / 1'001,
                  total / 1'001 * 1'000);
}
INSTANTIATE_TEST_SUITE_P(IoCounters, IoCounterInJson, ::testing::ValuesIn(kIoCounterInfos),
                         name_of<IoCounterInfo>);

struct CloseReasonInJson : Stats, ::testing::WithParamInterface<CloseReasonInfo> {};

TEST_P(CloseReasonInJson, IsCountedForClosesAndRefusals) {
    const std::string name(GetParam().name);
    EXPECT_GT(total_["closed_by_reason"][name], 0);
    EXPECT_GT(total_["refused_by_reason"][name], 0);
}

TEST_P(CloseReasonInJson, IsALabelOfMetrics) {
    const std::string name(GetParam().name);
    const std::string label = "{reason=\"" + name + "\"}";
    const Scrape all = whole_metrics();
    EXPECT_EQ(all["pulsewheel_closed_by_reason_total" + label], total_["closed_by_reason"][name]);
    EXPECT_EQ(all["pulsewheel_refused_by_reason_total" + label], total_["refused_by_reason"][name]);
}
INSTANTIATE_TEST_SUITE_P(CloseReasons, CloseReasonInJson, ::testing::ValuesIn(kCloseReasonInfos),
                         name_of<CloseReasonInfo>);

TEST_F(Stats, TokensAreCountedByWhatIsWrongWithThem) {
    for (size_t at = 1; at < kAuthFailures; ++at) {
        const std::string word(kAuthFailureInfos[at].word);
        EXPECT_GT(total_["tokens_refused_by_reason"][word], 0) << word;
    }
    EXPECT_EQ(total_["tokens_refused_by_reason"].size(), kAuthFailures - 1) << "none occurred";
}

// ---------------------------------------------------------------------------------------- all
TEST_F(Stats, HoldsNothingThatNoTableHas) {
    const size_t others = 3 /* by reason */ + 1 /* io */ + 1 /* memory */;
    const auto in_memory = static_cast<size_t>(
        std::count_if(std::begin(kGaugeInfos), std::end(kGaugeInfos),
                      [](const GaugeInfo& info) { return info.unit == GaugeUnit::bytes; }));
    EXPECT_EQ(total_["memory"].size(), in_memory);
    EXPECT_EQ(total_["io"].size(), std::size(kIoCounterInfos) + 1) << "completions_per_batch";
    EXPECT_EQ(total_.size(), kMetrics + std::size(kGaugeInfos) - in_memory +
                                 std::size(kDistributionInfos) + others);
}

// Schema pulsewheel/2: scripts that read the members in order, or the columns by position, go on.
TEST_F(Stats, MembersKeepTheirOrder) {
    const auto position = [&](const char* name) {
        return std::distance(total_.begin(), total_.find(name));
    };
    const char* const kOrder[] = {"connections",    "wheel_entries",     "accepted",
                                  "looks",          "refused_by_reason", "closed_by_reason",
                                  "eviction_delay", "wheel_slice_cpu",   "wait_s",
                                  "judge_lag_us",   "judge_lag_max_us",  "io",
                                  "memory"};
    for (size_t i = 1; i < std::size(kOrder); ++i) {
        EXPECT_LT(position(kOrder[i - 1]), position(kOrder[i])) << kOrder[i];
    }
    EXPECT_EQ(position("connections"), 0);
    EXPECT_EQ(position("memory") + 1, static_cast<std::ptrdiff_t>(total_.size()));
}

TEST_F(Stats, CompletionsPerBatchFollowsBatches) {
    const Json& io = total_["io"];
    auto after = io.find("batches");
    ASSERT_NE(after, io.end());
    EXPECT_EQ((++after).key(), "completions_per_batch");
    EXPECT_DOUBLE_EQ(after->get<double>(), static_cast<double>(stats_.total.io.completions) /
                                               static_cast<double>(stats_.total.io.batches));
    EXPECT_EQ(Json::parse(ServerStats{}.json(false))["total"]["io"]["completions_per_batch"], 0.0);
}

TEST_F(Stats, MetricsHaveConnectionsByWhatTheySpeakAndWhereTheyAre) {
    const Scrape all = metrics();
    for (size_t protocol = 0; protocol < kNames.protocols.size(); ++protocol) {
        for (size_t stage = 0; stage < std::size(kStages); ++stage) {
            const std::string name = "pulsewheel_connections_by_state{protocol=\"" +
                                     std::string(kNames.protocols[protocol]) + "\",state=\"" +
                                     std::string(kStages[stage]) + "\"}";
            const double both =
                first_.population[protocol][stage] + second_.population[protocol][stage];
            if (stage == 0)
                EXPECT_FALSE(all.series.contains(name)) << "what is free is not counted";
            else
                EXPECT_EQ(all[name], both) << name;
        }
    }
}

TEST_F(Stats, MetricsOfTheServerHaveTheValuesThatItHas) {
    stats_.cpu_user = 1'500 * kMillisecond;
    stats_.wall_started_at = 1'795'000'000 * kSecond + 250 * kMillisecond;
    stats_.rss_bytes = 6 << 20;
    stats_.memory_available_bytes = uint64_t{20} << 30;
    stats_.descriptors = 0;  // not known
    stats_.backend = "epoll";
    const Scrape all = metrics();
    EXPECT_EQ(all["process_cpu_seconds_total"], 1.5);
    EXPECT_EQ(all["process_start_time_seconds"], 1'795'000'000.25);
    EXPECT_EQ(all["process_resident_memory_bytes"], 6 << 20);
    EXPECT_EQ(all["pulsewheel_memory_available_bytes"], 20.0 * (1 << 30));
    EXPECT_FALSE(all.types.contains("process_open_fds"));
    EXPECT_EQ(all["pulsewheel_reactor_up{reactor=\"0\"}"], 1);
    EXPECT_EQ(all["pulsewheel_reactor_up{reactor=\"1\"}"], 0);
    EXPECT_NEAR(all["pulsewheel_imbalance_ratio"], 2'000.0 / 1'001, 1e-9);
    const auto infos = std::count_if(all.series.begin(), all.series.end(), [](const auto& one) {
        return one.first.starts_with("pulsewheel_build_info{");
    });
    EXPECT_EQ(infos, 1);
}

TEST_F(Stats, MetricsHaveBucketsFromAHundredMicrosecondsToAnHour) {
    Histogram& delays = first_.distributions.eviction_delay;
    delays.reset();
    second_.distributions.eviction_delay.reset();
    const Nanos kDelays[] = {
        0,       100'000,      101'000,         kMillisecond,   7 * kMillisecond,
        kSecond, 59 * kSecond, 3'600 * kSecond, 4'000 * kSecond};
    for (const Nanos delay : kDelays) delays.record(delay);
    const Scrape all = whole_metrics();
    const auto bucket = [&](const char* bound) {
        return all[std::string("pulsewheel_eviction_delay_seconds_bucket{le=\"") + bound + "\"}"];
    };
    EXPECT_EQ(bucket("0.0001"), 2);
    EXPECT_EQ(bucket("0.00025"), 3);
    EXPECT_EQ(bucket("0.001"), 4);
    EXPECT_EQ(bucket("0.005"), 4);
    EXPECT_EQ(bucket("0.01"), 5);
    EXPECT_EQ(bucket("1"), 6);
    EXPECT_EQ(bucket("60"), 7);
    EXPECT_EQ(bucket("900"), 7);
    EXPECT_EQ(bucket("3600"), 9) << "what is longer is recorded as an hour";
    EXPECT_EQ(bucket("+Inf"), 9);
}

// Without the part of one that is late it would look like a counter that began anew.
TEST_F(Stats, MetricsHaveASumOfCountersOfAllReactorsOrNone) {
    for (const char* const name :
         {"pulsewheel_closed_by_reason_total", "pulsewheel_refused_by_reason_total",
          "pulsewheel_tokens_refused_by_reason_total", "pulsewheel_eviction_delay_seconds"}) {
        EXPECT_TRUE(whole_metrics().types.contains(name)) << name;
        EXPECT_FALSE(metrics().types.contains(name)) << name;
    }
}

TEST_F(Stats, MetricsHaveTheAnomaliesOfEachSeries) {
    AnomalyReport report;
    report.series[0] = {.active = true, .score = 1.5, .anomalies = 3};
    const Scrape scrape(
        metrics_text({&first_, &second_}, kNames, {}, stats_.process_json(), report));
    EXPECT_EQ(scrape.types.at("pulsewheel_anomaly_active"), "gauge");
    EXPECT_EQ(scrape.types.at("pulsewheel_anomalies_total"), "counter");
    EXPECT_EQ(scrape["pulsewheel_anomaly_active{series=\"evictions\"}"], 1);
    EXPECT_EQ(scrape["pulsewheel_anomaly_active{series=\"loop_lag\"}"], 0);
    EXPECT_EQ(scrape["pulsewheel_anomaly_score_ratio{series=\"evictions\"}"], 1.5);
    EXPECT_EQ(scrape["pulsewheel_anomalies_total{series=\"evictions\"}"], 3);
    EXPECT_EQ(whole_metrics()["pulsewheel_anomaly_active{series=\"evictions\"}"], 0) << "off";
}

TEST_F(Stats, MetricsHaveTheCountersOfOtherThreads) {
    const std::vector<ThreadCounter> counters = {{"pulsewheel_a_total", "", "What a counts", 7},
                                                 {"pulsewheel_b_total", "x", "What b counts", 0},
                                                 {"pulsewheel_b_total", "y", "", 3}};
    const Scrape shown(metrics_text({&first_}, kNames, {}, stats_.process_json(), {}, counters));
    EXPECT_EQ(shown.types.at("pulsewheel_b_total"), "counter");
    EXPECT_EQ(shown["pulsewheel_a_total"], 7);
    EXPECT_EQ(shown["pulsewheel_b_total{reason=\"x\"}"], 0);
    EXPECT_EQ(shown["pulsewheel_b_total{reason=\"y\"}"], 3);
}

TEST_F(Stats, MetricsOfTheMostReactorsAreOneAnswer) {
    constexpr size_t kReactors = 256;
    const std::vector<const ReactorStats*> reactors(kReactors, &second_);
    for (uint64_t& counter : second_.metrics.counters) counter += 1'000'000'000'000;
    CohortFigures cohorts;
    for (uint32_t i = 0; i <= kPoliciesMax; ++i)
        cohorts.rows.push_back({std::string(kPolicyBytesMax, '"'), {}});
    EXPECT_LT(metrics_text(reactors, kNames, {}, stats_.process_json(), {}, {}, cohorts).size(),
              kAdminAnswerBytesMax * 7 / 8);
}

template <class Infos>
void expect_plain_text(const Infos& infos) {
    std::set<std::string_view> names;
    for (const auto& info : infos) {
        EXPECT_TRUE(names.insert(info.name).second) << info.name << " twice";
        EXPECT_GT(info.help.size(), 10u) << info.name;
        EXPECT_EQ(info.help.find_first_of("\"\\\n"), std::string_view::npos) << info.name;
    }
}

TEST(Tables, EveryLineIsUsable) {
    expect_plain_text(kMetricInfos);
    expect_plain_text(kGaugeInfos);
    expect_plain_text(kDistributionInfos);
    expect_plain_text(kIoCounterInfos);
}

}  // namespace
}  // namespace pulse
