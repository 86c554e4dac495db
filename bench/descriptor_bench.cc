// A descriptor table of a thread's own beside one that two threads share, as reactors would: what a
// server pays to accept its first connections, to close and accept, and to read and write.
//
// Both kinds begin anew in each run, on a thread that has a table of its own. Times are the CPU
// time of both threads for one call, but for the growth, which is the time that passes: the kernel
// makes the thread that grows a shared table wait for a grace period (fs/file.c, expand_fdtable()).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "net/server/descriptors.h"

namespace pulse {
namespace {

constexpr int kThreads = 2;
constexpr int kDescriptors = 4'000;  // of each thread
constexpr int kCalls = 100'000;

int64_t now_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int duplicate(int descriptor) {
    const int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    PULSE_ASSERT(copy >= 0);
    return copy;
}

struct Spent {
    int64_t cpu_ns = 0;
    int64_t wall_ns = 0;
    int64_t longest_ns = 0;
};

// Calls `work` on each thread at once.
std::vector<Spent> on_threads(bool own, const std::function<void(Spent&)>& work) {
    std::vector<Spent> spent(kThreads);
    std::thread([&] {
        PULSE_ASSERT(own_descriptor_table());  // a small one
        std::barrier together(kThreads);
        std::vector<std::thread> threads;
        for (Spent& each : spent) {
            threads.emplace_back([&] {
                if (own) PULSE_ASSERT(own_descriptor_table());
                together.arrive_and_wait();
                work(each);
                together.arrive_and_wait();
            });
        }
        for (std::thread& thread : threads) thread.join();
    }).join();
    return spent;
}

void grow(Spent& spent) {
    const int any = eventfd(0, EFD_CLOEXEC);
    const int64_t began = now_ns(CLOCK_MONOTONIC);
    int64_t last = began;
    for (int i = 0; i < kDescriptors; ++i) {
        duplicate(any);
        const int64_t now = now_ns(CLOCK_MONOTONIC);
        spent.longest_ns = std::max(spent.longest_ns, now - last);
        last = now;
    }
    spent.wall_ns = last - began;
}

void close_and_open(Spent& spent) {
    std::vector<int> open(kDescriptors);
    const int any = eventfd(0, EFD_CLOEXEC);
    for (int& each : open) each = duplicate(any);
    const int64_t began = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int call = 0; call < kCalls; ++call) {
        int& descriptor = open[static_cast<size_t>(call % kDescriptors)];
        ::close(descriptor);
        descriptor = duplicate(any);
    }
    spent.cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - began;
}

void read_and_write(Spent& spent) {
    const int any = eventfd(0, EFD_CLOEXEC);
    const int64_t began = now_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int call = 0; call < kCalls; ++call) {
        uint64_t value = 1;
        PULSE_ASSERT(::write(any, &value, sizeof value) == sizeof value);
        PULSE_ASSERT(::read(any, &value, sizeof value) == sizeof value);
    }
    spent.cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - began;
}

void growth(benchmark::State& state, bool own) {
    int64_t longest_ns = 0;
    for (auto _ : state) {
        int64_t slowest_ns = 0;
        for (const Spent& each : on_threads(own, grow)) {
            slowest_ns = std::max(slowest_ns, each.wall_ns);
            longest_ns = std::max(longest_ns, each.longest_ns);
        }
        state.SetIterationTime(static_cast<double>(slowest_ns) / 1e9);
    }
    state.counters["longest_us"] = static_cast<double>(longest_ns) / 1e3;
}

void calls(benchmark::State& state, bool own, void (*work)(Spent&)) {
    for (auto _ : state) {
        int64_t cpu_ns = 0;
        for (const Spent& each : on_threads(own, work)) cpu_ns += each.cpu_ns;
        state.SetIterationTime(static_cast<double>(cpu_ns) / 1e9 / (kThreads * kCalls));
    }
}

[[maybe_unused]] const bool kRegistered = [] {
    for (const bool own : {true, false}) {
        const std::string contender = own ? "pulse" : "shared";
        const auto add = [&](const std::string& name, auto run) {
            benchmark::RegisterBenchmark(("descriptors/" + name + "/" + contender).c_str(), run)
                ->UseManualTime()
                ->Iterations(1)
                ->Repetitions(20)
                ->ReportAggregatesOnly();
        };
        add("grow", [own](benchmark::State& state) { growth(state, own); });
        add("close_and_open",
            [own](benchmark::State& state) { calls(state, own, close_and_open); });
        add("read_and_write",
            [own](benchmark::State& state) { calls(state, own, read_and_write); });
    }
    raise_descriptor_limit();
    return true;
}();

}  // namespace
}  // namespace pulse
