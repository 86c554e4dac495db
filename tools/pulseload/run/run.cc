// Threads, and the observer that samples them once a second.
#include "tools/pulseload/run/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <thread>

#include "net/server/threads.h"
#include "tools/pulseload/run/describe.h"
#include "tools/pulseload/run/run_finish.h"
#include "tools/pulseload/run/server_watch.h"
#include "tools/pulseload/run/worker.h"

namespace pulse::load {
namespace {

constexpr Nanos kSampleInterval = kSecond;
// A thread that does not answer by then is part of the next sample.
constexpr Nanos kAnswerWait = 300 * kMillisecond;
// Beyond what the schedule and the connect timeout allow, a ramp is given up.
constexpr Nanos kRampGrace = 30 * kSecond;
// What each client over TLS adds: the server's end of a full handshake is 0.28 ms of a core
// (tools/perf/handshakes.py), and both ends may have to share one.
constexpr Nanos kRampTimeOfTls = 2 * kMillisecond;
// Where none of the first so many opens within this time, the target is not there.
constexpr uint64_t kTriesBeforeGivingUp = 64;
constexpr Nanos kTriesTime = 2 * kSecond;
// That answers to what was sent in the hold may take at its end.
constexpr Nanos kAnswerGrace = kSecond;

double seconds(Nanos duration) { return static_cast<double>(duration) / kSecond; }

double own_cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

class Run {
  public:
    Run(const LoadOptions& options, const Layout& layout, const std::atomic<int>& interrupted,
        const std::function<void(const Interval&)>& on_sample)
        : options_(options),
          layout_(layout),
          interrupted_(interrupted),
          on_sample_(on_sample),
          began_(monotonic_now()) {}

    Result<RunResult> operator()() {
        Result<ServerWatch> watch = ServerWatch::of(options_.server_pid);
        if (!watch) return Error{watch.error()};
        watch_ = *watch;
        if (Result<void> account = read_account(closes_before_); !account)
            return Error{account.error()};
        if (Result<void> tls = prepare_tls(); !tls) return Error{tls.error()};
        describe_run(options_, layout_, result_);
        result_.generator.rss_empty_bytes = rss_bytes(getpid());
        start();
        ramp();
        if (result_.counts.connected > 0) {
            hold();
            drain();
        }
        conductor_.stop = true;
        for (const auto& worker : workers_) {
            while (!worker->ended.load(std::memory_order_acquire)) usleep(1'000);
        }
        finish();
        for (const auto& worker : workers_) {
            worker->may_leave = true;
            if (worker->thread.joinable()) worker->thread.join();
        }
        if (!error_.empty()) return Error{error_};
        return std::move(result_);
    }

  private:
    using Closes = std::map<std::string, uint64_t>;

    Result<void> read_account(Closes& closes) {
        if (options_.server_stats_file.empty()) return {};
        const auto read = read_server_account(options_.server_stats_file);
        if (!read) return Error{read.error()};
        for (const auto& [reason, count] : read->closes) closes[reason] = count;
        if (read->identity) result_.server = read->identity;
        return {};
    }

    Result<void> prepare_tls() {
        if (!options_.speaks_tls()) return {};
        auto made = TlsClientContext::make(
            {.verify = options_.tls_verify, .authorities = options_.tls_authorities,
             .freezes = options_.tls_frozen});
        if (!made) return Error{made.error()};
        tls_ = std::move(*made);
        return {};
    }

    void start() {
        conductor_.timeout = options_.expect_timeout;
        for (uint32_t i = 0; i < layout_.threads; ++i) {
            auto worker = std::make_unique<Worker>();
            worker->own_table = layout_.own_tables;
            CrowdPlan& plan = worker->plan;
            plan.options = &options_;
            plan.conductor = &conductor_;
            plan.tls = tls_.get();
            plan.worker = i;
            plan.workers = layout_.threads;
            plan.clients = options_.connections / layout_.threads +
                           (i < options_.connections % layout_.threads);
            // Each begins elsewhere in the list, so that together they use all alike.
            plan.sources = layout_.sources;
            if (!plan.sources.empty()) {
                const size_t first = i * plan.sources.size() / layout_.threads;
                std::ranges::rotate(plan.sources,
                                    plan.sources.begin() + static_cast<ptrdiff_t>(first));
            }
            workers_.push_back(std::move(worker));
        }
        for (const auto& worker : workers_) {
            Result<std::thread> started =
                start_thread([self = worker.get()] { self->run(); }, "a thread of clients");
            if (started)
                worker->thread = std::move(*started);
            else
                worker->fail(started.error());
        }
    }

    bool over() const { return interrupted_.load() != 0 || !error_.empty(); }

    void ramp() {
        Pace last(options_.connect_rate, 0, 1, options_.seed);
        Nanos planned = 0;
        if (!options_.connect_rate.at_once()) {
            while (last.due(planned) < options_.connections && planned < kNever / 4) {
                planned += std::max(kSecond, planned / 16);
            }
        }
        const Nanos of_tls = options_.speaks_tls() ? options_.connections * kRampTimeOfTls : 0;
        const Nanos give_up = began_ + planned + of_tls + options_.connect_timeout + kRampGrace;
        const auto settled = [](const auto& worker) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            return worker->ended.load() || (crowd != nullptr && crowd->settled());
        };
        Nanos next = began_ + kSampleInterval;
        while (!over() && !std::ranges::all_of(workers_, settled) && monotonic_now() < give_up) {
            usleep(2'000);
            if (nothing_opens()) break;
            if (monotonic_now() < next) continue;
            sample(Phase::ramp);
            next += kSampleInterval;
        }
        const bool all = std::ranges::all_of(workers_, settled);
        sample(Phase::ramp);
        if (all) result_.connected_s = seconds(monotonic_now() - began_);
        result_.counts = result_.samples.back().counts;
        result_.connected_all = std::min<uint64_t>(result_.counts.connected, result_.wanted);
        note_interruption();
    }

    // The first tries failed, and there is no plan to try again.
    bool nothing_opens() const {
        if (options_.reconnect != Reconnect::never) return false;
        if (monotonic_now() < began_ + kTriesTime) return false;
        uint64_t tried = 0;
        for (const auto& worker : workers_) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            const Counts counts = crowd->counts().read();
            if (counts.connected > 0) return false;
            tried += counts.connect_failures + counts.refusals;
        }
        return tried >= kTriesBeforeGivingUp;
    }

    void note_interruption() {
        const int number = interrupted_.load();
        if (number == 0) return;
        result_.cut_short = true;
        result_.cut_short_by = name_of_signal(number);
    }

    void hold() {
        const Nanos hold_began = monotonic_now();
        for (const auto& worker : workers_) worker->cpu_at_hold = worker->cpu;
        conductor_.hold_began = hold_began;
        const Nanos until = hold_began + options_.duration;
        Nanos next = hold_began + kSampleInterval;
        while (!over() && monotonic_now() < until) {
            const Nanos wake = std::min({next, until, monotonic_now() + 50 * kMillisecond});
            usleep(static_cast<useconds_t>(std::max<Nanos>(0, wake - monotonic_now()) / 1'000));
            if (monotonic_now() < next) continue;
            sample(Phase::hold);
            next += kSampleInterval;
        }
        sample(Phase::hold);
        result_.held_s = seconds(monotonic_now() - hold_began);
        result_.generator.rss_bytes = rss_bytes(getpid());
        note_interruption();
    }

    // What was sent in the hold may still be answered; nothing new is timed.
    void drain() {
        conductor_.draining = true;
        const Nanos until = monotonic_now() + kAnswerGrace;
        const auto quiet = [](const auto& worker) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            return crowd == nullptr || crowd->quiet();
        };
        while (monotonic_now() < until && !std::ranges::all_of(workers_, quiet)) usleep(2'000);
    }

    void sample(Phase phase) {
        for (const auto& worker : workers_) {
            Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd != nullptr && crowd->collected()) crowd->ask();
            if (worker->ended.load() && !worker->error.empty()) error_ = worker->error;
        }
        const Nanos give_up = monotonic_now() + kAnswerWait;
        Readings second;
        Sample now;
        now.phase = phase;
        for (const auto& worker : workers_) {
            Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            now.counts += crowd->counts().read();
            while (!crowd->collected() && monotonic_now() < give_up) usleep(200);
            if (!crowd->collected()) continue;
            worker->cpu = std::max(worker->cpu, crowd->readings().cpu);
            second.merge(crowd->readings());
            crowd->readings().reset();
        }
        keep(now, second);
    }

    void keep(Sample& now, const Readings& second) {
        now.at_s = seconds(monotonic_now() - began_);
        for (size_t i = 0; i < kTimed; ++i) now.latency[i] = point_of(second.latency[i]);
        now.lateness_max = second.lateness.max();
        now.generator_cpu_seconds = own_cpu_seconds();
        now.server = watch_.read();
        if (watch_.watching() && !now.server.present && result_.target_gone_s == 0) {
            result_.target_gone_s = now.at_s;
            result_.target_gone = "its process ended";
        }
        total_.merge(second);
        if (now.phase != Phase::ramp) hold_.merge(second);
        const Sample before = result_.samples.empty() ? Sample{} : result_.samples.back();
        result_.samples.push_back(now);
        on_sample_({result_, now, before, second.latency, before.at_s, now.at_s - before.at_s});
    }

    void finish() {
        result_.ended_s = seconds(monotonic_now() - began_);
        // What came in behind the last sample is one of its own, so that all is in every report.
        Sample last;
        Readings rest;
        last.phase = Phase::drain;
        for (const auto& worker : workers_) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            last.counts += crowd->counts().read();
            for (const Readings& readings : crowd->rest()) rest.merge(readings);
        }
        keep(last, rest);
        result_.counts = last.counts;
        result_.latency = total_.latency;
        result_.hold_latency = hold_.latency;
        finish_generator();
        finish_clients(options_, workers_, result_);
        finish_storms(options_, workers_, began_, result_);
        result_.foreign = conductor_.foreign;
        Detection& detection = result_.detection;
        detection.interval = conductor_.interval;
        detection.timeout = conductor_.timeout;
        detection.announced = conductor_.announced;
        detection.tolerance = options_.tolerance;
        find_target_gone(options_, result_);
        finish_account();
    }

    void finish_generator() {
        Generator& generator = result_.generator;
        generator.threads = layout_.threads;
        generator.cores = std::thread::hardware_concurrency();
        generator.cpu_seconds = own_cpu_seconds();
        generator.lateness = total_.lateness;
        generator.made = total_.made;
        generator.intended = total_.made + total_.skipped +
                             static_cast<uint64_t>(std::max<int64_t>(0, total_.backlog));
        generator.untimed = total_.untimed;
        generator.gap_max = hold_.gap_max;
        if (hold_.gap_max > 0) generator.gap_at_s = seconds(hold_.gap_ended - began_);
        for (const auto& worker : workers_) {
            if (result_.held_s <= 0) break;
            generator.busiest_thread =
                std::max(generator.busiest_thread,
                         seconds(worker->cpu - worker->cpu_at_hold) / result_.held_s);
        }
    }

    // The server writes its statistics once an interval: what it closed last may be missing.
    void finish_account() {
        Closes closes;
        if (options_.server_stats_file.empty()) return;
        if (const Result<void> account = read_account(closes); !account) {
            result_.errors.push_back(account.error());
            return;
        }
        result_.detection.server_account = true;
        for (const auto& [reason, count] : closes) {
            const uint64_t during = count - std::min(count, closes_before_[reason]);
            if (during > 0) result_.detection.server_closes.emplace_back(reason, during);
        }
    }

    const LoadOptions& options_;
    const Layout& layout_;
    const std::atomic<int>& interrupted_;
    const std::function<void(const Interval&)>& on_sample_;
    const Nanos began_;
    ServerWatch watch_;
    Closes closes_before_;
    Conductor conductor_;
    std::shared_ptr<const TlsClientContext> tls_;
    std::vector<std::unique_ptr<Worker>> workers_;
    Readings total_;
    Readings hold_;  // of them, those of the hold
    RunResult result_;
    std::string error_;
};

}  // namespace

std::string format_utc(int64_t epoch_seconds) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time_t{epoch_seconds}));
}

Result<RunResult> run_load(const LoadOptions& options, const Layout& layout,
                           const std::atomic<int>& interrupted,
                           const std::function<void(const Interval&)>& on_sample) {
    return Run(options, layout, interrupted, on_sample)();
}

}  // namespace pulse::load
