// Bounds of the admin endpoint: what a client may send, hold and ask for, and for how long.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/overload.h"

namespace pulse {

// ---------------------------------------------------------------------------------- connections
// Clients at once. A monitor or two and some shells; beyond it the one that has been idle longest
// is closed, so that idle connections never keep a probe of /readyz out.
inline constexpr size_t kAdminConnectionsMax = 64;
// A request's head: a token and a filter, with room. And its body: a text for all and a filter.
inline constexpr size_t kAdminHeadBytesMax = 8 * 1024;
inline constexpr size_t kAdminBodyBytesMax = 16 * 1024;
// Objects and lists within each other in a body; the deepest that is read has three. What copies,
// writes or ends one recurses.
inline constexpr int kAdminJsonDepthMax = 8;
// Of one system call: a client that sends several requests at once has so much behind the first.
inline constexpr size_t kAdminReadBytes = 16 * 1024;
// Of the head, the path: what routes are matched against.
inline constexpr size_t kAdminPathBytesMax = 512;
// An answer, as it is sent: /metrics of 256 reactors, or a page of kPageMax connections, with room.
inline constexpr size_t kAdminAnswerBytesMax = size_t{3} << 20;
// From the first byte of a request to its last, and between two writes of an answer that a client
// takes: a client that is slower is closed.
inline constexpr int64_t kAdminRequestNs = 5'000'000'000;
inline constexpr int64_t kAdminStallNs = 5'000'000'000;
// Where there is no memory to pass an answer on, between two tries.
inline constexpr int kAdminRetryMs = 20;
// As kAdminStallNs, of an answer that goes on for as long as the client likes: a phone that sleeps.
inline constexpr int64_t kAdminStreamStallNs = 30'000'000'000;
// Between two requests of a connection.
inline constexpr int64_t kAdminIdleNs = 60'000'000'000;

// ------------------------------------------------------------------------------------- requests
// Threads that answer what waits for reactors, and requests that wait for one of them; beyond that
// a request is answered 503 at once.
inline constexpr uint32_t kAdminWorkers = 4;
inline constexpr size_t kAdminQueueMax = 64;
// The stack of each thread of the endpoint, whatever the limit of the process is: without a limit
// glibc gives 2 MiB, and with a small one as little. What a request needs of it does not grow with
// the request: nothing that reads one recurses but the parts of a JSON text, which are bounded.
inline constexpr size_t kAdminStackBytes = size_t{1} << 20;
// Of the workers so many may be taken by kicks with a rate, which last as long as the rate wants.
inline constexpr uint32_t kAdminLongAtOnce = 2;
inline constexpr int64_t kAdminLongNs = 3'600'000'000'000;
// Drains of a listener or of a filter that go on at once, and those that are over and still shown.
inline constexpr size_t kPartialDrainsAtOnce = 4;
inline constexpr size_t kPartialDrainsShown = 16;
// What a reactor has to finish a job, and the main thread a task. A walk over a million connections
// takes tens of milliseconds; one that takes longer is stuck, or the machine is.
inline constexpr int64_t kAdminAnswerNs = 5'000'000'000;
// The same to act on every connection: a million goodbyes take tens of seconds.
inline constexpr int64_t kAdminActNs = 60'000'000'000;
// Jobs that one reactor has not acknowledged; more are refused until it does.
inline constexpr size_t kErrandsPerReactorMax = 16;

// --------------------------------------------------------------------------------------- content
// Connections of one page of a list.
inline constexpr uint32_t kPageMax = 1'000;
inline constexpr uint32_t kPageDefault = 100;
// A text for connections, and the reason that a kick gives: a close frame of WebSocket has 123
// bytes for it and our own words.
inline constexpr size_t kBroadcastBytesMax = 4'096;
inline constexpr size_t kKickReasonBytesMax = 80;
// What the longest frame of a text has besides the text.
inline constexpr size_t kBroadcastFrameBytesMax = 64;
// Work of a sweep (kSweepBudgetPerTurn) beside passing over a place: reading the address of a
// connection, a system call of about half a microsecond; and describing one, with its address.
inline constexpr uint32_t kAddressCost = 16;
inline constexpr uint32_t kDescribeCost = 24;
// Explaining one: two system calls, and sentences of a few hundred bytes.
inline constexpr uint32_t kExplainCost = 128;
// Bytes of a text that cost one more, when it is copied for a connection.
inline constexpr size_t kTextBytesPerCost = 64;
// Values that a filter may have of each key: as many as a person writes in a line. A walk compares
// a connection with each of them.
inline constexpr size_t kFilterValuesMax = 64;
// Between two steps of a kick with a rate.
inline constexpr int64_t kPaceNs = 5'000'000;

// -------------------------------------------------------------------------------------- presence
// Work beside passing over a user: describing one or a change of one, two short texts; and looking
// at the labels of a session.
inline constexpr uint32_t kDescribeUserCost = 8;
inline constexpr uint32_t kLabelCost = 2;
// Connections that a filter by user or label may choose, 8 bytes each.
inline constexpr size_t kChosenMax = 1'000'000;
// Clients that follow changes at once: half of all, so that others find a place.
inline constexpr size_t kPresenceFollowersMax = 32;
// What may wait for one of them, in events of about 150 bytes; and what is kept of changes for
// those that come back or lag, some 30,000 of them.
inline constexpr size_t kFollowerBufferBytes = 256 * 1024;
inline constexpr size_t kPresenceFeedBytes = size_t{8} << 20;
// Between two looks at what has changed, while any client follows: unnoticed by a person, and 20
// jobs a second for a reactor. What one look takes at most: rounds of so many changes of a shard.
inline constexpr int64_t kPresencePollNs = 50'000'000;
inline constexpr uint32_t kPresenceChangesAtOnce = 1'000;
inline constexpr uint32_t kPresenceRoundsMax = 16;
// How long a look waits for a reactor that does not answer; others are late by as much.
inline constexpr int64_t kPresenceAnswerNs = 1'000'000'000;
// Users in a page of a follower's snapshot.
inline constexpr uint32_t kSnapshotPage = 500;
// Between two comments in a stream that has nothing else to say: below the minute after which
// proxies close what is idle.
inline constexpr int64_t kPresencePingNs = 15'000'000'000;

// ---------------------------------------------------------------------------------------- status
// Clients that watch the server at once: a quarter of all.
inline constexpr size_t kStatusFollowersMax = 16;
// Between two measurements, while any client watches: what a person reads; a job a second for a
// reactor. How long one waits for a reactor that does not answer.
inline constexpr int64_t kStatusPollNs = 1'000'000'000;
inline constexpr int64_t kStatusAnswerNs = 500'000'000;

// ------------------------------------------------------------------------------------ anomalies
// How long a look waits for a reactor that does not answer, which is a lag then; and how long the
// walk over its connections may take, which is waited for as much longer.
inline constexpr int64_t kAnomalyAnswerNs = 500'000'000;
inline constexpr int64_t kAnomalyWalkNs = 1'500'000'000;
// Connections of a reactor that are looked at for where an anomaly comes from: of those that come
// from one network a share is known to 2 %. Those of which the kernel is asked, at 0.75 us each
// (net/README.md), to know whether they are a part of it. And those whose labels are asked for.
inline constexpr uint64_t kAnomalyExaminedMax = 2'000;
inline constexpr uint64_t kAnomalyAskedMax = 20'000;
inline constexpr size_t kAnomalyLabelledMax = 64;
// Samples for which evidence is gathered anew: what was lost is evicted over an interval.
inline constexpr uint32_t kAnomalyGatherings = 6;
// Events that are remembered behind those that go on: about a thousandth of a day's samples.
inline constexpr size_t kAnomalyEventsKept = 32;
// How far an anomaly may lead (--on-anomaly degrade): a detector that can be wrong neither drops
// data nor closes connections.
inline constexpr OverloadStep kAnomalyStepMost = OverloadStep::stretch;

// --------------------------------------------------------------------------------------- access
// A token of fewer characters is guessed; more tokens than this are not for persons to hand out.
inline constexpr size_t kAdminTokenBytesMin = 16;
inline constexpr size_t kAdminTokensMax = 64;

}  // namespace pulse
