// Bounds of core/: records, time, and what a turn, a buffer and a mailbox may hold. Each has its
// value and its reason; the compiler checks those that must agree. Other layers have their own:
// proto/limits.h, and of net/ io/limits.h, protocols/limits.h, loop/limits.h and server/limits.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// ---------------------------------------------------------------------------------- connections
// Ids are kept in 24 bits inside the wheel's chunks. A reactor is held to its thread's descriptor
// table long before that; the simulator and the benches are not.
inline constexpr uint32_t kConnectionsPerReactorMax = uint32_t{1} << 24;
// One cache line; core/README.md accounts for every byte of it.
inline constexpr size_t kConnectionBytes = 64;
// Records that are backed and given back together: exactly one 2 MiB huge page.
inline constexpr uint32_t kTableChunkRecords = 32'768;
static_assert(kTableChunkRecords * kConnectionBytes == size_t{2} << 20);
// What a codec may remember of a connection between two reads.
inline constexpr size_t kCodecStateBytes = 24;

// ----------------------------------------------------------------------------------------- time
// 2^23 ns = 8.39 ms: fine against a second, coarse enough that a tick of a million peers is work.
inline constexpr uint32_t kTickShiftDefault = 23;
inline constexpr uint32_t kTickShiftMin = 20;  // 1.05 ms; below it the loop would wake for nothing
inline constexpr uint32_t kTickShiftMax = 27;  // 134 ms; above it 3 misses of a 1 s interval blur
// Level 0 is longer than the standard heartbeat horizon (2^14 ticks of 8.39 ms = 137 s), so that
// ordinary deadlines never move between levels.
// Level 1: 2^10 slots of half of level 0 each: 19.5 h ahead. Farther deadlines are looked at again.
// Fuzzers get 256 and 256, of which seconds cross the levels, and which are proved quickly.
#ifdef PULSE_FUZZ
inline constexpr uint32_t kWheelSlotsLog2 = 8;
inline constexpr uint32_t kWheelUpperSlotsLog2 = 8;
#else
inline constexpr uint32_t kWheelSlotsLog2 = 14;
inline constexpr uint32_t kWheelUpperSlotsLog2 = 10;
#endif
// Sectors of a level, in which its entries are counted for people to look at: of 2.1 s and 18 min.
inline constexpr uint32_t kWheelSectorsLog2 = 6;
// 9.7 h of 8.39 ms ticks. The longest timeout that can be asked for; a quarter of the range of the
// 24-bit ticks in the records (time.h).
inline constexpr uint32_t kTimeoutTicksMax = (uint32_t{1} << 22) - 1;

// ------------------------------------------------------------------------------- work in a turn
// What one connection may have handled in one turn: frames, and bytes as they are delivered, after
// inflating. The rest of what was read waits (it is parked), and nothing more is read meanwhile, so
// that one peer that pipelines does not keep the others waiting.
inline constexpr uint32_t kFramesPerTurn = 1'024;
inline constexpr size_t kDeliveredBytesPerTurn = 256 * 1024;
// Work of a turn that a frame counts as besides its bytes.
inline constexpr size_t kFrameWork = 512;
// Whatever the others do, each connection may have so many small frames of what was read just now
// handled: a heartbeat does not wait behind a flood.
inline constexpr uint32_t kFramesAlwaysPerTurn = 8;
inline constexpr size_t kFrameAlwaysBytesMax = 1'024;

// ----------------------------------------------------------------------------------- heartbeats
// Profiles that are not levels: two plain deadlines, the flags' own, four with names, and that of
// side connections (--nat-probes). Behind them are the levels of adaptive intervals. Each has two
// places: while a retune walks over the connections some have its heartbeats of before.
inline constexpr uint32_t kAskedProfiles = 8;
inline constexpr uint32_t kAdaptiveLevels = 64;
inline constexpr uint32_t kRetunedProfiles = kAskedProfiles + kAdaptiveLevels;
inline constexpr uint32_t kHeartbeatProfilesMax = 2 * kRetunedProfiles;
static_assert(kHeartbeatProfilesMax <= 256, "Connection::profile is a byte");
// From a level to the next: 63 steps are from 1 s to 21 min.
inline constexpr double kAdaptiveFactor = 1.12;
// Silences in a row that a heartbeat ended in time before the interval grows: two, so that one that
// was kept by chance is not enough.
inline constexpr uint8_t kAdaptiveQuiet = 2;
// Levels that are taken back where an answer was late: half of the interval, which a peer that has
// not heard of it yet still keeps to with the timeout of the shorter one.
inline constexpr uint8_t kAdaptiveBack = 6;
// What a timeout has beyond the interval where peers are probed: two intervals, and no more than
// this, in which a suspect peer is probed kSuspectProbesMax times, kAdaptiveProbeNs apart where
// --suspect-probe says nothing else.
inline constexpr int64_t kAdaptiveSlackNs = 60'000'000'000;
inline constexpr int64_t kAdaptiveProbeNs = 5'000'000'000;
// Silences at the level below one that failed before that is tried again.
inline constexpr uint8_t kAdaptiveRetry = 64;
// Networks of which a reactor remembers what they bear, 12 bytes each, and for how long: a NAT is
// configured once, and seldom anew.
inline constexpr uint32_t kAdaptiveNetworks = 8'192;
inline constexpr int64_t kAdaptiveNetworkNs = 7 * int64_t{86'400} * 1'000'000'000;
// A device whose connection a network forgot learns so from its next heartbeat, and is back within
// this; one that gave up waiting for an answer, or was moved, comes later.
inline constexpr int64_t kAdaptiveReturnNs = 10'000'000'000;
// Connections lost in a row, none kept at their level since, until a network is taken not to bear
// it, where each of them may have been a device that was switched off.
inline constexpr uint8_t kAdaptiveLost = 3;
// Silences that a side connection may keep, to find out what a NAT or a firewall bears
// (core/heartbeat/nat_search.h): from the interval of the standard profile, which each is taken to
// bear, to half an hour, beyond which two packets an hour fewer are not worth a later detection.
inline constexpr int64_t kNatSilenceMinNs = 30'000'000'000;
inline constexpr int64_t kNatSilenceMaxNs = 1'800'000'000'000;
// And what the server waits beyond that for a word of it: for a timer that comes late, and for what
// TCP sends again.
inline constexpr int64_t kNatSilenceSlackNs = 120'000'000'000;
// What was found is to be within this factor of the truth.
inline constexpr double kNatFactor = 1.1;
// What an interval has less than the silence that was borne, and not less than this: a grace, a
// timer that is late, what TCP sends again.
inline constexpr int64_t kNatMarginShare = 20;
inline constexpr int64_t kNatMarginMinNs = 3'000'000'000;
// Networks of which a reactor remembers what clients found, a cache line each; clients that count
// in one, so that two of them that are wrong are outvoted; how long a report holds, and how often
// one client may give one: it is passed on to all reactors.
inline constexpr uint32_t kNatNetworks = 2'048;
inline constexpr uint32_t kNatReporters = 5;
inline constexpr int64_t kNatReportNs = 7 * int64_t{86'400} * 1'000'000'000;
inline constexpr int64_t kNatReportEveryNs = int64_t{3'600} * 1'000'000'000;
// Probes that can be counted for one connection; a timeout of more intervals stops counting here.
inline constexpr uint32_t kProbesMax = 63;
// --suspect-probe: quick probes of one silence, behind which others go once an interval again. TCP
// sends again in the meantime what was lost of one, and more say no more.
inline constexpr uint32_t kSuspectProbesMax = 8;
// --suspect-misses: the first probe of a silence and those that are quick; one alone is a loss.
inline constexpr uint32_t kSuspectMissesMin = 2;
inline constexpr uint32_t kSuspectMissesMax = 1 + kSuspectProbesMax;
// An answer is late when it takes longer than round trips of its peer do; never before this, the
// least retransmission timeout of Linux (TCP_RTO_MIN), and where none is known after this, which
// RFC 6298 (5.7) has for that case.
inline constexpr int64_t kAnswerWaitNsMin = 200'000'000;
inline constexpr int64_t kAnswerWaitUnknownNs = 3'000'000'000;
// --rtt-alpha, in millionths: an eighth (RFC 6298, 2.3).
inline constexpr uint32_t kRoundTripAlphaDefault = 125'000;
// After an interval of silence a peer's own heartbeat may be a little late before it is asked for
// one: an eighth of the interval, and no more than this.
inline constexpr int64_t kProbeGraceNsMax = 2'000'000'000;
// What the answer to a probe is given at least: a quarter of the interval, and no more than this,
// in which a phone on a bad network answers.
inline constexpr int64_t kProbeAnswerNsMax = 1'000'000'000;

// -------------------------------------------------------------------------------------- buffers
// Slack around every receive buffer: in front, so that a spilled header can be put back before the
// bytes that complete it; behind, so that simdjson may read past the end (SIMDJSON_PADDING is 32).
inline constexpr size_t kReceiveFrontBytes = 64;
inline constexpr size_t kReceivePadBytes = 64;
// Pooled buffers start here (a pong or a welcome with room to spare), and keep this when idle.
inline constexpr size_t kBufferFirstBytes = 256;
// Up to here they are small, and may go into the reserve.
inline constexpr size_t kBufferSmallBytes = 4'096;
// A buffer that grows beyond kBufferSmallBytes gets at most half of what is free, or this.
inline constexpr size_t kBufferShareMin = size_t{64} << 10;
// What buffers that wait for a borrower keep of their memory: the first blocks of 1,024, which is
// as many as answer in one turn.
inline constexpr size_t kIdleBufferBytesMax = 1'024 * kBufferFirstBytes;

// ------------------------------------------------------------------------------------- sessions
// What a hello may name: a user as long as an e-mail address or two UUIDs, a device, and labels as
// they are kept, "ring=canary region=eu", all of a connection together.
inline constexpr size_t kUserBytesMax = 128;
inline constexpr size_t kDeviceBytesMax = 64;
inline constexpr size_t kLabelsBytesMax = 512;
// Users and sessions of one shard of the directory: ids of 24 bits, like connections.
inline constexpr uint32_t kUsersPerShardMax = kConnectionsPerReactorMax;
// Sessions of one user: a person has a few devices, and what is done to all sessions of a user is
// done in one turn.
inline constexpr uint32_t kSessionsPerUserMax = 64;
// Users of all shards together whose last session ended and of whom "last seen" and the reason are
// still known: about 90 bytes each.
inline constexpr uint32_t kOfflineUsersKept = 100'000;
// Users that are forgotten at most to make room for the texts of one login.
inline constexpr uint32_t kForgottenPerLogin = 16;
// Changes of presence that all shards together keep for those that follow them, and the least that
// one keeps: at 1,000 changes a second a follower may be away for a minute. 40 bytes each, and the
// names they keep alive.
inline constexpr uint32_t kPresenceChangesKept = 65'536;
inline constexpr uint32_t kPresenceChangesKeptMin = 1'024;
// What the texts of all shards together may take, names, devices and labels, and what one may take
// at the least: 10,000,000 names of 16 bytes and labels of 40. Beyond it logins are refused.
inline constexpr size_t kSessionTextBytesMax = size_t{1} << 30;
inline constexpr size_t kSessionTextBytesMin = size_t{16} << 20;

// ------------------------------------------------------------------------------------- cohorts
// Policies of an operator: each session is compared with one after the other when it logs in and
// when they change; a few are a rollout, more are a configuration for a balancer.
inline constexpr uint32_t kPoliciesMax = 15;
// Cohorts that are known: those of policies in force, twice as many with those that were before,
// for sessions that have not been told yet, and the two that are of no policy.
inline constexpr uint32_t kCohortsMax = 32;
static_assert(kCohortsMax >= 2 * kPoliciesMax + 2);
// Of a policy as it is written: the label of its series in each scrape, and a line of a table.
inline constexpr size_t kPolicyBytesMax = 256;
// Of the address that a policy sends users to: a close frame has 123 bytes for it and other words.
inline constexpr size_t kMoveToBytesMax = 64;
// Over how long those that live already are sent there, as the goodbyes of a drain are by default;
// and the longest: more than a day is not for one policy to wait for.
inline constexpr int64_t kMoveOverDefaultNs = 10'000'000'000;
inline constexpr int64_t kMoveOverMaxNs = 86'400'000'000'000;
// A share of users is counted in hundredths of a percent.
inline constexpr uint32_t kCohortShares = 10'000;

// ---------------------------------------------------------------------------------- even reactors
// Reactors are even while each holds so many more or less than the mean, or a part of it: below
// that a draw of the kernel's evens itself out, or does not matter (core/accept_shares.h).
inline constexpr uint64_t kAcceptSlackMin = 4;
inline constexpr uint64_t kAcceptSlackShare = 50;
// Connections that come between two looks at how even they are: so many, or a part of what is held.
// A look may replace the kernel's program, which takes about as long as an accept.
inline constexpr uint64_t kAcceptLookMin = 16;
inline constexpr uint64_t kAcceptLookShare = 64;
// What one may get of the next connections, in means: it must also accept them.
inline constexpr uint64_t kAcceptShareMax = 2;
// The share of each while all are even; that of a stuck one is a part of the mean.
inline constexpr uint32_t kAcceptShareUnit = 16;
// A reactor that should have had so many and accepted none is stuck: chance does it once in e^32.
inline constexpr uint64_t kAcceptsMissedMax = 32;

// ------------------------------------------------------------------------------------ addresses
// Entries of a server's table of addresses (core/address_table.h), 32 B each, backed where they are
// used: two for each connection that it may hold, 64 MiB at the most. Of more than a million
// addresses that are connected at once some are not counted.
inline constexpr uint64_t kAddressEntriesMin = 1'024;
inline constexpr uint64_t kAddressEntriesMax = uint64_t{1} << 21;

// ------------------------------------------------------------------------------------- overload
// --overload-step: how long pressure lasts until the next step. A pause of this process is over
// with its next turn, and a storm of newcomers with the refusals of the first step.
inline constexpr int64_t kOverloadSpanDefault = 2'000'000'000;
// Below this part of the threshold pressure is over, and after so many spans of it the last step is
// left: those that were refused come again meanwhile, and are part of the load.
inline constexpr double kOverloadLeave = 0.5;
inline constexpr int64_t kOverloadLeaveSpans = 3;
// What a reactor closes each second in the last step: a 256th of its connections, so that half of
// them are left after three minutes, and not more than these, which is 2 % of a turn's sweeps.
inline constexpr uint32_t kOverloadClosesShare = 256;
inline constexpr uint32_t kOverloadClosesMax = 64;

// ------------------------------------------------------------------------------------ mailboxes
// Control messages that may wait between one sender and one reactor; full is an answer, not a wait.
// 64 messages of 64 bytes are one page a pair: 60 reactors with 61 senders each reserve 14 MiB, and
// a pair that never spoke has touched none of it.
inline constexpr uint32_t kMailboxSlots = 64;
// Threads that may post to one reactor: 256 reactors, the main thread, and others. All lanes of a
// mailbox are then 1.2 MiB, of which 72 KiB are backed before the first message (core/mailbox.h).
inline constexpr uint32_t kMailboxSendersMax = 288;

}  // namespace pulse
