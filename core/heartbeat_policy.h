// Who is alive: a pure function from what is remembered of a connection and what happens to it, to
// what is to be done. No clock, no socket, no memory of its own; tables of four lines test it.
//
// What is remembered is one 32-bit word (Connection::heard):
//
//     bits 0..23   low bits of the tick of the last proof of life (time.h restores the rest)
//     bits 24..29  probes sent since
//     bit  30      nothing was heard since the connection began: its first probe is spread
//
// so that a proof of life is one store that also forgets the probes. A connection is probed once an
// interval of silence (plus a grace) and evicted `timeout` after the last proof, never before it:
//
//     heard --- interval + grace --> probe --- interval --> probe ... --> heard + timeout: evict
//
// A connection that has said nothing since it began has its first probe somewhere in its first
// interval instead, so that a reconnect storm does not become a heartbeat storm. That is only ever
// earlier.
//
// A probe that was not sent is not a miss. If the server itself did not come to send one (it was
// stopped, or starved), the silence that it could not break does not count: a probe that goes out
// more than a quarter of an interval late moves the last proof by its lateness, so that its answer
// has the time that it would have had. Without this a server that slept for a timeout evicts on
// waking every healthy peer that only ever answers.
#pragma once

#include <array>
#include <cstdint>

#include "core/limits.h"
#include "core/time.h"
#include "core/types.h"

namespace pulse {

// What counts as a proof of life.
enum class Liveness : uint8_t {
    any,        // any complete frame
    roundtrip,  // an answer to our own probe, or a ping of the peer's
    none,       // nothing: a plain deadline, as for handshakes and closes
};

// One profile. Ticks; timeout >= 1; with probes, interval >= 1 and interval + grace < timeout is
// sensible but not required: a probe that would come after the eviction is never sent.
struct HeartbeatConfig {
    uint32_t interval_ticks = 1;
    uint32_t grace_ticks = 0;
    uint32_t timeout_ticks = 1;
    bool probe = true;
    Liveness liveness = Liveness::any;
};

using HeartbeatProfiles = std::array<HeartbeatConfig, kHeartbeatProfilesMax>;

enum class HeartbeatEvent : uint8_t {
    connected,  // the connection begins, or begins a new phase with another profile
    frame,      // a complete frame that proves nothing about a round trip
    proof,      // an answer to our probe, or a ping of the peer's
    look,       // the wheel came by
};

enum class Verdict : uint8_t { rearm, probe, evict };

struct HeartbeatStep {
    Verdict verdict = Verdict::rearm;
    uint32_t heard = 0;  // what to remember from now on
    Tick next = 0;       // when to look again; of no meaning with evict
};

inline constexpr uint32_t kHeardProbeShift = 24;
inline constexpr uint32_t kHeardProbeMask = kProbesMax << kHeardProbeShift;
inline constexpr uint32_t kHeardFirst = 1u << 30;
static_assert((kProbesMax & (kProbesMax + 1)) == 0 && kProbesMax < 64, "six bits hold the probes");

// The message path: what a proof of life at `tick` leaves behind. `tick` is rounded up
// (TickClock::up).
constexpr uint32_t heard_at(Tick tick) { return static_cast<uint32_t>(tick) & kStoredTickMask; }
constexpr uint32_t connected_at(Tick tick) { return heard_at(tick) | kHeardFirst; }
constexpr uint32_t probes_sent(uint32_t heard) {
    return (heard & kHeardProbeMask) >> kHeardProbeShift;
}

// `index` only spreads; `now` is the tick of the event. What is remembered must lie within 2^23
// ticks of it (19.5 h at 8.39 ms): a process stopped for longer takes its peers for just heard of,
// and evicts the dead ones later. `next` of a look's answer is after `now`, unless it is to evict.
HeartbeatStep heartbeat_step(uint32_t heard, HeartbeatEvent event, Index index, Tick now,
                             const HeartbeatConfig& config);

// When the connection must be looked at, given what is remembered and that nothing else happens.
Tick heartbeat_deadline(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config);

// When it is evicted if it stays silent: heard + timeout.
Tick heartbeat_evict_at(uint32_t heard, Tick now, const HeartbeatConfig& config);

}  // namespace pulse
