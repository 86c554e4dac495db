// What the kernel charges to a process: the counters of the memory cgroup that it has for itself.
// In a cgroup with others it is not known whose a byte is, and nothing is measured.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pulse::load {

// The folder of the memory cgroup (version 2 or 1) whose only process is `pid`; empty: it has none
// of its own.
std::string own_memory_group(int pid);

// Kernel memory charged to it now: slabs, page tables, stacks, socket buffers.
std::optional<uint64_t> kernel_bytes_of(const std::string& group);

}  // namespace pulse::load
