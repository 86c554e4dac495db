// What the machine, the control group and the process's limits leave to this process. Everything is
// read when it is asked for: the answers change while a process runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pulse {

// Memory that may still be taken, and which bound is the tightest.
struct MemoryRoom {
    uint64_t bytes = 0;
    std::string bound;  // "this machine", "the cgroup's memory limit"; empty: nothing is known
};

// `root` stands before /proc and /sys; a test gives a directory of its own.
class Machine {
  public:
    explicit Machine(std::string root = {}) : root_(std::move(root)) {}

    // Cores that this thread may run on: its affinity, as taskset and cpusets leave
    // it. Never empty.
    std::vector<uint32_t> allowed_cores() const;
    // The least of MemAvailable, of what the memory limits of the cgroup (v1 and v2) and of all
    // cgroups above it leave, and of what RLIMIT_AS leaves. Page cache counts as free: the kernel
    // gives it up before it kills.
    MemoryRoom memory() const;
    // How short of memory this process is, by what is too much: 1 is the threshold, 0.5 well below
    // it (core/overload.h). Of what it uses, RSS without the `reusable` bytes of its pools, that
    // is 95 % of `limit`. With 0 it is 95 % of what this process has and may have, or that tasks
    // waited for memory in 10 % of the last ten seconds, where the kernel tells (memory.pressure of
    // the cgroup, else /proc/pressure/memory; Linux 4.20).
    double memory_pressure(uint64_t limit, uint64_t reusable = 0) const;
    // Cores' worth of time that the cgroup's quota allows (cpu.max, cpu.cfs_quota_us); 0: no quota.
    double cpu_quota() const;

  private:
    // The directories of the cgroup of this process below a controller's mount, innermost first.
    std::vector<std::string> cgroup_levels(std::string_view controller) const;
    // Percent of the last ten seconds.
    double waited_for_memory() const;
    std::string root_;
};

}  // namespace pulse
