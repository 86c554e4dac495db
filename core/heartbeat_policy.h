// Who is alive: a pure function from what is remembered of a connection and what happens to it, to
// what is to be done. No clock, no socket, no memory of its own; tables of four lines test it.
//
// What is remembered is one 32-bit word (Connection::heard):
//
//     bits 0..23   low bits of the tick of the last proof of life (time.h restores the rest)
//     bits 24..29  probes sent since
//     bit  30      nothing was heard since the connection began: its first probe is spread
//     bit  31      misses do not count in this silence
//
// so that a proof of life is one store that also forgets the probes. A connection is probed once an
// interval of silence (plus a grace) and evicted `timeout` after the last proof, and before that by
// misses alone, where they count:
//
//     heard --- interval + grace --> probe --- interval --> probe ... --> heard + timeout: evict
//
// A connection that has said nothing since it began has its first probe somewhere in its first
// interval instead, so that a reconnect storm does not become a heartbeat storm. This only moves
// a probe forward.
//
// Where probes are quick, a peer is suspect as soon as the answer to the first probe of a silence
// has taken longer than its round trips do (core/heartbeat/round_trip.h), and is then probed
// kSuspectProbesMax times in quick succession. The deadline stays where it is: so many more answers
// may prove that it lives, and the timeout may be little longer than the interval.
//
// A probe that was not sent is not a miss. If the server itself did not come to send one (it was
// stopped, or starved), the silence that it could not break does not count: a probe that goes out
// late by more than a quarter of the time that its answer has moves the last proof by its lateness.
// So an answer always has three quarters of what was planned for it, whatever the server was doing.
// Without this a server that slept for a timeout evicts on waking every healthy peer that only ever
// answers. The time of an answer is an interval, or what is left of the timeout if that is less: of
// 1 s / 1.5 s a quarter of the interval would be most of it.
//
// Where probes are quick, those behind the first move nothing: the answer to the first is on its
// way, and has all the time to the deadline. What moves the last proof makes answers void where a
// round trip is wanted (net/protocols/probe_value.h), and would evict a peer whose answer came in
// time. Only where the second is late by more than a quarter of the time from the first to the
// deadline, the first may not have left before the server was away: then it moves the last proof by
// its lateness, unless a round trip is wanted and the answer to it would have less than three
// quarters of that time.
//
// So a silent peer is evicted at its timeout and what the server was late with its probes in that
// silence, which is not more than it was away.
//
// Where misses count, a peer that answered none of so many probes is evicted sooner: when the
// answer to the last of them has had its time, and the answer to the first three times that which
// its answers take (a probe that TCP has lost once is sent again after a round trip and 200 ms, and
// answered a round trip later). No probe follows those. A probe behind the first that is late, so
// that its answer has less than three quarters of what was planned, is not counted as a miss: then
// misses do not count until the next proof of life, and the timeout alone holds. The caller says so
// as well, of a silence that something else explains (heard_excused). Where the timeout is over
// before so many misses can be, all is as without them.
#pragma once

#include <algorithm>
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

// The least time that an answer to a probe must have. A timeout is refused that is less than an
// interval and this.
constexpr Nanos answer_time(Nanos interval) { return std::min(interval / 4, kProbeAnswerNsMax); }

// How long after an interval of silence a probe leaves. Shorter where the timeout is tight, so that
// the answer keeps its time: a probe that left with the timeout would evict a peer that answers.
constexpr Nanos probe_grace(Nanos interval, Nanos timeout) {
    return std::clamp<Nanos>(timeout - interval - answer_time(interval), 0,
                             std::min(interval / 8, kProbeGraceNsMax));
}

// One profile. Ticks; timeout >= 1; with probes, interval >= 1 and interval + grace < timeout is
// sensible but not required: a probe that would come after the eviction is never sent. With misses,
// quick_ticks >= 1.
struct HeartbeatConfig {
    uint32_t interval_ticks = 1;
    uint32_t grace_ticks = 0;
    uint32_t timeout_ticks = 1;
    bool probe : 1 = true;
    uint8_t misses : 7 = 0;  // probes without an answer that evict; 0: only the timeout does
    Liveness liveness = Liveness::any;
    uint16_t quick_ticks = 0;  // between probes of a suspect peer; 0: an interval, as otherwise

    bool operator==(const HeartbeatConfig&) const = default;
};
static_assert(sizeof(HeartbeatConfig) == 16, "found by a shift in the loop that judges");

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
inline constexpr uint32_t kHeardExcused = 1u << 31;
static_assert((kProbesMax & (kProbesMax + 1)) == 0 && kProbesMax < 64, "six bits hold the probes");

// The message path: what a proof of life at `tick` leaves behind. `tick` is rounded up
// (TickClock::up).
constexpr uint32_t heard_at(Tick tick) { return static_cast<uint32_t>(tick) & kStoredTickMask; }
constexpr uint32_t connected_at(Tick tick) { return heard_at(tick) | kHeardFirst; }
// Misses do not count until the next proof of life.
constexpr uint32_t heard_excused(uint32_t heard) { return heard | kHeardExcused; }
inline constexpr uint64_t kAllTicks = UINT64_MAX;  // a credit up to `now`, whatever that is
// Part of a message has come, or has been taken: worth `credit` ticks of life. Up to `now` it is a
// proof like any other. Less moves the last proof, and the probes that were sent since stay sent:
// the next would seem to be late otherwise. Never moves the last proof back.
constexpr uint32_t heard_progress(uint32_t heard, uint64_t credit, Tick now) {
    const Tick last = restore_tick(heard & kStoredTickMask, now);
    if (credit == 0 || last >= now) return heard;
    if (credit >= now - last) return heard_at(now);
    return (heard & ~kStoredTickMask) | heard_at(last + credit);
}
constexpr uint32_t probes_sent(uint32_t heard) {
    return (heard & kHeardProbeMask) >> kHeardProbeShift;
}

// `wait`: ticks that the first answer of a silence may take, of a peer of which this is known and
// whose probes are quick; it means nothing otherwise, and changes with a proof of life alone.
using AnswerWait = uint32_t;

// `index` only spreads; `now` is the tick of the event. What is remembered must lie within 2^23
// ticks of it (19.5 h at 8.39 ms): a process stopped for longer takes its peers for just heard of,
// and evicts the dead ones later. `next` of a look's answer is after `now`, unless it is to evict.
constexpr HeartbeatStep heartbeat_step(uint32_t heard, HeartbeatEvent event, Index index, Tick now,
                                       const HeartbeatConfig& config, AnswerWait wait = 0);

// When the connection must be looked at, given what is remembered and that nothing else happens.
constexpr Tick heartbeat_deadline(uint32_t heard, Index index, Tick now,
                                  const HeartbeatConfig& config, AnswerWait wait = 0);

// The last probe, which the look before this sent, left at `now` and not sooner: what to remember
// from now on. One that left later than a quarter of the time to the deadline, an interval at most,
// moves the last proof by its lateness; of quick ones only the first does, and the others may have
// excused the silence. Requires: one is out.
constexpr uint32_t heartbeat_left_late(uint32_t heard, Index index, Tick now,
                                       const HeartbeatConfig& config, AnswerWait wait = 0);

// When its timeout is over: heard + timeout.
constexpr Tick heartbeat_evict_at(uint32_t heard, Tick now, const HeartbeatConfig& config);

// When it is evicted if it stays silent: then, or sooner where misses count.
constexpr Tick heartbeat_ends_at(uint32_t heard, Index index, Tick now,
                                 const HeartbeatConfig& config, AnswerWait wait = 0);

// From when on the first probe of a silence counts as unanswered: `wait` after it was due where
// probes are quick, else half an interval, of which at least half was left to the answer
// (lateness_borne). kNoTick: no probe is out.
constexpr Tick heartbeat_suspect_at(uint32_t heard, Index index, Tick now,
                                    const HeartbeatConfig& config, AnswerWait wait = 0);

// When the first probe of this silence was due, of which the first answer is where the network
// keeps the order; later where a probe that followed was late. kNoTick: no probe is out.
constexpr Tick heartbeat_first_probe_due(uint32_t heard, Index index, Tick now,
                                         const HeartbeatConfig& config);

// What follows is how: all of it here, so that it is inlined into the loop that judges.
namespace detail {

// Ticks from the last proof to the first probe. Spread ones are Fibonacci hashing of the place: any
// run of neighbouring places, as a storm takes them, covers the interval evenly, and nothing is
// remembered. From 1 on, lest the only connection of a quiet server be probed on its first tick.
constexpr uint32_t first_probe_after(uint32_t heard, Index index, const HeartbeatConfig& config) {
    if ((heard & kHeardFirst) == 0) return config.interval_ticks + config.grace_ticks;
    const uint32_t fraction = (index + 1) * 2'654'435'769u;
    return 1 + static_cast<uint32_t>((uint64_t{fraction} * config.interval_ticks) >> 32);
}

// From the first probe of a silence to the one that `sent` others go before.
constexpr uint64_t probes_take(uint32_t sent, const HeartbeatConfig& config, AnswerWait wait) {
    if (config.quick_ticks == 0 || sent == 0) return uint64_t{sent} * config.interval_ticks;
    const uint32_t quick = std::min(sent - 1, kSuspectProbesMax);
    return wait + uint64_t{quick} * config.quick_ticks +
           uint64_t{sent - 1 - quick} * config.interval_ticks;
}

// From the first probe of a silence to when so many misses evict.
constexpr uint64_t misses_take(const HeartbeatConfig& config, AnswerWait wait) {
    const uint64_t last = probes_take(config.misses - 1u, config, wait);
    return std::max<uint64_t>(last + std::max<uint64_t>(wait, config.quick_ticks),
                              3 * uint64_t{wait});
}

// What is remembered, told apart, and what follows from it.
struct Silence {
    Tick heard_tick;
    uint32_t sent;
    Tick first_at;  // the first probe
    Tick probe_at;  // the next one
    Tick evict_at;
    bool counts_misses = false;  // which evict sooner than the timeout
    bool probes_left;

    constexpr Silence(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config,
                      AnswerWait wait)
        : heard_tick(restore_tick(heard & kStoredTickMask, now)),
          sent(probes_sent(heard)),
          first_at(heard_tick + first_probe_after(heard, index, config)),
          probe_at(first_at + probes_take(sent, config, wait)),
          evict_at(heard_tick + config.timeout_ticks) {
        uint32_t most = kProbesMax;
        if (config.misses != 0 && config.probe && (heard & kHeardExcused) == 0) {
            const Tick missed_at = first_at + misses_take(config, wait);
            counts_misses = missed_at < evict_at;
            if (counts_misses) {
                evict_at = missed_at;
                most = config.misses;
            }
        }
        probes_left = config.probe && sent < most && probe_at < evict_at;
    }

    constexpr Tick deadline() const { return probes_left ? probe_at : evict_at; }
    // A probe that leaves now, and was due at `due`, would leave its answer too little time to
    // count as a miss. The first of a silence moves the last proof instead.
    constexpr bool excuses(Tick now, Tick due) const {
        return counts_misses && now > due && 4 * (now - due) > evict_at - due;
    }
    // How late the next probe may go out and move nothing; there is one.
    constexpr uint64_t lateness_borne(const HeartbeatConfig& config, AnswerWait wait) const {
        if (config.quick_ticks != 0 && sent > 0) {
            const uint64_t quarter = (evict_at - first_at) / 4;
            const bool voids = config.liveness == Liveness::roundtrip && wait > quarter;
            return sent == 1 && !voids ? quarter : kAllTicks;
        }
        const uint64_t next = probes_take(sent + 1, config, wait);
        return std::min(next - probes_take(sent, config, wait), evict_at - probe_at) / 4;
    }
    // When the last probe was due. Requires: one was sent.
    constexpr Tick probed_at(const HeartbeatConfig& config, AnswerWait wait) const {
        return probe_at - probes_take(sent, config, wait) + probes_take(sent - 1, config, wait);
    }
};

constexpr HeartbeatStep look(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config,
                             AnswerWait wait) {
    Silence silence(heard, index, now, config, wait);
    if (silence.probes_left && silence.sent > 0 && silence.excuses(now, silence.probe_at)) {
        heard = heard_excused(heard);
        silence = Silence(heard, index, now, config, wait);
    }
    const Tick deadline = silence.deadline();
    if (now < deadline) return {Verdict::rearm, heard, deadline};
    if (!silence.probes_left) return {Verdict::evict, heard, now};
    const uint64_t late = now - silence.probe_at;
    const bool moves = late > silence.lateness_borne(config, wait);
    // The answers that may still come are late.
    if (!moves && now >= silence.evict_at) return {Verdict::evict, heard, now};
    const uint64_t discount = moves ? late : 0;
    const uint32_t heard_now = (heard & (kHeardFirst | kHeardExcused)) |
                               heard_at(silence.heard_tick + discount) |
                               ((silence.sent + 1) << kHeardProbeShift);
    const Tick next = Silence(heard_now, index, now, config, wait).deadline();
    return {Verdict::probe, heard_now, next > now ? next : now + 1};
}

constexpr uint32_t left_late(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config,
                             AnswerWait wait) {
    const Silence silence(heard, index, now, config, wait);
    const Tick due = silence.probed_at(config, wait);
    // The answer to the first has all the time, whenever the others leave.
    if (config.quick_ticks != 0 && silence.sent > 1)
        return silence.excuses(now, due) ? heard_excused(heard) : heard;
    if (due >= silence.evict_at || now <= due) return heard;
    const uint64_t answer = std::min<uint64_t>(config.interval_ticks, silence.evict_at - due);
    if (now - due <= answer / 4) return heard;
    return (heard & ~kStoredTickMask) | heard_at(silence.heard_tick + (now - due));
}

constexpr bool proves(HeartbeatEvent event, Liveness liveness) {
    if (liveness == Liveness::none) return false;
    return event == HeartbeatEvent::proof || liveness == Liveness::any;
}

}  // namespace detail

constexpr uint32_t heartbeat_left_late(uint32_t heard, Index index, Tick now,
                                       const HeartbeatConfig& config, AnswerWait wait) {
    return detail::left_late(heard, index, now, config, wait);
}

constexpr Tick heartbeat_evict_at(uint32_t heard, Tick now, const HeartbeatConfig& config) {
    return restore_tick(heard & kStoredTickMask, now) + config.timeout_ticks;
}

constexpr Tick heartbeat_ends_at(uint32_t heard, Index index, Tick now,
                                 const HeartbeatConfig& config, AnswerWait wait) {
    return detail::Silence(heard, index, now, config, wait).evict_at;
}

constexpr Tick heartbeat_deadline(uint32_t heard, Index index, Tick now,
                                  const HeartbeatConfig& config, AnswerWait wait) {
    return detail::Silence(heard, index, now, config, wait).deadline();
}

constexpr Tick heartbeat_suspect_at(uint32_t heard, Index index, Tick now,
                                    const HeartbeatConfig& config, AnswerWait wait) {
    if (probes_sent(heard) == 0) return kNoTick;
    const Tick heard_tick = restore_tick(heard & kStoredTickMask, now);
    return heard_tick + detail::first_probe_after(heard, index, config) +
           (config.quick_ticks != 0 ? wait : config.interval_ticks / 2);
}

constexpr Tick heartbeat_first_probe_due(uint32_t heard, Index index, Tick now,
                                         const HeartbeatConfig& config) {
    if (probes_sent(heard) == 0) return kNoTick;
    return restore_tick(heard & kStoredTickMask, now) +
           detail::first_probe_after(heard, index, config);
}

constexpr HeartbeatStep heartbeat_step(uint32_t heard, HeartbeatEvent event, Index index, Tick now,
                                       const HeartbeatConfig& config, AnswerWait wait) {
    switch (event) {
        case HeartbeatEvent::look:
            return detail::look(heard, index, now, config, wait);
        case HeartbeatEvent::connected:
            heard = connected_at(now);
            break;
        case HeartbeatEvent::frame:
        case HeartbeatEvent::proof:
            if (detail::proves(event, config.liveness)) heard = heard_at(now);
            break;
    }
    return {Verdict::rearm, heard, heartbeat_deadline(heard, index, now, config, wait)};
}

}  // namespace pulse
