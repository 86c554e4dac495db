// Bounds of a server: its reactors, and what they and idle connections cost. The start-up lines say
// what they add up to.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/anomaly/limits.h"
#include "core/limits.h"

namespace pulse {

// ------------------------------------------------------------------------------------- reactors
inline constexpr uint32_t kReactorsMax = 256;
// More reactors than this on a core are warned of, and a default never asks for them: they wait for
// each other. A few are the price of a low descriptor limit (a million on two cores took 54).
inline constexpr uint32_t kReactorsPerCoreAdvised = 4;
// What a reactor opens for itself: its epoll or ring, its spare, its listeners' slack, the log.
inline constexpr uint32_t kReactorDescriptors = 32;

// What the admin endpoint may open, in the table of the main thread: its clients, and its own.
inline constexpr uint32_t kAdminDescriptors = 80;

// Entries of a descriptor table that statistics count one by one, where the kernel does not have
// their number (before Linux 6.2): tens of milliseconds at most.
inline constexpr uint64_t kDescriptorsCounted = 65'536;

// Lanes of a reactor's mailbox: threads that post to it, each by its own number. Reactor r has
// kFirstReactorSender + r; in a server of one reactor there are no such lanes.
inline constexpr uint32_t kMainSender = 0;
inline constexpr uint32_t kAdminSender = 1;  // threads of the admin endpoint, one at a time
inline constexpr uint32_t kFirstReactorSender = 2;
static_assert(kFirstReactorSender + kReactorsMax <= kMailboxSendersMax);

// --------------------------------------------------------------------------------------- memory
// What an idle connection costs, for the estimate at start; the README has what was measured. In
// user space: the record, its entry in the wheel, and half-filled chunks and pages.
inline constexpr size_t kIdleUserBytes = 80;
// What a user with one session costs beside it, with a name of 16 bytes: core/README.md.
inline constexpr size_t kUserBytes = 200;
// What a session that can be resumed costs beside its window: records of 64 bytes with its
// connection and 136 with its shard, in nodes of a map that the allocator makes 96 and 160 of, a
// place in each map, and 32 in the list of those that are held.
inline constexpr size_t kResumableSessionBytes = 304;
// What OpenSSL has of a connection, idle and between the first flight of its handshake and the
// last: what malloc gave it for 500 of each (OpenSSL 3.0.19, TLS 1.3, 2026-11-28).
inline constexpr size_t kTlsIdleBytes = 14'100;
inline constexpr size_t kTlsHandshakeBytes = 44'100;
// Of a frozen one what is besides its state: an entry of the table of those behind TLS.
inline constexpr size_t kTlsFrozenBytes = 16;
// In the kernel: the socket (3.81 KB) and its entry in an epoll set (about 200 B by its slab, 235 B
// by what a cgroup is charged).
inline constexpr size_t kIdleKernelBytes = 4'160;
// A reactor's own: slots of the wheel, receive buffers, ring, mailbox, stack, histograms.
inline constexpr size_t kReactorUserBytes = 512 * 1024;

// --anomaly-interval. The default is what the study measures (core/README.md). A day has slots of
// half an hour, of which each wants 30 samples, and has twice as many with the longest interval: a
// sample that comes late must not cost it the day.
inline constexpr int64_t kAnomalyIntervalDefault = 10'000'000'000;
inline constexpr int64_t kAnomalyIntervalMin = 50'000'000;
inline constexpr int64_t kAnomalyIntervalMax = 30'000'000'000;
static_assert(86'400'000'000'000 / kAnomalyDaySlots / kAnomalyIntervalMax >=
              2 * kAnomalySlotSamplesMin);

// For --overload (core/overload.h): of what may be used this part is too much, and this little
// enough that pressure is over.
inline constexpr double kMemoryShort = 0.95;
inline constexpr double kMemoryAmple = 0.90;
// And so much of ten seconds in which a task waited for memory: a machine that swaps waits for more
// than half of them, one that reads a large file for none.
inline constexpr double kMemoryWaitedPercent = 10;

}  // namespace pulse
