// The CPU clock of the process, /proc/PID/statm, the server's cgroup, and its own statistics.
#include "tools/pulseload/run/server_watch.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/pulseload/run/memory_group.h"

namespace pulse::load {
namespace {

std::string process_file(int pid, const char* name) {
    return "/proc/" + std::to_string(pid) + "/" + name;
}

// By the clock of the process: fields 14 and 15 of its stat count ticks of 10 ms, which reads as no
// work at all where little was done.
double cpu_seconds(int pid) {
    clockid_t clock = 0;
    timespec used = {};
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
    return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

}  // namespace

uint64_t rss_bytes(int pid) {
    std::ifstream file(process_file(pid, "statm"));
    uint64_t size = 0;
    uint64_t resident = 0;
    file >> size >> resident;
    return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

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

namespace {

using Json = nlohmann::ordered_json;

// Text as it is, anything else as JSON; empty where there is no such member.
std::string text_at(const Json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end() || found->is_null()) return {};
    if (found->is_string()) return found->get<std::string>();
    return found->dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::optional<ServerIdentity> identity_of(const Json& stats) {
    const auto settings = stats.find("settings");
    if (settings == stats.end() || !settings->is_object()) return std::nullopt;
    ServerIdentity identity;
    identity.version = text_at(stats, "version");
    identity.backend = text_at(stats, "backend");
    identity.started_at = text_at(stats, "started_at");
    const auto pid = stats.find("pid");
    if (pid != stats.end() && pid->is_number_unsigned()) identity.pid = pid->get<uint64_t>();
    for (const auto& item : settings->items())
        identity.settings.emplace_back(item.key(), text_at(*settings, item.key().c_str()));
    return identity;
}

}  // namespace

Result<ServerAccount> read_server_account(const std::string& path) {
    std::ifstream file(path);
    if (!file) {
        return Error{"--server-stats " + path +
                     ": cannot be read; give the file of the server's --stats-json"};
    }
    std::string last;
    for (std::string line; std::getline(file, line);) {
        if (!line.empty()) last = std::move(line);
    }
    ServerAccount account;
    if (last.empty()) return account;
    const Json stats = Json::parse(last, nullptr, false);
    const Error foreign{"--server-stats " + path +
                        ": its last line is not pulsewheel's; give the file of --stats-json"};
    if (!stats.is_object() || !stats.contains("total") || !stats["total"].is_object())
        return foreign;
    const auto closes = stats["total"].find("closed_by_reason");
    if (closes == stats["total"].end() || !closes->is_object()) return foreign;
    for (const auto& item : closes->items()) {
        if (!item.value().is_number_unsigned()) return foreign;
        account.closes.emplace_back(item.key(), item.value().get<uint64_t>());
    }
    account.identity = identity_of(stats);
    return account;
}

}  // namespace pulse::load
