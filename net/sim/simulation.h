// A whole server in a world made from a seed: the production loop over a simulated kernel, its
// peers, its operator, and the invariants that must hold whatever the world does.
//
//     SimulationVerdict verdict = simulate({.seed = 7});
//     verdict.ok(), verdict.hash, verdict.broken ...
//
// The invariants, by the names under which a breach is reported
//   evicted_early           no peer is evicted before the timeout that it was told last has passed
//                           since its last heartbeat, where it was told a shorter one since, before
//                           that has passed, too; or a handshake timeout since it was accepted
//   punctual_peer_evicted   nor when the next one had reached the kernel by then
//   living_peer_evicted     nor one that beats within its interval, over a link that loses nothing
//   answering_peer_evicted  nor one that answers every probe at once, over a link that takes less
//                           than an answer has: what interval and grace leave of the timeout, less
//                           a quarter (of an interval at most) and a tick
//   evicted_late, silent_peer_kept
//                           a silent peer goes by its deadline, plus what the server was behind
//   flowing_peer_evicted    nor one of whose messages, to it or from it, twice the minimum rate
//                           (kProgressBytesPerSecondMin) arrived for a whole timeout
//   idle_closed_early       no peer is closed by an idle clock before that has run since the last
//                           bytes that it sent or took, as the clock counts them, nor when more of
//                           them had reached the kernel by then
//   idle_living_closed      nor by those that count reads one that beats within its interval, or
//                           answers probes within the time that they have, over a link that loses
//                           nothing
//   idle_kept               and one that is idle for longer goes, plus what the server was behind
//   goodbye_unsaid          a connection that the server ends has had a goodbye with the reason's
//                           code, unless its link was silent, it did not read, it said nothing that
//                           tells its protocol, or the drain window was over; and a WebSocket's
//                           own goodbye is answered by a close frame
//   small_holder_closed     no peer that only beats is closed for want of memory or for reading
//                           slowly, whatever the others make the server hold
//   user_offline, session_lost, session_kept
//                           a user is online while a connection is logged in as it; each such
//                           connection has its session, and the directory no others
//   close_hangs             a goodbye takes no longer than the linger
//   C3 C4 C5 accept ...     the loop's side of the backend contract (backend.h)
//   closed_once             every place that was given away came back exactly once
//   wire                    peers get well-formed frames, and the answers they asked for, in order
//   answer_every            of k heartbeats of a peer that asked for it the k-th is answered and no
//                           other, and of all others each; over a link that loses nothing within a
//                           round trip; welcomes and intervals repeat what was asked for
//   pools                   at the end no record, buffer, descriptor or orphan is left
//   progress                the loop never spins without time passing
//   drain                   a graceful stop is over by its window
//   drain_rate              its goodbyes come no faster than at 110 % of their rate, beside what
//                           50 ms have at once, and none before its delay is over
// The wheel's own invariants (every live connection has exactly one deadline) are asserted by
// Reactor::validate(), which is called all the while: a breach there ends the process.
//
// Deterministic: a seed is a run, on every machine; its hash says whether two runs were the same.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "core/types.h"
#include "net/sim/clients.h"
#include "net/sim/faults.h"
#include "net/sim/log.h"

namespace pulse {

struct SimulationOptions {
    uint64_t seed = 1;
    uint32_t peers = 300;
    Nanos duration = 600 * kSecond;  // of virtual time; the ending comes on top
    std::optional<FaultSet> faults =
        std::nullopt;  // these and no others; otherwise the seed chooses
    SimMutant mutant = SimMutant::none;
    std::FILE* trace = nullptr;
};

struct SimulationVerdict {
    uint64_t seed = 0;
    FaultSet faults;
    uint64_t hash = 0;
    uint64_t events = 0;  // lines of the trace
    uint64_t turns = 0;
    uint64_t violations = 0;
    std::vector<Violation> broken;  // the first of them
    SimClientCounts clients;
    uint64_t accepted = 0;
    uint64_t refused = 0;
    uint64_t probes = 0;
    uint64_t evicted = 0;
    Nanos virtual_time = 0;
    Nanos judge_lag_max = 0;
    uint64_t overload_by_lag = 0;  // steps that were entered, where memory is never short
    uint64_t overload_by_memory = 0;
    uint64_t overload_left = 0;  // how often the last one was
    bool ok() const { return violations == 0; }
};

SimulationVerdict simulate(const SimulationOptions& options);

}  // namespace pulse
