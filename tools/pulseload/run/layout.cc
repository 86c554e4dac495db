// Descriptors, threads, source addresses and ports: the arithmetic of very many connections.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "core/limits.h"
#include "net/server/descriptors.h"
#include "tools/pulseload/run/run.h"

namespace pulse::load {
namespace {

// What one thread's descriptor table leaves for connections.
constexpr uint64_t kOwnDescriptors = 64;
// Of the ports of one source address. The kernel looks for a free one from a hashed port on, in
// one half of the range and then in the other; as a half fills, the walk grows past all bounds. A
// million connects on half of the range each came to a standstill at 900,000 (Linux 6.18).
constexpr double kPortsShare = 0.125;
// Loopback's own block, away from where servers listen: 127.1.0.1 and on.
constexpr uint32_t kLoopbackSources = (127u << 24) + (1u << 16) + 1;

bool is_loopback(const Target& target) {
    const SocketAddress& address = target.address;
    return address.base.sa_family == AF_INET && (ntohl(address.v4.sin_addr.s_addr) >> 24) == 127;
}

SocketAddress ipv4(uint32_t address) {
    SocketAddress source;
    source.v4 = sockaddr_in{};
    source.v4.sin_family = AF_INET;
    source.v4.sin_addr.s_addr = htonl(address);
    return source;
}

std::string host_of(const SocketAddress& address) {
    const std::string text = address.text();
    return text.substr(0, text.rfind(':'));
}

uint32_t ephemeral_ports() {
    uint32_t low = 32'768;
    uint32_t high = 60'999;
    std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> low >> high;
    return high - low + 1;
}

Result<void> lay_out_ports(const LoadOptions& options, Layout& layout) {
    const auto is_unix = [](const Target& target) { return !target.unix_path.empty(); };
    if (std::ranges::all_of(options.targets, is_unix)) return {};
    layout.ports = ephemeral_ports();
    const auto usable = static_cast<uint32_t>(layout.ports * kPortsShare);
    // One source address may use each port once for each target.
    const uint64_t room = uint64_t{std::max(1u, usable)} * options.targets.size();
    const auto wanted = static_cast<uint32_t>((options.connections + room - 1) / room);
    uint32_t first = options.sources.first;
    uint32_t count = first == 0 ? 0 : options.sources.last - first + 1;
    if (first == 0 && std::ranges::all_of(options.targets, is_loopback)) {
        first = kLoopbackSources;
        count = wanted;
    }
    for (uint32_t i = 0; i < count; ++i) layout.sources.push_back(ipv4(first + i));
    const uint64_t addresses = std::max(1u, count);
    layout.ports_used =
        static_cast<uint32_t>((options.connections + addresses * options.targets.size() - 1) /
                              (addresses * options.targets.size()));
    if (layout.ports_used > layout.ports) {
        return Error{
            fmt::format("{} connections from {} source address(es) to {} target(s) need "
                        "{} ports each, and there are {}; give more with --source-ips, "
                        "or more targets",
                        options.connections, addresses, options.targets.size(), layout.ports_used,
                        layout.ports)};
    }
    layout.lines.push_back(
        count == 0 ? fmt::format("source address chosen by the kernel, {} of {} ports",
                                 layout.ports_used, layout.ports)
                   : fmt::format("{} source address(es), {} to {}, {} of {} ports on each", count,
                                 host_of(layout.sources.front()), host_of(layout.sources.back()),
                                 layout.ports_used, layout.ports));
    return {};
}

}  // namespace

Result<Layout> lay_out(const LoadOptions& options) {
    Layout layout;
    layout.descriptor_limit = raise_descriptor_limit();
    if (layout.descriptor_limit <= kOwnDescriptors) {
        return Error{fmt::format("the descriptor limit is {}; raise it (ulimit -n 20000)",
                                 layout.descriptor_limit)};
    }
    const uint64_t per_thread =
        std::min<uint64_t>(layout.descriptor_limit - kOwnDescriptors, kConnectionsPerReactorMax);
    const uint64_t demanded = (options.connections + per_thread - 1) / per_thread;
    layout.threads =
        static_cast<uint32_t>(std::clamp<uint64_t>(options.threads, demanded, options.connections));
    layout.per_thread = (options.connections + layout.threads - 1) / layout.threads;
    const Result<void> own = try_own_descriptor_table();
    layout.own_tables = static_cast<bool>(own);
    const uint64_t together = options.connections + layout.threads * kOwnDescriptors;
    if (!own && together > layout.descriptor_limit) {
        return Error{fmt::format(
            "--connections {}: {} threads that share one descriptor table open about {}, and the "
            "limit is {}; raise it (ulimit -n), or ask for fewer connections ({})",
            options.connections, layout.threads, together, layout.descriptor_limit, own.error())};
    }
    if (!own) widen_descriptor_table(together);
    layout.lines.push_back(
        fmt::format("{} connections on {} thread(s), at most {} each "
                    "(descriptor limit {}{})",
                    options.connections, layout.threads, layout.per_thread, layout.descriptor_limit,
                    own ? std::string() : " for all together: " + own.error()));
    if (Result<void> ports = lay_out_ports(options, layout); !ports) return Error{ports.error()};
    return layout;
}

}  // namespace pulse::load
