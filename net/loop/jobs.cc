// Steps in turn, and acknowledgements.
#include "net/loop/jobs.h"

#include <algorithm>
#include <exception>
#include <string>

#include "net/loop/connections.h"
#include "net/loop/limits.h"

namespace pulse {

Jobs::~Jobs() {
    for (const Running& running : running_) acknowledge(running);
}

void Jobs::run(Connections& connections, Nanos now, uint32_t& budget) {
    if (running_.empty()) return;
    const uint32_t share = std::max<uint32_t>(
        1, budget / static_cast<uint32_t>(std::min<size_t>(running_.size(), kSweepBudgetPerTurn)));
    // Each once: what a job that is due later leaves of its share waits for the next turn.
    for (size_t left = running_.size(); left > 0 && budget > 0; --left) {
        if (next_ >= running_.size()) next_ = 0;
        Running& running = running_[next_];
        if (!running.job->cancelled() && running.due <= now)
            step(running, connections, now, budget, share);
        if (!running.job->cancelled() && !running.job->finished_) {
            ++next_;
            continue;
        }
        const Running ended = running;
        running_.erase(running_.begin() + static_cast<ptrdiff_t>(next_));
        acknowledge(ended);  // from here on the job may be gone
    }
}

void Jobs::step(Running& running, Connections& connections, Nanos now, uint32_t& budget,
                uint32_t share) {
    uint32_t left = std::min(share, budget);
    const uint32_t granted = left;
    try {
        running.due = running.job->step(connections, now, left);
        running.job->finished_ = running.due == kNever;
    } catch (const std::exception& error) {
        if (running.job->acts()) throw;
        give_up(running, connections, error.what());
    }
    budget -= std::max<uint32_t>(1, granted - std::min(granted, left));
}

// Its rows had no memory: the asker gets no answer, and connections none the worse for it.
void Jobs::give_up(Running& running, const Connections& connections, std::string_view why) const {
    running.job->failed_ = true;
    running.job->cancel();
    if (!connections.config().warn) return;
    try {
        std::string line("reactor ");
        line.append(std::to_string(reactor_)).append(": gave up what the admin endpoint asked: ");
        connections.config().warn(line.append(why));
    } catch (const std::exception&) {  // there is no memory for a line either
    }
}

Nanos Jobs::due_at(Nanos now) const {
    if (running_.empty()) return kNever;
    Nanos due = now + kCancelLookNs;
    for (const Running& running : running_) due = std::min(due, running.due);
    return due;
}

void Jobs::acknowledge(const Running& running) const {
    const Acknowledgement& acknowledgement = running.acknowledgement;
    if (acknowledgement.call != nullptr) acknowledgement.call(acknowledgement.context, reactor_);
}

}  // namespace pulse
