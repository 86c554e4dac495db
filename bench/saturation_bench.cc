// What a whole server does at a load that it can serve and at one that it cannot: one reactor on
// one core, a client on another, 15,000 WebSocket connections over loopback, of which each sends a
// masked empty ping when it is due. Rows are load/size/contender: 1,000, 15,000, 75,000 and 150,000
// pings a second offered; the last is more than a server serves here. The rounds of
// all rows alternate.
//
// The time of a row is the server's CPU per answered heartbeat. Counters:
//   offered, answered   pings and pongs a second
//   lag_ms              the longest judge lag
//   gap                 the longest time between two answers of one connection, in mean gaps
//   overflows           completions that a ring had no room for
//   calls               system calls of the backend per heartbeat
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
#include <cstring>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "net/protocols/listen_uri.h"
#include "net/server/descriptors.h"
#include "net/server/server.h"

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
        Nanos longest_gap = 0;
        Nanos measured = 0;
        Nanos cpu = 0;          // the client's
        Nanos process_cpu = 0;  // with the server's
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
        connect_all();
        connected_ = true;
        while (!may_start_) usleep(1'000);
        beat();
        done_ = true;
        while (!may_leave_) usleep(1'000);
        for (const int descriptor : sockets_) ::close(descriptor);
        ::close(epoll_);
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
            seen_.longest_gap = std::max(seen_.longest_gap, time - answered_at_[number]);
            answered_at_[number] = time;
        }
    }

    const uint32_t rate_;
    const uint32_t core_;
    int epoll_ = -1;
    std::vector<int> sockets_;
    std::vector<Nanos> answered_at_;
    Seen seen_;
    std::atomic<bool> connected_{false};
    std::atomic<bool> may_start_{false};
    std::atomic<bool> done_{false};
    std::atomic<bool> may_leave_{false};
    std::thread thread_;
};

ServerPlan plan_for(BackendChoice backend, uint32_t rate) {
    ServerOptions options;
    options.listen = {*parse_listen_uri("ws://127.0.0.1:" + std::to_string(kPort))};
    options.backend = backend;
    options.reactors = 1;
    options.pin = true;
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

void measure(benchmark::State& state, BackendChoice backend, uint32_t rate) {
    const ServerPlan plan = plan_for(backend, rate);
    Result<std::unique_ptr<Server>> server = Server::start(plan);
    if (!server) return state.SkipWithError(server.error().c_str());
    for (auto _ : state) {
        Client client(rate, plan.cores[1]);
        while (!client.connected()) usleep(10'000);
        usleep(100'000);
        const ReactorStats before = (*server)->stats().total;
        client.start();
        Nanos lag = 0;
        while (!client.done()) {
            usleep(100'000);
            lag = std::max(lag, (*server)->stats().total.gauges.judge_lag);
        }
        const ReactorStats& after = (*server)->stats().total;
        if (after.gauges.judge_lag_max > before.gauges.judge_lag_max)
            lag = after.gauges.judge_lag_max;
        const Client::Seen& seen = client.seen();
        const auto answered = static_cast<double>(seen.answered);
        const double seconds = static_cast<double>(seen.measured) / kSecond;
        const double mean_gap = kConnections * seconds / answered;
        const Nanos cpu = seen.process_cpu - seen.cpu;
        state.SetIterationTime(static_cast<double>(cpu) / kSecond / answered);
        state.counters["offered"] = static_cast<double>(seen.sent) / seconds;
        state.counters["answered"] = answered / seconds;
        state.counters["lag_ms"] = static_cast<double>(lag) / kMillisecond;
        state.counters["gap"] = static_cast<double>(seen.longest_gap) / kSecond / mean_gap;
        state.counters["calls"] =
            static_cast<double>(after.io.system_calls - before.io.system_calls) /
            static_cast<double>(after.metrics[Metric::heartbeats_answered] -
                                before.metrics[Metric::heartbeats_answered]);
        state.counters["overflows"] =
            static_cast<double>(after.io.completion_overflows - before.io.completion_overflows);
        state.counters["evicted"] = static_cast<double>(after.metrics[Metric::evicted]);
    }
    (*server)->stop();
    (*server)->ended(5 * kSecond);
}

void add(uint32_t rate) {
    const auto row = [&](const char* contender, BackendChoice backend) {
        const std::string name =
            std::to_string(rate) + "/" + std::to_string(kConnections) + "/" + contender;
        benchmark::RegisterBenchmark(
            name.c_str(), [=](benchmark::State& state) { measure(state, backend, rate); })
            ->Iterations(1)
            ->Repetitions(kRounds)
            ->ReportAggregatesOnly()
            ->UseManualTime();
    };
    row("pulse", BackendChoice::io_uring);
    row("epoll", BackendChoice::epoll);
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
