// Every bound of the program: its name, its value, its reason. Bounds that must agree are made to
// agree by the compiler. `tools/pulsewheel` prints what they add up to when it starts.
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
// 9.7 h of 8.39 ms ticks. The longest timeout that can be asked for; a quarter of the range of the
// 24-bit ticks in the records (time.h).
inline constexpr uint32_t kTimeoutTicksMax = (uint32_t{1} << 22) - 1;

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
// Control messages a turn takes, of all senders together, before it looks at the network again:
// each may be a kick, and a goodbye costs as much as any send.
inline constexpr uint32_t kMailboxBudgetPerTurn = 256;
// What one connection may have handled in one turn: frames, and bytes as they are delivered, after
// inflating. The rest of what was read waits (it is parked), and nothing more is read meanwhile, so
// that one peer that pipelines does not keep the others waiting.
inline constexpr uint32_t kFramesPerTurn = 1'024;
inline constexpr size_t kDeliveredBytesPerTurn = 256 * 1024;
// What all connections together may have handled in one turn, in bytes delivered, a frame counting
// as so many of them: 4,096 frames or 2 MiB. Half of it is for what was read just now,
// half for what was parked. The last message may exceed it, and what follows pays that back.
inline constexpr size_t kWorkPerTurn = size_t{2} << 20;
inline constexpr size_t kFrameWork = 512;
// JSON is looked through key by key: 170,000 keys in 850 kB take 1.8 ms (best of 15, 2 vCPU,
// 2026-11-27). Counted as its bytes alone, 50 flooders with such messages kept a heartbeat waiting
// for 38 to 57 ms in 99 of 100; with this factor, one such message a turn, for 6 to 10 ms.
inline constexpr size_t kJsonWorkPerByte = 8;
// A hello is looked through, set up and welcomed: 10 bytes in, 93 out.
inline constexpr size_t kHelloWork = 1'536;
// Whatever the others do, each connection may have so many small frames of what was read just now
// handled: a heartbeat does not wait behind a flood.
inline constexpr uint32_t kFramesAlwaysPerTurn = 8;
inline constexpr size_t kFrameAlwaysBytesMax = 1'024;
// Accepts a turn, so that a reconnect storm does not starve those who are inside.
inline constexpr uint32_t kAcceptsPerTurn = 256;

// ------------------------------------------------------------------------------------- heartbeats
// Profiles a server can have at once: four with names, the flags' own, and those a retune adds.
inline constexpr uint32_t kHeartbeatProfilesMax = 16;
// Probes that can be counted for one connection; a timeout of more intervals stops counting here.
inline constexpr uint32_t kProbesMax = 63;

// After an interval of silence a peer's own heartbeat may be a little late before it is asked for
// one: an eighth of the interval, and no more than this.
inline constexpr int64_t kProbeGraceNsMax = 2'000'000'000;
// What the answer to a probe is given at least: a quarter of the interval, and no more than this,
// in which a phone on a bad network answers.
inline constexpr int64_t kProbeAnswerNsMax = 1'000'000'000;
// The first profiles are no heartbeats but plain deadlines: of the handshake and of the close.
inline constexpr uint8_t kProfileGreeting = 0;
inline constexpr uint8_t kProfileClosing = 1;
inline constexpr uint8_t kProfileDefault = 2;   // what the flags say
inline constexpr uint8_t kProfileRealtime = 3;  // those with names follow
// A message on its way proves life while it moves at least so fast, in either direction; below it
// the deadline comes closer, so that a peer which drips does not hold memory for ever. HTTP servers
// ask as much of a request body (Apache's mod_reqtimeout: MinRate=500).
inline constexpr uint32_t kProgressBytesPerSecondMin = 512;
// A message of which less has come is none that takes time: a pong cut in two is not an upload, and
// a credit for its first half would make void the probe that it answers.
inline constexpr size_t kUploadBytesMin = 1'024;
// What is sent and may have to wait in the kernel, with our probe behind it, at once or in small
// sends that add up to it; below this an acknowledgement tells nothing that the answer to a probe
// does not tell as fast.
inline constexpr size_t kBulkBytes = 4'096;
// Small sends are added up in these, rounded down: heartbeats count for nothing.
inline constexpr size_t kUnnotedUnitBytes = 64;
static_assert(2 * kBulkBytes / kUnnotedUnitBytes <= 256, "they are counted in a byte");
// A close waits for the peer to take what is on its way as long as it takes some of it, and no
// longer than this; a server that stops has its own window (--drain-timeout).
inline constexpr int64_t kCloseLingerMaxNs = 10'000'000'000;
// How long a peer may take to answer our goodbye with its own FIN. About a second of draining is
// what keeps a goodbye from being destroyed by a reset; a peer that is dead is reset afterwards.
inline constexpr int64_t kCloseLingerNs = 1'000'000'000;

// A server that stops says its goodbyes in shares of this much time: even enough for a reconnect
// storm to be none, and 100 wake-ups a second for a few seconds.
inline constexpr int64_t kGoodbyeEveryNs = 10'000'000;

// ------------------------------------------------------------------------------------------ wire
inline constexpr size_t kBinaryHeaderBytes = 8;
inline constexpr size_t kBinaryPayloadBytesMax = 65'535;  // u16 length
// What tells a protocol by its first bytes: the PROXY signature is the longest.
inline constexpr size_t kDetectBytesMax = 12;
inline constexpr size_t kProxyLineBytesMax = 107;  // PROXY protocol 1, its own bound
// Version 2 may claim 64 KiB. Addresses are 36 B; names, identities and a client's certificate
// subject fit many times, and a peer that has said nothing yet costs no more than this.
inline constexpr size_t kProxyHeaderBytesMax = 4'096;
inline constexpr size_t kControlPayloadBytesMax = 125;     // RFC 6455 section 5.5
inline constexpr size_t kMessageBytesDefault = 1'048'576;  // --max-message-bytes: no film
inline constexpr size_t kMessageBytesMax = size_t{64} << 20;
inline constexpr size_t kHandshakeBytesMax = 16'384;  // request line and headers, else 431
// Of those that decide the answer (Host, Upgrade, Sec-WebSocket-... and the like: a few hundred
// bytes, and a token that some send as a subprotocol), else 431. All else is left out as it comes,
// so that an unfinished head costs no more than a small buffer.
inline constexpr size_t kHandshakeKeptBytesMax = 4'000;
inline constexpr uint32_t kHandshakeFieldsMax = 64;  // header lines, else 431
// Headers of the frames of one message, in bytes: this many (16,384 of the smallest), and one more
// for so many bytes of its payload. Tiny fragments cost time that their payload does not pay for;
// 4 MiB in fragments of 64 bytes, 65,536 of them, are well below.
inline constexpr size_t kFrameOverheadBytesMin = 16'384 * 6;
inline constexpr size_t kPayloadBytesPerOverheadByte = 8;
// Shorter messages are sent as they are: deflating 128 B of JSON costs 4 us and saves 36 B.
inline constexpr size_t kDeflateBytesMin = 128;
// Blocks in a compressed message: this many, and one more for so many octets of it. An empty block
// costs 11 octets and 1.1 us of zlib's time, a mebibyte of them a tenth of a second; senders that
// flush after every fragment stay far below.
inline constexpr size_t kInflateBlocksMin = 4'096;
inline constexpr size_t kInflateBytesPerBlockMin = 64;
// What a reactor's inflater and deflater each keep of their buffers between messages.
inline constexpr size_t kDeflateKeepBytes = 256 * 1024;
// Slack around every receive buffer: in front, so that a spilled header can be put back before the
// bytes that complete it; behind, so that simdjson may read past the end (SIMDJSON_PADDING is 32).
inline constexpr size_t kReceiveFrontBytes = 64;
inline constexpr size_t kReceivePadBytes = 64;
// What epoll reads at once. A full read that is parked takes a buffer of 64 KiB, slack in front
// included: the classes of the buffer pool double, and 64 KiB and the slack took 128 KiB.
inline constexpr size_t kReceiveBufferBytes = 64 * 1024 - kReceiveFrontBytes;
// A control object (hello, ping) says little; application data travels inside `data` or as it is.
inline constexpr size_t kJsonBytesMax = 1'048'576;
inline constexpr uint32_t kJsonDepthMax = 64;  // application data nests
// Of user, device, token, profile. A token is the long one: signed claims are 1 to 2 KiB, and 4 KiB
// is what browsers let a cookie be, so that whatever a web login hands out fits.
inline constexpr size_t kJsonStringBytesMax = 4'096;
// Labels say which ring, region or version a peer belongs to: a few words about it, no document.
inline constexpr uint32_t kLabelsMax = 16;
inline constexpr size_t kLabelBytesMax = 64;       // of a name, and of a value
inline constexpr size_t kJsonTokenBytesMax = 256;  // of seq and ts, which are given back
inline constexpr uint32_t kOffencesMax = 8;  // bad JSON objects a peer may send before it is let go
// --send-queue-bytes, a connection: the largest message by default, echoed, and as much behind it.
inline constexpr size_t kSendQueueBytesDefault = 2 * kMessageBytesDefault;
// Pooled buffers start here (a pong or a welcome with room to spare), and keep this much when idle.
inline constexpr size_t kBufferFirstBytes = 256;
inline constexpr size_t kBufferKeptBytes = 4'096;
// --buffer-bytes: what all buffers of one reactor may hold together, replies queued and messages
// not whole. One that grows beyond kBufferKeptBytes gets at most half of what is free, or
// kBufferShareMin.
inline constexpr size_t kBufferedBytesDefault = size_t{256} << 20;
inline constexpr size_t kBufferShareMin = size_t{64} << 10;
// What small buffers may hold beyond that, whatever the others have filled: kBufferKeptBytes, a
// pong, a welcome, a goodbye or a short handshake, for each of 16,384 connections.
inline constexpr size_t kBufferReservePerReactor = size_t{64} << 20;
// What buffers that wait for a borrower keep of their memory: the first blocks of 1,024, which is
// as many as answer in one turn.
inline constexpr size_t kIdleBufferBytesMax = 1'024 * kBufferFirstBytes;
// What a connection may hold beyond --send-queue-bytes, its unfinished message included: a peer
// that does not read costs no more than that.
inline constexpr size_t kConnectionSlackBytes = size_t{64} << 10;
// Between two log lines of a reactor that say that its buffers are short.
inline constexpr int64_t kShortageNoticeNs = 1'000'000'000;
// Between two that say which other protocols came: scanners of a public port send them all day.
inline constexpr int64_t kForeignNoticeNs = 10'000'000'000;
inline constexpr size_t kReasonBytesMax = 123;  // close frame: 125 less the code

// ----------------------------------------------------------------------------------------- sockets
// Asked of listen(); the kernel cuts it to net.core.somaxconn, which is the operator's bound.
inline constexpr int kListenBacklog = 65'535;
inline constexpr uint32_t kListenersMax = 64;  // positions travel in a byte; accepts are shared out
static_assert(kListenersMax <= kAcceptsPerTurn);
// Readiness events taken from an epoll set at once. 512 heartbeats with answers are 5-8 ms of work;
// a batch that is full is followed by the next without sleeping.
inline constexpr uint32_t kEventsPerPoll = 512;
// Marks that are on their way through an epoll set at once (net/io/watch_proof.h): judging lags by
// the time that a ready connection waits there and a part of it, one by so many. A descriptor each.
inline constexpr uint32_t kWatchMarks = 4;
// Octets that one poll reads from connections which had more than a buffer-full waiting, all of
// them together: however many peers flood us, the turn stays short. At least one buffer-full.
inline constexpr size_t kFloodBytesPerPoll = size_t{4} << 20;
static_assert(kFloodBytesPerPoll >= kReceiveBufferBytes);
// After accept failed for want of memory or of a descriptor (the spare one too) the listeners rest
// for so long: within the second in which we promise to accept again, and far from spinning.
inline constexpr int64_t kAcceptRestNs = 100'000'000;
inline constexpr int kKeepaliveSecondsMax = 32'767;  // what TCP_KEEPIDLE takes

// ---------------------------------------------------------------------------------------- io_uring
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
// Events of the watch set that come as one completion. 256 x 12 B = 3 KiB.
inline constexpr uint32_t kUringWatchEvents = 256;
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
// A poll ends after so many completions, or after so many rounds of submitting and harvesting: the
// wheel and the mailbox get their share.
inline constexpr uint32_t kUringCompletionsPerPoll = 1'024;
inline constexpr uint32_t kUringRoundsPerPoll = 16;
// io_uring_enter takes no submission for want of memory: so many tries with a yield between them,
// then each waits for so long. It goes on for ever: to give up is to lose every connection.
inline constexpr uint32_t kUringSubmitYields = 100;
inline constexpr int64_t kUringSubmitRestNs = 1'000'000;

// ------------------------------------------------------------------------------------- reactors
inline constexpr uint32_t kReactorsMax = 256;
// More reactors than this on a core are warned of, and a default never asks for them: they wait for
// each other. A few are the price of a low descriptor limit (a million on two cores took 54).
inline constexpr uint32_t kReactorsPerCoreAdvised = 4;
// What a reactor opens for itself: its epoll or ring, its spare, its listeners' slack, the log.
inline constexpr uint32_t kReactorDescriptors = 32;
// What an idle connection costs, for the estimate at start; net/README.md has the measurements. In
// user space: the record, its entry in the wheel, and half-filled chunks and pages.
inline constexpr size_t kIdleUserBytes = 80;
// In the kernel: the socket (3.81 KB) and what waits for it (epoll 208 B, poll request 253 B).
inline constexpr size_t kIdleKernelBytes = 4'160;
// A reactor's own: slots of the wheel, receive buffers, ring, mailbox, stack, histograms.
inline constexpr size_t kReactorUserBytes = 512 * 1024;
// Control messages that may wait between one sender and one reactor; full is an answer, not a wait.
// 64 messages of 64 bytes are one page a pair: 60 reactors with 61 senders each reserve 14 MiB, and
// a pair that never spoke has touched none of it.
inline constexpr uint32_t kMailboxSlots = 64;

}  // namespace pulse
