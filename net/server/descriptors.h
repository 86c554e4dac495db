// Descriptor tables and their limit: what decides how many connections a thread can hold.
//
// RLIMIT_NOFILE bounds each table, not each process, and unshare(CLONE_FILES) gives a thread its
// own table. So every reactor has one: each holds as many connections as the limit allows, and no
// accept or close takes the lock of a shared table. Where seccomp refuses that (the
// default profile of every container runtime), reactors share the process's table, and the limit.
#pragma once

#include <cstdint>

#include "core/result.h"

namespace pulse {

// From now on the calling thread has a descriptor table of its own: a copy of the one it had. A
// descriptor opened in one is unknown in the other, and one that was open before lives until *both*
// have closed it. So: first thing on a thread, before anything is opened whose close must be seen
// by a peer. Threads started later by this one share its table.
Result<void> own_descriptor_table();

// Whether own_descriptor_table() will succeed: tried on a thread that ends at once.
Result<void> try_own_descriptor_table();

// Returns how many descriptors this thread's table may hold (soft RLIMIT_NOFILE).
uint64_t descriptor_limit();

// Raises the soft limit to the hard one, which needs no privilege. Returns what holds now.
uint64_t raise_descriptor_limit();

// Gives the calling thread's table its size for `count` descriptors at once, at 8 bytes each. Each
// time a table that threads share doubles, a thread that opens a descriptor waits for a grace
// period of the kernel, 20 ms (bench/README.md). Best effort: a table that stays small grows later.
void widen_descriptor_table(uint64_t count);

// Returns how many of the calling thread's are open; 0 where /proc is missing. O(1) from Linux
// 6.2 on, before that it walks them.
uint64_t open_descriptors();

// Opens /dev/null on those of 0, 1 and 2 that are closed. Otherwise a file or socket opened later
// gets the number, and what is meant for stderr is written into it. Call it first in main().
void open_standard_descriptors();

// A stderr that is a pipe never makes its writers wait from now on: what it does not take is lost.
// Other processes that share the pipe are not affected.
void unblock_stderr();

}  // namespace pulse
