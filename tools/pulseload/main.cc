// pulseload: holds very many connections to a server, beats on each of them, and says how it
// answered.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/units.h"
#include "net/crowd.h"
#include "net/descriptors.h"
#include "net/epoll_backend.h"
#include "net/mapped_pages.h"

namespace pulse {
namespace {

// What one thread's descriptor table leaves for connections.
constexpr uint32_t kOwnDescriptors = 64;
// Above half of the ephemeral range each connect searches the occupied half first and the rate
// collapses.
constexpr uint32_t kPortsPerSource = 14'000;

std::atomic<bool> interrupted{false};

struct LoadOptions {
    std::string target = "tcp://127.0.0.1:9000";
    uint32_t connections = 1'000;
    uint64_t connect_rate = 0;
    Nanos heartbeat_interval = 30 * kSecond;
    Nanos duration = 10 * kSecond;
    uint32_t threads = 0;
    bool quiet = false;
};

// One thread of clients.
struct Worker {
    CrowdConfig config;
    std::thread thread;
    std::atomic<const CrowdCounts*> counts{nullptr};
    std::atomic<bool> connected{false};
    Histogram latency;
    std::string error;
    std::atomic<bool> ended{false};
    std::atomic<bool> may_close{false};

    void run(const std::atomic<Nanos>& until) {
        if (Result<void> own = own_descriptor_table(); !own) return fail(own.error());
        MappedPages pages;
        ConnectionTable table(pages, config.connections);
        if (!table.ok()) return fail("no address space for the connections");
        EpollBackend io({}, table.records(), config.connections);
        if (!io.ready()) return fail(io.ready().error());
        Crowd<EpollBackend> crowd(config, pages, table, io);
        counts.store(&crowd.counts(), std::memory_order_release);
        while (!interrupted.load(std::memory_order_relaxed) &&
               io.now() < until.load(std::memory_order_relaxed)) {
            crowd.turn(io.now() + 100 * kMillisecond);
            connected.store(crowd.connected(), std::memory_order_relaxed);
        }
        latency = crowd.latency();
        ended.store(true, std::memory_order_release);
        // The counts are read until the summary is made.
        while (!may_close.load(std::memory_order_acquire)) usleep(1'000);
        counts.store(nullptr, std::memory_order_release);
    }
    void fail(std::string why) {
        error = std::move(why);
        ended.store(true, std::memory_order_release);
    }
};

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

struct Totals {
    uint64_t open = 0, refused = 0, lost = 0, pings = 0, pongs = 0, probes_answered = 0,
             late_pings = 0;

    explicit Totals(const std::vector<std::unique_ptr<Worker>>& workers) {
        for (const auto& worker : workers) {
            const CrowdCounts* counts = worker->counts.load(std::memory_order_acquire);
            if (counts == nullptr) continue;
            open += counts->open;
            refused += counts->refused;
            lost += counts->lost;
            pings += counts->pings;
            pongs += counts->pongs;
            probes_answered += counts->probes_answered;
            late_pings += counts->late_pings;
        }
    }
};

// Loopback has 2^24 addresses: each worker binds to some of its own, few enough ports on each.
std::vector<SocketAddress> sources_for(const SocketAddress& target, uint32_t worker,
                                       uint32_t connections) {
    std::vector<SocketAddress> sources;
    if (target.base.sa_family != AF_INET || (ntohl(target.v4.sin_addr.s_addr) >> 24) != 127)
        return sources;
    const uint32_t count = (connections + kPortsPerSource - 1) / kPortsPerSource;
    for (uint32_t i = 0; i < count; ++i) {
        SocketAddress source;
        source.v4 = sockaddr_in{};
        source.v4.sin_family = AF_INET;
        source.v4.sin_addr.s_addr = htonl((127u << 24) + (1u << 16) + worker * 8 + i + 1);
        sources.push_back(source);
    }
    return sources;
}

using Workers = std::vector<std::unique_ptr<Worker>>;

// As many threads as descriptors demand, each with its share.
Workers make_workers(const LoadOptions& options, const SocketAddress& target) {
    const auto per_thread_max = static_cast<uint32_t>(
        std::min<uint64_t>(raise_descriptor_limit() - kOwnDescriptors, kConnectionsPerReactorMax));
    uint32_t threads = (options.connections + per_thread_max - 1) / per_thread_max;
    threads = std::max({threads, options.threads, 1u});
    Workers workers;
    for (uint32_t i = 0; i < threads; ++i) {
        auto worker = std::make_unique<Worker>();
        CrowdConfig& config = worker->config;
        config.target = target;
        config.connections = options.connections / threads + (i < options.connections % threads);
        if (options.connect_rate > 0) {
            config.connects_per_second = std::max<uint64_t>(1, options.connect_rate / threads);
        }
        config.heartbeat_interval = options.heartbeat_interval;
        config.sources = sources_for(target, i, config.connections);
        if (config.connections > 0) workers.push_back(std::move(worker));
    }
    return workers;
}

// Once a second, until all have ended: how it goes. The instant at which all were connected.
Nanos watch(const LoadOptions& options, const Workers& workers, std::atomic<Nanos>& until) {
    const Nanos began = monotonic_now();
    Nanos connected_at = 0;
    Totals before(workers);
    auto ended = [](const auto& worker) { return worker->ended.load(); };
    while (!std::ranges::all_of(workers, ended)) {
        usleep(1'000'000);
        const Nanos now = monotonic_now();
        const Totals totals(workers);
        const bool connected = std::ranges::all_of(
            workers, [](const auto& worker) { return worker->connected || worker->ended; });
        if (connected && connected_at == 0) {
            connected_at = now;
            until = now + options.duration;
        }
        if (!options.quiet) {
            fmt::print(stderr,
                       "{:>5.0f} s  {:>8} open  {:>6} refused  {:>6} lost  {:>7} pongs/s  "
                       "{:>6} probes answered\n",
                       static_cast<double>(now - began) / kSecond, totals.open, totals.refused,
                       totals.lost, totals.pongs - before.pongs, totals.probes_answered);
        }
        before = totals;
    }
    return connected_at;
}

void print_result(const LoadOptions& options, const Totals& totals, const Histogram& latency,
                  Nanos connecting) {
    auto ms = [&](double percent) {
        return static_cast<double>(latency.percentile(percent)) / kMillisecond;
    };
    const nlohmann::ordered_json result = {
        {"version", 1},
        {"connections", options.connections},
        {"open", totals.open},
        {"refused", totals.refused},
        {"lost", totals.lost},
        {"connect_seconds", static_cast<double>(connecting) / kSecond},
        {"pings", totals.pings},
        {"pongs", totals.pongs},
        {"late_pings", totals.late_pings},
        {"probes_answered", totals.probes_answered},
        {"cut_short", interrupted.load()},
        {"latency_ms", {{"p50", ms(50)}, {"p99", ms(99)}, {"p999", ms(99.9)}, {"max", ms(100)}}}};
    fmt::print("{}\n", result.dump());
}

int run(const LoadOptions& options) {
    const Result<ListenAddress> target = parse_listen_uri(options.target);
    if (!target || target->scheme != Scheme::binary) {
        fmt::print(stderr, "pulseload: --target {}: {}\n", options.target,
                   target ? "only tcp:// is spoken so far" : target.error());
        return 2;
    }
    std::atomic<Nanos> until{kNever};
    const Workers workers = make_workers(options, target->address);
    const Nanos began = monotonic_now();
    for (const auto& worker : workers) {
        worker->thread = std::thread([&until, self = worker.get()] { self->run(until); });
    }
    const Nanos connected_at = watch(options, workers, until);
    const Totals totals(workers);
    Histogram latency;
    int failures = 0;
    for (const auto& worker : workers) {
        latency.merge(worker->latency);
        if (!worker->error.empty() && failures++ == 0) {
            fmt::print(stderr, "pulseload: {}\n", worker->error);
        }
        worker->may_close = true;
        worker->thread.join();
    }
    print_result(options, totals, latency, connected_at - began);
    return failures > 0 ? 1 : 0;
}

}  // namespace
}  // namespace pulse

int main(int argc, char** argv) {
    pulse::LoadOptions options;
    CLI::App app("Holds very many connections to a heartbeat server and measures how it answers.");
    auto duration = [](pulse::Nanos& field) {
        return [&field](const std::string& text) -> std::string {
            const auto parsed = pulse::parse_duration(text);
            if (parsed) field = *parsed;
            return parsed ? std::string() : parsed.error();
        };
    };
    std::string text[4];
    app.add_option("--target", options.target, "tcp://HOST:PORT of the server")
        ->capture_default_str();
    app.add_option("--connections", options.connections, "how many to hold")->capture_default_str();
    app.add_option("--connect-rate", text[0],
                   "connects a second, as 20000/s (default: as fast as it goes)")
        ->check([&](const std::string& given) -> std::string {
            const auto parsed = pulse::parse_rate(given);
            if (parsed) options.connect_rate = *parsed;
            return parsed ? std::string() : parsed.error();
        });
    app.add_option("--heartbeat-interval", text[1],
                   "between pings of one connection, 0 for none (default 30s)")
        ->check(duration(options.heartbeat_interval));
    app.add_option("--duration", text[2], "how long to hold once all are connected (default 10s)")
        ->check(duration(options.duration));
    app.add_option("--threads", options.threads,
                   "at least so many (default: as descriptors demand)");
    app.add_flag("--quiet", options.quiet, "no progress, only the result");
    CLI11_PARSE(app, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, [](int) { pulse::interrupted = true; });
    signal(SIGTERM, [](int) { pulse::interrupted = true; });
    return pulse::run(options);
}
