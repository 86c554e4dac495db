// The timing wheel against the other ways to keep a million deadlines: one process, one run, the
// same workloads, written once over the contenders of wheel_baselines.h.
//
// Virtual time in ticks of 8.39 ms; a message or an expiry touches its connection's 64-byte line,
// and connections speak in an order that has nothing to do with their index and changes a little
// every round. All times are thread CPU time. Where a figure is net, the same run with a contender
// that only touches the line was subtracted.
#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <numeric>
#include <string>

#include "core/connection.h"
#include "core/heartbeat_policy.h"
#include "core/random.h"
#include "core/timing_wheel.h"

#include "bench/measure.h"
#include "bench/wheel_baselines.h"

namespace pulse::bench {
namespace {

constexpr uint32_t kMillion = 1 << 20;  // a power of two, so that rounds can be permuted in blocks
constexpr uint32_t kTicksPerSecond = 119;
constexpr Tick kStart = Tick{1} << 20;
constexpr uint32_t kNoBudget = UINT32_MAX;
constexpr uint32_t kSliceBudget = 512;

// Ours, as the reactor uses it: a message is one store, a look arms again at heard + timeout.
struct Pulse {
    static constexpr const char* kName = "pulse";
    static constexpr bool kSlow = false;
    // Without the byte of `heard` in which the policy counts probes, which no other keeps at all.
    static constexpr size_t kRecordBytes = kStoredTickBits / 8 + sizeof(Connection::armed);
    using Record = Connection;

    Pulse(PageSource& pages, Record* records, uint32_t connections, uint32_t timeout_ticks,
          Tick now)
        : records_(records), timeout_(timeout_ticks), wheel_(pages, records, connections, now) {
        PULSE_ASSERT(wheel_.ok());
    }
    void start(Index index, Tick now) {
        message(index, now);
        wheel_.arm(index, now + timeout_);
    }
    void message(Index index, Tick now) { records_[index].heard = heard_at(now); }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        for (;;) {
            const Index index = wheel_.pop_due(now, budget);
            if (index == kNoIndex) return wheel_.next_work() > now;
            const Tick deadline = restore_tick(records_[index].heard, now) + timeout_;
            if (deadline > now)
                wheel_.arm(index, deadline);
            else
                expire(index);
        }
    }
    Tick next_wake(Tick) { return wheel_.next_work(); }

  private:
    Record* records_;
    uint32_t timeout_;
    TimingWheel<Record> wheel_;
};

// Ours with the whole policy as a server runs it: looked at an interval and some grace after the
// last proof of life, to be asked, and not only at the timeout, to be let go. So it looks about
// once a beat.
struct PulseAsking {
    static constexpr const char* kName = "pulse, asking";
    static constexpr bool kSlow = false;
    static constexpr size_t kRecordBytes = Pulse::kRecordBytes;
    using Record = Connection;

    PulseAsking(PageSource& pages, Record* records, uint32_t connections, uint32_t timeout_ticks,
                Tick now)
        : records_(records), wheel_(pages, records, connections, now) {
        PULSE_ASSERT(wheel_.ok());
        config_.interval_ticks = timeout_ticks / 3;
        config_.grace_ticks = config_.interval_ticks / 8;
        config_.timeout_ticks = timeout_ticks;
    }
    void start(Index index, Tick now) {
        const HeartbeatStep step =
            heartbeat_step(0, HeartbeatEvent::connected, index, now, config_);
        records_[index].heard = step.heard;
        wheel_.arm(index, step.next);
    }
    void message(Index index, Tick now) { records_[index].heard = heard_at(now); }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        for (;;) {
            const Index index = wheel_.pop_due(now, budget);
            if (index == kNoIndex) return wheel_.next_work() > now;
            const HeartbeatStep step =
                heartbeat_step(records_[index].heard, HeartbeatEvent::look, index, now, config_);
            if (step.verdict == Verdict::evict) {
                expire(index);
                continue;
            }
            records_[index].heard =
                step.heard;  // a probe would be sent here; that is the network's
            wheel_.arm(index, step.next);
        }
    }
    Tick next_wake(Tick) { return wheel_.next_work(); }

  private:
    Record* records_;
    HeartbeatConfig config_;
    TimingWheel<Record> wheel_;
};

// One contender with its connections.
template <class C>
class World {
  public:
    using Record = typename C::Record;
    static_assert(sizeof(Record) == kConnectionBytes);

    World(uint32_t connections, uint32_t timeout_ticks)
        : connections_(connections),
          heap_before_(heap_bytes),
          records_(reinterpret_cast<Record*>(table_.reserve(connections * sizeof(Record)))) {
        PULSE_ASSERT(records_ != nullptr);
        contender_ = std::make_unique<C>(pages_, records_, connections, timeout_ticks, kStart);
    }
    ~World() {
        contender_.reset();
        table_.release(reinterpret_cast<std::byte*>(records_), connections_ * sizeof(Record));
    }

    C& contender() { return *contender_; }
    // Judges everything due by `now`. What expires has its line touched, as an eviction would.
    bool advance(Tick now, uint32_t budget) {
        return contender_->advance(now, budget, [this](Index index) {
            records_[index].heard = 0;
            ++expired_;
        });
    }
    uint64_t expired() const { return expired_; }
    double bytes_per_connection() const {
        const size_t bytes = heap_bytes - heap_before_ + pages_.resident_bytes();
        return static_cast<double>(bytes) / connections_ + C::kRecordBytes;
    }

  private:
    uint32_t connections_;
    size_t heap_before_;
    MappedPages table_;
    MeasuredPages pages_;
    Record* records_;
    std::unique_ptr<C> contender_;
    uint64_t expired_ = 0;
};

// The order in which connections speak: fixed at large, shuffled anew every round within blocks of
// half a second or so, because no two rounds of real peers are alike.
class Order {
  public:
    explicit Order(uint32_t connections) : indexes_(connections) {
        std::iota(indexes_.begin(), indexes_.end(), 0);
        Random random(7);
        std::shuffle(indexes_.begin(), indexes_.end(), random);
    }
    uint32_t size() const { return static_cast<uint32_t>(indexes_.size()); }
    Index at(uint64_t message) const {
        const uint32_t position = static_cast<uint32_t>(message) & (size() - 1);
        const uint32_t round = static_cast<uint32_t>(message / size());
        const uint32_t within = position * (8 * round + 5) + 977 * round;
        return indexes_[(position & ~kBlockMask) | (within & kBlockMask)];
    }

  private:
    static constexpr uint32_t kBlockMask = (1 << 14) - 1;
    std::vector<Index> indexes_;
};

const Order& order(uint32_t connections) {
    static std::map<uint32_t, Order> orders;
    return orders.try_emplace(connections, connections).first->second;
}

struct Beat {
    uint32_t connections, interval_s, timeout_s;
    uint32_t interval_ticks() const { return interval_s * kTicksPerSecond; }
    uint32_t timeout_ticks() const { return timeout_s * kTicksPerSecond; }
};

// Peers that beat on time, from the first connect on; none may be evicted.
template <class C>
class Beating {
  public:
    explicit Beating(const Beat& beat)
        : beat_(beat),
          order_(order(beat.connections)),
          world_(beat.connections, beat.timeout_ticks()) {
        // Until all are connected and the first looks, pops or cascades have come.
        run(beat_.interval_ticks() + beat_.timeout_ticks());
    }
    ~Beating() { PULSE_ASSERT(world_.expired() == 0); }

    World<C>& world() { return world_; }
    Tick now() const { return now_; }
    // Returns the messages sent meanwhile.
    uint64_t run(uint32_t ticks) {
        const uint64_t before = sent_;
        for (; ticks > 0; --ticks) {
            send();
            world_.advance(now_, kNoBudget);
        }
        return sent_ - before;
    }
    // Each tick's timers take min(what is in `ticks_ns` already, what they take now): the same
    // tick does the same work in every run, and what interrupts it does not.
    void time_ticks(std::vector<int64_t>& ticks_ns) {
        for (int64_t& tick_ns : ticks_ns) {
            send();
            const int64_t started = thread_cpu_ns();
            world_.advance(now_, kNoBudget);
            tick_ns = std::min(tick_ns, thread_cpu_ns() - started);
        }
    }
    void message() { world_.contender().message(order_.at(sent_++), now_); }

  private:
    void send() {
        ++now_;
        ++tick_;
        const uint64_t until = tick_ * beat_.connections / beat_.interval_ticks();
        for (; sent_ < until && sent_ < beat_.connections; ++sent_)
            world_.contender().start(order_.at(sent_), now_);
        for (; sent_ < until; ++sent_) world_.contender().message(order_.at(sent_), now_);
    }

    Beat beat_;
    const Order& order_;
    World<C> world_;
    Tick now_ = kStart;
    uint64_t tick_ = 0;
    uint64_t sent_ = 0;
};

struct BeatResult {
    double ns_per_beat = 0;
    double rearm_ns = 0;  // of a message, in a burst of one from every connection
    double wake_ns = 0;   // of a question when to wake
    double worst_tick_us = 0;
    double bytes = 0;
};

constexpr uint32_t kRuns = 3;
constexpr uint32_t kWakeQueries = 1024;

// What one run of a workload gives; `costs` are in ps.
struct BeatSamples {
    std::vector<int64_t> costs, rearms, wakes, ticks_ns;
};

template <class C>
double sample_beating(const Beat& beat, BeatSamples& samples) {
    Beating<C> beating(beat);
    // Windows of whole intervals, because what a lazy wheel has to do repeats with them.
    const uint32_t window = C::kSlow ? 2 * kTicksPerSecond : beat.interval_ticks();
    for (uint32_t count = 0; count < 3; ++count) {
        const int64_t started = thread_cpu_ns();
        const uint64_t messages = beating.run(window);
        samples.costs.push_back((thread_cpu_ns() - started) * 1000 /
                                static_cast<int64_t>(messages));
    }
    samples.ticks_ns.resize(window, INT64_MAX);
    beating.time_ticks(samples.ticks_ns);
    const double bytes = beating.world().bytes_per_connection();
    for (uint32_t count = 0; count < 50; ++count) {
        beating.run(1);
        const int64_t started = thread_cpu_ns();
        for (uint32_t query = 0; query < kWakeQueries; ++query)
            benchmark::DoNotOptimize(beating.world().contender().next_wake(beating.now()));
        samples.wakes.push_back((thread_cpu_ns() - started) * 1000 / kWakeQueries);
    }
    const uint32_t burst = C::kSlow ? kMillion / 8 : kMillion;
    for (uint32_t count = 0; count < 3; ++count) {
        const int64_t started = thread_cpu_ns();
        for (uint32_t message = 0; message < burst; ++message) beating.message();
        samples.rearms.push_back((thread_cpu_ns() - started) * 1000 / burst);
    }
    return bytes;
}

// Measured once for all rows that quote it.
template <class C>
const BeatResult& beat_result(const Beat& beat) {
    static std::map<std::pair<uint32_t, uint32_t>, BeatResult> results;
    const auto key = std::pair{beat.connections, beat.interval_s};
    if (const auto known = results.find(key); known != results.end()) return known->second;
    BeatSamples samples;
    BeatResult result;
    const uint32_t runs = beat.connections > kMillion ? 1 : kRuns;
    for (uint32_t run = 0; run < runs; ++run) result.bytes = sample_beating<C>(beat, samples);
    result.ns_per_beat = static_cast<double>(median(samples.costs)) / 1000;
    result.rearm_ns = static_cast<double>(median(samples.rearms)) / 1000;
    result.wake_ns = static_cast<double>(median(samples.wakes)) / 1000;
    result.worst_tick_us =
        static_cast<double>(*std::max_element(samples.ticks_ns.begin(), samples.ticks_ns.end())) /
        1000;
    return results[key] = result;
}

// Google Benchmark keeps the time as a row's first figure; a net time below nothing is noise.
void report_ns(benchmark::State& state, double ns) {
    for (auto _ : state) state.SetIterationTime(std::max(ns, 0.01) * 1e-9);
}

template <class C>
void heartbeat(benchmark::State& state, Beat beat) {
    const BeatResult& harness = beat_result<Harness>(beat);
    const BeatResult& result = beat_result<C>(beat);
    report_ns(state, result.ns_per_beat - harness.ns_per_beat);
    state.SetLabel("net timer cost of a heartbeat");
    if (beat.connections == kMillion) state.counters["worst_tick_us"] = result.worst_tick_us;
    state.counters["bytes_per_connection"] = result.bytes;
}

template <class C>
void rearm(benchmark::State& state, Beat beat) {
    report_ns(state, beat_result<C>(beat).rearm_ns - beat_result<Harness>(beat).rearm_ns);
    state.SetLabel("net cost of a message");
}

template <class C>
void next_wake(benchmark::State& state, Beat beat) {
    report_ns(state, beat_result<C>(beat).wake_ns);
    state.SetLabel("asking when to wake");
}

// 100 k of a million are due on one tick, all others a minute later; measured until they are gone,
// once in one go and once in slices, as a server that must not stall would do it.
constexpr uint32_t kStormSize = 100'000;
constexpr uint32_t kStormTimeout = 90 * kTicksPerSecond;
constexpr uint32_t kOthersLater = 60 * kTicksPerSecond;
constexpr uint32_t kOthersPerTick = 512;

template <class C>
int64_t storm_once(uint32_t budget, std::vector<int64_t>& slices_ns) {
    World<C> world(kMillion, kStormTimeout);
    const Order& who = order(kMillion);
    uint32_t next = 0;
    for (; next < kStormSize; ++next) world.contender().start(who.at(next), kStart);
    Tick now = kStart + kOthersLater;
    while (next < kMillion) {
        world.advance(++now, kNoBudget);
        for (uint32_t count = 0; count < kOthersPerTick && next < kMillion; ++count)
            world.contender().start(who.at(next++), now);
    }
    world.advance(kStart + kStormTimeout - 1, kNoBudget);
    PULSE_ASSERT(world.expired() == 0);

    now = kStart + kStormTimeout;
    const int64_t started = thread_cpu_ns();
    int64_t before = started;
    size_t slice = 0;
    while (world.expired() < kStormSize) {
        now += world.advance(now, budget);  // those who find them late are given the time
        const int64_t after = thread_cpu_ns();
        if (slice == slices_ns.size()) slices_ns.push_back(INT64_MAX);
        slices_ns[slice] = std::min(slices_ns[slice], after - before);
        ++slice;
        before = after;
    }
    PULSE_ASSERT(world.expired() == kStormSize);
    return before - started;
}

template <class C>
void storm(benchmark::State& state) {
    std::vector<int64_t> totals, slices_ns, whole_ns;
    for (uint32_t run = 0; run < kRuns; ++run) {
        totals.push_back(storm_once<C>(kNoBudget, whole_ns));
        storm_once<C>(kSliceBudget, slices_ns);  // slice by slice the best of the runs, as ticks
    }
    const auto total_ns = static_cast<double>(median(totals));
    report_ns(state, total_ns);
    state.SetLabel("all 100,000 expiries");
    state.counters["ns_per_expiry"] = total_ns / kStormSize;
    state.counters["slice_p99_us"] = static_cast<double>(quantile(slices_ns, 99, 100)) / 1000;
    state.counters["slice_max_us"] = static_cast<double>(slices_ns.back()) / 1000;
}

template <class C>
void add_contender() {
    const auto add = [](const char* workload, const char* size, auto run) {
        const std::string name = std::string(workload) + "/" + size + "/" + C::kName;
        benchmark::RegisterBenchmark(name.c_str(), run)
            ->UseManualTime()
            ->Iterations(1)
            ->Unit(benchmark::kNanosecond);
    };
    constexpr Beat kOneMillion{kMillion, 30, 90}, kFourMillion{4 * kMillion, 30, 90};
    constexpr Beat kLong{kMillion, 300, 600};
    const auto with = [](auto run, Beat beat) {
        return [run, beat](benchmark::State& state) { run(state, beat); };
    };
    add("heartbeat", "1M", with(heartbeat<C>, kOneMillion));
    add("heartbeat", "4M", with(heartbeat<C>, kFourMillion));
    if (std::is_same_v<C, PulseAsking>) return;  // the rest would say nothing new
    add("heartbeat_long", "1M", with(heartbeat<C>, kLong));
    add("rearm", "1M", with(rearm<C>, kOneMillion));
    add("next_wake", "1M", with(next_wake<C>, kOneMillion));
    add("storm", "100k_of_1M", storm<C>);
}

}  // namespace
}  // namespace pulse::bench

int main(int count, char** arguments) {
    using namespace pulse::bench;
    add_contender<Pulse>();
    add_contender<PulseAsking>();
    add_contender<Sweep>();
    add_contender<EagerWheel>();
    add_contender<LinuxWheel>();
    add_contender<QuadHeap>();
    add_contender<PriorityQueue>();
    add_contender<IntrusiveTree>();
    add_contender<Multimap>();
    benchmark::Initialize(&count, arguments);
    if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 2;
    benchmark::RunSpecifiedBenchmarks();
}
