// When a reactor rests before it reaps, so that what arrives meanwhile is the work of one turn.
//
// Each turn costs a wait, some clock readings and cold caches, whatever it finds. Where turns come
// faster than they pay, a reactor reaps no sooner than the gather time after its last wake-up: the
// work of that turn counts, so that a busy reactor rests less, and a saturated one never.
//
//     off: |w| |w| |w|  |w| |w| |w|      on: |w  w  w|........|w  w  w|........
//                                            '-- gather time --'
//
// What is first after a silence is served at once; what follows it waits for the gather time at
// most. `auto` decides by windows of time: it begins to gather when the turns of a window came fast
// enough, and ends when so little was delivered that as many turns would not come. Deliveries may
// also come many at a time, in few turns; so it stops now and then for a window, to count turns.
//
// Where little is delivered as soon as it gathers, peers wait for answers before they say more, and
// a rest only makes them wait: it is not begun again for a second, and for twice as long each time.
//
// Pure: time is a parameter. Belongs to the reactor's thread.
#pragma once

#include <cstdint>

#include "core/types.h"
#include "net/loop/limits.h"

namespace pulse {

class Gather {
  public:
    // `setting`: a gather time, 0 (off) or kGatherAuto.
    Gather(Nanos setting, Nanos now) : setting_(setting), window_began_(now) {}

    // What is asked for from now on, as in the constructor.
    void set(Nanos setting, Nanos now);
    // A turn woke at `woke_at` and delivered bytes so many times.
    void count_turn(Nanos woke_at, uint64_t deliveries);

    // How long a turn may rest that would wait at `now`: at most until `until`, the deadline of its
    // wait. 0: it reaps at once.
    Nanos rest(Nanos now, Nanos until) const;

    bool is_on() const { return setting_ == kGatherAuto ? on_ : setting_ > 0; }

  private:
    Nanos time() const { return setting_ == kGatherAuto ? kGatherAutoNs : setting_; }
    void end_window(Nanos now);
    void leave(Nanos now);

    Nanos setting_;
    Nanos woke_at_ = 0;
    // Of auto.
    bool on_ = false;
    Nanos on_until_ = 0;  // then a window without it decides anew
    Nanos off_until_ = 0;
    Nanos hold_off_ = 0;  // how long it was kept off for the last time; 0: it has paid since
    bool tried_ = false;  // a window with it is over
    Nanos window_began_;
    uint64_t turns_ = 0;       // of this window
    uint64_t deliveries_ = 0;  // of this window
};

}  // namespace pulse
