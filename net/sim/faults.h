// What can go wrong in a simulated run, and how a run's share of it is drawn from its seed.
//
// Each run leaves some faults out entirely, because a fault that is always present hides the bugs
// that need its absence. Rates are drawn on a logarithmic scale, so that some runs see a fault once
// and others see nothing else.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/random.h"
#include "core/result.h"
#include "core/types.h"
#include "net/loop/limits.h"

namespace pulse {

// X(name, what happens). The names are pulsesim's --faults.
#define PULSE_SIM_FAULTS(X)                                                                   \
    X(split, "segments are cut into pieces that arrive apart")                                \
    X(delay, "links differ and jitter, up to a second one way")                               \
    X(loss, "segments are lost and sent again after a retransmission timeout")                \
    X(partition, "links fall silent for a while and come back")                               \
    X(reset, "peers reset in the middle of things")                                           \
    X(half_close, "peers send FIN and go on reading")                                         \
    X(vanish, "peers are gone without FIN or RST; some come back and know nothing")           \
    X(slow_reader, "peers do not read for long")                                              \
    X(small_buffers, "socket buffers hold a few hundred bytes, so that writes are short")     \
    X(late_completion, "sends, cancellations and closes complete long after their cause")     \
    X(shuffle, "the kernel reports ready connections in any order")                           \
    X(short_read, "the kernel hands over a few bytes of what it has")                         \
    X(emfile, "the descriptor table is full, or is for a while")                              \
    X(backlog, "the accept queue holds few, and SYNs are dropped")                            \
    X(aborted_accept, "peers are gone before they are accepted")                              \
    X(buffers_short, "receive buffers run out in the middle of a harvest")                    \
    X(small_batch, "a poll hands over few completions of many")                               \
    X(spurious_wake, "poll returns for no reason")                                            \
    X(slow_turn, "every poll takes up to milliseconds, so that more arrives than is handled") \
    X(stall, "the process is not scheduled for a while and data piles up")                    \
    X(stutter, "the same between two completions of one poll")                                \
    X(storm, "all peers leave at once and come back at once")                                 \
    X(slow_log, "the log sink blocks, and all that its caller does waits")                    \
    X(small_pool, "the buffer pool holds little, and unfinished messages fill it")

enum class Fault : uint8_t {
#define X(name, text) name,
    PULSE_SIM_FAULTS(X)
#undef X
};
inline constexpr size_t kFaults = 0
#define X(name, text) +1
    PULSE_SIM_FAULTS(X)
#undef X
    ;

struct FaultInfo {
    std::string_view name;
    std::string_view text;
};
inline constexpr FaultInfo kFaultInfos[kFaults] = {
#define X(name, text) {#name, text},
    PULSE_SIM_FAULTS(X)
#undef X
};

using FaultSet = std::bitset<kFaults>;

// "all", "none", or names joined by commas. An error names the word and where the list is.
Result<FaultSet> parse_faults(std::string_view text);
std::string describe_faults(const FaultSet& faults);  // names joined by commas, or "none"

// X(name, what is broken): a rule that is broken on purpose, to see the simulator find it. Tests
// only; the names are pulsesim's --mutant.
#define PULSE_SIM_MUTANTS(X)                                                                   \
    X(none, "nothing")                                                                         \
    X(drained_until_is_now, "C8: deadlines are judged by the clock")                           \
    X(close_without_join, "C4: on_closed does not wait for the operations in flight")          \
    X(stamp_before_pause, "C7: bytes are stamped with the clock of before the poll's pause")   \
    X(no_send_progress, "the kernel never says what a peer's host has acknowledged")           \
    X(no_reserve, "the buffer pool is full, and has no room for those that hold little")       \
    X(goodbye_swallowed, "what is sent to a connection that closes does not leave")            \
    X(answers_each, "each heartbeat is answered, whatever its peer asked for")                 \
    X(answers_forgotten, "heartbeats that were counted in one turn are forgotten in the next") \
    X(session_ended_early, "the end of a session is reported whose connection lives")          \
    X(session_end_unreported, "the end of a session is not reported")

enum class SimMutant : uint8_t {
#define X(name, text) name,
    PULSE_SIM_MUTANTS(X)
#undef X
};
struct SimMutantInfo {
    std::string_view name;
    std::string_view text;
};
inline constexpr SimMutantInfo kSimMutantInfos[] = {
#define X(name, text) {#name, text},
    PULSE_SIM_MUTANTS(X)
#undef X
};
// An error names the word and those that there are.
Result<SimMutant> parse_mutant(std::string_view text);

// The faults of one run. A magnitude applies when its fault is present; per_million is the
// chance each time.
struct FaultPlan {
    FaultSet present;
    std::array<uint32_t, kFaults> per_million{};

    Nanos delay_min = 20'000;       // one way, of the fastest link
    Nanos delay_max = 200'000;      // one way, of the slowest
    Nanos jitter = 50'000;          // on top, of each segment
    Nanos partition_max = kSecond;  // how long a link is silent
    Nanos completion_max = 0;       // how late a completion comes
    Nanos stall_max = 0;            // how long the process is not scheduled
    Nanos stutter_max = 0;          // how long it is not between two completions
    Nanos turn_max = 0;             // how long a poll takes
    Nanos log_max = 0;              // how long the sink takes for a line
    uint32_t socket_buffer_bytes = 256 * 1024;
    size_t pool_bytes = kBufferedBytesDefault;
    uint32_t batch_max = 4'096;      // completions handed over by one poll
    uint32_t receive_buffers = 256;  // of one harvest
    uint32_t backlog = 4'096;
    uint32_t descriptors_max = 1u << 20;
    bool submit_in_poll = false;  // sends reach the kernel in the next poll (a ring), or at once
    bool coarse_drain = false;    // drained_until moves only when nothing at all is left
    SimMutant mutant = SimMutant::none;

    bool has(Fault fault) const { return present.test(static_cast<size_t>(fault)); }
    // Whether the fault strikes at this opportunity. Asks for no random number where it is absent.
    bool strikes(Fault fault, Random& random) const {
        return has(fault) && random.chance(per_million[static_cast<size_t>(fault)], 1'000'000);
    }
};

// Nothing goes wrong: a fast, ordered kernel and a fast network.
inline FaultPlan no_faults() { return {}; }

// A run's plan: about half of `allowed`, with rates and magnitudes.
FaultPlan draw_faults(Random& random, const FaultSet& allowed);
// The same, with every one of `faults` present.
FaultPlan force_faults(Random& random, const FaultSet& faults);

}  // namespace pulse
