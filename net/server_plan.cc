// What a server will hold on this machine, and what it will cost: decided before anything is
// opened.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "core/limits.h"
#include "core/units.h"
#include "net/descriptors.h"
#include "net/server.h"
#include "net/uring_backend.h"

namespace pulse {
namespace {

std::string format_mib(uint64_t bytes) { return fmt::format("{} MiB", (bytes + (1 << 19)) >> 20); }

uint64_t available_memory() {
    std::FILE* file = std::fopen("/proc/meminfo", "re");
    if (file == nullptr) return 0;
    char line[128];
    uint64_t kib = 0;
    while (std::fgets(line, sizeof line, file) != nullptr) {
        unsigned long value = 0;
        if (std::sscanf(line, "MemAvailable: %lu kB", &value) == 1) kib = value;
    }
    std::fclose(file);
    return kib * 1024;
}

// The kernel spreads peers over the reactors by a hash: the fullest of many has six standard
// deviations more than the mean less than once in a billion.
uint64_t fullest(uint64_t connections, uint32_t reactors) {
    if (reactors == 1) return connections;
    const double mean = static_cast<double>(connections) / reactors;
    return static_cast<uint64_t>(std::ceil(mean + 6 * std::sqrt(mean)));
}

uint32_t reactors_for(uint64_t connections, uint32_t at_least, uint64_t room) {
    uint32_t reactors = at_least;
    while (reactors < kReactorsMax && fullest(connections, reactors) > room) ++reactors;
    return reactors;
}

Error cannot_hold(const ServerPlan& plan, uint64_t room) {
    const uint64_t asked = plan.options.max_connections;
    const uint32_t enough = reactors_for(asked, 1, room);
    const bool possible = fullest(asked, enough) <= room;
    return Error{fmt::format(
        "--max-connections {}: {} reactors hold about {} here, because a process may open {} "
        "descriptors "
        "(RLIMIT_NOFILE, hard) in each reactor's table; {}raise the limit (ulimit -Hn, or "
        "LimitNOFILE= in "
        "the unit), or ask for fewer connections",
        asked, plan.reactors, room * plan.reactors, descriptor_limit(),
        possible ? fmt::format("use --reactors {} (or auto), ", enough) : std::string())};
}

Result<void> choose_backend(ServerPlan& plan) {
    if (plan.options.backend == BackendChoice::epoll) {
        plan.backend_note = "as asked";
        return {};
    }
    // The only way to know is to make one: seccomp, sysctl and old kernels each say no differently.
    Connection record{};
    const UringBackend trial({}, &record, 1);
    if (trial.ready()) {
        plan.uring = true;
        plan.backend_note = trial.features().text();
        return {};
    }
    if (plan.options.backend == BackendChoice::io_uring) {
        return Error{"--backend io_uring: " + trial.ready().error()};
    }
    plan.backend_note = trial.ready().error();
    return {};
}

}  // namespace

Result<ServerPlan> plan_server(const ServerOptions& options) {
    ServerPlan plan;
    plan.options = options;
    if (Result<void> chosen = choose_backend(plan); !chosen) return Error{chosen.error()};
    plan.cores = static_cast<uint32_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
    plan.descriptors_per_reactor = raise_descriptor_limit();
    // What a reactor opens for itself; the doorbells of all reactors are in every table.
    const uint64_t own = kReactorDescriptors + options.listen.size() + kReactorsMax;
    const uint64_t room = std::min<uint64_t>(
        plan.descriptors_per_reactor > own ? plan.descriptors_per_reactor - own : 0,
        kConnectionsPerReactorMax);
    if (room == 0) {
        return Error{
            fmt::format("a process may open {} descriptors here (RLIMIT_NOFILE, hard), and a "
                        "reactor needs {} for itself; raise the limit with ulimit -Hn",
                        plan.descriptors_per_reactor, own)};
    }
    plan.reactors = options.reactors != 0 ? options.reactors
                                          : reactors_for(options.max_connections, plan.cores, room);
    if (fullest(options.max_connections, plan.reactors) > room) return cannot_hold(plan, room);
    plan.connections_per_reactor =
        static_cast<uint32_t>(std::min<uint64_t>(room, options.max_connections));

    plan.user_bytes = options.max_connections * kIdleUserBytes + plan.reactors * kReactorUserBytes;
    plan.kernel_bytes = options.max_connections * kIdleKernelBytes;
    plan.available_bytes = available_memory();
    if (plan.user_bytes + plan.kernel_bytes > plan.available_bytes && plan.available_bytes > 0) {
        return Error{
            fmt::format("--max-connections {}: that many idle connections take about {} ({} here, "
                        "{} in the kernel), "
                        "and this machine has {} available; lower --max-connections or add memory",
                        options.max_connections, format_mib(plan.user_bytes + plan.kernel_bytes),
                        format_mib(plan.user_bytes), format_mib(plan.kernel_bytes),
                        format_mib(plan.available_bytes))};
    }
    return plan;
}

std::vector<std::string> ServerPlan::describe() const {
    const TickClock clock{options.tick_shift};
    return {
        fmt::format("backend {} ({})", uring ? "io_uring" : "epoll", backend_note),
        fmt::format("{} cores, {} reactors{}, {} descriptors each", cores, reactors,
                    options.pin ? " pinned" : "", descriptors_per_reactor),
        fmt::format("holds {} connections, at most {} a reactor", options.max_connections,
                    connections_per_reactor),
        fmt::format("all of them idle cost {} here and about {} in the kernel; {} are available",
                    format_mib(user_bytes), format_mib(kernel_bytes), format_mib(available_bytes)),
        fmt::format("heartbeats every {}, eviction after {} of silence, in ticks of {:.2f} ms",
                    format_duration(options.heartbeat_interval),
                    format_duration(options.heartbeat_timeout),
                    static_cast<double>(clock.tick_ns()) / kMillisecond),
    };
}

}  // namespace pulse
