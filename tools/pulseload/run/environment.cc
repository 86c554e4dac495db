// Files of /proc and /sys, and the flags of the compiler.
#include "tools/pulseload/run/environment.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "proto/printable.h"
#include "tools/pulseload/run/build_info.h"

namespace pulse::load {
namespace {

constexpr size_t kValueBytesMax = 400;

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    std::ranges::replace(line, '\t', ' ');
    return line.substr(0, kValueBytesMax);
}

void add(Facts& facts, std::string name, const std::string& value) {
    if (!value.empty()) facts.emplace_back(std::move(name), printable(value));
}

// The value of "name : value" in /proc/cpuinfo; of the first CPU.
std::string cpu_field(std::string_view name) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with(name)) continue;
        const size_t colon = line.find(": ");
        return colon == line.npos ? "" : line.substr(colon + 2);
    }
    return {};
}

std::string cores() {
    const int64_t online = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t allowed{};
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return std::to_string(online);
    return fmt::format("{} of {} may be used", CPU_COUNT(&allowed), online);
}

std::string memory() {
    struct sysinfo info{};
    if (sysinfo(&info) != 0) return {};
    return fmt::format("{:.1f} GiB",
                       static_cast<double>(info.totalram) * info.mem_unit / (1u << 30));
}

std::string kernel() {
    utsname name{};
    uname(&name);
    return fmt::format("{} {} {}, {}", name.sysname, name.release, name.machine, name.version);
}

std::string virtualisation() {
    std::string found;
    const auto join = [&](const std::string& part) {
        if (!part.empty()) found += (found.empty() ? "" : ", ") + part;
    };
    const std::string flags = " " + cpu_field("flags") + " ";
    if (flags.find(" hypervisor ") != flags.npos) join("virtual machine");
    join(first_line("/sys/hypervisor/type"));
    join(first_line("/sys/class/dmi/id/sys_vendor"));
    join(first_line("/sys/class/dmi/id/product_name"));
    std::error_code ignored;
    if (std::filesystem::exists("/.dockerenv", ignored)) join("container (docker)");
    join(first_line("/run/systemd/container"));
    return found.empty() ? "none found" : found;
}

std::string mitigations() {
    std::string found;
    std::error_code error;
    std::vector<std::string> lines;
    for (const auto& file :
         std::filesystem::directory_iterator("/sys/devices/system/cpu/vulnerabilities", error)) {
        const std::string state = first_line(file.path());
        if (state.empty() || state == "Not affected") continue;
        lines.push_back(file.path().filename().string() + ": " + state);
    }
    std::ranges::sort(lines);
    for (const std::string& line : lines) found += (found.empty() ? "" : "; ") + line;
    return found.empty() ? "none reported" : found;
}

std::string limit_of(int resource) {
    rlimit limit{};
    // NOLINTNEXTLINE: glibc has an enum of its own for C++.
    if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return {};
    const auto words = [](rlim_t value) {
        return value == RLIM_INFINITY ? std::string("unlimited") : std::to_string(value);
    };
    return words(limit.rlim_cur) + " (at most " + words(limit.rlim_max) + ")";
}

void add_system_settings(Facts& facts) {
    constexpr std::string_view kNames[] = {"net.core.somaxconn",
                                           "net.core.netdev_max_backlog",
                                           "net.core.rmem_max",
                                           "net.core.wmem_max",
                                           "net.ipv4.tcp_max_syn_backlog",
                                           "net.ipv4.ip_local_port_range",
                                           "net.ipv4.tcp_tw_reuse",
                                           "net.ipv4.tcp_mem",
                                           "net.ipv4.tcp_rmem",
                                           "net.ipv4.tcp_wmem",
                                           "net.ipv4.tcp_congestion_control",
                                           "net.ipv4.tcp_syncookies",
                                           "fs.file-max",
                                           "fs.nr_open",
                                           "vm.max_map_count",
                                           "vm.overcommit_memory",
                                           "kernel.io_uring_disabled",
                                           "kernel.sched_rt_runtime_us"};
    for (const std::string_view name : kNames) {
        std::string path = "/proc/sys/" + std::string(name);
        std::replace(path.begin() + 10, path.end(), '.', '/');
        add(facts, std::string(name), first_line(path));
    }
}

}  // namespace

Facts describe_environment() {
    Facts facts;
    add(facts, "CPU", cpu_field("model name"));
    add(facts, "cores", cores());
    add(facts, "memory", memory());
    add(facts, "kernel", kernel());
    add(facts, "virtualisation", virtualisation());
    add(facts, "mitigations", mitigations());
    add(facts, "frequency governor",
        first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add(facts, "clock source",
        first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    add(facts, "transparent huge pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled"));
    add(facts, "load before the start", first_line("/proc/loadavg"));
    add(facts, "descriptors", limit_of(RLIMIT_NOFILE));
    add(facts, "locked memory", limit_of(RLIMIT_MEMLOCK));
    add(facts, "memory of the cgroup", first_line("/sys/fs/cgroup/memory.max"));
    add(facts, "CPU of the cgroup", first_line("/sys/fs/cgroup/cpu.max"));
    add_system_settings(facts);
    add(facts, "git revision", std::string(kGitRevision));
    add(facts, "compiler", std::string(kCompiler));
    add(facts, "build flags", std::string(kBuildFlags));
    return facts;
}

}  // namespace pulse::load
