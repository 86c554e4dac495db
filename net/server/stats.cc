// Formats the figures of a server: one line of text, or one JSON object.
#include "net/server/stats.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/units.h"
#include "core/version.h"
#include "net/loop/reactor_json.h"

namespace pulse {
namespace {

using Json = nlohmann::ordered_json;

double to_seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

// 2026-11-27T04:35:12.345Z
std::string utc(Nanos wall) {
    const std::time_t seconds = wall / kSecond;
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                       parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                       wall % kSecond / kMillisecond);
}

// Text from outside may be anything; what is not UTF-8 is replaced, and the line stays JSON.
std::string text_of(const Json& object) {
    return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Json ServerStats::process_json() const {
    return {{"version", kVersion},
            {"pid", pid},
            {"at", utc(wall_at)},
            {"started_at", utc(wall_at - uptime)},
            {"uptime_s", to_seconds(uptime)},
            {"backend", backend},
            {"listening", listening},
            {"rss_bytes", rss_bytes},
            {"cpu_s", to_seconds(cpu_user + cpu_system)},
            {"cpu_user_s", to_seconds(cpu_user)},
            {"cpu_system_s", to_seconds(cpu_system)}};
}

double ServerStats::imbalance() const {
    uint64_t most = 0, all = 0;
    for (const ReactorStats& reactor : reactors) {
        most = std::max(most, reactor.gauges.live);
        all += reactor.gauges.live;
    }
    if (all == 0) return 1;
    return static_cast<double>(most * reactors.size()) / static_cast<double>(all);
}

std::string ServerStats::json(bool last) const {
    Json object = {{"schema", kStatsSchema}};
    object.update(process_json());
    object["last"] = last;
    object["settings"] = Json::object();
    for (const auto& [name, value] : settings) object["settings"][name] = value;
    object["imbalance"] = imbalance();
    object["total"] = to_json(total);
    std::string text = text_of(object);
    // One reactor's object at a time: all of them at once take a megabyte of a server with fifty.
    text.back() = ',';
    text += R"("reactors":[)";
    for (const ReactorStats& reactor : reactors) {
        if (text.back() == '}') text += ',';
        text += text_of(to_json(reactor));
    }
    return text += "]}";
}

std::string ServerStats::line(const Moment& earlier) const {
    // Before the first line there was the start, and not the machine's.
    const Nanos since = std::max(earlier.at, at - uptime);
    const double seconds = std::max(1e-3, to_seconds(at - since));
    auto rate = [&](Metric metric) {
        const uint64_t count = total.metrics[metric] - earlier.metrics[metric];
        return static_cast<double>(count) / seconds;
    };
    const auto cpu = to_seconds(cpu_user + cpu_system - earlier.cpu);
    return fmt::format(
        "now: {} open, rss {}, judge lag {:.1f} ms | per second: +{:.0f} -{:.0f}, {:.0f} "
        "heartbeats, {:.0f} probes, cpu {:.0f}% | since the start: {} evicted, {} refused, longest "
        "turn {:.2f} ms",
        total.gauges.live, format_size(rss_bytes / 1024 * 1024),
        static_cast<double>(total.gauges.judge_lag) / kMillisecond, rate(Metric::accepted),
        rate(Metric::closed), rate(Metric::heartbeats_received), rate(Metric::probes_sent),
        cpu / seconds * 100, total.metrics[Metric::evicted], total.metrics[Metric::refused],
        static_cast<double>(total.distributions.turn_time.max()) / kMillisecond);
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
    stats.pid = getpid();
    timespec wall{};
    clock_gettime(CLOCK_REALTIME, &wall);
    stats.wall_at = wall.tv_sec * kSecond + wall.tv_nsec;
}

}  // namespace pulse
