// Idle clocks (core/heartbeat/idle_clocks.h): for how long nothing was read from a peer, nothing
// sent to it, or neither, beside what its heartbeats make of that.
//
// They run from when a greeting is over until the connection begins to close, or the server drains,
// and not for side connections, which are silent on purpose. A connection has 28 bytes for them
// while they are on, and none else; a bit of its record says that reads and writes are to be noted.
// Its wheel entry is the one that it has, for the soonest of all its deadlines. What comes by a
// reload runs from the next look at a connection on, an interval of its heartbeats later at most,
// or without probes a timeout.
//
// Read is what the kernel has handed over, undecoded and parked bytes included; a write is complete
// when the kernel has taken all of a turn's bytes for that peer.
#include <fmt/format.h>

#include <algorithm>

#include "core/units.h"
#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/public_name.h"
#include "net/loop/session.h"

namespace pulse {
namespace {

constexpr CloseReason kReasons[kIdleClocks] = {CloseReason::idle_read, CloseReason::idle_write,
                                               CloseReason::idle_both};
constexpr Metric kCounters[kIdleClocks] = {Metric::idle_read, Metric::idle_write,
                                           Metric::idle_both};
constexpr std::string_view kWords[kIdleClocks] = {"read from it", "sent to it",
                                                  "read from it or sent to it"};

}  // namespace

// By the options in force: at the start, and after a reload.
void Connections::set_idle() {
    const LoopOptions& options = *config_.options;
    idle_ = {.observes_output = options.idle_observe_output};
    for (size_t clock = 0; clock < kIdleClocks; ++clock) {
        const IdleRule& rule = options.idle[clock];
        idle_.ticks[clock] = rule.on() ? config_.clock.ticks(rule.after) : 0;
        idle_.actions[clock] = rule.action;
    }
    if (!idle_.on()) return;
    has_had_idle_ = true;
    if (idle_rows_.turn_on()) return;
    idle_ = {};
    if (config_.warn) config_.warn("no address space for idle clocks: none runs (--idle-read)");
}

bool Connections::may_idle(const Connection& connection) const {
    return idle_.on() && !draining_ && is_live(connection.stage) &&
           connection.profile >= kProfileDefault && !is_side(connection);
}

// Its heartbeats begin, or are others, and with them when it may be closed: the clocks begin, where
// they do not run already. Returns when to look at it for them.
Tick Connections::begin_idle(Index index) {
    Connection& connection = at(index);
    if (!may_idle(connection)) return kNoTick;
    const Tick now = config_.clock.up(io_.clock());
    if (connection.clocked != 0) {
        const auto close = idle_close(idle_rows_.of(index), idle_, idle_look(index, now));
        return close ? close->at : kNoTick;
    }
    connection.clocked = 1;
    idle_rows_.at(index) = idle_from(now);
    uint32_t soonest = UINT32_MAX;
    for (const uint32_t ticks : idle_.ticks)
        if (ticks != 0) soonest = std::min(soonest, ticks);
    return now + soonest;
}

void Connections::note_idle_read(Index index) {
    idle_rows_.at(index).read = static_cast<uint32_t>(config_.clock.up(io_.now()));
}

// The clock, since this may come long after the poll.
void Connections::note_idle_write(Index index) {
    idle_rows_.at(index).written = static_cast<uint32_t>(config_.clock.up(io_.clock()));
}

IdleLook Connections::idle_look(Index index, Tick now) const {
    const Connection& connection = table_[index];
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    const TickClock clock = config_.clock;
    const Nanos interval = clock.begins(heartbeat.interval_ticks);
    IdleLook look{.now = now};
    look.proven = restore_tick(connection.heard & kStoredTickMask, now);
    look.reads = io_.is_held_off(index);
    // What is to be sent at the end of this turn, and a small send that is on its way, wait for
    // this thread and not for the peer; what waits behind bulk does wait for it.
    look.writes = outboxes_.in_flight(connection) ? (connection.flags & kBulkOut) == 0
                                                  : (connection.flags & kDirty) != 0;
    look.answer_ticks = clock.ticks(answer_time(interval));
    look.close_ticks = heartbeat.interval_ticks + heartbeat.grace_ticks + look.answer_ticks;
    return look;
}

// At each look; `probed`: its heartbeats send a probe in this one.
Connections::IdleJudged Connections::judge_idle(Index index, Tick reached, bool probed) {
    Connection& connection = at(index);
    if (!may_idle(connection)) {
        connection.clocked = 0;
        return {};
    }
    if (connection.clocked == 0) begin_idle(index);
    IdleState& state = idle_rows_.at(index);
    const uint32_t asked = state.asked;
    if (probed) note_asked(state, std::max(reached, config_.clock.down(io_.clock())));
    IdleLook look = idle_look(index, reached);
    if (look.reads) note_idle_read(index);  // no read follows when it is decoded
    look.writes |= probed && !outboxes_.in_flight(connection);
    const IdleStep step = idle_step(state, idle_, look);
    for (size_t clock = 0; clock < kIdleClocks; ++clock)
        if (step.clocks[clock].is_over) note_idle(index, static_cast<IdleClock>(clock), step);
    if (step.closes) {
        close_idle(index, *step.closes, step);
        return {.cost = kEvictCost, .closed = true};
    }
    if (state.asked != asked) asked_.push_back(index);
    if (!step.probes || probed) return {.next = step.next};
    metrics_.add(Metric::idle_probes);
    Session(*this, index).send_probe();
    return {.next = step.next, .cost = kProbeCost};
}

// The answer to a probe has its time from when that has left, which to a ring is now.
void Connections::note_asked_left() {
    io_.submit();
    const auto now = static_cast<uint32_t>(config_.clock.down(io_.clock()));
    for (const Index index : asked_)
        if (at(index).clocked != 0) idle_rows_.at(index).asked = now;
    asked_.clear();
}

void Connections::note_idle(Index index, IdleClock clock, const IdleStep& step) {
    const auto at = static_cast<size_t>(clock);
    const IdleStep::Over& over = step.clocks[at];
    metrics_.add(kCounters[at]);
    const bool sampled = samples() && in_sample(table_.id(index));
    if (!logs_peers_ && !sampled) return;
    const std::string_view action = name_of(idle_.actions[at]);
    const double span = static_cast<double>(config_.clock.begins(over.ticks)) / kSecond;
    const std::string words =
        fmt::format("idle: nothing was {} for {:.1f} s{} (--idle-{}, {})", kWords[at], span,
                    over.first ? "" : ", again", name_of(clock), action);
    log_debug(index, words, {});
    if (!sampled) return;
    log_event("idle", public_name(config_.number, table_.id(index)), words,
              {{"clock", std::string(name_of(clock))},
               {"action", std::string(action)},
               {"first", over.first ? "true" : "false", true},
               {"idle_s", fmt::format("{:.3f}", span), true}});
}

void Connections::close_idle(Index index, IdleClock clock, const IdleStep& step) {
    const auto at = static_cast<size_t>(clock);
    const Nanos span = config_.clock.begins(step.clocks[at].ticks);
    const std::string why =
        fmt::format("nothing was {} for {:.1f} s, and --idle-{} is {}", kWords[at],
                    static_cast<double>(span) / kSecond, name_of(clock),
                    format_duration(config_.options->idle[at].after));
    begin_close(index, CloseCause(kReasons[at]).noted(why));
}

// Which of them closes it, of one that is open.
void Connections::fill_idle(Evidence& facts, Index index) const {
    const Connection& connection = table_[index];
    if (connection.clocked == 0 || !may_idle(connection)) return;
    const std::optional<IdleClose> close =
        idle_close(idle_rows_.of(index), idle_, idle_look(index, config_.clock.down(facts.at)));
    if (!close) return;
    facts.idle_reason = kReasons[static_cast<size_t>(close->clock)];
    const Nanos left = std::max<Nanos>(0, config_.clock.begins(close->at) - facts.at);
    facts.idle_closes_in_ms = static_cast<uint32_t>(left / kMillisecond);
}

}  // namespace pulse
