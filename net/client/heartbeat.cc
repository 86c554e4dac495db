// The state machine of heartbeat.h.
#include "net/client/heartbeat.h"

#include <algorithm>
#include <cstdlib>

namespace pulse::client {
namespace {

constexpr Nanos kWaitMax = 60 * kSecond;  // for an answer, as far as round trips ask for it

}  // namespace

void Heartbeat::start(Nanos now, Nanos interval, Random& random) {
    interval_ = interval;
    const auto spread = static_cast<uint64_t>(interval / 2) + 1;
    beat_at_ = after(now, interval - static_cast<Nanos>(random.below(spread)));
}

void Heartbeat::retime(Nanos now, Nanos interval) {
    interval_ = interval;
    beat_at_ = std::min(beat_at_, after(now, interval));
}

Nanos Heartbeat::due_at() const { return std::min(beat_at_, wait_ends_at_); }

Nanos Heartbeat::wait() const {
    const Nanos measured = rtt_ ? *rtt_ + 4 * deviation_ : 0;
    return std::max(options_.answer_timeout, std::min(kWaitMax, measured));
}

Heartbeat::Step Heartbeat::poll(Nanos now, bool uploads) {
    Step step;
    bool again = false;
    if (now >= wait_ends_at_) {
        if (uploads) {
            wait_ends_at_ = after(now, wait());
        } else {
            end_wait(now, step);
            if (step.gone) return step;
            again = true;
        }
    }
    if (!again && now < beat_at_) return step;
    sent_at_ = now;
    beat_at_ = after(now, interval_);
    step.ping = ++seq_;
    if (waiting_seq_ == 0) {
        waiting_seq_ = seq_;
        wait_ends_at_ = after(now, wait());
    }
    return step;
}

void Heartbeat::end_wait(Nanos now, Step& step) {
    const bool late = now - wait_ends_at_ > kLate;
    waiting_seq_ = 0;
    wait_ends_at_ = kNever;
    if (late) {
        step.gone = ++late_ends_ > kLateMax;
    } else {
        step.missed = true;
        step.gone = ++misses_ >= options_.misses_max;
    }
}

void Heartbeat::wake(Nanos now) {
    if (now < wait_ends_at_ && waiting_seq_ != 0) return;
    if (waiting_seq_ != 0) {
        waiting_seq_ = 0;
        wait_ends_at_ = kNever;
        ++late_ends_;
    }
    hurry();
}

void Heartbeat::heard(Nanos now, uint64_t seq) {
    misses_ = 0;
    late_ends_ = 0;
    if (seq != 0 && seq == seq_) measure(now - sent_at_);
    if (waiting_seq_ == 0) return;
    if (seq >= waiting_seq_) {
        waiting_seq_ = 0;
        wait_ends_at_ = kNever;
    } else {
        wait_ends_at_ = after(now, wait());
    }
}

void Heartbeat::measure(Nanos sample) {
    if (!rtt_) {
        rtt_ = sample;
        deviation_ = sample / 2;
        return;
    }
    deviation_ += (std::abs(*rtt_ - sample) - deviation_) / 4;
    *rtt_ += (sample - *rtt_) / 8;
}

}  // namespace pulse::client
