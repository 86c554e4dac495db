// Worker processes, the counter that they take seeds from, and the pipe for their results.
#include "tools/pulsesim/campaign.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <new>
#include <type_traits>

namespace pulse {
namespace {

static_assert(std::is_trivially_copyable_v<SeedResult>);
static_assert(sizeof(SeedResult) <= PIPE_BUF, "a result is written in one piece");

constexpr uint32_t kJobsMax = 256;

// Shared by all processes of a campaign.
struct Shared {
    std::atomic<uint64_t> next_seed;
    std::atomic<uint64_t> current[kJobsMax];  // what each worker is at; 0: nothing yet
    std::atomic<int> trace_error;             // errno of a trace that is not whole
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

void copy_text(char* to, size_t room, const std::string& text) {
    const size_t count = std::min(room - 1, text.size());
    std::memcpy(to, text.data(), count);
    to[count] = '\0';
}

SeedResult result_of(const SimulationVerdict& verdict) {
    SeedResult result{};
    result.seed = verdict.seed;
    result.hash = verdict.hash;
    result.violations = verdict.violations;
    result.turns = verdict.turns;
    result.connections = verdict.accepted;
    result.beats = verdict.clients.beats;
    result.probes = verdict.probes;
    result.evictions = verdict.evicted;
    result.refusals = verdict.refused;
    result.virtual_time = verdict.virtual_time;
    result.judge_lag_max = verdict.judge_lag_max;
    copy_text(result.faults, sizeof result.faults, describe_faults(verdict.faults));
    std::string words;
    for (const Violation& each : verdict.broken) {
        const std::string line = each.rule + " at " + std::to_string(each.at / kMillisecond) +
                                 " ms: " + each.what + "\n";
        if (words.size() + line.size() >= sizeof result.words) break;
        words += line;
    }
    copy_text(result.words, sizeof result.words, words);
    return result;
}

class Campaign {
  public:
    Campaign(const CampaignOptions& options,
             const std::function<void(const CampaignResult&)>& progress)
        : options_(options), progress_(progress) {}
    Campaign(const Campaign&) = delete;
    Campaign& operator=(const Campaign&) = delete;
    ~Campaign() {
        if (pipe_[0] >= 0) ::close(pipe_[0]);
        if (pipe_[1] >= 0) ::close(pipe_[1]);
        if (shared_ != nullptr) munmap(shared_, sizeof(Shared));
        if (trace_ != nullptr) std::fclose(trace_);
    }

    Result<CampaignResult> run() {
        void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || pipe(pipe_) != 0) return system_error("cannot set up workers");
        shared_ = new (memory) Shared{};
        shared_->next_seed = options_.first_seed;
        if (!options_.trace.empty()) {
            trace_ = std::fopen(options_.trace.c_str(), "we");
            if (trace_ == nullptr) return system_error("--trace " + options_.trace);
        }
        const uint64_t seeds = options_.last_seed - options_.first_seed + 1;
        workers_.resize(
            static_cast<size_t>(std::min<uint64_t>({options_.jobs, seeds, uint64_t{kJobsMax}})));
        for (size_t worker = 0; worker < workers_.size(); ++worker) {
            if (Result<void> started = start_worker(worker); !started)
                return Error{started.error()};
        }
        while (living_ > 0) {
            collect(100);
            if (Result<void> reaped = reap_workers(); !reaped) return Error{reaped.error()};
        }
        collect(0);
        if (const int error = shared_->trace_error; error != 0) {
            return Error{"--trace '" + options_.trace + "' is not whole: " + std::strerror(error) +
                         "; name a file that takes all of it"};
        }
        std::ranges::sort(result_.failed, {}, &SeedResult::seed);
        return std::move(result_);
    }

  private:
    static Error system_error(const std::string& what) {
        return Error{what + ": " + std::strerror(errno)};
    }

    Result<void> start_worker(size_t worker) {
        shared_->current[worker] = 0;
        std::fflush(nullptr);
        const pid_t process = fork();
        if (process < 0) return system_error("cannot start a worker; use fewer --jobs");
        if (process == 0) worker_main(worker);
        workers_[worker] = process;
        ++living_;
        return {};
    }

    [[noreturn]] void worker_main(size_t worker) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // no process is left to read the results
        ::close(pipe_[0]);
        for (;;) {
            const uint64_t seed = shared_->next_seed.fetch_add(1);
            if (seed > options_.last_seed || seed < options_.first_seed) break;
            shared_->current[worker] = seed;
            SimulationOptions simulation = options_.simulation;
            simulation.seed = seed;
            simulation.trace = trace_;
            const SeedResult result = result_of(simulate(simulation));
            shared_->current[worker] = 0;
            if (write(pipe_[1], &result, sizeof result) != sizeof result) break;
        }
        finish_trace();
        _exit(0);
    }

    // A trace that lost its end must not look like one. A write that failed before the last flush
    // leaves no errno.
    void finish_trace() {
        if (trace_ == nullptr) return;
        errno = 0;
        if (std::fflush(trace_) != 0 || std::ferror(trace_) != 0)
            shared_->trace_error = errno != 0 ? errno : EIO;
    }

    // Takes the results that are there, waiting at most `wait_ms` for the first.
    void collect(int wait_ms) {
        pollfd readable{.fd = pipe_[0], .events = POLLIN, .revents = 0};
        while (::poll(&readable, 1, wait_ms) == 1) {
            SeedResult result;
            if (read(pipe_[0], &result, sizeof result) != sizeof result) return;
            add(result);
            wait_ms = 0;
        }
    }

    void add(const SeedResult& result) {
        ++result_.seeds;
        result_.hash += mix64(result.seed ^ mix64(result.hash));
        SeedResult& total = result_.total;
        total.violations += result.violations;
        total.turns += result.turns;
        total.connections += result.connections;
        total.beats += result.beats;
        total.probes += result.probes;
        total.evictions += result.evictions;
        total.refusals += result.refusals;
        total.virtual_time += result.virtual_time;
        total.judge_lag_max = std::max(total.judge_lag_max, result.judge_lag_max);
        if (result.violations > 0 || result.signal != 0) result_.failed.push_back(result);
        if (result_.failed.size() >= options_.failures_max) {
            shared_->next_seed = UINT64_MAX / 2;  // beyond every last seed: the workers end
        }
        progress_(result_);
    }

    // Collects workers that ended. Of one that an assertion ended the seed is reported, and another
    // worker takes its place.
    Result<void> reap_workers() {
        for (size_t worker = 0; worker < workers_.size(); ++worker) {
            int status = 0;
            if (workers_[worker] == 0 || waitpid(workers_[worker], &status, WNOHANG) <= 0) continue;
            workers_[worker] = 0;
            --living_;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
            SeedResult result{};
            result.seed = shared_->current[worker];
            result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : -1;
            collect(0);
            add(result);
            if (Result<void> started = start_worker(worker); !started)
                return Error{started.error()};
        }
        return {};
    }

    const CampaignOptions& options_;
    const std::function<void(const CampaignResult&)>& progress_;
    int pipe_[2] = {-1, -1};
    Shared* shared_ = nullptr;
    std::FILE* trace_ = nullptr;
    std::vector<pid_t> workers_;
    size_t living_ = 0;
    CampaignResult result_;
};

}  // namespace

Result<CampaignResult> run_campaign(const CampaignOptions& options,
                                    const std::function<void(const CampaignResult&)>& progress) {
    return Campaign(options, progress).run();
}

}  // namespace pulse
