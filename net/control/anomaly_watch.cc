// A loop over samples, and what begins and ends with them.
#include "net/control/anomaly_watch.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <exception>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "core/distributions.h"
#include "core/limits.h"
#include "net/control/anomaly_text.h"
#include "net/control/jobs.h"
#include "net/control/limits.h"

namespace pulse {
namespace {

Nanos now_of(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}
Nanos monotonic_now() { return now_of(CLOCK_MONOTONIC); }
Nanos wall_now() { return now_of(CLOCK_REALTIME); }

constexpr uint32_t kDaySeconds = 86'400;

}  // namespace

AnomalyWatch::AnomalyWatch(Reactors& reactors, std::vector<std::string> listeners, Hooks hooks)
    : errands_(reactors), listeners_(std::move(listeners)), hooks_(std::move(hooks)) {}

AnomalyWatch::~AnomalyWatch() { stop(); }

void AnomalyWatch::stop() {
    {
        const std::lock_guard guard(lock_);
        stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

size_t AnomalyWatch::memory_bytes(uint32_t reactors) {
    // Of a histogram with values of all lengths in it the low words; of the high ones two pages,
    // since few counters of a server pass 2^32.
    constexpr size_t kHistogram = Histogram::kCounters * sizeof(uint32_t) + 2 * 4'096;
    // The figures before, those that a look brings, and what a walk finds.
    constexpr size_t kFigures =
        sizeof(ReactorStats) + (std::size(kDistributionInfos) + 2) * kHistogram;
    constexpr size_t kNames =
        sizeof(HoldersJob::LoggedIn) +
        2 * (sizeof(NamesJob::Session) + kUserBytesMax + kDeviceBytesMax + kLabelsBytesMax);
    // Of a reactor that is stuck, all that it may have waiting.
    constexpr size_t kJob =
        std::max(sizeof(HoldersJob), sizeof(StatsJob) + sizeof(ReactorStats)) + sizeof(Message);
    constexpr size_t kOfReactor =
        kFigures + kAnomalyLabelledMax * kNames + (kErrandsPerReactorMax + 1) * kJob;
    // Here, in the report, and in the next one.
    constexpr size_t kEvents =
        3 * (kAnomalyEventsKept + kAnomalySeries) * (sizeof(AnomalyEvent) + 2 * kLabelsBytesMax);
    // Two differences of histograms, and what the copies before them leave.
    return sizeof(AnomalyWatch) + sizeof(Detector) + 4 * kHistogram + sizeof(Holders) + kEvents +
           reactors * kOfReactor;
}

Result<void> AnomalyWatch::tune(const Options& options) {
    {
        const std::lock_guard guard(lock_);
        if (options_ == options || stopping_) return {};
        options_ = options;
    }
    changed_.notify_all();
    if (!options.on || thread_.joinable()) return {};
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
        const std::lock_guard guard(lock_);
        options_ = {};
        return Error{"--on-anomaly: a thread cannot be started: " + error.code().message() +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=)"};
    }
    return {};
}

AnomalyReport AnomalyWatch::report() const {
    const std::lock_guard guard(lock_);
    return report_;
}

bool AnomalyWatch::leaving() const {
    const std::lock_guard guard(lock_);
    return stopping_;
}

void AnomalyWatch::run() {
    pthread_setname_np(pthread_self(), "anomaly watch");
    using Clock = std::chrono::steady_clock;
    Clock::time_point due{};
    bool failed = false;
    std::unique_lock guard(lock_);
    while (!stopping_) {
        const bool other = !(options_ == running_);
        const bool anew =
            failed || options_.on != running_.on || options_.interval != running_.interval;
        running_ = options_;
        guard.unlock();
        try {
            if (anew) restart();
            if (anew || Clock::now() >= due) {
                due = Clock::now() + std::chrono::nanoseconds(running_.interval);
                if (running_.on) look();
            }
            degrade();
            if (other || running_.on) publish();
            failed = false;
        } catch (const std::exception& error) {
            // Memory is short as a rule: it begins anew in a while, and the process lives on.
            failed = true;
            due = Clock::now() + std::chrono::nanoseconds(std::max(running_.interval, kSecond));
            report_failure(error.what());
        }
        guard.lock();
        const auto changes = [this] { return stopping_ || !(options_ == running_); };
        if (running_.on)
            changed_.wait_until(guard, due, changes);
        else
            changed_.wait(guard, changes);
    }
    guard.unlock();
    if (step_ != OverloadStep::none) hooks_.degrade(OverloadStep::none);
}

void AnomalyWatch::report_failure(std::string_view why) const {
    try {
        hooks_.log(std::string("the watch for anomalies begins anew: ").append(why));
    } catch (const std::exception&) {  // there is no memory for a line either
    }
}

// Nothing is known of the series, and what went on is not followed any more.
void AnomalyWatch::restart() {
    for (AnomalyEvent& event : active_) {
        event.over = wall_now();
        event.over_at = monotonic_now();
        hooks_.log(given_up_line(event));
    }
    remember(active_.begin());
    samples_ = 0;
    measured_ = {};
    detector_.reset();
    sampler_.reset();
    if (!running_.on) return;
    detector_ = std::make_unique<Detector>();
    sampler_ = std::make_unique<AnomalySampler>(errands_.reactors());
}

// ----------------------------------------------------------------------------------- a sample

void AnomalyWatch::look() {
    draining_ = hooks_.is_draining();
    if (draining_ || !measure()) return;
    const auto second = static_cast<uint32_t>(wall_now() / kSecond % kDaySeconds);
    const std::optional<AnomalySample> sample =
        sampler_->finish(second, running_.interval, monotonic_now());
    if (sample) judge(*sample);
}

// False: the watch ends.
bool AnomalyWatch::measure() {
    std::vector<std::shared_ptr<StatsJob>> figures;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        figures.push_back(std::make_shared<StatsJob>());
        jobs.push_back(figures.back());
    }
    const Errands::Outcome outcome =
        errands_.run(jobs, kAnomalyAnswerNs, [this] { return leaving(); });
    if (outcome.abandoned) return false;
    const Nanos now = monotonic_now();
    for (uint32_t reactor = 0; reactor < figures.size(); ++reactor) {
        if (std::ranges::count(outcome.unanswered, reactor) > 0)
            sampler_->add_unanswered(reactor, now);
        else if (figures[reactor]->finished())
            sampler_->add(reactor, *figures[reactor]->stats, now);
        else
            sampler_->add_ended(reactor);
    }
    return true;
}

void AnomalyWatch::judge(const AnomalySample& sample) {
    ++samples_;
    detector_->observe(sample);
    for (size_t at = 0; at < kAnomalySeries; ++at) {
        const auto series = static_cast<AnomalySeries>(at);
        const SeriesWatch& state = detector_->state(series);
        measured_[at] |= sample[series] == sample[series];
        if (state.began()) raise(series);
    }
    for (AnomalyEvent& event : active_) settle(event);
    const auto over = std::ranges::stable_partition(
        active_, [](const AnomalyEvent& event) { return event.over == 0; });
    remember(over.begin());
}

// Those from `over` on are over.
void AnomalyWatch::remember(std::vector<AnomalyEvent>::iterator over) {
    past_.insert(past_.begin(), over, active_.end());
    active_.erase(over, active_.end());
    if (past_.size() > kAnomalyEventsKept) past_.resize(kAnomalyEventsKept);
}

void AnomalyWatch::raise(AnomalySeries series) {
    const SeriesWatch& state = detector_->state(series);
    const Nanos now = wall_now();
    const Nanos now_at = monotonic_now();
    const Nanos high_for = state.samples_since() * running_.interval;
    AnomalyEvent event{.number = next_number_++,
                       .series = series,
                       .since = now - high_for,
                       .since_at = now_at - high_for,
                       .raised = now,
                       .raised_at = now_at,
                       .value = state.value(),
                       .expected = state.expected(),
                       .distance = state.distance(),
                       .peak = state.value(),
                       .prefix = {},
                       .listener = {},
                       .label = {}};
    if (series == AnomalySeries::loop_lag) event.reactor = sampler_->slowest();
    ++counts_[static_cast<size_t>(series)];
    gathered_[static_cast<size_t>(series)] = 0;
    gather(event);
    hooks_.log(raised_line(event, running_.interval));
    active_.insert(active_.begin(), std::move(event));
}

// An anomaly that goes on, or is over with this sample.
void AnomalyWatch::settle(AnomalyEvent& event) {
    const SeriesWatch& state = detector_->state(event.series);
    event.peak = std::max(event.peak, state.peak());
    if (state.ended()) {
        event.over = wall_now();
        event.over_at = monotonic_now();
        event.adopted = state.adopted();
        hooks_.log(over_line(event));
    } else if (!state.began() &&
               gathered_[static_cast<size_t>(event.series)] < kAnomalyGatherings) {
        gather(event);
    }
}

// ---------------------------------------------------------------------------------- evidence

void AnomalyWatch::gather(AnomalyEvent& event) {
    ++gathered_[static_cast<size_t>(event.series)];
    if (event.series == AnomalySeries::loop_lag) return;
    const Nanos within = monotonic_now() - event.since_at + running_.interval;
    const auto normal = static_cast<Nanos>(event.expected * kSecond);
    std::vector<std::shared_ptr<HoldersJob>> found;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        found.push_back(std::make_shared<HoldersJob>(event.series, within, normal));
        jobs.push_back(found.back());
    }
    const Errands::Outcome outcome =
        errands_.run(jobs, kAnomalyWalkNs + kAnomalyAnswerNs, [this] { return leaving(); });
    if (outcome.abandoned) return;
    for (const uint32_t reactor : outcome.unanswered) found[reactor].reset();
    std::erase_if(found, [](const auto& job) { return job == nullptr || !job->finished(); });
    Holders all;
    for (const auto& job : found) all.add(job->holders);
    if (note_holders(event, all, listeners_)) event.label = label_of(labels_of(found));
}

// Of some of those that are logged in; nothing where a reactor does not answer.
std::vector<std::string> AnomalyWatch::labels_of(
    const std::vector<std::shared_ptr<HoldersJob>>& jobs) {
    std::vector<std::shared_ptr<NamesJob>> names(errands_.reactors());
    std::vector<std::shared_ptr<Job>> asked(errands_.reactors());
    for (const auto& job : jobs) {
        for (const HoldersJob::LoggedIn& each : job->logged_in) {
            if (each.shard >= names.size()) continue;
            auto& of_shard = names[each.shard];
            if (of_shard == nullptr) asked[each.shard] = of_shard = std::make_shared<NamesJob>();
            of_shard->sessions.push_back(each.session);
        }
    }
    const Errands::Outcome outcome =
        errands_.run(asked, kAnomalyAnswerNs, [this] { return leaving(); });
    if (!outcome.all()) return {};
    std::vector<std::string> labels;
    for (const auto& job : names) {
        if (job == nullptr || !job->finished()) continue;
        for (NamesJob::Session& session : job->sessions)
            labels.push_back(std::move(session.labels));
    }
    return labels;
}

// ------------------------------------------------------------------------------ what it leads to

void AnomalyWatch::degrade() {
    const bool may = running_.on && running_.degrades && !draining_;
    const OverloadRules rules{
        may ? std::min(running_.overload.most, kAnomalyStepMost) : OverloadStep::none,
        running_.overload.span};
    const std::vector<AnomalyEvent> none;
    if (!steps_.update(monotonic_now(), running_.interval, may ? active_ : none, rules)) return;
    const OverloadStep before = std::exchange(step_, steps_.step());
    hooks_.degrade(step_);
    hooks_.log(fmt::format("anomalies: overload step '{}' ({}): {} go on (--on-anomaly)",
                           name_of(step_), step_ > before ? "entered" : "back to it",
                           active_.size()));
}

void AnomalyWatch::publish() {
    AnomalyReport report{.on = running_.on,
                         .degrades = running_.degrades,
                         .interval = running_.interval,
                         .samples = samples_,
                         .draining = draining_,
                         .step = step_,
                         .events = active_};
    report.events.insert(report.events.end(), past_.begin(), past_.end());
    for (size_t at = 0; at < kAnomalySeries; ++at) {
        AnomalyReport::Series& series = report.series[at];
        series.anomalies = counts_[at];
        series.measured = measured_[at];
        if (detector_ == nullptr) continue;
        const SeriesWatch& state = detector_->state(static_cast<AnomalySeries>(at));
        series.learned = state.learned();
        series.active = state.active();
        series.value = state.value();
        series.expected = state.expected();
        series.distance = state.distance();
        series.score = state.score();
    }
    const std::lock_guard guard(lock_);
    report_ = std::move(report);
}

}  // namespace pulse
