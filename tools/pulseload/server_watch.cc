// /proc/PID/stat, /proc/PID/status, /proc/slabinfo, and the server's own statistics.
#include "tools/pulseload/server_watch.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace pulse::load {
namespace {

// The caches that a socket, its file, its place in an epoll set or a ring, and its buffers are
// made of. Others grow and shrink for reasons of their own.
constexpr std::string_view kCaches[] = {"TCP",
                                        "TCPv6",
                                        "sock_inode_cache",
                                        "filp",
                                        "dentry",
                                        "ep_head",
                                        "eventpoll_epi",
                                        "eventpoll_pwq",
                                        "io_kiocb",
                                        "skbuff_head_cache",
                                        "skbuff_small_head",
                                        "skbuff_fclone_cache",
                                        "lsm_file_cache",
                                        "lsm_inode_cache",
                                        "request_sock_TCP",
                                        "tw_sock_TCP"};

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

uint64_t socket_slab_bytes() {
    std::ifstream file("/proc/slabinfo");
    std::string line;
    double bytes = 0;
    while (std::getline(file, line)) {
        std::istringstream fields(line);
        std::string name;
        double active = 0;
        double objects = 0;
        double object_bytes = 0;
        double per_slab = 0;
        double pages_per_slab = 0;
        fields >> name >> active >> objects >> object_bytes >> per_slab >> pages_per_slab;
        if (per_slab <= 0 || std::ranges::find(kCaches, name) == std::end(kCaches)) continue;
        bytes += active * pages_per_slab * static_cast<double>(sysconf(_SC_PAGESIZE)) / per_slab;
    }
    return static_cast<uint64_t>(bytes);
}

Result<ServerWatch> ServerWatch::of(int pid) {
    ServerWatch watch;
    if (pid == 0) return watch;
    if (!std::ifstream(process_file(pid, "stat"))) {
        return Error{"--server-pid " + std::to_string(pid) +
                     ": there is no such process; give the pid of pulsewheel"};
    }
    watch.pid_ = pid;
    watch.kernel_bytes_before_ = socket_slab_bytes();
    return watch;
}

ServerReading ServerWatch::read() const {
    ServerReading reading;
    if (pid_ == 0) return reading;
    reading.rss_bytes = rss_bytes(pid_);
    reading.present = reading.rss_bytes > 0;
    if (!reading.present) return reading;
    reading.cpu_seconds = cpu_seconds(pid_);
    const uint64_t kernel_bytes = socket_slab_bytes();
    reading.kernel_bytes = kernel_bytes - std::min(kernel_bytes, kernel_bytes_before_);
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
