// What another thread has done to many connections of a reactor, such as a list, a kick of all or a
// broadcast: in steps, each within what a turn has to spend on sweeps, over as many turns as it
// takes. Several jobs have their steps in turn.
//
//     asker's thread                        reactor's thread
//       post Message::Run with a Job*  -->    step, step, step ... finished, or cancelled
//       wait                           <--    the message's acknowledgement
//       read what the job found
//
// A job belongs to its asker, and must live until it was acknowledged or the reactor's thread has
// ended, also when the asker has lost its interest: cancel() makes the acknowledgement come soon.
// What a job holds is the reactor's from the post to the acknowledgement, and the asker's before
// and after. A reactor that ends acknowledges the jobs that it had begun, and not those that still
// waited in its mailbox (core/mailbox.h).
#pragma once

#include <atomic>
#include <cstdint>

#include "core/types.h"

namespace pulse {

class Connections;

class Job {
  public:
    Job() = default;
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;
    virtual ~Job() = default;

    // On the reactor's thread: does a part of it and takes its cost from `budget`, in the units of
    // kSweepBudgetPerTurn (net/loop/limits.h). Requires: budget > 0; the step ends soon after it is
    // spent, and takes at least 1. Returns when the next step is due on `now`'s clock, `now` being
    // the present: what has passed is the next turn, kNever means that the job is finished.
    virtual Nanos step(Connections& connections, Nanos now, uint32_t& budget) = 0;

    // Any thread. No step begins after this one, and the acknowledgement follows.
    void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
    bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
    // It changes connections, so that it cannot be given up half done (Jobs::step).
    virtual bool acts() const { return false; }

    // Its last step was done: it was neither cancelled before that nor left by a reactor that
    // ended. For the reactor's thread, and for the asker's after the acknowledgement.
    bool finished() const { return finished_; }
    // It was given up, and what it found is not whole. As finished().
    bool failed() const { return failed_; }

  private:
    friend class Jobs;
    std::atomic<bool> cancelled_{false};
    bool finished_ = false;
    bool failed_ = false;
};

}  // namespace pulse
