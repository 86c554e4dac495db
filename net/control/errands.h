// Jobs on their way: posts them to reactors, waits for them, and keeps what a reactor has not
// acknowledged yet, however long that takes, also when no request waits for it any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <semaphore>
#include <span>
#include <vector>

#include "core/types.h"
#include "net/loop/job.h"
#include "net/loop/reactors.h"

namespace pulse {

class Errands {
  public:
    // `reactors` outlives this, and has ended, or goes on acknowledging, until this is destroyed.
    explicit Errands(Reactors& reactors) : reactors_(reactors) {}
    // Cancels what is on its way, and waits for it.
    ~Errands();
    Errands(const Errands&) = delete;
    Errands& operator=(const Errands&) = delete;

    // What becomes of jobs that are not finished when their asker stops to wait.
    enum class Late : uint8_t {
        cancelled,
        goes_on,  // until it is finished, or this ends: what must be done in the end
    };
    struct Outcome {
        // Reactors that were asked and have not answered in time, or gave the job up.
        std::vector<uint32_t> unanswered;
        // Of them those to which nothing is on its way any more: it found no room, or was given up.
        std::vector<uint32_t> not_asked;
        bool abandoned = false;            // `gone` became true
        bool all() const { return unanswered.empty() && !abandoned; }
    };
    // One job a reactor; where it is nullptr, or the reactor has ended, nothing is asked, and
    // nothing was found. Waits until all are finished, for `most` at most; no longer once `gone`
    // returns true, which is asked now and then. `late` is for what is unfinished then. Afterwards
    // the jobs of those that are not `unanswered` are the caller's to read, and finished() says
    // whether they were. Any thread, several at once.
    Outcome run(std::span<const std::shared_ptr<Job>> jobs, Nanos most,
                const std::function<bool()>& gone, Late late = Late::cancelled);

    // The same, waiting for none of it: the jobs go on until they are finished, or this ends.
    // Returns the reactors that have too much to do; then the others are cancelled.
    std::vector<uint32_t> start(std::span<const std::shared_ptr<Job>> jobs);

    uint32_t reactors() const { return reactors_.count(); }

  private:
    using Arrivals = std::counting_semaphore<>;
    struct Errand {
        std::shared_ptr<Job> job;
        Job* pointer = nullptr;  // what the message's payload is a handle on
        uint32_t reactor = 0;
        std::shared_ptr<Arrivals> arrivals;
        std::atomic<bool> acknowledged{false};
    };
    static void acknowledge(void* errand, uint32_t reactor);
    std::shared_ptr<Errand> send(const std::shared_ptr<Job>& job, uint32_t reactor,
                                 const std::shared_ptr<Arrivals>& arrivals);
    bool is_over(const Errand& errand) const {
        return errand.acknowledged.load(std::memory_order_acquire) ||
               reactors_.ended(errand.reactor);
    }
    void forget_those_over();

    Reactors& reactors_;
    std::mutex lock_;
    std::vector<std::shared_ptr<Errand>> errands_;  // not seen to be over
};

}  // namespace pulse
