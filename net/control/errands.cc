// Posting, waiting, and keeping what no request waits for any more.
#include "net/control/errands.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "net/control/limits.h"

namespace pulse {
namespace {

using Clock = std::chrono::steady_clock;

// Between two looks at whether the client has gone, or a reactor has ended.
constexpr std::chrono::milliseconds kLook{20};

}  // namespace

Errands::~Errands() {
    const std::lock_guard guard(lock_);
    for (const auto& errand : errands_) errand->job->cancel();
    while (!std::ranges::all_of(errands_, [this](const auto& errand) { return is_over(*errand); }))
        std::this_thread::sleep_for(kLook);
}

// The errand may be forgotten as soon as it is acknowledged: what is released is held apart.
void Errands::acknowledge(void* context, uint32_t) {
    auto* errand = static_cast<Errand*>(context);
    const std::shared_ptr<Arrivals> arrivals = errand->arrivals;
    errand->acknowledged.store(true, std::memory_order_release);
    arrivals->release();
}

void Errands::forget_those_over() {
    std::erase_if(errands_, [this](const auto& errand) { return is_over(*errand); });
}

// nullptr: the reactor has too much unacknowledged.
std::shared_ptr<Errands::Errand> Errands::send(const std::shared_ptr<Job>& job, uint32_t reactor,
                                               const std::shared_ptr<Arrivals>& arrivals) {
    const std::lock_guard guard(lock_);
    forget_those_over();
    const auto waiting = std::ranges::count(errands_, reactor, &Errand::reactor);
    if (waiting >= static_cast<std::ptrdiff_t>(kErrandsPerReactorMax)) return nullptr;
    auto errand = std::make_shared<Errand>();
    errand->job = job;
    errand->pointer = job.get();
    errand->reactor = reactor;
    errand->arrivals = arrivals;
    const Message message{.body = Message::Run{},
                          .payload = Payload::of(errand->pointer),
                          .acknowledgement = {&acknowledge, errand.get()}};
    if (!reactors_.post(reactor, message)) return nullptr;
    errands_.push_back(errand);
    return errand;
}

Errands::Outcome Errands::run(std::span<const std::shared_ptr<Job>> jobs, Nanos most,
                              const std::function<bool()>& gone, Late late) {
    const auto deadline = Clock::now() + std::chrono::nanoseconds(most);
    const auto arrivals = std::make_shared<Arrivals>(0);
    Outcome outcome;
    std::vector<std::shared_ptr<Errand>> sent;
    for (uint32_t reactor = 0; reactor < jobs.size(); ++reactor) {
        if (jobs[reactor] == nullptr || reactors_.ended(reactor)) continue;
        if (auto errand = send(jobs[reactor], reactor, arrivals)) {
            sent.push_back(std::move(errand));
        } else {
            outcome.unanswered.push_back(reactor);
            outcome.not_asked.push_back(reactor);
        }
    }
    const auto over = [this](const auto& errand) { return is_over(*errand); };
    while (!std::ranges::all_of(sent, over) && Clock::now() < deadline) {
        if (gone && gone()) {
            outcome.abandoned = true;
            break;
        }
        [[maybe_unused]] const bool arrived =
            arrivals->try_acquire_until(std::min(deadline, Clock::now() + kLook));
    }
    for (const auto& errand : sent) {
        const bool acknowledged = is_over(*errand);
        if (acknowledged && !errand->job->failed()) continue;
        outcome.unanswered.push_back(errand->reactor);
        if (acknowledged) outcome.not_asked.push_back(errand->reactor);
        if (late == Late::cancelled) errand->job->cancel();
    }
    return outcome;
}

std::vector<uint32_t> Errands::start(std::span<const std::shared_ptr<Job>> jobs) {
    const auto arrivals = std::make_shared<Arrivals>(0);
    std::vector<uint32_t> busy;
    for (uint32_t reactor = 0; reactor < jobs.size(); ++reactor) {
        if (jobs[reactor] == nullptr || reactors_.ended(reactor)) continue;
        if (send(jobs[reactor], reactor, arrivals) == nullptr) busy.push_back(reactor);
    }
    for (const auto& job : jobs)
        if (!busy.empty() && job != nullptr) job->cancel();
    return busy;
}

}  // namespace pulse
