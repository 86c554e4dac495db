// The servers that saturation_bench measures beside each other, each by a name: ours over both
// backends and the least code that answers (floor_epoll.h, floor_ring.h). All serve on the first
// core that this process may use.
#pragma once

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
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
#include "bench/thread_cpu.h"

namespace pulse::bench {

// What a server says of itself; the floors know only their calls.
struct Reading {
    uint64_t calls = 0;
    uint64_t turns = 0;
    uint64_t turns_gathered = 0;
    Nanos lag = 0;
    Nanos lag_max = 0;
    uint64_t overflows = 0;
    uint64_t evicted = 0;
};

// A server, until it is destroyed.
class Served {
  public:
    virtual ~Served() = default;
    virtual Reading read() = 0;
};

// What a server is to be made for.
struct Terms {
    uint16_t port = 0;
    uint32_t connections = 0;
    uint32_t rate = 0;
    // Looks at connections are due all the time, so that there is a judge lag to see.
    bool looks = false;
};

class PulseServed final : public Served {
  public:
    PulseServed(BackendChoice backend, Nanos gather, const Terms& terms) {
        Result<std::unique_ptr<Server>> started = Server::start(plan(backend, gather, terms));
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
        return {.calls = stats.io.system_calls,
                .turns = stats.metrics[Metric::turns],
                .turns_gathered = stats.metrics[Metric::turns_gathered],
                .lag = stats.gauges.judge_lag,
                .lag_max = stats.gauges.judge_lag_max,
                .overflows = stats.io.completion_overflows,
                .evicted = stats.metrics[Metric::evicted]};
    }

  private:
    static ServerPlan plan(BackendChoice backend, Nanos gather, const Terms& terms) {
        ServerOptions options;
        options.listen = {*parse_listen_uri("ws://127.0.0.1:" + std::to_string(terms.port))};
        options.backend = backend;
        options.reactors = 1;
        options.pin = true;
        options.gather = gather;
        options.max_connections = terms.connections;
        options.max_connections_given = true;
        // With looks none is probed: a peer beats four times an interval. Without, peers may be
        // silent while others have their rounds.
        options.heartbeat_interval = 600 * kSecond;
        if (terms.looks) {
            options.heartbeat_interval =
                std::max<Nanos>(2, 4 * terms.connections / terms.rate) * kSecond;
        }
        options.heartbeat_timeout = 30 * options.heartbeat_interval;
        // A probe is not told from an answer.
        options.heartbeat_probe = terms.looks && terms.rate >= terms.connections;
        options.drain_timeout = 10 * kMillisecond;
        Result<ServerPlan> plan = plan_server(options);
        PULSE_ASSERT(plan && plan->cores.size() >= 2);
        plan->cores.resize(2);
        return *plan;
    }

    std::unique_ptr<Server> server_;
};

// A pong for each ping of a read, none for a pong. The heads of upgrades are kept for as long as
// the floor over io_uring wants them.
class FloorAnswer {
  public:
    std::string_view operator()(uint8_t* bytes, size_t count) {
        if (bytes[0] == 0x8a) return {kPongs.data(), 0};
        if (bytes[0] == 0x89) return kPongs.substr(0, 2 * (count / kFrameBytes));
        std::string& head = heads_[next_++ % heads_.size()];
        head.clear();
        upgrade({reinterpret_cast<const char*>(bytes), count}, head);
        return head;
    }

  private:
    static constexpr size_t kFrameBytes = 6;
    static constexpr std::string_view kPongs{"\x8a\0\x8a\0\x8a\0\x8a\0\x8a\0\x8a\0\x8a\0\x8a\0",
                                             16};
    std::vector<std::string> heads_ = std::vector<std::string>(2 * kFloorSubmissions);
    size_t next_ = 0;
};

template <class Floor>
class FloorServed final : public Served {
  public:
    explicit FloorServed(uint16_t port) : port_(port) {
        while (!listening_) usleep(1'000);
    }
    ~FloorServed() override {
        stops_ = true;
        thread_.join();
    }
    Reading read() override { return {.calls = calls_, .turns = turns_}; }

  private:
    void run() {
        pin_to_core(Machine().allowed_cores()[0]);
        // As the server's reactors do; where it is refused they share the process's.
        static_cast<void>(own_descriptor_table());
        const int listener = floor_listener(port_);
        PULSE_ASSERT(listener >= 0);
        Floor floor(listener, FloorAnswer{});
        listening_ = true;
        while (!stops_) {
            floor.turn(100);
            calls_.store(floor.system_calls(), std::memory_order_relaxed);
            turns_.store(turns_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        }
    }

    const uint16_t port_;
    std::atomic<bool> listening_{false}, stops_{false};
    std::atomic<uint64_t> calls_{0}, turns_{0};
    std::thread thread_{[this] { run(); }};
};

// What rows are called, and how to begin one; `epoll` is the same server over epoll, `at_once` over
// the same backend without gathering. A name with `_every_4` behind it has clients that want one
// answer in four.
struct Contender {
    std::string_view name;
    std::unique_ptr<Served> (*start)(const Terms& terms);
    std::string_view epoll = {}, at_once = {};
};

template <BackendChoice kBackend, Nanos kGather>
std::unique_ptr<Served> start_pulse(const Terms& terms) {
    return std::make_unique<PulseServed>(kBackend, kGather, terms);
}
template <class Floor>
std::unique_ptr<Served> start_floor(const Terms& terms) {
    return std::make_unique<FloorServed<Floor>>(terms.port);
}

inline constexpr Contender kContenders[] = {
    {"floor", start_floor<EpollFloor<FloorAnswer>>},
    {"ring_floor", start_floor<RingFloor<FloorAnswer>>},
    {"epoll_at_once", start_pulse<BackendChoice::epoll, 0>},
    {"pulse_at_once", start_pulse<BackendChoice::io_uring, 0>, "epoll_at_once"},
    {"epoll", start_pulse<BackendChoice::epoll, kGatherAuto>, {}, "epoll_at_once"},
    {"pulse", start_pulse<BackendChoice::io_uring, kGatherAuto>, "epoll", "pulse_at_once"},
};

}  // namespace pulse::bench
