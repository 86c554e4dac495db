// sched_getaffinity, /proc/meminfo, cgroup files of both versions.
#include "net/server/machine.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>

#include "net/server/limits.h"

namespace pulse {
namespace {

// More than any machine has; cgroup v1 writes "no limit" as the largest multiple of a page.
constexpr uint64_t kUnlimited = uint64_t{1} << 60;

// The first word of a file as a number; none for "max", for what is not there and for nonsense.
std::optional<uint64_t> read_number(const std::string& path) {
    std::ifstream file(path);
    uint64_t number = 0;
    if (!(file >> number) || number >= kUnlimited) return std::nullopt;
    return number;
}

// A line "KEY NUMBER..." of a file.
uint64_t read_field(const std::string& path, std::string_view key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name;
        uint64_t number = 0;
        if (words >> name >> number && name == key) return number;
    }
    return 0;
}

// What a limit leaves. `usage` counts page cache, which is given up on demand.
std::optional<uint64_t> room_below(const std::optional<uint64_t>& limit, uint64_t usage,
                                   uint64_t cache) {
    if (!limit) return std::nullopt;
    const uint64_t held = usage - std::min(usage, cache);
    return *limit - std::min(*limit, held);
}

std::optional<uint64_t> room_in_level(const std::string& level) {
    // Version 2, then version 1: a directory has the files of one of them.
    if (const auto limit = read_number(level + "/memory.max")) {
        return room_below(limit, read_number(level + "/memory.current").value_or(0),
                          read_field(level + "/memory.stat", "inactive_file") +
                              read_field(level + "/memory.stat", "active_file"));
    }
    return room_below(read_number(level + "/memory.limit_in_bytes"),
                      read_number(level + "/memory.usage_in_bytes").value_or(0),
                      read_field(level + "/memory.stat", "total_inactive_file") +
                          read_field(level + "/memory.stat", "total_active_file"));
}

double quota_of_level(const std::string& level) {
    uint64_t quota = 0;
    uint64_t period = 0;
    if (std::ifstream file(level + "/cpu.max"); file >> quota >> period && period > 0)
        return static_cast<double>(quota) / static_cast<double>(period);
    // -1 is not a quota, and not a number to read_number's eyes once it has wrapped.
    const auto old_quota = read_number(level + "/cpu.cfs_quota_us");
    const auto old_period = read_number(level + "/cpu.cfs_period_us");
    if (!old_quota || !old_period || *old_period == 0) return 0;
    return static_cast<double>(*old_quota) / static_cast<double>(*old_period);
}

}  // namespace

std::vector<uint32_t> Machine::allowed_cores() const {
    std::vector<uint32_t> cores;
    // The kernel refuses a mask that is smaller than its own: so ever larger ones are tried.
    for (int bits = CPU_SETSIZE; bits <= (1 << 20); bits *= 2) {
        cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(bits));
        if (mask == nullptr) break;
        const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(bits));
        CPU_ZERO_S(bytes, mask);
        const bool known = sched_getaffinity(0, bytes, mask) == 0;
        for (int core = 0; known && core < bits; ++core)
            if (CPU_ISSET_S(static_cast<size_t>(core), bytes, mask))
                cores.push_back(static_cast<uint32_t>(core));
        CPU_FREE(mask);
        if (known) break;
    }
    if (!cores.empty()) return cores;
    const long online = std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
    for (long core = 0; core < online; ++core) cores.push_back(static_cast<uint32_t>(core));
    return cores;
}

std::vector<std::string> Machine::cgroup_levels(std::string_view controller) const {
    std::vector<std::string> levels;
    const std::string mounts = root_ + "/sys/fs/cgroup";
    std::ifstream file(root_ + "/proc/self/cgroup");
    for (std::string line; std::getline(file, line);) {
        // ID:CONTROLLER,CONTROLLER:PATH; version 2 is "0::PATH".
        const size_t first = line.find(':');
        const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string names = line.substr(first + 1, second - first - 1);
        std::vector<std::string> bases;
        if (names.empty()) {
            bases = {mounts, mounts + "/unified"};
        } else if (("," + names + ",").find("," + std::string(controller) + ",") !=
                   std::string::npos) {
            bases = {mounts + "/" + names, mounts + "/" + std::string(controller)};
        }
        for (const std::string& base : bases) {
            // In a container the path is often the host's and does not exist below the mount, whose
            // root is then the container's own cgroup: climbing ends there.
            std::string path = line.substr(second + 1);
            for (;;) {
                if (path == "/") path.clear();
                levels.push_back(base + path);
                if (path.empty()) break;
                path.resize(std::min(path.rfind('/'), path.size()));
            }
        }
    }
    return levels;
}

MemoryRoom Machine::memory() const {
    MemoryRoom room{.bytes = std::numeric_limits<uint64_t>::max(), .bound = {}};
    const auto narrow = [&room](std::optional<uint64_t> bytes, std::string_view bound) {
        if (bytes && *bytes < room.bytes) room = {*bytes, std::string(bound)};
    };
    const uint64_t available = read_field(root_ + "/proc/meminfo", "MemAvailable:") * 1024;
    if (available > 0) narrow(available, "this machine");
    for (const std::string& level : cgroup_levels("memory"))
        narrow(room_in_level(level), "the cgroup's memory limit");
    rlimit space{};
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY) {
        const uint64_t mapped = read_number(root_ + "/proc/self/statm").value_or(0) *
                                static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
        narrow(room_below(space.rlim_cur, mapped, 0), "RLIMIT_AS (ulimit -v)");
    }
    if (room.bound.empty()) room.bytes = 0;
    return room;
}

double Machine::memory_pressure(uint64_t limit, uint64_t reusable) const {
    uint64_t resident = 0;
    if (std::ifstream statm(root_ + "/proc/self/statm"); statm >> resident >> resident)
        resident *= static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    double waited = 0;
    // By the room that is left, what can be used again counts as used: others cannot have it.
    if (limit == 0) {
        reusable = 0;
        const MemoryRoom room = memory();
        if (!room.bound.empty()) limit = resident + room.bytes;
        waited = waited_for_memory() / kMemoryWaitedPercent;
    }
    if (limit == 0) return waited;
    const uint64_t in_use = resident - std::min(resident, reusable);
    const double used = static_cast<double>(in_use) / static_cast<double>(limit);
    const double by_use = 1 + (used - kMemoryShort) / (2 * (kMemoryShort - kMemoryAmple));
    return std::max({0.0, by_use, waited});
}

// Of the innermost cgroup that has the file, since another's shortage is not ours.
double Machine::waited_for_memory() const {
    std::vector<std::string> files = cgroup_levels("memory");
    for (std::string& level : files) level += "/memory.pressure";
    files.push_back(root_ + "/proc/pressure/memory");
    for (const std::string& path : files) {
        // some avg10=0.00 avg60=0.00 avg300=0.00 total=0
        constexpr std::string_view kAverage = "avg10=";
        std::ifstream file(path);
        std::string some, average;
        if (!(file >> some >> average) || some != "some" || !average.starts_with(kAverage))
            continue;
        return std::strtod(average.c_str() + kAverage.size(), nullptr);
    }
    return 0;
}

double Machine::cpu_quota() const {
    double least = 0;
    for (const std::string& level : cgroup_levels("cpu")) {
        const double quota = quota_of_level(level);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
    }
    return least;
}

}  // namespace pulse
