// How long the interval of each connection is, where it is adaptive (core/heartbeat/adaptive.h).
//
// Looked at with the wheel's looks and not where a heartbeat comes in, which stays one store: about
// once a silence. The deadline follows what the peer was told:
//   longer   the deadline grows at once, and the peer is told in the same turn
//   shorter  the peer is told, and judged by what it was told before until its host has
//            acknowledged that; then its silence begins anew
// What its network bears is known from those that came before (core/heartbeat/network_levels.h);
// the network is the peer's address, of IPv6 the /64: that of a NAT.
#include <utility>

#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/session.h"

namespace pulse {

uint8_t Connections::place_for(Index index, uint8_t asked) {
    if (asked != kProfileDefault || !adapts_) return place_of(asked);
    const uint8_t now = at(index).profile;
    if (is_adaptive(now)) return place_of(profile_at(now));
    adaptive_.begin(index);
    const uint8_t level = networks_.start(at(index).address, adaptive_first_, io_.now());
    return place_of(profile_of_level(level));
}

// `step` is what was done at a look. Each proof of life is counted once: a look may find the one
// that the look before has found.
void Connections::adapt(Index index, Tick reached, const HeartbeatStep& step) {
    const Connection& connection = at(index);
    if (!is_live(connection.stage) || !is_adaptive(connection.profile)) return;
    if (!Session(*this, index).hears_of_intervals()) return;
    AdaptiveState& state = adaptive_.at(index);
    if (state.pending != 0) {
        const uint8_t level = state.pending - 1;
        if (has_taken_all(index)) return set_profile(index, place_of(profile_of_level(level)));
        return wheel_.arm(index, reached + config_.clock.ticks(kAdoptLookNs));
    }
    // The first probe of a connection comes before an interval is over: it says nothing of that.
    if ((step.heard & kHeardFirst) != 0) return;
    const uint32_t sent = probes_sent(step.heard);
    if (sent > 1) state.missed = true;
    const auto seen = static_cast<uint16_t>(step.heard & UINT16_MAX);
    if (sent != (step.verdict == Verdict::probe) || seen == state.seen) return;
    state.seen = seen;
    const bool kept = !std::exchange(state.missed, false);
    const uint8_t now = level_at(connection.profile);
    if (kept) networks_.note_kept(connection.address, now);
    const uint8_t most = networks_.most(connection.address, adaptive_top_, io_.now());
    const uint8_t level = adapt_level(state, now, kept, most);
    if (level < now) return shorten(index, reached, level);
    if (level == now) return;
    change_profile(index, place_of(profile_of_level(level)));
    metrics_.add(Metric::intervals_lengthened);
    Session(*this, index).send_interval();
}

void Connections::shorten(Index index, Tick reached, uint8_t level) {
    Session(*this, index).send_interval(place_of(profile_of_level(level)));
    if (!is_live(at(index).stage)) return;
    metrics_.add(Metric::intervals_shortened);
    adaptive_.at(index).pending = level + 1;
    wheel_.arm(index, reached + config_.clock.ticks(kAdoptLookNs));
}

// It ends. Where it was silent for longer than its interval its network may have forgotten it.
void Connections::note_lost(Index index, CloseReason reason) {
    const Connection& connection = at(index);
    if (!is_adaptive(connection.profile) || !is_live(connection.stage)) return;
    if (reason != CloseReason::idle_timeout && reason != CloseReason::network_timeout &&
        reason != CloseReason::taken_over)
        return;
    const Tick now = config_.clock.down(io_.now());
    const Tick heard = restore_tick(connection.heard & kStoredTickMask, now);
    const Tick beats = heard + heartbeat_of(connection).interval_ticks;
    if (beats >= now) return;
    const bool came_back = reason == CloseReason::taken_over &&
                           now - beats <= config_.clock.ticks(kAdaptiveReturnNs);
    networks_.note_lost(connection.address, level_at(connection.profile), came_back, io_.now());
}

// Whatever it was sent its host has acknowledged.
bool Connections::has_taken_all(Index index) const {
    return outboxes_.bytes(table_[index]) == 0 && io_.send_progress(index).waiting_bytes == 0;
}

}  // namespace pulse
