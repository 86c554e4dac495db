// Bounds of the loop: what a turn does, what a connection may hold, how it ends, what is logged.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/limits.h"
#include "proto/limits.h"

namespace pulse {

// ------------------------------------------------------------------------------- work in a turn
// A turn judges deadlines in slices of this much work: a look costs 1, a probe 8, an eviction 32,
// after what they cost in time. 512 looks are about 10 us, 16 evictions about as long.
inline constexpr uint32_t kJudgeBudgetPerTurn = 2'048;
inline constexpr uint32_t kLookCost = 1;
inline constexpr uint32_t kProbeCost = 8;
inline constexpr uint32_t kEvictCost = 32;
// Of a look that asks the kernel what the peer has acknowledged, beside its own cost: two system
// calls, 600 ns of CPU where a look has 20 (2 vCPU, Linux 6.18, 2026-11-27).
inline constexpr uint32_t kProgressCost = 32;
// Looks in an interval at a connection whose user is suspect, to see whether it has answered.
inline constexpr uint32_t kSuspectLooks = 8;
// What is done to every connection is done in slices, too: a place that is passed over costs 1, one
// that something is said or done to as much as an eviction.
inline constexpr uint32_t kSweepBudgetPerTurn = 2'048;
inline constexpr uint32_t kPassCost = 1;
// What another thread has done in steps (job.h) is looked at so often at least, so that one that
// waits for its next step, or was cancelled meanwhile, is not forgotten by a loop that sleeps.
inline constexpr int64_t kCancelLookNs = 100'000'000;
// Control messages a turn takes, of all senders together, before it looks at the network again:
// each may be a kick, and a goodbye costs as much as any send.
inline constexpr uint32_t kMailboxBudgetPerTurn = 256;
// What all connections together may have handled in one turn, in units of work: bytes delivered,
// and kFrameWork for each frame (2 MiB, or 4,096 frames). Half of it is for what was read just now,
// half for what was parked. The last message may exceed it, and what follows pays that back.
inline constexpr size_t kWorkPerTurn = size_t{2} << 20;

// Users of a shard whose lingering ends in one turn: each is a change of presence and leaves two
// lists, a few hundred nanoseconds.
inline constexpr uint32_t kLingerBudgetPerTurn = 256;

// The CPU clock, a system call, is read once in so much time of turns.
inline constexpr int64_t kCpuReadNs = 1'000'000;

// ------------------------------------------------------------------------------------- overload
// --overload-lag: more than a million connections had on epoll at any time (299 ms, README), and
// short beside a timeout.
inline constexpr int64_t kOverloadLagDefault = 500'000'000;
// By how much heartbeats are stretched: half of them are spared, and a dead peer stays twice as
// long as else.
inline constexpr int64_t kOverloadStretch = 2;
// Between two looks of a reactor that sleeps: memory is another thread's, which does not wake it.
inline constexpr int64_t kOverloadLookNs = 250'000'000;
// Between two choices of connections to be closed in the last step.
inline constexpr int64_t kOverloadCloseEveryNs = 1'000'000'000;
// How long those stay away that are refused or closed: this to twice this.
inline constexpr int64_t kOverloadAwayNs = 5'000'000'000;

// ----------------------------------------------------------------------------------------- rates
// Messages that a peer may send at once, in time of its rate, where no burst was given: what piles
// up while this thread, its machine or the network is away comes at once, and is not a flood.
inline constexpr int64_t kMessageBurstNs = 10'000'000'000;

// --------------------------------------------------------------------------------------- resuming
// Sessions that a shard holds for their clients: 50 MiB, of 200 bytes each with what the map and
// the list have of it. One more ends the one that is held longest.
inline constexpr size_t kResumeHeldMax = 262'144;
// What --resume-window may ask for. A window is copied whole when its connection ends, and sent
// whole when the next one begins.
inline constexpr uint32_t kResumeMessagesMax = 10'000;
inline constexpr size_t kResumeWindowBytesMax = size_t{1} << 20;

// --------------------------------------------------------------------------------------- logins
// Logins of one reactor that may wait for the answer of another: at 5,000 hellos a second a
// reactor that is not scheduled for a second is waited for by 5,000. Each keeps the texts of its
// hello, 704 bytes at most. A hello beyond them is to be tried again.
inline constexpr size_t kLoginsWaitingMax = 16'384;
// How soon messages that found a full lane are tried again, where nothing else ends the sleep: a
// reactor that has its core takes a lane of them in tens of microseconds.
inline constexpr int64_t kMailRetryNs = 1'000'000;

// ------------------------------------------------------------------------------------ gathering
// --gather auto (net/loop/gather.h).
inline constexpr int64_t kGatherAuto = -1;
// The longest gather time: what a heartbeat or a control message may have to wait for a rest.
inline constexpr int64_t kGatherMaxNs = 1'000'000;
// That of auto: at 75,000 heartbeats a second it saves as much CPU as 1 ms does, 20 % (250 us save
// 17 %), for half the wait (net/README.md, "Gathering").
inline constexpr int64_t kGatherAutoNs = 500'000;
// A shorter rest is not worth its system call: the kernel lets a sleep last up to 50 us longer.
inline constexpr int64_t kGatherRestMinNs = 50'000;
// Begun at so many turns a second, ended below so many deliveries. 15,000 heartbeats a second, at
// which it would not pay, come in 10,000 to 16,000 turns, 75,000 in 33,000 to 39,000.
inline constexpr double kGatherEnterPerSecond = 25'000;
inline constexpr double kGatherLeavePerSecond = 18'000;
// Rates are those of windows of at least this much time: short, so that a load which ends is
// noticed, and long beside a turn at saturation, of 5 ms.
inline constexpr int64_t kGatherWindowNs = 50'000'000;
// After so much time one window counts turns again: 1 % of the time does not gather.
inline constexpr int64_t kGatherRecheckNs = 5'000'000'000;
// After a window that gathering itself made quiet: at first 5 % of the time is spent so, at last
// 0.3 %. A load that does gain begins to, at the latest, so much later.
inline constexpr int64_t kGatherHoldOffMinNs = 1'000'000'000;
inline constexpr int64_t kGatherHoldOffMaxNs = 16'000'000'000;

// ------------------------------------------------------------------------------------- profiles
// The first profiles are not heartbeats but plain deadlines: of the handshake and of the close.
inline constexpr uint8_t kProfileGreeting = 0;
inline constexpr uint8_t kProfileClosing = 1;
inline constexpr uint8_t kProfileDefault = 2;   // what the flags say
inline constexpr uint8_t kProfileRealtime = 3;  // those with names follow
// Of side connections: cannot be asked for by name.
inline constexpr uint8_t kProfileSide = kAskedProfiles - 1;

// ------------------------------------------------------------------------------ side connections
// --nat-probes. Of one address at once: a client tries three silences at a time (NatSearch), and a
// few of those that share an address do; a later one is given what they found. Addresses are told
// apart by so many counts, 8 KiB: those that share one share its bound.
inline constexpr uint32_t kSidesPerAddressMax = 12;
inline constexpr uint32_t kSideCounts = 4'096;
// What one network is: NATs of one provider are configured alike, and a pool of addresses of theirs
// is a /24 of IPv4 or more, and what a site or a region of theirs has of IPv6 is a /48.
inline constexpr uint32_t kNatNetworkBitsV4 = 24;
inline constexpr uint32_t kNatNetworkBitsV6 = 48;

// ------------------------------------------------------------------------------------ announcing
// Between looks at whether a peer's host has acknowledged the interval that it was told; and from a
// walk that told all of shorter ones to the next, when most have them.
inline constexpr int64_t kAdoptLookNs = 1'000'000'000;
inline constexpr int64_t kSettleLookNs = 3 * kAdoptLookNs;

// ------------------------------------------------------------------------------- kernel's bounds
// --tcp-keepalive, --tcp-user-timeout: what follows from the heartbeats of each connection.
inline constexpr int64_t kByHeartbeat = -1;
// And not less than this: where heartbeats are quick the loop is quicker than the kernel, and a
// host that lost a few segments, or whose window was closed by a slow reader, is not gone. The
// user timeout is twice it, in which Linux sends a segment eight times (RTO 200 ms, doubled).
inline constexpr int64_t kKernelBoundMinNs = 15'000'000'000;

// ------------------------------------------------------------------------------------- progress
// A message on its way proves life while it moves at least so fast, in either direction; below it
// the deadline comes closer, so that a peer which drips does not hold memory for ever. HTTP servers
// ask as much of a request body (Apache's mod_reqtimeout: MinRate=500).
inline constexpr uint32_t kProgressBytesPerSecondMin = 512;
// A message of which less has come gets no credit for moving: a pong cut in two is not an upload,
// and a credit for its first half would make void the probe that it answers.
inline constexpr size_t kUploadBytesMin = 1'024;
// What is sent and may have to wait in the kernel, with our probe behind it, at once or in small
// sends that add up to it; below this an acknowledgement tells nothing that the answer to a probe
// does not tell as fast.
inline constexpr size_t kBulkBytes = 4'096;
// A flight that took longer may have waited for this thread: what it waited is not the peer's.
inline constexpr int64_t kLongFlightNs = 100'000'000;
// Small sends are added up in these, rounded down: heartbeats count for nothing.
inline constexpr size_t kUnnotedUnitBytes = 64;
static_assert(kBulkBytes / kUnnotedUnitBytes <= 128, "Connection::unnoted has 7 bits");

// -------------------------------------------------------------------------------------- closing
// A close waits for the peer to take what is on its way as long as it takes some of it, and no
// longer than this; a server that stops has its own window (--drain-timeout).
inline constexpr int64_t kCloseLingerMaxNs = 10'000'000'000;
// How long a peer may take to answer our goodbye with its own FIN. About a second of draining is
// what keeps a goodbye from being destroyed by a reset; a peer that is dead is reset afterwards.
inline constexpr int64_t kCloseLingerNs = 1'000'000'000;
// Where this thread comes so late to the end of a linger, it was away while the linger ran, and the
// completion that the goodbye waits for may not have been seen: the linger begins anew, so often.
inline constexpr int64_t kLingerLatenessNs = kCloseLingerNs / 16;
inline constexpr uint32_t kLingersMax = 3;
// A drain's window may end while this thread is away. So many turns later what was sent before has
// its FIN: one reaps the send, or submits it, the next reaps that, and its flush sends FIN.
inline constexpr uint32_t kTurnsAfterWindow = 3;
// One that is sent to another server is served until it has gone there: for the time after which it
// is to come, and so much longer, for a connect, a few tries of it, and a welcome.
inline constexpr int64_t kMoveStayNs = 10'000'000'000;
// A server that stops says its goodbyes in shares of this much time: even enough for a reconnect
// storm to be none, and 100 wake-ups a second for a few seconds.
inline constexpr int64_t kGoodbyeEveryNs = 10'000'000;

// ------------------------------------------------------------------------------------- offences
// Bad JSON objects that a peer may send before it is closed.
inline constexpr uint32_t kOffencesMax = 8;
static_assert(kOffencesMax <= 8, "Connection::offences has 3 bits, and the last is not counted");

// --------------------------------------------------------------------------------------- tokens
// --auth-deadline: a login page, a phone on a bad network, and what a person notices as broken.
inline constexpr int64_t kAuthDeadlineDefault = 30'000'000'000;
// What a turn spends on checks of signatures, in microseconds of what each costs (bench/README.md,
// "Tokens"): 45 of ES256. What peers without a token sent waits behind it.
inline constexpr int64_t kTokenChecksUsPerTurn = 2'000;
// Ends of tokens, announcements of them and logins of upgrades in a turn.
inline constexpr uint32_t kTokensDuePerTurn = 256;
// `expiring` comes so long before the end of a token, and so long after its hello at the soonest.
inline constexpr int64_t kExpiringNoticeNs = 60'000'000'000;
inline constexpr int64_t kExpiringAfterHelloNs = 1'000'000'000;
// A client that gave its token in the upgrade and says hello as well, which names its device, does
// so at once; one that says none logs in after this.
inline constexpr int64_t kUpgradeLoginNs = 1'000'000'000;
// Until another look at what could not be done when it was due.
inline constexpr int64_t kTokenLookNs = 100'000'000;

// -------------------------------------------------------------------------------------- buffers
// --send-queue-bytes, a connection: the largest message by default, echoed, and as much behind it;
// beyond it the peer is closed as slow_reader (sending.cc, buffers.cc).
inline constexpr size_t kSendQueueBytesDefault = 2 * kMessageBytesDefault;
// --buffer-bytes: what all buffers of one reactor may hold together, replies queued and messages
// not whole.
inline constexpr size_t kBufferedBytesDefault = size_t{256} << 20;
// What small buffers may hold beyond that, whatever the others have filled: kBufferSmallBytes, a
// pong, a welcome, a goodbye or a short handshake, for each of 16,384 connections.
inline constexpr size_t kBufferReservePerReactor = size_t{64} << 20;
// Holders that give way in one turn to those who ask for a large buffer: enough for one of the
// longest messages by default, for which twice its size must be free, where all is held in pieces
// of 4 KiB. A small buffer needs no bound: it makes one give way, 16 at the very most, and to
// refuse it is to close one as well. 505 that gave way to one upload took 8 ms of the longest turn
// (epoll), goodbyes included, beside compilers (2 vCPU, Linux 6.18, 2026-11-27).
inline constexpr uint32_t kGivingWayPerTurn = 512;
static_assert(kGivingWayPerTurn * kBufferSmallBytes >= 2 * kMessageBytesDefault);
// What a connection may hold beyond --send-queue-bytes, its unfinished message included, or beyond
// --max-message-bytes where that is more: a peer that does not read costs no more than that.
inline constexpr size_t kConnectionSlackBytes = size_t{64} << 10;
// The longest goodbye, which is kept where what waits before it gives way: 512 bytes of words, each
// as long as an escape of JSON, in a message and a close frame.
inline constexpr size_t kLastWordsBytesMax = size_t{4} << 10;

// --------------------------------------------------------------------------------------- ledger
// --ledger, of all reactors together: what ended in the last hours of a quiet server, or in the
// last seconds of a storm; 3.5 MiB. The most is what 350 MiB hold.
inline constexpr uint32_t kLedgerEntriesDefault = 10'000;
inline constexpr uint32_t kLedgerEntriesMax = 1'000'000;
// While the log has lines of connections, or traces are made, at least so many that end are
// remembered until theirs is written: what a reactor closes within the linger of a second, 364 KiB.
inline constexpr uint32_t kLedgerEntriesForLog = 1'024;

// --------------------------------------------------------------------------------------- traces
// --trace-ratio, in millionths: of a million connections 10,000 traces are enough to look at.
inline constexpr uint32_t kTraceRatioDefault = 10'000;
// Sampled connections of one reactor at once, 1 % of 1.6 million; 2.1 MiB, backed as they are used.
// More are not traced and counted (traces_lost_table_full).
inline constexpr uint32_t kTracedMaxLog2 = 14;
inline constexpr uint32_t kTracedMax = uint32_t{1} << kTracedMaxLog2;
// Ends that wait for the exporter, which comes ten times a second, of one reactor: 1,920 a second
// and the anomalies below; 142 KiB. A power of two.
inline constexpr uint32_t kTraceQueueSlots = 256;
// Of them for anomalies alone, so that peers that force their traces cannot keep those out: twice
// what the rate below lets come between two looks of the exporter, and as many connections of a
// mass eviction as tell what they have in common.
inline constexpr uint32_t kTraceQueueReserve = 64;
static_assert(kTraceQueueReserve < kTraceQueueSlots);
// Ends of one reactor that are traced in a second although they were not sampled: enough to see
// what a mass eviction has in common.
inline constexpr uint32_t kTraceAnomaliesPerSecond = 256;
// A close that takes longer from its decision to the close of its socket is traced: a peer that is
// gone takes kCloseLingerNs, and one that is there a round trip.
inline constexpr int64_t kTraceSlowCloseNs = 3'000'000'000;

// -------------------------------------------------------------------------------------- notices
// Between two log lines of a reactor that say that its buffers are short.
inline constexpr int64_t kShortageNoticeNs = 1'000'000'000;
// Between two that say which other protocols came: scanners of a public port send them all day.
inline constexpr int64_t kForeignNoticeNs = 10'000'000'000;

}  // namespace pulse
