// From when on a peer is judged by the heartbeats that it is told of.
//
// Longer ones hold at once, and the silence goes on. By shorter ones none is judged before it can
// know them: they hold once its host has acknowledged the message that tells them, or else one
// timeout of before later: by then it has sent something, or is evicted. Their silence begins anew.
// So a peer that is cut off is evicted by what it knows, and one that no message is there for, or
// that has not begun to speak, keeps what it had for so long.
//
// A hello that names another profile, other than the default, asks for it, and has it at once. What
// else may come of a hello is told by the welcome.
#include "net/loop/connections.h"
#include "net/loop/session.h"

namespace pulse {

bool Connections::is_shorter(Index index, uint8_t place) const {
    return config_.profiles[place].timeout_ticks < heartbeat_of(table_[index]).timeout_ticks;
}

void Connections::announce(Index index, uint8_t place) {
    const bool waits = is_shorter(index, place);
    if (waits && note_announced(index, place)) return tell_announced(index);
    // Its silence goes on, or a stretch that begins time and again would keep the dead. But under
    // shorter intervals all would be probed at once: then it begins anew, and probes are spread.
    const bool goes_on = !waits && config_.profiles[place].interval_ticks >=
                                       heartbeat_of(at(index)).interval_ticks;
    goes_on ? change_profile(index, place) : set_profile(index, place);
    Session(*this, index).send_interval();
}

// `begins_anew`: the silence of what it has until then.
void Connections::announce_by_welcome(Index index, uint8_t place, bool begins_anew) {
    const bool waits = is_shorter(index, place);
    const Announced before = announced_.of(index);
    const uint8_t until_then = waits ? at(index).profile : place;
    if (begins_anew)
        set_profile(index, until_then);
    else
        change_profile(index, until_then);
    if (!waits) return;
    if (!note_announced(index, place)) return change_profile(index, place);
    // Told again, or of longer ones than those, it has no longer: hellos without end would keep
    // others waiting (sweeps.cc).
    if (before.pends() &&
        config_.profiles[place].timeout_ticks >= config_.profiles[before.place()].timeout_ticks)
        announced_.at(index).until = before.until;
    wheel_.arm(index, config_.clock.up(io_.clock()) + config_.clock.ticks(kAdoptLookNs));
}

// False: there is no memory for it.
bool Connections::note_announced(Index index, uint8_t place) {
    if (!announced_.turn_on()) return false;
    const Tick until = config_.clock.up(io_.clock()) + heartbeat_of(at(index)).timeout_ticks;
    announced_.at(index) = {.until = static_cast<uint32_t>(until) & kStoredTickMask,
                            .place_1 = static_cast<uint8_t>(place + 1),
                            .is_untold = true};
    return true;
}

void Connections::tell_announced(Index index) {
    const Announced announced = announced_.of(index);
    Session(*this, index).send_interval(announced.place());
    if (!is_live(at(index).stage)) return;
    announced_.at(index).is_untold = false;
    wheel_.arm(index, config_.clock.up(io_.clock()) + config_.clock.ticks(kAdoptLookNs));
}

// A look at one that was told of heartbeats which it does not have yet.
void Connections::adopt(Index index, Tick reached) {
    if (!is_live(at(index).stage)) return;
    const Announced announced = announced_.of(index);
    const bool is_over = restore_tick(announced.until, reached) <= reached;
    if (announced.is_untold && !is_over) return tell_announced(index);
    const bool hears = Session(*this, index).hears_of_intervals();
    if (is_over || (hears && has_taken_all(index))) return set_profile(index, announced.place());
    wheel_.arm(index, reached + config_.clock.ticks(kAdoptLookNs));
}

// Whatever it was sent its host has acknowledged.
bool Connections::has_taken_all(Index index) const {
    return outboxes_.bytes(table_[index]) == 0 && io_.send_progress(index).waiting_bytes == 0;
}

}  // namespace pulse
