// The loop: everything that one thread owns, and the order in which a turn does things.
//
//   turn(sleep_until)
//     0  gather     where turns come faster than they pay, a rest (gather.h)
//     1  poll       accepts; bytes -> codec -> heartbeat; sends done; closes done (io_backend.h)
//                   and then what earlier turns have parked, up to a budget (turn_budget.h)
//     2  mailbox    control messages of other threads, up to a budget
//     3  judge      looks that are due, up to a budget: rearm, probe, evict (heartbeat_policy.h)
//     4  sweep      a share of what is said or done to every connection: retunes, goodbyes; then
//                   tokens and users whose time is over, and messages to other reactors that had
//                   to wait
//     5  flush      one send for each connection that has something to say
//
// The rules
//   R1  A deadline is judged only once every byte that arrived before it was delivered: the wheel
//       is driven by io.drained_until(), never by the clock. After a stall the kernel holds
//       heartbeats that were not read; a server that judges by its clock evicts healthy peers.
//   R2  Replies are coalesced: whatever a turn has to say to a peer goes out in one send at its
//       end.
//   R3  A connection ends by begin_close() (with a goodbye) or close_socket() (without), its
//       record is freed in on_closed() and nowhere else, and what the kernel may still read is not
//       touched before that.
//   R4  Every budget that runs out makes the next turn start at once, and none starves: poll,
//       mailbox and judge each get their share of every turn.
//
// A reactor owns no thread: the one that calls turn() is its thread, and everything here belongs to
// it. Others post to the mailbox and read the metrics' counters.
#pragma once

#include <algorithm>
#include <utility>

#include "core/mailbox.h"
#include "core/message.h"
#include "net/io/io_backend.h"
#include "net/loop/connections.h"
#include "net/loop/gather.h"
#include "net/loop/io_requests.h"
#include "net/loop/limits.h"
#include "net/loop/reactor_stats.h"
#include "net/loop/usdt.h"

namespace pulse {

template <IoBackend Io>
class Reactor {
  public:
    // `table` is empty and, like `io`, `pages` and `mailbox`, outlives the reactor. `io` uses the
    // records of `table`.
    Reactor(const ReactorConfig& config, PageSource& pages, ConnectionTable& table, Io& io,
            Mailbox& mailbox, ReactorMetrics& metrics)
        : io_(io),
          mailbox_(mailbox),
          metrics_(metrics),
          requests_(io),
          connections_(config, pages, table, requests_, metrics),
          gather_(config.options->gather, io.clock()),
          cpu_read_(io.cpu_clock()) {}

    // Where to listen. Before the first turn, or again at any time on the reactor's thread.
    Result<void> listen() {
        const ReactorConfig& config = connections_.config();
        const auto begin = [&] { return io_.listen(config.options->listen); };
        return config.balance == nullptr ? begin() : config.balance->listen(config.number, begin);
    }

    // One pass; returns after `sleep_until` at the latest (but for the time that work takes), at
    // once when there is something left to do.
    void turn(Nanos sleep_until) {
        const Nanos began_at = io_.clock();
        connections_.begin_turn();
        const Nanos until = next_deadline(sleep_until);
        gather(began_at, until);
        io_.poll(until, connections_);
        mailbox_.awake();
        connections_.decode_parked();
        work_left_ = connections_.has_parked();
        work_left_ |= mailbox_.drain(kMailboxBudgetPerTurn,
                                     [this](const Message& m) { connections_.handle(m); });
        measure_judge_lag();
        connections_.watch_overload(metrics_.gauges.judge_lag);
        const Nanos judged_from = io_.clock();
        judge_measured();
        const Nanos judged_to = io_.clock();
        work_left_ |= connections_.sweep();
        work_left_ |= connections_.advance_tokens();
        work_left_ |= connections_.advance_logins();
        connections_.flush();
        connections_.share_out();
        connections_.report_notices(io_.counters().completions_lost);
        measure({began_at, io_.woke_at(), judged_from, judged_to});
    }

    // See Connections.
    void drain() { connections_.drain(); }
    void stop_hard() { connections_.stop_hard(); }
    bool drained() const { return connections_.drained(); }
    bool retired() const { return connections_.retired(); }
    // Handles what the others posted before they retired. Requires: all have.
    void finish_mail() {
        while (mailbox_.drain(kMailboxBudgetPerTurn,
                              [this](const Message& m) { connections_.handle(m); })) {
        }
    }
    bool drain_cut_short() const { return connections_.drain_cut_short(); }
    const Connections& connections() const { return connections_; }

    // A copy of everything it measures.
    void fill(ReactorStats& stats) const {
        connections_.fill(stats);
        const Mailbox::Counts counts = mailbox_.counts();
        const uint64_t taken = stats.metrics[Metric::control_messages];
        // A sender counts a message after it was posted, and it may be taken before.
        stats.gauges.mailbox_depth = counts.posted() > taken ? counts.posted() - taken : 0;
        stats.gauges.mailbox_full_total = counts.refused;
        stats.gauges.doorbells_total = counts.rung;
    }

  private:
    struct TurnTimes {
        Nanos began_at, woke_at, judged_from, judged_to;
    };
    void gather(Nanos now, Nanos until);
    void judge_measured();
    Nanos next_deadline(Nanos sleep_until);
    void measure(const TurnTimes& times);
    void measure_turn(Nanos took);
    void measure_judge_lag();
    // When the wheel has something to do next; kNever: nothing is armed.
    Nanos next_look() const {
        const Tick work = connections_.wheel().next_work();
        return work == kNoTick ? kNever : connections_.config().clock.begins(work);
    }

    Io& io_;
    Mailbox& mailbox_;
    ReactorMetrics& metrics_;
    IoRequestsOf<Io> requests_;
    Connections connections_;
    Gather gather_;
    bool work_left_ = false;  // a budget ran out
    Nanos cpu_read_;          // the CPU clock when it was last read
    Nanos turns_since_ = 0;   // time of turns since then
};

// Before a poll that may wait: a message to the mailbox, which rings, is taken after the rest.
template <IoBackend Io>
void Reactor<Io>::gather(Nanos now, Nanos until) {
    gather_.set(connections_.config().options->gather, now);
    const Nanos rest = gather_.rest(now, until);
    if (rest == 0 || !io_.rest(now + rest)) return;
    metrics_.add(Metric::turns_gathered);
}

// The CPU clock is a system call, and read only where there is something to judge.
template <IoBackend Io>
void Reactor<Io>::judge_measured() {
    const bool due =
        connections_.wheel().next_work() <= connections_.config().clock.down(io_.drained_until());
    const Nanos spent_before = due ? io_.cpu_clock() : 0;
    const bool left = connections_.judge();
    work_left_ |= left;
    if (!due) return;
    const Nanos spent = io_.cpu_clock() - spent_before;
    metrics_.distributions.wheel_slice_cpu.record(spent);
    usdt::slice(connections_.config().number, spent, left);
}

// When poll must return: at once if work is left or a message is there, else for the wheel.
template <IoBackend Io>
Nanos Reactor<Io>::next_deadline(Nanos sleep_until) {
    if (work_left_ || !mailbox_.may_sleep()) return 0;
    return std::min({sleep_until, next_look(), connections_.drain_due_at(),
                     connections_.departures_due_at(), connections_.notices_due_at(),
                     connections_.jobs_due_at(), connections_.settle_due_at(),
                     connections_.overload_due_at(), connections_.logins().next_deadline(),
                     connections_.authentication().next_deadline()});
}

template <IoBackend Io>
void Reactor<Io>::measure(const TurnTimes& times) {
    metrics_.add(Metric::turns);
    gather_.count_turn(times.woke_at, connections_.deliveries());
    metrics_.gauges.gathering = gather_.is_on() ? 1 : 0;
    const Nanos waited = std::max<Nanos>(0, times.woke_at - times.began_at);
    metrics_.gauges.wait_total += waited;
    const Nanos took = io_.clock() - times.woke_at;
    measure_turn(took);
    metrics_.distributions.wheel_slice.record(times.judged_to - times.judged_from);
    const uint32_t batch = connections_.deliveries();
    if (batch > 0) metrics_.distributions.batch_connections.record(Histogram::amount(batch));
    usdt::turn(connections_.config().number, took, waited, batch);
}

// The CPU clock is a system call, which each turn would pay for; a turn that takes long is measured
// from the last time that it was read, less than kCpuReadNs of turns before, with what waiting cost
// in between; it is no more than the turn took by the clock. What it took beside that others had:
// threads on the same core, or interrupts.
template <IoBackend Io>
void Reactor<Io>::measure_turn(Nanos took) {
    metrics_.distributions.turn_time.record(took);
    turns_since_ += took;
    if (turns_since_ < kCpuReadNs) return;
    const Nanos before = std::exchange(cpu_read_, io_.cpu_clock());
    turns_since_ = 0;
    const Nanos spent = std::min(took, cpu_read_ - before);
    if (took >= kCpuReadNs) metrics_.distributions.turn_cpu.record(spent);
}

// How late the judge comes: the clock against the oldest look that is due by it and not judged yet,
// because it was not heard out, a budget ran out, or the thread was not scheduled.
template <IoBackend Io>
void Reactor<Io>::measure_judge_lag() {
    Gauges& gauges = metrics_.gauges;
    gauges.judge_lag = std::max<Nanos>(0, io_.clock() - next_look());
    gauges.judge_lag_max = std::max(gauges.judge_lag_max, gauges.judge_lag);
}

}  // namespace pulse
