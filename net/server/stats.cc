// Formats the figures of a server: one line of text, or one JSON object.
#include "net/server/stats.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "core/units.h"
#include "core/version.h"
#include "net/loop/reactor_json.h"
#include "net/server/limits.h"

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

// Linux 6.2 and later have the number at hand. Before that they are counted, if they are few.
uint64_t open_descriptors() {
    struct stat folder{};
    if (::stat("/proc/self/fd", &folder) != 0) return 0;
    if (folder.st_size > 0) return static_cast<uint64_t>(folder.st_size);
    DIR* const list = ::opendir("/proc/self/fd");
    if (list == nullptr) return 0;
    uint64_t entries = 0;
    while (entries <= kDescriptorsCounted && ::readdir(list) != nullptr) ++entries;
    ::closedir(list);
    constexpr uint64_t kNotOpen = 3;  // ".", "..", and that of the list
    return entries > kDescriptorsCounted ? 0 : entries - std::min(entries, kNotOpen);
}

}  // namespace

Json ServerStats::process_json() const {
    return {{"version", kVersion},
            {"pid", pid},
            {"at", utc(wall_at)},
            {"started_at", utc(wall_at - uptime)},
            {"uptime_s", to_seconds(uptime)},
            {"start_time_s", to_seconds(wall_started_at)},
            {"backend", backend},
            {"listening", listening},
            {"rss_bytes", rss_bytes},
            {"virtual_bytes", virtual_bytes},
            {"memory_available_bytes", memory_available_bytes},
            {"descriptors", descriptors},
            {"descriptors_max", descriptors_max},
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
    return imbalance_of(most, all, reactors.size());
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
            const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
            stats.rss_bytes = uint64_t{resident} * page;
            stats.virtual_bytes = uint64_t{size} * page;
        }
        std::fclose(file);
    }
    stats.descriptors = open_descriptors();
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) stats.descriptors_max = limit.rlim_cur;
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
