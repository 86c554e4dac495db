// What a silent connection costs a backend, side by side: kernel and user memory while it is idle,
// CPU of the server's thread per heartbeat answered, CPU per eviction.
//
// One thread serves, another is all the peers, on loopback, each with a descriptor table of its
// own. A heartbeat is an 8-byte ping that is answered with 8 bytes. Heartbeats come
//   burst    512 at once, the next 512 when all are answered: what a busy server sees
//   trickle  one at a time: the server sleeps and wakes for each
//   paced    10,000 a second, one at a time, whether answered or not
// and the time of a row is the server's CPU per heartbeat. Counters: system calls per heartbeat;
// close_us, CPU per connection that is reset, on_closed included; kernel_B, what a connection takes
// from the slabs of waiting beyond a socket that is accepted and left alone (nothing else on the
// machine may be busy with sockets meanwhile); user_B, RSS.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/check.h"
#include "core/connection.h"
#include "net/io/epoll_backend.h"
#include "net/io/uring_backend.h"
#include "net/protocols/listen_uri.h"
#include "net/server/descriptors.h"

namespace pulse {
namespace {

constexpr uint32_t kPerSource = 8'000;  // connections of one source address
constexpr uint32_t kBurst = 512;
constexpr size_t kPingBytes = 8;
constexpr Nanos kPace = 100'000;

Nanos thread_cpu() {
    timespec spent{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return Nanos{spent.tv_sec} * kSecond + spent.tv_nsec;
}

// In the slabs that waiting takes from: requests of io_uring (and kmalloc-512 and -96, for receives
// that are armed) and entries of epoll. The sockets' own are left out.
int64_t slab_bytes() {
    int64_t bytes = 0;
    for (const std::string cache :
         {"io_kiocb", "eventpoll_epi", "eventpoll_pwq", "kmalloc-96", "kmalloc-512"}) {
        const std::string folder = "/sys/kernel/slab/" + cache + "/";
        int64_t objects = 0;
        int64_t object_bytes = 0;
        std::ifstream(folder + "objects") >> objects;
        std::ifstream(folder + "slab_size") >> object_bytes;
        bytes += objects * object_bytes;
    }
    return bytes;
}

int64_t resident_bytes() {
    int64_t pages = 0;
    std::ifstream file("/proc/self/statm");
    file >> pages >> pages;
    return pages * sysconf(_SC_PAGESIZE);
}

// All the peers: blocking sockets of one thread with its own table.
class Peers {
  public:
    enum Task : int { idle, connect, burst, trickle, paced, leave };

    Peers(const SocketAddress& to, uint32_t count)
        : to_(to), count_(count), thread_([this] { run(); }) {}
    ~Peers() {
        task_ = leave;
        thread_.join();
    }
    void start(Task task, uint32_t heartbeats = 0) {
        heartbeats_ = heartbeats;
        done_ = false;
        task_ = task;
    }
    bool done() const { return done_; }

  private:
    void run() {
        // As the server's reactors do; where it is refused they share the process's.
        static_cast<void>(own_descriptor_table());
        while (task_ != leave) {
            const int task = task_.exchange(idle);
            if (task == connect) connect_all();
            if (task == burst) beat(kBurst);
            if (task == trickle) beat(1);
            if (task == paced) beat_paced();
            if (task == leave) break;
            if (task != idle) done_ = true;
            usleep(100);
        }
        for (const int descriptor : sockets_) ::close(descriptor);
    }
    void connect_all() {
        for (uint32_t i = 0; i < count_; ++i) {
            const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            SocketAddress source = *parse_address("127.0.0.1:0");
            source.v4.sin_addr.s_addr = htonl(0x7f000002u + i / kPerSource);
            const int yes = 1;
            setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof(yes));
            setsockopt(descriptor, IPPROTO_TCP, 1 /* TCP_NODELAY */, &yes, sizeof(yes));
            PULSE_ASSERT(bind(descriptor, &source.base, source.size_bytes()) == 0);
            PULSE_ASSERT(::connect(descriptor, &to_.base, to_.size_bytes()) == 0);
            sockets_.push_back(descriptor);
        }
        std::shuffle(sockets_.begin(), sockets_.end(), std::mt19937(1));
    }
    void beat(uint32_t at_once) {
        char bytes[kPingBytes] = "pulse";
        for (uint32_t sent = 0; sent < heartbeats_; sent += at_once) {
            for (uint32_t i = 0; i < at_once; ++i)
                PULSE_ASSERT(::send(sockets_[(sent + i) % count_], bytes, sizeof(bytes), 0) == 8);
            for (uint32_t i = 0; i < at_once; ++i)
                PULSE_ASSERT(::recv(sockets_[(sent + i) % count_], bytes, 8, MSG_WAITALL) == 8);
        }
    }

    // One every kPace, whether or not answers have come; they are read at the end.
    void beat_paced() {
        char bytes[kPingBytes] = "pulse";
        timespec next{};
        clock_gettime(CLOCK_MONOTONIC, &next);
        for (uint32_t sent = 0; sent < heartbeats_; ++sent) {
            next.tv_nsec += kPace;
            if (next.tv_nsec >= kSecond) ++next.tv_sec, next.tv_nsec -= kSecond;
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
            PULSE_ASSERT(::send(sockets_[sent % count_], bytes, sizeof(bytes), 0) == 8);
        }
        for (uint32_t sent = 0; sent < heartbeats_; ++sent)
            PULSE_ASSERT(::recv(sockets_[sent % count_], bytes, 8, MSG_WAITALL) == 8);
    }

    const SocketAddress to_;
    const uint32_t count_;
    std::atomic<int> task_{idle};
    std::atomic<bool> done_{false};
    std::atomic<uint32_t> heartbeats_{0};
    std::vector<int> sockets_;
    std::thread thread_;
};

// Answers every ping.
template <class Io>
struct Server {
    Io& io;
    Connection* records;
    std::vector<Index> free;
    uint32_t live = 0;
    uint64_t answered = 0;
    std::vector<std::array<uint8_t, kPingBytes>> outgoing;

    Server(Io& backend, Connection* table, uint32_t places)
        : io(backend), records(table), free(places), outgoing(places) {
        std::iota(free.begin(), free.end(), 0u);
        std::reverse(free.begin(), free.end());
    }
    void on_accept(const Accepted& accepted) {
        const Index index = free.back();
        free.pop_back();
        ++live;
        io.attach(index, accepted);
    }
    void on_connected(Index, IoError) {}
    void on_bytes(Index index, std::span<uint8_t> bytes) {
        PULSE_ASSERT(bytes.size() == kPingBytes);
        std::copy(bytes.begin(), bytes.end(), outgoing[index].begin());
        if (io.send(index, outgoing[index])) on_sent(index, 0);
    }
    void on_end(Index, IoError) {}
    void on_sent(Index, IoError) { ++answered; }
    void on_closed(Index index) {
        free.push_back(index);
        --live;
    }
    template <class Condition>
    void until(Condition come_true) {
        while (!come_true()) io.poll(io.now() + 50 * kMillisecond, *this);
    }
};

struct Memory {
    int64_t slab = slab_bytes();
    int64_t resident = resident_bytes();
};

void let_settle() {
    malloc_trim(0);
    usleep(200'000);
}

// Slab bytes of a pair of sockets that are accepted and left alone.
double bare_slab_bytes(uint32_t count) {
    static double bytes = -1;
    if (bytes >= 0) return bytes;
    std::thread alone([&] {
        // As the server's reactors do; where it is refused they share the process's.
        static_cast<void>(own_descriptor_table());
        IoCounters counters;
        SystemCalls calls(counters.system_calls);
        ListenAddress address = *parse_listen_uri("tcp://127.0.0.1:19471");
        const int listener = *open_listener(calls, address, {});
        let_settle();
        const Memory before;
        Peers peers(address.address, count);
        peers.start(Peers::connect);
        std::vector<int> accepted;
        while (accepted.size() < count) {
            const int descriptor = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            if (descriptor >= 0) accepted.push_back(descriptor);
        }
        let_settle();
        bytes = static_cast<double>(slab_bytes() - before.slab) / count;
        for (const int descriptor : accepted) ::close(descriptor);
        ::close(listener);
    });
    alone.join();
    return bytes;
}

template <class Io, class Options>
void measure(benchmark::State& state, const Options& options, uint32_t count, Peers::Task task,
             uint32_t heartbeats) {
    const double bare = bare_slab_bytes(count);
    std::unique_ptr<Connection[]> records(new Connection[count]());
    Io io(options, records.get(), count);
    if (!io.ready()) return state.SkipWithError(io.ready().error().c_str());
    Server<Io> server(io, records.get(), count);
    for (auto& each : server.outgoing) each[0] = 1;
    ListenAddress address = *parse_listen_uri("tcp://127.0.0.1:19472");
    PULSE_ASSERT(io.listen(std::span(&address, 1)));
    let_settle();
    const Memory before;
    Peers peers(address.address, count);
    peers.start(Peers::connect);
    server.until([&] { return server.live == count && peers.done(); });
    server.until([n = 0]() mutable { return ++n > 3; });
    let_settle();
    const Memory idle;
    const IoCounters start = io.counters();
    for (auto _ : state) {
        peers.start(task, heartbeats);
        const Nanos cpu = thread_cpu();
        server.until([&] { return peers.done(); });
        state.SetIterationTime(static_cast<double>(thread_cpu() - cpu) / 1e9 / heartbeats);
    }
    const IoCounters end = io.counters();
    const Nanos cpu = thread_cpu();
    for (Index index = 0; index < count; ++index) io.close(index, CloseMode::reset);
    server.until([&] { return server.live == 0; });
    state.counters["close_us"] = static_cast<double>(thread_cpu() - cpu) / 1e3 / count;
    state.counters["system_calls"] =
        static_cast<double>(end.system_calls - start.system_calls) / heartbeats;
    state.counters["kernel_B"] = static_cast<double>(idle.slab - before.slab) / count - bare;
    state.counters["user_B"] = static_cast<double>(idle.resident - before.resident) / count;
}

template <class Io, class Options>
void add(const char* name, const Options& options) {
    constexpr uint32_t kConnections = 15'000;
    const auto row = [&](const char* workload, Peers::Task task, uint32_t heartbeats) {
        const std::string full =
            std::string(workload) + "/" + std::to_string(kConnections) + "/" + name;
        benchmark::RegisterBenchmark(full.c_str(),
                                     [=](benchmark::State& state) {
                                         measure<Io>(state, options, kConnections, task,
                                                     heartbeats);
                                     })
            ->Iterations(1)
            ->UseManualTime();
    };
    row("burst", Peers::burst, 300 * kBurst);
    row("trickle", Peers::trickle, 20'000);
    row("paced", Peers::paced, 15'000);
}

}  // namespace
}  // namespace pulse

int main(int argc, char** argv) {
    using namespace pulse;
    raise_descriptor_limit();
    add<UringBackend>("pulse", UringOptions{});
    add<UringBackend>("oldest_kernel", UringOptions{.newer_features = false});
    add<EpollBackend>("epoll", EpollOptions{});
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}
