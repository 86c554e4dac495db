// Summing reactors up, and writing them down.
#include "net/server_stats.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/units.h"

namespace pulse {
namespace {

using Json = nlohmann::ordered_json;

double to_us(Nanos nanos) { return static_cast<double>(nanos) / 1'000; }

Json distribution(const Histogram& histogram) {
    return {{"count", histogram.count()},
            {"min_us", to_us(histogram.min())},
            {"mean_us", histogram.mean() / 1'000},
            {"p50_us", to_us(histogram.percentile(50))},
            {"p90_us", to_us(histogram.percentile(90))},
            {"p99_us", to_us(histogram.percentile(99))},
            {"p999_us", to_us(histogram.percentile(99.9))},
            {"max_us", to_us(histogram.max())}};
}

// Only reasons that occurred: a script that wants one that did not reads 0 by default.
Json by_reason(const std::array<uint64_t, kCloseReasons>& counts) {
    Json object = Json::object();
    for (size_t i = 0; i < kCloseReasons; ++i) {
        if (counts[i] > 0) object[std::string(kCloseReasonInfos[i].name)] = counts[i];
    }
    return object;
}

Json to_json(const ReactorStats& stats) {
    Json object = {{"connections", stats.live}, {"wheel_entries", stats.wheel_entries}};
    for (size_t i = 0; i < kMetrics; ++i) {
        object[std::string(kMetricInfos[i].name)] = stats.metrics.counters[i];
    }
    object["refused_by_reason"] = by_reason(stats.metrics.refused);
    object["closed_by_reason"] = by_reason(stats.metrics.closed);
    object["eviction_delay"] = distribution(stats.eviction_delay);
    object["turn_time"] = distribution(stats.turn_time);
    object["wheel_slice"] = distribution(stats.wheel_slice);
    object["wheel_slice_cpu"] = distribution(stats.wheel_slice_cpu);
    object["wait_ms"] = stats.wait_total / kMillisecond;
    object["judge_lag_us"] = to_us(stats.judge_lag);
    object["judge_lag_max_us"] = to_us(stats.judge_lag_max);
    const IoCounters& io = stats.io;
    object["io"] = {
        {"polls", io.polls},
        {"system_calls", io.system_calls},
        {"completions", io.completions},
        {"batches", io.batches},
        {"completions_per_batch",
         io.batches == 0 ? 0.0
                         : static_cast<double>(io.completions) / static_cast<double>(io.batches)},
        {"wakes_received", io.wakes_received},
        {"receive_buffers_short", io.receive_buffers_short},
        {"accept_failures", io.accept_failures},
        {"spare_used", io.spare_used}};
    object["memory"] = {{"records_bytes", stats.memory.records_bytes},
                        {"wheel_bytes", stats.memory.wheel_bytes},
                        {"buffers_bytes", stats.memory.buffers_bytes},
                        {"backend_bytes", stats.memory.backend_bytes}};
    return object;
}

}  // namespace

ReactorStats& ReactorStats::operator+=(const ReactorStats& other) {
    live += other.live;
    wheel_entries += other.wheel_entries;
    metrics += other.metrics;
    io.polls += other.io.polls;
    io.system_calls += other.io.system_calls;
    io.completions += other.io.completions;
    io.batches += other.io.batches;
    io.wakes_received += other.io.wakes_received;
    io.receive_buffers_short += other.io.receive_buffers_short;
    io.accept_failures += other.io.accept_failures;
    io.spare_used += other.io.spare_used;
    eviction_delay.merge(other.eviction_delay);
    turn_time.merge(other.turn_time);
    wheel_slice.merge(other.wheel_slice);
    wheel_slice_cpu.merge(other.wheel_slice_cpu);
    wait_total += other.wait_total;
    judge_lag = std::max(judge_lag, other.judge_lag);
    judge_lag_max = std::max(judge_lag_max, other.judge_lag_max);
    memory.records_bytes += other.memory.records_bytes;
    memory.wheel_bytes += other.memory.wheel_bytes;
    memory.buffers_bytes += other.memory.buffers_bytes;
    memory.backend_bytes += other.memory.backend_bytes;
    return *this;
}

std::string ServerStats::json(bool last) const {
    Json object = {{"version", 1},
                   {"uptime_ms", uptime / kMillisecond},
                   {"last", last},
                   {"backend", backend},
                   {"rss_bytes", rss_bytes},
                   {"cpu_user_ms", cpu_user / kMillisecond},
                   {"cpu_system_ms", cpu_system / kMillisecond}};
    object["total"] = to_json(total);
    std::string text = object.dump();
    // One reactor's object at a time: all of them at once take a megabyte of a server with fifty.
    text.back() = ',';
    text += R"("reactors":[)";
    for (const ReactorStats& reactor : reactors) {
        if (text.back() == '}') text += ',';
        text += to_json(reactor).dump();
    }
    return text += "]}";
}

std::string ServerStats::line(const Moment& earlier) const {
    const double seconds = std::max(1e-3, static_cast<double>(at - earlier.at) / kSecond);
    auto rate = [&](Metric metric) {
        const uint64_t count = total.metrics[metric] - earlier.metrics[metric];
        return static_cast<double>(count) / seconds;
    };
    const auto cpu = static_cast<double>(cpu_user + cpu_system - earlier.cpu);
    return fmt::format(
        "{:>9} connections  +{:.0f}/s -{:.0f}/s  heartbeats {:.0f}/s  probes {:.0f}/s  evicted {}  "
        "refused {}  turn max {:.2f} ms  judge lag {:.1f} ms  cpu {:.0f}%  rss {}",
        total.live, rate(Metric::accepted), rate(Metric::closed), rate(Metric::heartbeats_answered),
        rate(Metric::probes_sent), total.metrics[Metric::evicted], total.metrics[Metric::refused],
        static_cast<double>(total.turn_time.max()) / kMillisecond,
        static_cast<double>(total.judge_lag) / kMillisecond, cpu / seconds / kSecond * 100,
        format_size(rss_bytes / 1024 * 1024));
}

void read_process(ServerStats& stats) {
    if (std::FILE* file = std::fopen("/proc/self/statm", "re"); file != nullptr) {
        unsigned long size = 0;
        unsigned long resident = 0;
        if (std::fscanf(file, "%lu %lu", &size, &resident) == 2) {
            stats.rss_bytes = uint64_t{resident} * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        }
        std::fclose(file);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    auto nanos = [](const timeval& time) { return time.tv_sec * kSecond + time.tv_usec * 1'000; };
    stats.cpu_user = nanos(usage.ru_utime);
    stats.cpu_system = nanos(usage.ru_stime);
}

}  // namespace pulse
