// When to beat, and when a server that answers no beat is gone: a state machine. Pure: time is a
// parameter, of a clock that only goes forwards.
//
//     start() --> beats once an interval; each is a ping, the oldest unanswered one is waited for
//     its wait ends on time   -> a miss, and another ping at once; misses in a row: gone
//     its wait ends late      -> not a miss: this process was stopped, or the machine slept, and
//                                the answer may lie unread. Another ping, a new wait
//     anything is received    -> no misses; what is waited for has its whole wait again
//
// Late ends are bounded as well (kLateMax): where all of them come late, a server that answers none
// of so many pings is gone, too.
#pragma once

#include <cstdint>
#include <optional>

#include "core/random.h"
#include "core/types.h"
#include "net/client/deadline.h"

namespace pulse::client {

struct HeartbeatOptions {
    Nanos answer_timeout = 5 * kSecond;  // longer, up to a minute, where round trips are
    uint32_t misses_max = 3;             // in a row, until the server is taken for gone
};

class Heartbeat {
  public:
    explicit Heartbeat(const HeartbeatOptions& options) : options_(options) {}

    // The server has named its interval. The first beat comes within half of it to a whole one, so
    // that a crowd that came at one moment does not beat at one moment.
    void start(Nanos now, Nanos interval, Random& random);
    // It has named another: the next beat comes no later than that demands.
    void retime(Nanos now, Nanos interval);

    // When poll() has something to do.
    Nanos due_at() const;

    struct Step {
        uint64_t ping = 0;  // number of the ping to send; 0: none
        bool missed = false;
        bool gone = false;
    };
    // What is to be done at `now`. `uploads`: bytes of a backlog have left since the last call, so
    // that a ping may still wait behind a long message of this end.
    Step poll(Nanos now, bool uploads);

    // The next poll() sends a ping, also if it is not time for one.
    void hurry() { beat_at_ = 0; }
    // The network is another, or the machine was asleep: a beat before any judgement. One that is
    // out already is that beat, unless its wait is over.
    void wake(Nanos now);

    // Something of the server has come; `seq`: it is the answer to that ping.
    void heard(Nanos now, uint64_t seq = 0);

    uint64_t last_ping() const { return seq_; }
    uint32_t misses() const { return misses_; }
    Nanos wait() const;                                       // for an answer
    std::optional<Nanos> round_trip() const { return rtt_; }  // smoothed (RFC 6298 2)

  private:
    void end_wait(Nanos now, Step& step);
    void measure(Nanos sample);

    HeartbeatOptions options_;
    Nanos interval_ = kNever;
    Nanos beat_at_ = kNever;
    Nanos sent_at_ = 0;
    uint64_t seq_ = 0;
    uint64_t waiting_seq_ = 0;  // of the oldest unanswered ping; 0: none
    Nanos wait_ends_at_ = kNever;
    uint32_t misses_ = 0;
    uint32_t late_ends_ = 0;
    std::optional<Nanos> rtt_;
    Nanos deviation_ = 0;
};

}  // namespace pulse::client
