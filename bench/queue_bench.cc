// The queue between two reactors: throughput, round trip and the wake of a sleeper, beside
// boost::lockfree::spsc_queue and moodycamel::ConcurrentQueue, in one run.
//
// Two real threads, each pinned to a core of its own. Times are wall clock: a queue that makes its
// other side wait must pay for it. Where a side has nothing to do it spins, with a yield after a
// while, so that a core which is taken away costs a time slice and not the run. Runs are short and
// many, and the best of them stands beside the mean: on a shared machine most others measure who
// else had the cores.
#if !defined(__clang__)  // g++ 12 sees an overflow in moodycamel's bulk push that is none
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#endif
#include <benchmark/benchmark.h>
#include <concurrentqueue/concurrentqueue.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/lockfree/spsc_queue.hpp>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/mailbox.h"
#include "core/spsc_ring.h"
#include "net/loop/limits.h"

namespace pulse {
namespace {

constexpr uint32_t kSlots = 4'096;
constexpr uint64_t kMessages = 500'000;
constexpr int kRuns = 40;
constexpr size_t kBatch = 64;

struct Note {  // 32 bytes, as small a control message as is of use
    uint64_t number = 0;
    uint64_t words[3] = {};
};
static_assert(sizeof(Note) == 32);

int64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// This thread on a core of its own, as far as there are two; without, the scheduler likes to put
// both sides on one, where nothing travels.
void pin(int side) {
    cpu_set_t cores;
    PULSE_ASSERT(sched_getaffinity(0, sizeof cores, &cores) == 0);
    for (int core = 0, seen = 0; core < CPU_SETSIZE; ++core) {
        if (!CPU_ISSET(core, &cores) || seen++ != side) continue;
        CPU_ZERO(&cores);
        CPU_SET(core, &cores);
        PULSE_ASSERT(sched_setaffinity(0, sizeof cores, &cores) == 0);
        return;
    }
}
// Runs `other` on the second core, or another, while this scope, on the first, lasts.
template <class F>
class OtherSide {
  public:
    explicit OtherSide(F other, int side = 1)
        : other_(other), side_(side), thread_{&OtherSide::run, this} {
        PULSE_ASSERT(sched_getaffinity(0, sizeof before_, &before_) == 0);
        while (!ready_.load(std::memory_order_acquire)) std::this_thread::yield();
        pin(0);
    }
    ~OtherSide() {
        thread_.join();
        PULSE_ASSERT(sched_setaffinity(0, sizeof before_, &before_) == 0);
    }

  private:
    void run() {
        pin(side_);
        ready_.store(true, std::memory_order_release);
        other_();
    }

    F other_;
    int side_;
    std::atomic<bool> ready_{false};
    cpu_set_t before_{};
    std::thread thread_;
};

// Spins, and gives the core away when that goes on.
class Backoff {
  public:
    void wait() {
        if (++spins_ % 1'024 == 0) std::this_thread::yield();
    }

  private:
    uint32_t spins_ = 0;
};

// ------------------------------------------------------------------------------------ contenders

struct Pulse {
    SpscRing<Note> ring{kSlots};
    size_t push(std::span<const Note> notes) { return ring.push_batch(notes); }
    template <class Take>
    size_t pop(size_t budget, Take&& take) {
        return ring.pop_batch(budget, take);
    }
};
struct Boost {
    boost::lockfree::spsc_queue<Note, boost::lockfree::capacity<kSlots>> ring;
    size_t push(std::span<const Note> notes) { return ring.push(notes.data(), notes.size()); }
    template <class Take>
    size_t pop(size_t budget, Take&& take) {
        std::array<Note, kBatch> notes;
        const size_t count = ring.pop(notes.data(), std::min(budget, notes.size()));
        for (size_t i = 0; i < count; ++i) take(notes[i]);
        return count;
    }
};
// Unbounded and for many producers, so it is given its tokens and a bound by its producer's credit.
struct Moodycamel {
    moodycamel::ConcurrentQueue<Note> queue{kSlots};
    moodycamel::ProducerToken producer{queue};
    moodycamel::ConsumerToken consumer{queue};
    size_t push(std::span<const Note> notes) {
        return queue.try_enqueue_bulk(producer, notes.data(), notes.size()) ? notes.size() : 0;
    }
    template <class Take>
    size_t pop(size_t budget, Take&& take) {
        std::array<Note, kBatch> notes;
        const size_t wanted = std::min(budget, notes.size());
        const size_t count = queue.try_dequeue_bulk(consumer, notes.data(), wanted);
        for (size_t i = 0; i < count; ++i) take(notes[i]);
        return count;
    }
};

// ------------------------------------------------------------------------------------ throughput

template <class Queue>
void write_all(Queue& queue, size_t batch) {
    std::array<Note, kBatch> notes;
    Backoff backoff;
    for (uint64_t sent = 0; sent < kMessages;) {
        const size_t wanted = std::min<uint64_t>(batch, kMessages - sent);
        for (size_t i = 0; i < wanted; ++i) notes[i].number = sent + i;
        const size_t pushed = queue.push({notes.data(), wanted});
        if (pushed == 0) backoff.wait();
        sent += pushed;
    }
}

template <class Queue, size_t batch>
void throughput(benchmark::State& state) {
    int64_t best = INT64_MAX;
    for (auto _ : state) {
        auto queue = std::make_unique<Queue>();
        std::atomic<bool> go{false};
        const OtherSide writer([&] {
            while (!go.load(std::memory_order_acquire)) {
            }
            write_all(*queue, batch);
        });
        uint64_t received = 0;
        uint64_t wrong = 0;
        Backoff backoff;
        const int64_t began = now_ns();
        go.store(true, std::memory_order_release);
        while (received < kMessages) {
            const size_t popped =
                queue->pop(batch, [&](const Note& note) { wrong += note.number != received++; });
            if (popped == 0) backoff.wait();
        }
        const int64_t took = now_ns() - began;
        state.SetIterationTime(static_cast<double>(took) / 1e9);
        best = std::min(best, took);
        PULSE_ASSERT(wrong == 0);
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kMessages));
    state.counters["best_items_per_s"] = static_cast<double>(kMessages) * 1e9 / double(best);
    state.SetLabel("500 k messages of 32 bytes; items are messages");
}
#define THROUGHPUT(Queue, batch, name) \
    BENCHMARK_TEMPLATE(throughput, Queue, batch)->Name(name)->UseManualTime()->MinTime(2)
THROUGHPUT(Pulse, kBatch, "queue/batches_of_64/pulse");
THROUGHPUT(Boost, kBatch, "queue/batches_of_64/boost_spsc");
THROUGHPUT(Moodycamel, kBatch, "queue/batches_of_64/moodycamel");
THROUGHPUT(Pulse, 1, "queue/single/pulse");
THROUGHPUT(Boost, 1, "queue/single/boost_spsc");
THROUGHPUT(Moodycamel, 1, "queue/single/moodycamel");

// ------------------------------------------------------------------------------------ round trip

// One message there and back, both sides spinning.
template <class Queue>
void round_trip(benchmark::State& state) {
    constexpr uint64_t kTrips = 10'000;
    int64_t best = INT64_MAX;
    for (auto _ : state) {
        auto there = std::make_unique<Queue>();
        auto back = std::make_unique<Queue>();
        auto receive = [](Queue& queue) {
            Note note;
            Backoff backoff;
            while (queue.pop(1, [&](const Note& popped) { note = popped; }) == 0) backoff.wait();
            return note;
        };
        const OtherSide echo([&] {
            for (uint64_t i = 0; i < kTrips; ++i) {
                const Note note = receive(*there);
                PULSE_ASSERT(back->push({&note, 1}) == 1);
            }
        });
        const int64_t began = now_ns();
        for (uint64_t i = 0; i < kTrips; ++i) {
            Note note{.number = i};
            PULSE_ASSERT(there->push({&note, 1}) == 1);
            PULSE_ASSERT(receive(*back).number == i);
        }
        const int64_t took = now_ns() - began;
        state.SetIterationTime(static_cast<double>(took) / 1e9 / kTrips);
        best = std::min(best, took);
    }
    state.counters["best_ns"] = static_cast<double>(best) / kTrips;
}
BENCHMARK(round_trip<Pulse>)->Name("queue/round_trip/pulse")->UseManualTime()->Iterations(kRuns);
BENCHMARK(round_trip<Boost>)
    ->Name("queue/round_trip/boost_spsc")
    ->UseManualTime()
    ->Iterations(kRuns);
BENCHMARK(round_trip<Moodycamel>)
    ->Name("queue/round_trip/moodycamel")
    ->UseManualTime()
    ->Iterations(kRuns);

// ------------------------------------------------------------------------------ wake of a sleeper

// Two ways to sleep in the kernel until a doorbell.
struct EventfdBell {
    int descriptor = eventfd(0, EFD_CLOEXEC);
    ~EventfdBell() { close(descriptor); }
    static void ring(void* self) {
        PULSE_ASSERT(eventfd_write(static_cast<EventfdBell*>(self)->descriptor, 1) == 0);
    }
    void sleep() {
        eventfd_t count = 0;
        PULSE_ASSERT(eventfd_read(descriptor, &count) == 0);
    }
};
struct FutexBell {
    std::atomic<uint32_t> rung{0};
    static void ring(void* self) {
        auto& rung = static_cast<FutexBell*>(self)->rung;
        rung.store(1, std::memory_order_release);
        syscall(SYS_futex, &rung, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
    void sleep() {
        while (rung.exchange(0, std::memory_order_acquire) == 0) {
            syscall(SYS_futex, &rung, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
        }
    }
};

// Where the owner waits: on the other core, there but with an idle-priority thread that computes,
// so that the core never halts (a halted virtual one has to be scheduled by its host, too), or on
// the sender's, where no core has to interrupt another.
enum class OwnerCore { other, other_kept_awake, same };

// The mailbox, as a reactor has it, with a bell to sleep by. Spins for `spin_ns` before it sleeps.
template <class Bell, int64_t spin_ns = 0>
struct Boxed {
    static constexpr OwnerCore kCore = OwnerCore::other;
    Bell bell;
    BasicMailbox<Note> mailbox{1, 64, Doorbell{&Bell::ring, &bell}};

    void post() { PULSE_ASSERT(mailbox.post(0, {.number = static_cast<uint64_t>(now_ns())})); }
    template <class Announce>
    int64_t wait(Announce&& announce) {
        int64_t posted_at = 0;
        const auto take = [&](const Note& note) { posted_at = static_cast<int64_t>(note.number); };
        announce();
        for (const int64_t from = now_ns(); posted_at == 0 && now_ns() - from < spin_ns;) {
            mailbox.drain(1, take);
        }
        // NOLINTNEXTLINE(bugprone-infinite-loop): drain() sets it.
        while (posted_at == 0) {
            if (mailbox.may_sleep()) bell.sleep();
            mailbox.awake();
            mailbox.drain(1, take);
        }
        return posted_at;
    }
};
// The kernel alone: no queue that sleeps in it wakes sooner.
template <class Bell, OwnerCore core = OwnerCore::other>
struct Bare {
    static constexpr OwnerCore kCore = core;
    Bell bell;
    std::atomic<int64_t> posted_at{0};

    void post() {
        posted_at.store(now_ns(), std::memory_order_relaxed);
        Bell::ring(&bell);
    }
    template <class Announce>
    int64_t wait(Announce&& announce) {
        announce();
        bell.sleep();
        return posted_at.load(std::memory_order_relaxed);
    }
};

// Computes on the core of `side`, while no other thread wants it.
class Idler {
  public:
    explicit Idler(int side)
        : thread_([this, side] {
              pin(side);
              const sched_param none{};
              PULSE_ASSERT(sched_setscheduler(0, SCHED_IDLE, &none) == 0);
              while (!stop_.load(std::memory_order_relaxed)) {
              }
          }) {}
    ~Idler() {
        stop_.store(true, std::memory_order_relaxed);
        thread_.join();
    }

  private:
    std::atomic<bool> stop_{false};
    std::thread thread_;
};

int64_t cpu_ns() {
    timespec used{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

// From just before post() to the owner's return, for a post `after_ns` after the owner said that it
// waits; beside it what the sender's post took, and what the owner had of its core.
template <class Waiter, int64_t after_ns>
void wake(benchmark::State& state) {
    constexpr uint64_t kWakes = 2'000;
    std::vector<int64_t> samples, posts;
    int64_t owner_cpu_ns = 0;
    for (auto _ : state) {
        Waiter waiter;
        std::unique_ptr<Idler> idler;
        if (Waiter::kCore == OwnerCore::other_kept_awake) idler = std::make_unique<Idler>(1);
        std::atomic<uint64_t> waits{0};
        const auto own = [&] {
            const int64_t before = cpu_ns();
            for (uint64_t i = 0; i < kWakes; ++i) {
                const int64_t posted_at =
                    waiter.wait([&] { waits.fetch_add(1, std::memory_order_release); });
                samples.push_back(now_ns() - posted_at);
            }
            owner_cpu_ns = cpu_ns() - before;
        };
        const OtherSide owner(own, Waiter::kCore == OwnerCore::same ? 0 : 1);
        for (uint64_t i = 0; i < kWakes; ++i) {
            while (waits.load(std::memory_order_acquire) <= i) std::this_thread::yield();
            for (const int64_t from = now_ns(); now_ns() - from < after_ns;) {
            }
            const int64_t from = now_ns();
            waiter.post();
            posts.push_back(now_ns() - from);
        }
    }
    const auto quantile = [](std::vector<int64_t>& values, size_t percent) {
        std::sort(values.begin(), values.end());
        return static_cast<double>(values[values.size() * percent / 100]);
    };
    state.SetIterationTime(quantile(samples, 50) / 1e9);
    state.counters["p99_us"] = quantile(samples, 99) / 1e3;
    state.counters["post_us"] = quantile(posts, 50) / 1e3;
    state.counters["owner_cpu_us"] = static_cast<double>(owner_cpu_ns) / kWakes / 1e3;
}
#define WAKE(Waiter, after_ns, name) \
    BENCHMARK_TEMPLATE(wake, Waiter, after_ns)->Name(name)->UseManualTime()->Iterations(1)
using SpinningMailbox = Boxed<EventfdBell, 20'000>;
using KernelAwake = Bare<EventfdBell, OwnerCore::other_kept_awake>;
using KernelHere = Bare<EventfdBell, OwnerCore::same>;
WAKE(Boxed<EventfdBell>, 50'000, "wake/posted_after_50us/pulse");
WAKE(Boxed<FutexBell>, 50'000, "wake/posted_after_50us/pulse, by futex");
WAKE(SpinningMailbox, 50'000, "wake/posted_after_50us/pulse, after 20 us of spinning");
WAKE(Bare<EventfdBell>, 50'000, "wake/posted_after_50us/eventfd alone");
WAKE(Bare<FutexBell>, 50'000, "wake/posted_after_50us/futex alone");
WAKE(KernelAwake, 50'000, "wake/posted_after_50us/eventfd, core kept awake");
WAKE(KernelHere, 50'000, "wake/posted_after_50us/eventfd, on one core");
WAKE(Boxed<EventfdBell>, 5'000, "wake/posted_after_5us/pulse");
WAKE(SpinningMailbox, 5'000, "wake/posted_after_5us/pulse, 20 us of spinning");

// -------------------------------------------------------------------- the mailbox's own cost

// A post to an owner who is awake, and its draining, on one thread: the handshake's instructions
// without the travel of cache lines.
void post_and_drain(benchmark::State& state) {
    Mailbox mailbox(61, kMailboxSlots, Doorbell{});
    for (auto _ : state) {
        mailbox.post(7, {});
        mailbox.drain(kMailboxBudgetPerTurn, [](const Message& message) {
            benchmark::DoNotOptimize(message.body.index());
        });
    }
}
BENCHMARK(post_and_drain)->Name("mailbox_of_61/post_and_drain/pulse");

// What a turn pays when no message was posted.
void quiet_turn(benchmark::State& state) {
    Mailbox mailbox(61, kMailboxSlots, Doorbell{});
    for (auto _ : state) {
        benchmark::DoNotOptimize(mailbox.may_sleep());
        mailbox.awake();
        benchmark::DoNotOptimize(mailbox.drain(kMailboxBudgetPerTurn, [](const Message&) {}));
    }
}
BENCHMARK(quiet_turn)->Name("mailbox_of_61/quiet_turn/pulse");

}  // namespace
}  // namespace pulse
