// Threads, and the observer who asks them once a second.
#include "tools/pulseload/run.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <thread>

#include "core/units.h"
#include "core/version.h"
#include "net/descriptors.h"
#include "net/mapped_pages.h"
#include "net/threads.h"
#include "tools/pulseload/crowd.h"
#include "tools/pulseload/server_watch.h"

namespace pulse::load {
namespace {

constexpr Nanos kSampleInterval = kSecond;
// A thread that does not answer by then is told of in the next sample.
constexpr Nanos kAnswerWait = 300 * kMillisecond;
// Beyond what the schedule and the connect timeout allow, a ramp is given up.
constexpr Nanos kRampGrace = 30 * kSecond;
constexpr Nanos kLeaveMax = 30 * kSecond;
constexpr double kRecoveredShare = 0.99;

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return Nanos{time.tv_sec} * kSecond + time.tv_nsec;
}

double seconds(Nanos duration) { return static_cast<double>(duration) / kSecond; }

double own_cpu_seconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

std::string machine() {
    utsname name{};
    uname(&name);
    struct sysinfo info{};
    sysinfo(&info);
    const double gib = static_cast<double>(info.totalram) * info.mem_unit / (1u << 30);
    return fmt::format("{} cores, {:.0f} GiB, {} {}", std::thread::hardware_concurrency(), gib,
                       name.sysname, name.release);
}

// One thread of clients. The crowd is made and unmade on it, because its descriptors are its own;
// in between the observer may look.
struct Worker {
    CrowdPlan plan;
    bool own_table = true;
    std::thread thread;
    std::atomic<Crowd*> crowd{nullptr};
    std::atomic<bool> ended{false};  // the books are closed, or it failed
    std::atomic<bool> may_leave{false};
    std::string error;
    Nanos cpu_at_hold = 0;
    Nanos cpu = 0;

    void run() {
        if (own_table) {
            if (Result<void> own = own_descriptor_table(); !own) return fail(own.error());
        }
        MappedPages pages;
        ConnectionTable table(pages, plan.clients);
        if (!table.ok()) return fail("no address space for the connections");
        Crowd clients(plan, pages, table);
        if (!clients.ready()) return fail(clients.ready().error());
        crowd.store(&clients, std::memory_order_release);
        while (!plan.conductor->stop.load(std::memory_order_relaxed)) clients.turn();
        clients.close_the_books();
        ended.store(true, std::memory_order_release);
        while (!may_leave.load(std::memory_order_acquire)) usleep(1'000);
        crowd.store(nullptr, std::memory_order_release);
        const Nanos until = monotonic_now() + kLeaveMax;
        while (!clients.leave() && monotonic_now() < until) {
        }
    }
    void fail(std::string why) {
        error = std::move(why);
        ended.store(true, std::memory_order_release);
    }
};

class Run {
  public:
    Run(const LoadOptions& options, const Layout& layout, const std::atomic<bool>& interrupted,
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
        describe_run();
        start();
        ramp();
        hold();
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
        const auto read = read_server_closes(options_.server_stats_file);
        if (!read) return Error{read.error()};
        for (const auto& [reason, count] : *read) closes[reason] = count;
        return {};
    }

    void describe_run() {
        result_.version = kVersion;
        result_.machine = machine();
        result_.started_at = format_utc(std::time(nullptr));
        result_.wanted = options_.connections;
        std::string targets;
        for (const Target& target : options_.targets) {
            targets += (targets.empty() ? "" : ", ") + target.text;
        }
        const auto interval = options_.heartbeat_interval;
        result_.settings = {
            {"target", targets},
            {"connections", std::to_string(options_.connections)},
            {"connect rate", options_.connect_rate.text},
            {"heartbeat interval", interval > 0 ? format_duration(interval) : "none"},
            {"hold", format_duration(options_.duration)},
            {"threads", std::to_string(layout_.threads)},
            {"source addresses", std::to_string(std::max<size_t>(1, layout_.sources.size()))},
        };
        for (const StormPlan& storm : options_.storms) {
            result_.settings.emplace_back("storm", storm.text);
        }
        if (options_.message_rate) {
            result_.settings.emplace_back("message rate", options_.message_rate->text);
            result_.settings.emplace_back("message size",
                                          std::to_string(options_.message_bytes) + " B");
        }
        count_kinds();
    }

    void count_kinds() {
        const Mix mix = options_.effective_mix();
        const Behaviours behaviours = options_.effective_behaviours();
        std::array<uint64_t, kWires> wires{};
        std::array<uint64_t, kBehaviours> kinds{};
        for (uint64_t client = 0; client < options_.connections; ++client) {
            const ClientKind kind = kind_of(client, mix, behaviours);
            ++wires[static_cast<size_t>(kind.wire)];
            ++kinds[static_cast<size_t>(client == 0 ? Behaviour::beat : kind.behaviour)];
        }
        for (size_t i = 0; i < kWires; ++i) {
            if (wires[i] == 0) continue;
            result_.protocols.emplace_back(name_of(static_cast<Wire>(i)), wires[i]);
        }
        for (size_t i = 0; i < kBehaviours; ++i) {
            if (kinds[i] == 0) continue;
            result_.behaviours.emplace_back(name_of(static_cast<Behaviour>(i)), kinds[i]);
        }
    }

    void start() {
        conductor_.timeout = options_.expect_timeout;
        for (uint32_t i = 0; i < layout_.threads; ++i) {
            auto worker = std::make_unique<Worker>();
            worker->own_table = layout_.own_tables;
            CrowdPlan& plan = worker->plan;
            plan.options = &options_;
            plan.conductor = &conductor_;
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

    bool over() const { return interrupted_.load() || !error_.empty(); }

    void ramp() {
        Pace last(options_.connect_rate, 0, 1, options_.seed);
        Nanos planned = 0;
        if (!options_.connect_rate.at_once()) {
            while (last.due(planned) < options_.connections && planned < kNever / 4) {
                planned += std::max(kSecond, planned / 16);
            }
        }
        const Nanos give_up = began_ + planned + options_.connect_timeout + kRampGrace;
        const auto settled = [](const auto& worker) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            return worker->ended.load() || (crowd != nullptr && crowd->settled());
        };
        Nanos next = began_ + kSampleInterval;
        while (!over() && !std::ranges::all_of(workers_, settled) && monotonic_now() < give_up) {
            usleep(2'000);
            if (monotonic_now() < next) continue;
            sample(Phase::ramp);
            next += kSampleInterval;
        }
        const bool all = std::ranges::all_of(workers_, settled);
        sample(Phase::ramp);
        if (all) result_.connected_s = seconds(monotonic_now() - began_);
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
        result_.cut_short = interrupted_.load();
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
            second.take_in(crowd->readings());
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
        total_.take_in(second);
        if (now.phase != Phase::ramp) hold_.take_in(second);
        const Sample before = result_.samples.empty() ? Sample{} : result_.samples.back();
        result_.samples.push_back(now);
        on_sample_({result_, now, before, second.latency, before.at_s, now.at_s - before.at_s});
    }

    void finish() {
        result_.ended_s = seconds(monotonic_now() - began_);
        // What came in behind the last sample is one of its own, so that all is told everywhere.
        Sample last;
        Readings rest;
        last.phase = Phase::drain;
        for (const auto& worker : workers_) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            last.counts += crowd->counts().read();
            for (const Readings& readings : crowd->rest()) rest.take_in(readings);
        }
        keep(last, rest);
        result_.counts = last.counts;
        result_.latency = total_.latency;
        result_.hold_latency = hold_.latency;
        finish_generator();
        Detection& detection = result_.detection;
        detection.interval = conductor_.interval;
        detection.timeout = conductor_.timeout;
        detection.announced = conductor_.announced;
        detection.tolerance = options_.tolerance;
        std::map<uint16_t, uint64_t> codes;
        std::map<std::string, uint64_t> errors;
        for (const auto& worker : workers_) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            take_in(detection, crowd->detection());
            for (const auto& [code, count] : crowd->codes()) codes[code] += count;
            for (const auto& [what, count] : crowd->errors()) errors[what] += count;
        }
        detection.codes.assign(codes.begin(), codes.end());
        for (const auto& [what, count] : errors) {
            result_.errors.push_back(count == 1 ? what : fmt::format("{} ({} times)", what, count));
        }
        finish_account();
        for (size_t i = 0; i < options_.storms.size(); ++i) finish_storm(i);
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
        for (const auto& worker : workers_) {
            if (result_.held_s <= 0) break;
            generator.busiest_thread =
                std::max(generator.busiest_thread,
                         seconds(worker->cpu - worker->cpu_at_hold) / result_.held_s);
        }
    }

    static void take_in(Detection& to, const Detection& from) {
        to.false_evictions += from.false_evictions;
        for (size_t i = 0; i < kBehaviours; ++i) {
            Detection::Row& row = to.rows[i];
            row.silenced += from.rows[i].silenced;
            row.evicted += from.rows[i].evicted;
            row.early += from.rows[i].early;
            row.missed += from.rows[i].missed;
            row.waiting += from.rows[i].waiting;
            row.late_by.merge(from.rows[i].late_by);
            row.early_by.merge(from.rows[i].early_by);
        }
    }

    // The server writes its account once an interval: what it closed last may be missing.
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

    void finish_storm(size_t number) {
        StormResult storm;
        storm.what = options_.storms[number].text;
        std::vector<Nanos> recoveries;
        Nanos at = 0;
        for (const auto& worker : workers_) {
            const Crowd* crowd = worker->crowd.load(std::memory_order_acquire);
            if (crowd == nullptr) continue;
            const StormCount& part = crowd->storms()[number];
            if (part.at != 0) at = at == 0 ? part.at : std::min(at, part.at);
            storm.killed += part.killed;
            storm.recovered += part.recovered;
            storm.refusals += part.refusals;
            storm.tries += part.tries;
            storm.tries_max = std::max(storm.tries_max, part.tries_max);
            recoveries.insert(recoveries.end(), part.recoveries.begin(), part.recoveries.end());
        }
        if (at == 0) return;  // the run ended before it
        storm.at_s = seconds(at - began_);
        std::ranges::sort(recoveries);
        const auto most = static_cast<size_t>(static_cast<double>(storm.killed) * kRecoveredShare);
        if (most > 0 && recoveries.size() >= most) {
            storm.recovery_s = seconds(recoveries[most - 1]);
        }
        for (size_t i = 1; i < result_.samples.size(); ++i) {
            const Sample& sample = result_.samples[i];
            const Sample& before = result_.samples[i - 1];
            if (before.at_s < storm.at_s - seconds(kSampleInterval)) continue;
            const auto opened =
                static_cast<double>(sample.counts.connected - before.counts.connected);
            const double length_s = std::max(0.1, sample.at_s - before.at_s);
            storm.peak_accepts_per_s = std::max(storm.peak_accepts_per_s, opened / length_s);
        }
        result_.storms.push_back(std::move(storm));
    }

    const LoadOptions& options_;
    const Layout& layout_;
    const std::atomic<bool>& interrupted_;
    const std::function<void(const Interval&)>& on_sample_;
    const Nanos began_;
    ServerWatch watch_;
    Closes closes_before_;
    Conductor conductor_;
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
                           const std::atomic<bool>& interrupted,
                           const std::function<void(const Interval&)>& on_sample) {
    return Run(options, layout, interrupted, on_sample)();
}

}  // namespace pulse::load
