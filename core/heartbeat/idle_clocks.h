// Three clocks of silence beside the heartbeats: nothing read, nothing written, neither. A pure
// function from what is remembered of a connection and a look at it to what is to be done.
//
// What they mean is what they mean in Netty (netty/netty at 012c3257b816,
// handler/src/main/java/io/netty/handler/timeout/IdleStateHandler.java):
//
//   read   READER_IDLE: no byte was read for so long, of a whole message or of a part of one
//   write  WRITER_IDLE: no write was completed, that is taken whole by the kernel, for so long
//   both   ALL_IDLE: neither
//
// Each is over again once a period for as long as it stays so, and says whether it is the first
// time since there was some activity. With `observes_output`, its observeOutput, what the peer
// takes of a message that is on its way is activity of the write clock, and of both.
//
// Where they differ from Netty's:
//   - Periods do not drift: they are counted from the last activity, however late a look is, and
//     those that a late look has passed over are one.
//   - Output is observed by what the peer's host has acknowledged, and from the first period on;
//     Netty looks at its own buffer, and not before the second.
// And, so that none is closed falsely:
//   - A peer that takes bytes of a message is not closed, whether output is observed or not.
//   - A close, of whichever clock, comes no sooner after the last activity than the heartbeats of
//     the connection have probed a silent peer and it has answered (`close_ticks`). And after a
//     probe that was sent into the silence its answer has its time, however late the probe left.
//   - By read and both none is closed before so long after the last proof of life, as heartbeats
//     count it (heartbeat_policy.h): that has what the server was late with its probes, too.
//   - A look at the write clock that is late by more than a quarter of its time closes nothing, and
//     the clock begins anew: this server was away, and could not write.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/types.h"

namespace pulse {

enum class IdleClock : uint8_t { read, write, both };
inline constexpr size_t kIdleClocks = 3;
inline constexpr std::string_view kIdleClockNames[kIdleClocks] = {"read", "write", "both"};
constexpr std::string_view name_of(IdleClock clock) {
    return kIdleClockNames[static_cast<size_t>(clock)];
}

// What is done when a clock is over: it is counted and logged; a probe is sent as well; or the
// connection is closed.
enum class IdleAction : uint8_t { event, probe, close };
inline constexpr std::string_view kIdleActionNames[] = {"event", "probe", "close"};
constexpr std::string_view name_of(IdleAction action) {
    return kIdleActionNames[static_cast<size_t>(action)];
}

// What an operator asks for.
struct IdleRule {
    Nanos after = 0;  // 0: this clock is off
    IdleAction action = IdleAction::event;

    bool on() const { return after > 0; }
    bool operator==(const IdleRule&) const = default;
};

// The same in ticks; 0: off. All of it is the same for all connections.
struct IdleConfig {
    std::array<uint32_t, kIdleClocks> ticks{};
    std::array<IdleAction, kIdleClocks> actions{};
    bool observes_output = false;

    constexpr bool on() const { return (ticks[0] | ticks[1] | ticks[2]) != 0; }
};

// The low 32 bits of ticks; a look moves what is older than 2^30 of them up to that, so that each
// stays told apart from its aliases. Requires: none has waited for its next look for 2^31 ticks
// (24 days of 1 ms).
struct IdleState {
    uint32_t read = 0;     // the last bytes
    uint32_t written = 0;  // the last write that was completed
    uint32_t taken = 0;    // when the peer's host last acknowledged some of bulk, as far as known
    uint32_t asked = 0;    // when the first probe since the last bytes left, if it is later
    // Up to which instant its periods are over; the last activity, if that is later.
    std::array<uint32_t, kIdleClocks> over{};
};
static_assert(sizeof(IdleState) == 28, "the plan of memory names it");

// What is known at a look besides.
struct IdleLook {
    Tick now = 0;               // every byte of before was delivered
    Tick proven = 0;            // the last proof of life
    bool reads = false;         // bytes of the peer are here and wait
    bool writes = false;        // something is on its way to the kernel at this moment
    uint32_t close_ticks = 0;   // the least from the last activity to a close
    uint32_t answer_ticks = 0;  // the least from a probe to a close
};

struct IdleStep {
    struct Over {
        bool is_over = false;
        bool first = false;  // since the last activity
        uint32_t ticks = 0;  // since that, or since the clocks began
    };
    std::array<Over, kIdleClocks> clocks{};
    bool probes = false;              // one of them asks for a probe
    std::optional<IdleClock> closes;  // one of them closes; `clocks` has it as over
    Tick next = kNoTick;              // when to look again; after the look, if it does not close
};

// The clocks of a connection begin.
constexpr IdleState idle_from(Tick now);
// A probe leaves. Returns whether it is the first since the last bytes, and counts.
constexpr bool note_asked(IdleState& state, Tick now);
// Remembers what was over. Requires: the config is on.
constexpr IdleStep idle_step(IdleState& state, const IdleConfig& config, const IdleLook& look);

// Which clock closes it first if nothing happens any more, and when, by a look at that instant.
struct IdleClose {
    IdleClock clock;
    Tick at;
};
constexpr std::optional<IdleClose> idle_close(const IdleState& state, const IdleConfig& config,
                                              const IdleLook& look);

// What follows is how.
namespace detail {

// The tick nearest to `now` with these low bits.
constexpr Tick whole_tick(uint32_t stored, Tick now) {
    const auto ago = static_cast<int32_t>(static_cast<uint32_t>(now) - stored);
    return now - static_cast<Tick>(static_cast<int64_t>(ago));
}

constexpr void bound_age(uint32_t& stored, Tick now) {
    constexpr int32_t kAgeMax = 1 << 30;
    const auto ago = static_cast<int32_t>(static_cast<uint32_t>(now) - stored);
    if (ago > kAgeMax) stored = static_cast<uint32_t>(now) - kAgeMax;
}

// When there was some activity last, as a clock and its action count it.
constexpr Tick last_activity(const IdleState& state, IdleClock clock, const IdleConfig& config,
                             const IdleLook& look) {
    const bool closes = config.actions[static_cast<size_t>(clock)] == IdleAction::close;
    Tick last = 0;
    if (clock != IdleClock::write) last = look.reads ? look.now : whole_tick(state.read, look.now);
    if (clock != IdleClock::read)
        last = std::max(last, look.writes ? look.now : whole_tick(state.written, look.now));
    if (closes || (config.observes_output && clock != IdleClock::read))
        last = std::max(last, whole_tick(state.taken, look.now));
    if (closes && clock != IdleClock::write) last = std::max(last, look.proven);
    return last;
}

// When one that closes is over. Requires: `last` is of it.
constexpr Tick close_due(const IdleState& state, Tick last, Tick due, const IdleLook& look) {
    due = std::max(due, last + look.close_ticks);
    const Tick asked = whole_tick(state.asked, look.now);
    return asked > whole_tick(state.read, look.now) ? std::max(due, asked + look.answer_ticks)
                                                    : due;
}

constexpr void look_at(IdleState& state, IdleClock clock, const IdleConfig& config,
                       const IdleLook& look, IdleStep& step) {
    const auto at = static_cast<size_t>(clock);
    const uint32_t period = config.ticks[at];
    if (period == 0) return;
    const bool closes = config.actions[at] == IdleAction::close;
    const Tick last = last_activity(state, clock, config, look);
    const Tick over_until = whole_tick(state.over[at], look.now);
    const Tick from = std::max(last, over_until);
    Tick due = from + period;
    if (closes) due = close_due(state, last, due, look);
    if (due <= look.now) {
        const uint64_t periods = (look.now - from) / period;
        const bool was_away = clock == IdleClock::write && look.now - due > period / 4;
        if (closes && was_away) {
            state.over[at] = static_cast<uint32_t>(look.now);
            due = std::max(look.now + period, last + look.close_ticks);
        } else {
            step.clocks[at] = {.is_over = true,
                               .first = over_until <= last,
                               .ticks = static_cast<uint32_t>(look.now - last)};
            state.over[at] = static_cast<uint32_t>(from + periods * period);
            due = from + (periods + 1) * period;
            step.probes |= config.actions[at] == IdleAction::probe;
            if (closes && !step.closes) step.closes = clock;
        }
    }
    step.next = std::min(step.next, due);
}

}  // namespace detail

constexpr IdleState idle_from(Tick now) {
    const auto low = static_cast<uint32_t>(now);
    return {low, low, low, low, {low, low, low}};
}

constexpr bool note_asked(IdleState& state, Tick now) {
    const bool is_first =
        detail::whole_tick(state.asked, now) <= detail::whole_tick(state.read, now);
    if (is_first) state.asked = static_cast<uint32_t>(now);
    return is_first;
}

constexpr IdleStep idle_step(IdleState& state, const IdleConfig& config, const IdleLook& look) {
    for (uint32_t* stored : {&state.read, &state.written, &state.taken, &state.asked,
                             &state.over[0], &state.over[1], &state.over[2]})
        detail::bound_age(*stored, look.now);
    IdleStep step;
    // Those that close come last: a probe of this look is to be answered first.
    for (const bool closing : {false, true}) {
        for (size_t at = 0; at < kIdleClocks; ++at) {
            if ((config.actions[at] == IdleAction::close) == closing)
                detail::look_at(state, static_cast<IdleClock>(at), config, look, step);
        }
        if (!closing && step.probes) note_asked(state, look.now);
    }
    return step;
}

constexpr std::optional<IdleClose> idle_close(const IdleState& state, const IdleConfig& config,
                                              const IdleLook& look) {
    std::optional<IdleClose> soonest;
    for (size_t at = 0; at < kIdleClocks; ++at) {
        if (config.ticks[at] == 0 || config.actions[at] != IdleAction::close) continue;
        const auto clock = static_cast<IdleClock>(at);
        const Tick last = detail::last_activity(state, clock, config, look);
        const Tick from = std::max(last, detail::whole_tick(state.over[at], look.now));
        const Tick due = detail::close_due(state, last, from + config.ticks[at], look);
        if (!soonest || due < soonest->at) soonest = {clock, due};
    }
    return soonest;
}

}  // namespace pulse
