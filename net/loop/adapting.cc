// How long the interval of each connection is, where it is adaptive (core/heartbeat/adaptive.h).
//
// Looked at with the wheel's looks and not where a heartbeat comes in, which stays one store: about
// twice a silence. Longer ones hold at once, shorter ones once the peer knows (announcing.cc). One
// that was told nothing yet, as before a hello, has what the flags say, and is taken from there in
// the same way; one that cannot be told stays there.
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
    // What it was told of counts before what it has yet.
    for (const uint8_t place : {place_told(index), at(index).profile})
        if (is_adaptive(place)) return place_of(profile_at(place));
    if (!Session(*this, index).hears_of_intervals()) return place_of(asked);
    return place_of(profile_of_level(first_level(index)));
}

// What its client said of its network holds, whatever profile it had since.
uint8_t Connections::first_level(Index index) {
    const uint8_t most = adaptive_.of(index).most;
    adaptive_.begin(index);
    if (most != 0) adaptive_.at(index).most = most;
    return adaptive_.of(index).top(
        networks_.start(at(index).address, adaptive_first_, io_.now()));
}

// `step` is what was done at a look. While a walk over all changes what levels are nothing is done.
void Connections::adapt(Index index, Tick reached, const HeartbeatStep& step) {
    const Connection& connection = at(index);
    if (!is_live(connection.stage) || asked_profile(connection.profile) != kProfileDefault) return;
    if (!retuning_.done() || !Session(*this, index).hears_of_intervals()) return;
    if (!is_adaptive(connection.profile)) return change_level(index, first_level(index));
    if (!ends_silence(index, reached, step)) return;
    AdaptiveState& state = adaptive_.at(index);
    const bool kept = !state.missed;
    state.missed = false;
    const uint8_t now = level_at(connection.profile);
    if (kept) networks_.note_kept(connection.address, now);
    const uint8_t most =
        state.top(networks_.most(connection.address, adaptive_top_, io_.now()));
    const uint8_t level = adapt_level(state, now, kept, most);
    if (level == now) return;
    metrics_.add(level < now ? Metric::intervals_shortened : Metric::intervals_lengthened);
    change_level(index, level);
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

// Of its timeouts: that of a level which is not stretched, since it would be too long, may be
// shorter than that of the one below it.
void Connections::change_level(Index index, uint8_t level) {
    const uint8_t place = place_of(profile_of_level(level));
    if (is_shorter(index, place)) return announce(index, place);
    change_profile(index, place);
    Session(*this, index).send_interval();
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

}  // namespace pulse
