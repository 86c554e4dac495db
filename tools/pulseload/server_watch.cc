// /proc/PID/stat, /proc/PID/statm, the server's cgroup, and its own statistics.
#include "tools/pulseload/server_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tools/pulseload/memory_group.h"

namespace pulse::load {
namespace {

std::string process_file(int pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

// Fields 14 and 15, counted behind the name, which may hold anything.
double cpu_seconds(int pid) {
    std::ifstream file(process_file(pid, "stat"));
    std::string line;
    std::getline(file, line);
    std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 2)));
    std::string skipped;
    for (int field = 3; field < 14; ++field) fields >> skipped;
    uint64_t user = 0;
    uint64_t system = 0;
    fields >> user >> system;
    return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

uint64_t rss_bytes(int pid) {
    std::ifstream file(process_file(pid, "statm"));
    uint64_t size = 0;
    uint64_t resident = 0;
    file >> size >> resident;
    return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

Result<ServerWatch> ServerWatch::of(int pid) {
    ServerWatch watch;
    if (pid == 0) return watch;
    if (!std::ifstream(process_file(pid, "stat"))) {
        return Error{"--server-pid " + std::to_string(pid) +
                     ": there is no such process; give the pid of pulsewheel"};
    }
    watch.pid_ = pid;
    watch.rss_empty_bytes_ = rss_bytes(pid);
    watch.group_ = own_memory_group(pid);
    watch.kernel_bytes_before_ = kernel_bytes_of(watch.group_).value_or(0);
    return watch;
}

ServerReading ServerWatch::read() const {
    ServerReading reading;
    if (pid_ == 0) return reading;
    reading.rss_bytes = rss_bytes(pid_);
    reading.present = reading.rss_bytes > 0;
    if (!reading.present) return reading;
    reading.cpu_seconds = cpu_seconds(pid_);
    reading.rss_empty_bytes = rss_empty_bytes_;
    const std::optional<uint64_t> charged = kernel_bytes_of(group_);
    if (charged && *charged >= kernel_bytes_before_)
        reading.kernel_bytes = *charged - kernel_bytes_before_;
    return reading;
}

Result<std::vector<std::pair<std::string, uint64_t>>> read_server_closes(const std::string& path) {
    std::ifstream file(path);
    if (!file) return Error{"--server-stats " + path + ": cannot be read"};
    std::string last;
    for (std::string line; std::getline(file, line);) {
        if (!line.empty()) last = std::move(line);
    }
    std::vector<std::pair<std::string, uint64_t>> closes;
    if (last.empty()) return closes;
    const auto stats = nlohmann::ordered_json::parse(last, nullptr, false);
    if (stats.is_discarded() || !stats.contains("total") ||
        !stats["total"].contains("closed_by_reason")) {
        return Error{"--server-stats " + path +
                     ": its last line is none of pulsewheel's; give the file of --stats-json"};
    }
    for (const auto& [reason, count] : stats["total"]["closed_by_reason"].items()) {
        closes.emplace_back(reason, count.get<uint64_t>());
    }
    return closes;
}

}  // namespace pulse::load
