// /proc/PID/cgroup has the cgroup, /proc/self/mountinfo where its files are.
#include "tools/pulseload/run/memory_group.h"

#include <fstream>
#include <sstream>
#include <vector>

namespace pulse::load {
namespace {

bool lists(std::string_view words, std::string_view word) {  // "a,b,c" has b
    return ("," + std::string(words) + ",").find("," + std::string(word) + ",") !=
           std::string::npos;
}

struct Mount {
    std::string kind, root, point, options;
};
std::vector<Mount> cgroup_mounts() {
    std::vector<Mount> mounts;
    std::ifstream file("/proc/self/mountinfo");
    for (std::string line; std::getline(file, line);) {
        std::istringstream fields(line);
        std::string skipped;
        Mount mount;
        fields >> skipped >> skipped >> skipped >> mount.root >> mount.point;
        while (fields >> skipped && skipped != "-") {
        }
        fields >> mount.kind >> skipped >> mount.options;
        if (mount.kind == "cgroup" || mount.kind == "cgroup2") mounts.push_back(std::move(mount));
    }
    return mounts;
}

std::optional<std::string> folder_in(const Mount& mount, const std::string& path) {
    if (mount.root == "/") return mount.point + path;
    if (!path.starts_with(mount.root)) return std::nullopt;
    return mount.point + path.substr(mount.root.size());
}

bool is_alone(const std::string& group, int pid) {
    std::ifstream file(group + "/cgroup.procs");
    int process = 0;
    return file >> process && process == pid && !(file >> process);
}

std::optional<uint64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    uint64_t number = 0;
    if (!(file >> number)) return std::nullopt;
    return number;
}

}  // namespace

std::string own_memory_group(int pid) {
    const std::vector<Mount> mounts = cgroup_mounts();
    std::ifstream file("/proc/" + std::to_string(pid) + "/cgroup");
    for (std::string line; std::getline(file, line);) {  // 4:memory:/path, or 0::/path
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        for (const Mount& mount : mounts) {
            const bool second_version = mount.kind == "cgroup2" && controllers.empty();
            const bool first_version = mount.kind == "cgroup" && lists(controllers, "memory") &&
                                       lists(mount.options, "memory");
            if (!first_version && !second_version) continue;
            const std::optional<std::string> folder = folder_in(mount, line.substr(second + 1));
            if (folder && is_alone(*folder, pid) && kernel_bytes_of(*folder)) return *folder;
        }
    }
    return {};
}

std::optional<uint64_t> kernel_bytes_of(const std::string& group) {
    if (group.empty()) return std::nullopt;
    if (const auto usage = number_in(group + "/memory.kmem.usage_in_bytes")) {
        return *usage + number_in(group + "/memory.kmem.tcp.usage_in_bytes").value_or(0);
    }
    std::optional<uint64_t> kernel;
    uint64_t sockets = 0;
    std::ifstream file(group + "/memory.stat");
    std::string name;
    for (uint64_t number = 0; file >> name >> number;) {
        if (name == "kernel") kernel = number;
        if (name == "sock") sockets = number;
    }
    if (!kernel) return std::nullopt;
    return *kernel + sockets;
}

}  // namespace pulse::load
