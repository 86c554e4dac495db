// Bounds of the backends: sockets, epoll and io_uring.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/limits.h"

namespace pulse {

// -------------------------------------------------------------------------------------- sockets
// Asked of listen(); the kernel cuts it to net.core.somaxconn, which is the operator's bound.
inline constexpr int kListenBacklog = 65'535;
// Accepts a turn, so that a reconnect storm does not starve the connections that are open.
inline constexpr uint32_t kAcceptsPerTurn = 256;
// A listener's position travels in a byte, and each gets a share of the accepts of a turn.
inline constexpr uint32_t kListenersMax = 64;
static_assert(kListenersMax <= kAcceptsPerTurn);
static_assert(kListenersMax <= 64, "a record holds the number in 6 bits (core/connection.h)");
// What epoll reads at once. A full read that is parked takes a buffer of 64 KiB, slack in front
// included: the classes of the buffer pool double, and 64 KiB and the slack took 128 KiB.
inline constexpr size_t kReceiveBufferBytes = 64 * 1024 - kReceiveFrontBytes;
// Bytes that one poll reads from connections which had more than a buffer-full waiting, all of
// them together: however many peers flood us, the turn stays short. At least one buffer-full.
inline constexpr size_t kFloodBytesPerPoll = size_t{4} << 20;
static_assert(kFloodBytesPerPoll >= kReceiveBufferBytes);
// After accept failed for want of memory or of a descriptor (the spare one too) the listeners rest
// for so long: within the second in which we promise to accept again, and far from spinning.
inline constexpr int64_t kAcceptRestNs = 100'000'000;
inline constexpr int kKeepaliveSecondsMax = 32'767;  // what TCP_KEEPIDLE takes
// Of the kernel's in a keepalive's time, so that a dead peer ends soon behind it, and one that lost
// a probe has others before.
inline constexpr int kKeepaliveProbes = 4;

// ---------------------------------------------------------------------------------------- epoll
// Readiness events taken from an epoll set at once. 512 heartbeats with answers are 5-8 ms of work;
// a batch that is full is followed by the next without sleeping.
inline constexpr uint32_t kEventsPerPoll = 512;
// Marks that are on their way through an epoll set at once (net/io/watch_proof.h): judging lags by
// the time that a ready connection waits there and a part of it, one by so many. A descriptor each.
inline constexpr uint32_t kWatchMarks = 4;

// ------------------------------------------------------------------------------------- io_uring
// Submissions a ring holds; a full one is submitted and goes on. 256 x 64 B = 16 KiB, and as many
// receives, sends and polls as a turn of 100 heartbeats needs.
inline constexpr uint32_t kUringSubmissionEntries = 256;
// Completions a ring holds for each submission, without the kernel's overflow list: what all of
// them answer at once, and the task work of a few waits. 1,024 x 16 B = 16 KiB. Before it would
// overflow it is emptied.
inline constexpr uint32_t kUringCompletionsPerSubmission = 4;
// Completions that one io_uring_enter adds for what was not just submitted: it runs at most 20
// items of task work, twice (io_uring.c).
inline constexpr uint32_t kUringTaskWorkMax = 64;
// Events taken from the watch set at once. 256 x 12 B = 3 KiB.
inline constexpr uint32_t kUringWatchEvents = 256;
// Up to so many receives in a poll are system calls, and so are the sends behind them: a submission
// and its completion cost as much as a system call where nothing shares the io_uring_enter.
inline constexpr uint32_t kUringAtOnce = 8;
// Buffers that receives share, and their size with the slack of C2. No more receives are submitted
// at once than there are buffers, so they need no spares: 32 x 8 KiB = 256 KiB a reactor at most,
// of which heartbeats touch the first page of as many as were ever read at once.
inline constexpr uint32_t kUringReceiveBuffers = 32;
// The same where there are more reactors than cores: they are there for their descriptors, and a
// burst that waited for a core is read in rounds. 7 B a connection at 19,000 were 32 of them.
inline constexpr uint32_t kUringReceiveBuffersCrowded = 8;
inline constexpr uint32_t kUringReceiveBufferBytes = 8'192;
static_assert(kUringReceiveBufferBytes > 2 * (kReceiveFrontBytes + kReceivePadBytes));
// Connections known to have bytes and not asked yet; what is too many waits in the set. 4 KiB.
inline constexpr uint32_t kUringReadyMax = 1'024;
// A poll ends after so many completions, or after so many rounds of submitting and reaping: the
// wheel and the mailbox get their share.
inline constexpr uint32_t kUringCompletionsPerPoll = 1'024;
inline constexpr uint32_t kUringRoundsPerPoll = 16;
// io_uring_enter takes no submission for want of memory: so many tries with a yield between them,
// then each waits for so long. It goes on for ever: to give up is to lose every connection.
inline constexpr uint32_t kUringSubmitYields = 100;
inline constexpr int64_t kUringSubmitRestNs = 1'000'000;

}  // namespace pulse
