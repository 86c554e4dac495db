// What a whole server does at a load that it can serve and at one that it cannot: one reactor on
// one core, a client on another, 15,000 WebSocket connections over loopback, of which each sends a
// masked empty ping when it is due. Rows are load/size/contender: 1,000, 15,000, 75,000 and 150,000
// pings a second offered; the last is more than a server serves here. The rounds of
// all rows alternate.
//
//   pulse, epoll                  the server over io_uring and over epoll
//   pulse_at_once, epoll_at_once  the same with --gather off
//   floor, ring_floor             the least code over epoll and over io_uring (floor_epoll.h): one
//                                 receive, one constant answer; the head of an upgrade is read
//
// The time of a row is the server's CPU per answered heartbeat. Counters:
//   spread              the most less the least of its rounds, in parts of the median
//   offered, answered   pings and pongs a second
//   wait_us             from a ping to its answer, the mean: what gathering costs
//   open_us             the server's CPU to accept a connection and upgrade it, one at a time
//   lag_ms              the longest judge lag
//   gap                 the longest time between two answers of one connection, in mean gaps
//   overflows           completions that a ring had no room for
//   calls               system calls per heartbeat, of the backend or the floor
//   gathered            turns a second that rested first
//   evicted             must be 0: every client beats
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "net/protocols/listen_uri.h"
#include "net/server/descriptors.h"
#include "net/server/machine.h"
#include "net/server/server.h"

#include "bench/floor_epoll.h"
#include "bench/floor_ring.h"
#include "bench/floor_websocket.h"

namespace pulse {
namespace {

constexpr uint32_t kConnections = 15'000;
constexpr uint32_t kPerSource = 8'000;  // connections of one source address
constexpr uint16_t kPort = 19'473;
constexpr Nanos kWarmUp = kSecond;
constexpr Nanos kMeasured = 4 * kSecond;
// A client that is later than this gives up pings instead of sending ever more at once.
constexpr Nanos kLateMax = 20 * kMillisecond;
constexpr uint32_t kSendsAtOnce = 64;
constexpr int kRounds = 3;

Nanos clock_of(clockid_t id) {
    timespec now{};
    clock_gettime(id, &now);
    return Nanos{now.tv_sec} * kSecond + now.tv_nsec;
}
Nanos now() { return clock_of(CLOCK_MONOTONIC); }

void pin_to_core(uint32_t core) {
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    pthread_setaffinity_np(pthread_self(), sizeof cores, &cores);
}

// All the peers, in one thread with a descriptor table of its own.
class Client {
  public:
    struct Seen {
        uint64_t sent = 0;
        uint64_t answered = 0;
        Nanos waited = 0;  // for all answers together
        Nanos longest_gap = 0;
        Nanos measured = 0;
        Nanos cpu = 0;          // the client's
        Nanos process_cpu = 0;  // with the server's
        Nanos server_cpu_to_open = 0;
    };

    Client(uint32_t rate, uint32_t core) : rate_(rate), core_(core), thread_([this] { run(); }) {}
    ~Client() {
        may_leave_ = true;
        thread_.join();
    }
    bool connected() const { return connected_; }
    bool done() const { return done_; }
    void start() { may_start_ = true; }
    const Seen& seen() const { return seen_; }  // once done()

  private:
    void run() {
        pin_to_core(core_);
        // Where it is refused the server and the client share one.
        static_cast<void>(own_descriptor_table());
        const Nanos began = server_cpu();
        connect_all();
        seen_.server_cpu_to_open = server_cpu() - began;
        connected_ = true;
        while (!may_start_) usleep(1'000);
        beat();
        done_ = true;
        while (!may_leave_) usleep(1'000);
        for (const int descriptor : sockets_) ::close(descriptor);
        ::close(epoll_);
    }

    // All that this process had and this thread had not.
    static Nanos server_cpu() {
        return clock_of(CLOCK_PROCESS_CPUTIME_ID) - clock_of(CLOCK_THREAD_CPUTIME_ID);
    }
    void connect_all() {
        static constexpr char kUpgrade[] =
            "GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        epoll_ = epoll_create1(EPOLL_CLOEXEC);
        SocketAddress to = *parse_address("127.0.0.1:" + std::to_string(kPort));
        for (uint32_t i = 0; i < kConnections; ++i) {
            const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            SocketAddress source = *parse_address("127.0.0.1:0");
            source.v4.sin_addr.s_addr = htonl(0x7f000002u + i / kPerSource);
            const int yes = 1;
            setsockopt(descriptor, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &yes, sizeof yes);
            setsockopt(descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &yes, sizeof yes);
            PULSE_ASSERT(bind(descriptor, &source.base, source.size_bytes()) == 0);
            PULSE_ASSERT(::connect(descriptor, &to.base, to.size_bytes()) == 0);
            PULSE_ASSERT(::send(descriptor, kUpgrade, sizeof kUpgrade - 1, 0) > 0);
            char answer[1'024];
            PULSE_ASSERT(::recv(descriptor, answer, sizeof answer, 0) > 12);
            PULSE_ASSERT(std::memcmp(answer, "HTTP/1.1 101", 12) == 0);
            epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u32 = i}};
            PULSE_ASSERT(epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event) == 0);
            sockets_.push_back(descriptor);
        }
        answered_at_.assign(kConnections, 0);
        sent_at_.assign(kConnections, 0);
    }

    // Ping k is due k / rate after the start, on connection k modulo their number.
    void beat() {
        const Nanos begin = now();
        const Nanos from = begin + kWarmUp;
        const Nanos until = from + kMeasured;
        const Nanos pace = kSecond / rate_;
        Nanos due = begin;
        uint32_t next = 0;
        Seen at_start{};
        for (Nanos time = begin; time < until; time = now()) {
            if (seen_.measured == 0 && time >= from) {
                at_start = seen_;
                at_start.cpu = clock_of(CLOCK_THREAD_CPUTIME_ID);
                at_start.process_cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
                answered_at_.assign(kConnections, time);
                seen_.longest_gap = 0;
                seen_.measured = 1;
            }
            if (due < time - kLateMax) due = time - kLateMax;
            uint32_t sent = 0;
            for (; due <= time && sent < kSendsAtOnce; due += pace, ++sent) {
                seen_.sent += ping(next);
                sent_at_[next] = time;
                next = (next + 1) % kConnections;
            }
            take_answers(sent > 0 ? 0 : due - time);
        }
        const Nanos end = now();
        for (const Nanos last : answered_at_)
            seen_.longest_gap = std::max(seen_.longest_gap, end - last);
        seen_.measured = end - from;
        seen_.sent -= at_start.sent;
        seen_.answered -= at_start.answered;
        seen_.waited -= at_start.waited;
        seen_.cpu = clock_of(CLOCK_THREAD_CPUTIME_ID) - at_start.cpu;
        seen_.process_cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - at_start.process_cpu;
    }
    uint64_t ping(uint32_t number) {
        static constexpr uint8_t kPing[] = {0x89, 0x80, 0, 0, 0, 0};
        const ssize_t sent =
            ::send(sockets_[number], kPing, sizeof kPing, MSG_DONTWAIT | MSG_NOSIGNAL);
        PULSE_ASSERT(sent == sizeof kPing);
        return 1;
    }
    void take_answers(Nanos wait) {
        epoll_event events[256];
        const timespec timeout{.tv_sec = 0, .tv_nsec = std::clamp<Nanos>(wait, 0, kMillisecond)};
        const int count = epoll_pwait2(epoll_, events, 256, &timeout, nullptr);
        const Nanos time = count > 0 ? now() : 0;
        for (int i = 0; i < count; ++i) {
            const uint32_t number = events[i].data.u32;
            uint8_t bytes[512];
            const ssize_t got = ::recv(sockets_[number], bytes, sizeof bytes, MSG_DONTWAIT);
            PULSE_ASSERT(got > 0 && bytes[0] >= 0x89);
            // A pong has two bytes, and so has a probe of the server, which is a ping.
            seen_.answered += static_cast<uint64_t>(got) / 2;
            seen_.waited += (time - sent_at_[number]) * (got / 2);
            seen_.longest_gap = std::max(seen_.longest_gap, time - answered_at_[number]);
            answered_at_[number] = time;
        }
    }

    const uint32_t rate_;
    const uint32_t core_;
    int epoll_ = -1;
    std::vector<int> sockets_;
    std::vector<Nanos> answered_at_, sent_at_;
    Seen seen_;
    std::atomic<bool> connected_{false};
    std::atomic<bool> may_start_{false};
    std::atomic<bool> done_{false};
    std::atomic<bool> may_leave_{false};
    std::thread thread_;
};

// What a server says of itself.
struct Reading {
    uint64_t calls = 0;
    Nanos lag = 0;
    Nanos lag_max = 0;
    uint64_t overflows = 0;
    uint64_t evicted = 0;
    uint64_t turns_gathered = 0;
};

// A server on the first core, until it is destroyed.
class Served {
  public:
    virtual ~Served() = default;
    virtual Reading read() = 0;
};

ServerPlan plan_for(BackendChoice backend, uint32_t rate, Nanos gather) {
    ServerOptions options;
    options.listen = {*parse_listen_uri("ws://127.0.0.1:" + std::to_string(kPort))};
    options.backend = backend;
    options.reactors = 1;
    options.pin = true;
    options.gather = gather;
    options.max_connections = kConnections;
    options.max_connections_given = true;
    // Looks that are due all the time, so that there is a lag to see, and none is probed: a client
    // beats four times an interval.
    options.heartbeat_interval = std::max<Nanos>(2, 4 * kConnections / rate) * kSecond;
    options.heartbeat_timeout = 30 * options.heartbeat_interval;
    options.heartbeat_probe = rate >= kConnections;  // an answer to a probe is not counted apart
    options.drain_timeout = 10 * kMillisecond;
    Result<ServerPlan> plan = plan_server(options);
    PULSE_ASSERT(plan && plan->cores.size() >= 2);
    plan->cores.resize(2);
    return *plan;
}

class PulseServed final : public Served {
  public:
    PulseServed(BackendChoice backend, uint32_t rate, Nanos gather) {
        Result<std::unique_ptr<Server>> started = Server::start(plan_for(backend, rate, gather));
        if (!started) std::fprintf(stderr, "%s\n", started.error().c_str());
        PULSE_ASSERT(started);
        server_ = std::move(*started);
    }
    ~PulseServed() override {
        server_->stop();
        server_->ended(5 * kSecond);
    }
    Reading read() override {
        const ReactorStats& stats = server_->stats().total;
        return {stats.io.system_calls,          stats.gauges.judge_lag,
                stats.gauges.judge_lag_max,     stats.io.completion_overflows,
                stats.metrics[Metric::evicted], stats.metrics[Metric::turns_gathered]};
    }

  private:
    std::unique_ptr<Server> server_;
};

// Answers are kept for as long as the floor over io_uring wants them.
class FloorAnswer {
  public:
    std::string_view operator()(uint8_t* bytes, size_t count) {
        static constexpr std::string_view kPong("\x8a\0", 2);
        if (bytes[0] != 'G') return kPong;
        std::string& head = heads_[next_++ % heads_.size()];
        head.clear();
        bench::upgrade({reinterpret_cast<const char*>(bytes), count}, head);
        return head;
    }

  private:
    std::vector<std::string> heads_ = std::vector<std::string>(2 * bench::kFloorSubmissions);
    size_t next_ = 0;
};

template <class Floor>
class FloorServed final : public Served {
  public:
    FloorServed() {
        while (!listening_) usleep(1'000);
    }
    ~FloorServed() override {
        stops_ = true;
        thread_.join();
    }
    Reading read() override { return {.calls = calls_}; }

  private:
    void run() {
        pin_to_core(Machine().allowed_cores()[0]);
        // As the server's reactors do; where it is refused they share the process's.
        static_cast<void>(own_descriptor_table());
        const int listener = bench::floor_listener(kPort);
        PULSE_ASSERT(listener >= 0);
        Floor floor(listener, FloorAnswer{});
        listening_ = true;
        while (!stops_) {
            floor.turn(100);
            calls_.store(floor.system_calls(), std::memory_order_relaxed);
        }
    }

    std::atomic<bool> listening_{false}, stops_{false};
    std::atomic<uint64_t> calls_{0};
    std::thread thread_{[this] { run(); }};
};

using Start = std::unique_ptr<Served> (*)(uint32_t rate);

void measure(benchmark::State& state, Start start, uint32_t rate) {
    const std::unique_ptr<Served> server = start(rate);
    for (auto _ : state) {
        Client client(rate, Machine().allowed_cores()[1]);
        while (!client.connected()) usleep(10'000);
        usleep(100'000);
        const Reading before = server->read();
        client.start();
        Nanos lag = 0;
        while (!client.done()) {
            usleep(100'000);
            lag = std::max(lag, server->read().lag);
        }
        const Reading after = server->read();
        if (after.lag_max > before.lag_max) lag = after.lag_max;
        const Client::Seen& seen = client.seen();
        const auto answered = static_cast<double>(seen.answered);
        const double seconds = static_cast<double>(seen.measured) / kSecond;
        const double mean_gap = kConnections * seconds / answered;
        const double all = answered * static_cast<double>(kWarmUp + seen.measured) /
                           static_cast<double>(seen.measured);
        const Nanos cpu = seen.process_cpu - seen.cpu;
        state.SetIterationTime(static_cast<double>(cpu) / kSecond / answered);
        state.counters["offered"] = static_cast<double>(seen.sent) / seconds;
        state.counters["answered"] = answered / seconds;
        state.counters["wait_us"] = static_cast<double>(seen.waited) / 1e3 / answered;
        state.counters["open_us"] =
            static_cast<double>(seen.server_cpu_to_open) / 1e3 / kConnections;
        state.counters["lag_ms"] = static_cast<double>(lag) / kMillisecond;
        state.counters["gap"] = static_cast<double>(seen.longest_gap) / kSecond / mean_gap;
        // Of the warming up, too.
        state.counters["calls"] = static_cast<double>(after.calls - before.calls) / all;
        state.counters["overflows"] = static_cast<double>(after.overflows - before.overflows);
        state.counters["evicted"] = static_cast<double>(after.evicted);
        state.counters["gathered"] =
            static_cast<double>(after.turns_gathered - before.turns_gathered) / seconds;
    }
}

template <BackendChoice kBackend, Nanos kGather>
std::unique_ptr<Served> pulse_server(uint32_t rate) {
    return std::make_unique<PulseServed>(kBackend, rate, kGather);
}
template <class Floor>
std::unique_ptr<Served> floor_server(uint32_t) {
    return std::make_unique<FloorServed<Floor>>();
}

double spread(const std::vector<double>& rounds) {
    const auto [least, most] = std::minmax_element(rounds.begin(), rounds.end());
    std::vector<double> sorted = rounds;
    std::sort(sorted.begin(), sorted.end());
    return (*most - *least) / sorted[sorted.size() / 2];
}

void add(uint32_t rate) {
    const auto row = [&](const char* contender, Start start) {
        const std::string name =
            std::to_string(rate) + "/" + std::to_string(kConnections) + "/" + contender;
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=](benchmark::State& state) { measure(state, start, rate); })
            ->Iterations(1)
            ->Repetitions(kRounds)
            ->ReportAggregatesOnly()
            ->ComputeStatistics("spread", spread, benchmark::StatisticUnit::kPercentage)
            ->UseManualTime();
    };
    row("pulse", pulse_server<BackendChoice::io_uring, kGatherAuto>);
    row("epoll", pulse_server<BackendChoice::epoll, kGatherAuto>);
    row("pulse_at_once", pulse_server<BackendChoice::io_uring, 0>);
    row("epoll_at_once", pulse_server<BackendChoice::epoll, 0>);
    row("floor", floor_server<bench::EpollFloor<FloorAnswer>>);
    row("ring_floor", floor_server<bench::RingFloor<FloorAnswer>>);
}

}  // namespace
}  // namespace pulse

int main(int argc, char** argv) {
    using namespace pulse;
    raise_descriptor_limit();
    for (const uint32_t rate : {1'000, 15'000, 75'000, 150'000}) add(rate);
    std::vector<char*> arguments(argv, argv + argc);
    std::string interleave = "--benchmark_enable_random_interleaving=true";
    arguments.insert(arguments.begin() + 1, interleave.data());
    int count = static_cast<int>(arguments.size());
    benchmark::Initialize(&count, arguments.data());
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
