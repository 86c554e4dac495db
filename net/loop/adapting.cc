// How long the interval of each connection is, where it is adaptive (core/heartbeat/adaptive.h).
//
// Looked at with the wheel's looks and not where a heartbeat comes in, which stays one store: about
// once a silence. The deadline follows what the peer was told:
//   longer   the deadline grows at once, and the peer is told in the same turn
//   shorter  the peer is told, and judged by what it was told before until its host has
//            acknowledged that; then its silence begins anew
// One that was told nothing yet, as before a hello, has what the flags say, and is taken from there
// in the same way; one that cannot be told stays there.
//
// A silence tells something if it was long: a peer that says something all the time has none.
//
// What its network bears is known from those that came before (core/heartbeat/network_levels.h);
// the network is the peer's address, of IPv6 the /64: that of a NAT.
#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/session.h"

namespace pulse {

uint8_t Connections::place_for(Index index, uint8_t asked) {
    if (asked != kProfileDefault || !adapts_) return place_of(asked);
    const uint8_t now = at(index).profile;
    if (is_adaptive(now)) return place_of(profile_at(now));
    if (!Session(*this, index).hears_of_intervals()) return place_of(asked);
    return place_of(profile_of_level(first_level(index)));
}

uint8_t Connections::first_level(Index index) {
    adaptive_.begin(index);
    return networks_.start(at(index).address, adaptive_first_, io_.now());
}

// `step` is what was done at a look. While a walk over all changes what levels are nothing is done:
// it tells each what it has, and what was told before that does not come.
void Connections::adapt(Index index, Tick reached, const HeartbeatStep& step) {
    const Connection& connection = at(index);
    if (!is_live(connection.stage) || asked_profile(connection.profile) != kProfileDefault) return;
    if (!retuning_.done() || !Session(*this, index).hears_of_intervals()) return;
    if (const uint8_t pending = adaptive_.of(index).pending; pending != 0) {
        if (has_taken_all(index))
            return set_profile(index, place_of(profile_of_level(pending - 1)));
        return wheel_.arm(index, reached + config_.clock.ticks(kAdoptLookNs));
    }
    if (!is_adaptive(connection.profile)) return change_level(index, reached, first_level(index));
    if (!ends_silence(index, reached, step)) return;
    AdaptiveState& state = adaptive_.at(index);
    const bool kept = !state.missed;
    state.missed = false;
    const uint8_t now = level_at(connection.profile);
    if (kept) networks_.note_kept(connection.address, now);
    const uint8_t most = networks_.most(connection.address, adaptive_top_, io_.now());
    const uint8_t level = adapt_level(state, now, kept, most);
    if (level == now) return;
    metrics_.add(level < now ? Metric::intervals_shortened : Metric::intervals_lengthened);
    change_level(index, reached, level);
}

// Whether a look finds that a long silence is over. Each proof of life is counted once: a look may
// find the one that the look before has found.
bool Connections::ends_silence(Index index, Tick reached, const HeartbeatStep& step) {
    AdaptiveState& state = adaptive_.at(index);
    // The first probe of a connection comes before an interval is over: it says nothing of that.
    if ((step.heard & kHeardFirst) != 0) {
        state.is_long = false;
        return false;
    }
    const uint32_t sent = probes_sent(step.heard);
    if (sent > 1) state.missed = true;
    const bool probed = step.verdict == Verdict::probe;
    if (sent != probed) return false;
    const auto seen = static_cast<uint16_t>(step.heard & UINT16_MAX);
    const bool goes_on = probed || seen == state.seen;
    const bool was_long = state.is_long && !goes_on;
    state.seen = seen;
    const Tick heard = restore_tick(step.heard & kStoredTickMask, reached);
    const Tick long_at = heard + heartbeat_of(at(index)).interval_ticks / 4 * 3;
    state.is_long = probed || long_at <= reached;
    if (!state.is_long) wheel_.arm(index, long_at);
    return was_long;
}

void Connections::change_level(Index index, Tick reached, uint8_t level) {
    const uint8_t place = place_of(profile_of_level(level));
    const HeartbeatConfig& now = heartbeat_of(at(index));
    if (config_.profiles[place].timeout_ticks >= now.timeout_ticks) {
        change_profile(index, place);
        return Session(*this, index).send_interval();
    }
    Session(*this, index).send_interval(place);
    if (!is_live(at(index).stage)) return;
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
