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
// Runs `other` on the second core while this scope, on the first, lasts.
template <class F>
class OtherSide {
  public:
    explicit OtherSide(F other) : other_(other), thread_(&OtherSide::run, this) {
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
        pin(1);
        ready_.store(true, std::memory_order_release);
        other_();
    }

    F other_;
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
    BENCHMARK_TEMPLATE(throughput, Queue, batch)->Name(name)->UseManualTime()->Iterations(kRuns)
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

// From just before post() to the owner's taking of the message, for an owner that sleeps.
template <class Bell>
void wake(benchmark::State& state) {
    constexpr uint64_t kWakes = 2'000;
    constexpr int64_t kFallAsleepNs = 50'000;  // after the owner announced its sleep
    std::vector<int64_t> samples;
    for (auto _ : state) {
        Bell bell;
        BasicMailbox<Note> mailbox(1, 64, Doorbell{&Bell::ring, &bell});
        std::atomic<uint64_t> sleeps{0};
        {
            const OtherSide owner([&] {
                for (uint64_t received = 0; received < kWakes;) {
                    if (mailbox.may_sleep()) {
                        sleeps.fetch_add(1, std::memory_order_release);
                        bell.sleep();
                    }
                    mailbox.awake();
                    mailbox.drain(64, [&](const Note& note) {
                        samples.push_back(now_ns() - static_cast<int64_t>(note.number));
                        ++received;
                    });
                }
            });
            for (uint64_t i = 0; i < kWakes; ++i) {
                while (sleeps.load(std::memory_order_acquire) <= i) std::this_thread::yield();
                for (const int64_t from = now_ns(); now_ns() - from < kFallAsleepNs;) {
                }
                PULSE_ASSERT(mailbox.post(0, {.number = static_cast<uint64_t>(now_ns())}));
            }
        }
        PULSE_ASSERT(mailbox.counts().rung == kWakes);
    }
    std::sort(samples.begin(), samples.end());
    const auto quantile = [&](double part) {
        return static_cast<double>(samples[static_cast<size_t>(part * double(samples.size() - 1))]);
    };
    state.SetIterationTime(quantile(0.5) / 1e9);
    state.counters["p50_us"] = quantile(0.5) / 1e3;
    state.counters["p99_us"] = quantile(0.99) / 1e3;
    state.SetLabel("median of 2,000 wakes across cores");
}
BENCHMARK(wake<EventfdBell>)->Name("queue/wake/eventfd")->UseManualTime()->Iterations(1);
BENCHMARK(wake<FutexBell>)->Name("queue/wake/futex")->UseManualTime()->Iterations(1);

// --------------------------------------------------------------------------- the mailbox's own
// cost

// A post to an owner who is awake, and its draining, on one thread: the handshake's instructions
// without the travel of cache lines.
void post_and_drain(benchmark::State& state) {
    Mailbox mailbox(61, kMailboxSlots, Doorbell{});
    for (auto _ : state) {
        mailbox.post(7, {});
        mailbox.drain(kMailboxBudgetPerTurn,
                      [](const Message& message) { benchmark::DoNotOptimize(message.kind); });
    }
}
BENCHMARK(post_and_drain)->Name("mailbox_of_61/post_and_drain/pulse");

// What a turn pays when nobody has posted.
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
