// How idle clocks are judged (core/heartbeat/idle_clocks.h), from outside: by the bytes that the
// server was given, the sends that were done, and what the peer's host has taken.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "net/loop/connection_flags.h"
#include "net/sim/clients.h"

namespace pulse {
namespace {

std::optional<IdleClock> clock_of(CloseReason reason) {
    switch (reason) {
        case CloseReason::idle_read:
            return IdleClock::read;
        case CloseReason::idle_write:
            return IdleClock::write;
        case CloseReason::idle_both:
            return IdleClock::both;
        default:
            return std::nullopt;
    }
}

std::string ms(Nanos span) { return std::to_string(span / kMillisecond) + " ms"; }

}  // namespace

// What is sent when it closes is no activity.
void SimClients::note_written(Index index) {
    Line* const line = line_at(index);
    if (line == nullptr || !is_live(records_[index].stage)) return;
    line->written_at = network_.clock();
    line->written_behind_at = io_.behind_total();
}

void SimClients::judge_idle_closes(const ConnectionTable& table, Nanos judged) {
    for (Index index = 0; index < line_of_index_.size(); ++index) {
        Line* const line = line_at(index);
        const Connection& connection = table[index];
        if (line == nullptr || line->closed_idle || connection.stage < Stage::closing) continue;
        if (!clock_of(connection.close_reason)) continue;
        line->closed_idle = true;
        log_.note(network_.clock(), "idle", index, line->client);
        judge_idle_close(index, *line, judged);
    }
}

void SimClients::judge_idle_close(Index index, const Line& line, Nanos judged) {
    const IdleClock clock = *clock_of(records_[index].close_reason);
    const Nanos after = facts_.config->options->idle[static_cast<size_t>(clock)].after;
    const bool reads = clock != IdleClock::write, writes = clock != IdleClock::read;
    const Nanos last = std::max(reads ? line.read_at : 0, writes ? line.written_at : 0);
    if (judged < last + after) broken("idle_closed_early", line, "by " + ms(last + after - judged));
    const SimSocket server =
        network_.valid(line.socket) ? network_.far_end(line.socket) : SimSocket{};
    // C8 leaves out what fills a buffer.
    if (reads && !line.filled_a_buffer && network_.valid(server) &&
        network_.arrival_of_offset(server, line.delivered + 1) < last + after) {
        broken("idle_closed_early", line, "more of it was in the kernel");
    }
    const Nanos timeout = facts_.timeout_max[line.profile];
    const bool through_little = faults_.has(Fault::small_buffers) && line.bulk_taken_at == 0;
    if (!through_little &&
        line.downloaded.is_above(2 * kProgressBytesPerSecondMin, judged, timeout))
        broken("idle_closed_early", line, "it was receiving");
    if (reads && line.innocent && lives_as_told(line))
        broken("idle_living_closed", line, "by " + std::string(name_of(clock)));
}

// It beats within the interval that its heartbeats have, or answers their probes in time.
bool SimClients::lives_as_told(const Line& line) const {
    const Client& client = clients_[line.client];
    if (client.stopped || client.finished || !line.client_holds || !client.introduced) return false;
    if (line.was_cut || line.went_unread || facts_.round_trip_max == kNever) return false;
    if (client.behaviour == Behaviour::beat)
        return client.gap + facts_.round_trip_max < line.closes_after;
    return client.behaviour == Behaviour::idle && facts_.config->options->heartbeat_probe &&
           facts_.round_trip_max + facts_.tick_ns < line.answer_span;
}

// By when one that is idle is closed at the latest, but for what the server was behind.
void SimClients::judge_idle_kept(Index index, const Line& line) {
    const LoopOptions& options = *facts_.config->options;
    const Connection& connection = records_[index];
    if (network_.clock() >= facts_.drain_at || io_.is_held_off(index) || connection.outbox != 0)
        return;
    // A probe of an idle clock may be the first of a silence, at any time of it.
    const bool asks = std::ranges::any_of(options.idle, [](const IdleRule& rule) {
        return rule.on() && rule.action == IdleAction::probe;
    });
    if (asks && !options.heartbeat_probe) return;
    const TickClock& ticks = facts_.config->clock;
    const Tick proven = restore_tick(connection.heard & kStoredTickMask, ticks.down(io_.now()));
    const Nanos behind_at = std::min(line.behind_at, line.written_behind_at);
    const Nanos away = io_.behind_total() - behind_at;
    for (size_t at = 0; at < kIdleClocks; ++at) {
        const IdleRule& rule = options.idle[at];
        if (!rule.on() || rule.action != IdleAction::close) continue;
        const auto clock = static_cast<IdleClock>(at);
        // It begins anew where this server could not write.
        if (clock == IdleClock::write && away > rule.after / 8) continue;
        Nanos last = std::max({line.judged_since, line.greeting_at, line.bulk_taken_at});
        if (clock != IdleClock::write) last = std::max({last, line.read_at, ticks.begins(proven)});
        if (clock != IdleClock::read) last = std::max(last, line.written_at);
        const Nanos latest = last + std::max(rule.after, line.closes_after) + line.answer_span +
                             lateness_allowed(behind_at);
        if (io_.now() > latest)
            broken("idle_kept", line,
                   std::string(name_of(clock)) + ", for " + ms(io_.now() - last));
    }
}

}  // namespace pulse
