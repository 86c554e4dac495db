// What a server will hold on this machine, and its cost: decided before anything is opened.
#include <fmt/format.h>
#include <liburing.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/address_table.h"
#include "core/limits.h"
#include "core/message.h"
#include "core/sessions/ledger.h"
#include "core/units.h"
#include "net/auth/limits.h"
#include "net/io/sockets.h"
#include "net/io/uring_backend.h"
#include "net/loop/reactor_config.h"
#include "net/server/descriptors.h"
#include "net/server/limits.h"
#include "net/server/server.h"
#include "proto/tls/records.h"

namespace pulse {
namespace {

std::string format_mib(uint64_t bytes) { return fmt::format("{} MiB", (bytes + (1 << 19)) >> 20); }

// Where nothing evens the reactors out (net/loop/balance.h) the kernel spreads peers by a hash: the
// fullest of many has six standard deviations more than the mean less than once in a billion.
uint64_t fullest(uint64_t connections, uint32_t reactors) {
    if (reactors == 1) return connections;
    const double mean = static_cast<double>(connections) / reactors;
    return static_cast<uint64_t>(std::ceil(mean + 6 * std::sqrt(mean)));
}

// Most connections of which the fullest reactor has no more than `room`.
uint64_t held_by(uint32_t reactors, uint64_t room) {
    if (reactors == 1) return room;
    const double root = std::sqrt(9 + static_cast<double>(room)) - 3;
    auto connections = static_cast<uint64_t>(root * root * reactors);
    while (connections > 0 && fullest(connections, reactors) > room) --connections;
    return connections;
}

// What one descriptor table leaves for connections, if `inside` of all reactors open theirs in it.
// Doorbells and held ports of all are in every table.
uint64_t room_in_table(const ServerPlan& plan, uint32_t reactors, uint32_t inside) {
    const uint64_t listeners = plan.options.listen.size();
    const bool has_admin = !plan.own_tables && !plan.options.admin.empty();
    const uint64_t own = listeners + reactors + inside * (kReactorDescriptors + listeners) +
                         (has_admin ? kAdminDescriptors : 0);
    return plan.descriptors > own ? plan.descriptors - own : 0;
}

// How many connections `reactors` hold, as far as descriptors decide it.
uint64_t room_for(const ServerPlan& plan, uint32_t reactors) {
    if (!plan.own_tables) return room_in_table(plan, reactors, reactors);
    const uint64_t room = room_in_table(plan, reactors, 1);
    return held_by(reactors, std::min<uint64_t>(room, kConnectionsPerReactorMax));
}

// The fewest reactors from `least` to `most` that hold so many; `most` if none do.
uint32_t reactors_for(const ServerPlan& plan, uint64_t connections, uint32_t least, uint32_t most) {
    uint32_t reactors = least;
    while (plan.own_tables && reactors < most && room_for(plan, reactors) < connections) ++reactors;
    return reactors;
}

// Why the reactors of the plan cannot hold what was asked for, and what would.
Error cannot_hold(const ServerPlan& plan, uint64_t room) {
    const uint64_t asked = plan.options.max_connections;
    const std::string limit =
        fmt::format("a process may open {} descriptors (RLIMIT_NOFILE, hard)", plan.descriptors);
    if (!plan.own_tables) {
        return Error{
            fmt::format("--max-connections {}: {} reactors that share one descriptor table hold {} "
                        "here, because {} and {}; raise the limit (ulimit -Hn, or LimitNOFILE= in "
                        "the unit), or ask for fewer connections",
                        asked, plan.reactors, room, limit, plan.table_note)};
    }
    const uint32_t enough = reactors_for(plan, asked, 1, kReactorsMax);
    const std::string more = room_for(plan, enough) >= asked
                                 ? fmt::format("use --reactors {} (or auto), ", enough)
                                 : std::string();
    return Error{fmt::format(
        "--max-connections {}: {} reactors hold about {} here, because {} in each reactor's table; "
        "{}raise the limit (ulimit -Hn, or LimitNOFILE= in the unit), or ask for fewer connections",
        asked, plan.reactors, room, limit, more)};
}

// What is only refused in use: a seccomp filter may let a ring be set up, and refuse to enter it.
// Where none can be set up, the backend says why.
Result<void> enter_a_ring() {
    io_uring ring{};
    if (io_uring_queue_init(2, &ring, 0) < 0) return {};
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    const int entered = io_uring_submit_and_wait(&ring, 1);
    io_uring_queue_exit(&ring);
    if (entered == 1) return {};
    return Error{std::string("io_uring_enter: ") + std::strerror(-entered) +
                 "; allow it in the container's seccomp profile, or use --backend epoll"};
}

// The only way to know is to make one: seccomp, sysctl and old kernels each refuse differently.
Result<void> try_uring(ServerPlan& plan) {
    if (Result<void> entered = enter_a_ring(); !entered) return entered;
    Connection record{};
    const UringBackend trial({}, &record, 1);
    if (!trial.ready()) return Error{trial.ready().error()};
    plan.backend_note = trial.features().text();
    return {};
}

// auto takes epoll until io_uring wins at every measured load (net/README.md, "What auto takes").
Result<void> choose_backend(ServerPlan& plan) {
    switch (plan.options.backend) {
        case BackendChoice::automatic:
            plan.backend_note = "auto: io_uring costs less CPU only where a core is nearly full";
            return {};
        case BackendChoice::epoll:
            plan.backend_note = "as asked";
            return {};
        case BackendChoice::io_uring:
            break;
    }
    if (Result<void> tried = try_uring(plan); !tried)
        return Error{"--backend io_uring: " + tried.error()};
    plan.uring = true;
    return {};
}

// Each reactor has a table of its own wherever the kernel grants one, also where one for all would
// hold the connections: an accept waits up to 20 ms each time a shared table grows (90 ms in all up
// to 8,000 descriptors), a close and an open cost 16 to 28 % more CPU there, a read or write 11 to
// 16 % (bench/descriptor_bench.cc: 2 vCPU, Linux 6.18, 2026-11-27, medians of 20 runs, three times;
// bench/README.md). It is demanded only where --max-connections does not fit into a shared one.
Result<void> plan_descriptors(ServerPlan& plan) {
    plan.descriptors = raise_descriptor_limit();
    if (const Result<void> own = try_own_descriptor_table(); own)
        plan.own_tables = true;
    else
        plan.table_note = own.error();
    ServerOptions& options = plan.options;
    const auto cores = static_cast<uint32_t>(plan.cores.size());
    const uint32_t advised = std::min(kReactorsMax, cores * kReactorsPerCoreAdvised);
    plan.reactors =
        options.reactors != 0 ? options.reactors
        : options.max_connections_given
            ? reactors_for(plan, options.max_connections, std::min(cores, kReactorsMax),
                           kReactorsMax)
            : reactors_for(plan, options.max_connections, std::min(cores, kReactorsMax), advised);
    const uint64_t room = room_for(plan, plan.reactors);
    if (room == 0) {
        return Error{
            fmt::format("a process may open {} descriptors here (RLIMIT_NOFILE, hard), and "
                        "{} reactors need all of them; raise the limit with ulimit -Hn",
                        plan.descriptors, plan.reactors)};
    }
    if (options.max_connections > room) {
        if (options.max_connections_given) return cannot_hold(plan, room);
        plan.warnings.push_back(fmt::format(
            "holds {} connections instead of the default {}, because a process may open {} "
            "descriptors (RLIMIT_NOFILE, hard); raise the limit (ulimit -Hn, or LimitNOFILE= in "
            "the unit), or set --max-connections to what must fit",
            room, options.max_connections, plan.descriptors));
        options.max_connections = room;
    }
    if (plan.reactors > advised) {
        plan.warnings.push_back(fmt::format(
            "{} reactors on {} cores wait for each other; raise the descriptor limit (now {}), so "
            "that fewer hold as many connections",
            plan.reactors, cores, plan.descriptors));
    }
    return {};
}

Result<void> plan_memory(ServerPlan& plan, const Machine& machine) {
    ServerOptions& options = plan.options;
    plan.available = machine.memory();
    const uint64_t lanes = uint64_t{plan.reactors} * (plan.reactors - 1);
    const uint64_t own = plan.reactors * kReactorUserBytes +
                         lanes * kMailboxSlots * sizeof(Message) + plan.ledger_bytes_max();
    const uint64_t each = kIdleUserBytes + kIdleKernelBytes;
    const uint64_t fits = plan.available.bytes > own ? (plan.available.bytes - own) / each : 0;
    if (!plan.available.bound.empty() && options.max_connections > fits) {
        const std::string why =
            fmt::format("{} leaves {}", plan.available.bound, format_mib(plan.available.bytes));
        if (options.max_connections_given || fits == 0) {
            return Error{fmt::format(
                "--max-connections {}: that many idle connections take about {} ({} here, {} in "
                "the kernel), and {}; lower --max-connections, or add memory",
                options.max_connections, format_mib(own + options.max_connections * each),
                format_mib(own + options.max_connections * kIdleUserBytes),
                format_mib(options.max_connections * kIdleKernelBytes), why)};
        }
        plan.warnings.push_back(fmt::format(
            "holds {} connections instead of the default {}, because {}; add memory, or set "
            "--max-connections to what must fit",
            fits, options.max_connections, why));
        options.max_connections = fits;
    }
    plan.user_bytes = own + options.max_connections * kIdleUserBytes;
    plan.kernel_bytes = options.max_connections * kIdleKernelBytes;
    return {};
}

Result<void> read_credentials(ServerPlan& plan) {
    Result<LoadedCredentials> loaded = load_credentials(plan.options.auth);
    if (!loaded) return Error{loaded.error()};
    plan.options.credentials = std::move(loaded->credentials);
    plan.auth_notes = std::move(loaded->notes);
    for (std::string& warning : loaded->warnings) plan.warnings.push_back(std::move(warning));
    return {};
}

Result<void> read_tls(ServerPlan& plan) {
    Result<LoadedTls> loaded = load_tls(plan.options.tls);
    if (!loaded) return Error{loaded.error()};
    plan.options.tls_context = std::move(loaded->context);
    plan.tls_notes = std::move(loaded->notes);
    for (std::string& warning : loaded->warnings) plan.warnings.push_back(std::move(warning));
    for (std::string& warning : client_certificate_warnings(plan.options))
        plan.warnings.push_back(std::move(warning));
    return {};
}

}  // namespace

std::vector<std::string> client_certificate_warnings(const ServerOptions& options) {
    std::vector<std::string> warnings;
    if (options.tls.client_ca.empty()) return warnings;
    for (const ListenAddress& listener : options.listen) {
        if (listener.tls) continue;
        warnings.push_back(fmt::format(
            "--tls-client-ca {}: '{}' lets in peers without TLS, which show no certificate; write "
            "wss:// or tls+SCHEME:// where all are to show one",
            options.tls.client_ca, listener.text));
    }
    return warnings;
}

Result<ServerPlan> plan_server(const ServerOptions& options) {
    const Machine machine;
    ServerPlan plan;
    plan.options = options;
    plan.cores = machine.allowed_cores();
    plan.cpu_quota = machine.cpu_quota();
    if (Result<void> loaded = read_credentials(plan); !loaded) return Error{loaded.error()};
    if (Result<void> loaded = read_tls(plan); !loaded) return Error{loaded.error()};
    for (const ListenAddress& listener : options.listen)
        if (Result<void> possible = can_listen(listener, plan.warnings); !possible)
            return Error{possible.error()};
    if (Result<void> chosen = choose_backend(plan); !chosen) return Error{chosen.error()};
    if (Result<void> fits = plan_descriptors(plan); !fits) return Error{fits.error()};
    if (Result<void> fits = plan_memory(plan, machine); !fits) return Error{fits.error()};
    const uint64_t most = plan.own_tables ? room_in_table(plan, plan.reactors, 1)
                                          : room_in_table(plan, plan.reactors, plan.reactors);
    plan.connections_per_reactor = static_cast<uint32_t>(
        std::min({most, plan.options.max_connections, uint64_t{kConnectionsPerReactorMax}}));
    return plan;
}

namespace {

std::string authentication(const ServerPlan& plan) {
    if (plan.options.credentials == nullptr)
        return "no authentication: each hello is the user that it names";
    std::string text = "authentication by";
    for (const std::string& note : plan.auth_notes)
        text.append(text.ends_with("by") ? " " : ", ").append(note);
    return text + fmt::format("; {} B a connection more, and at most {} a reactor",
                              kAuthBytesPerConnection, format_mib(kAuthBytesPerReactorMax));
}

std::string resuming(const ServerOptions& options) {
    if (options.resume_hold == 0) return "a session ends with its connection";
    const ResumeBounds& window = options.resume_window;
    return fmt::format(
        "sessions wait {} for their clients; their windows, of {} messages and {} each, take {} at "
        "most, and each session some {} B more",
        format_duration(options.resume_hold), window.messages, format_size(window.bytes),
        format_mib(options.resume_bytes), kResumableSessionBytes);
}

std::string idle_clocks(const ServerOptions& options) {
    std::string text = "idle clocks:";
    for (size_t at = 0; at < kIdleClocks; ++at) {
        const IdleRule& rule = options.idle[at];
        if (!rule.on()) continue;
        text += fmt::format("{} {} {}={}", text.ends_with(":") ? "" : ",",
                            name_of(static_cast<IdleClock>(at)), format_duration(rule.after),
                            name_of(rule.action));
    }
    return text + fmt::format("; they cost {} B a connection more, {} of all", sizeof(IdleState),
                              format_mib(options.max_connections * sizeof(IdleState)));
}

std::string transport_security(const ServerOptions& options) {
    const bool is_frozen = options.tls.idle == TlsIdle::frozen;
    const bool only_new = options.tls.least == TlsVersion::v1_3;
    const std::string older = fmt::format("about {} KB", kTlsIdleBytes / 1'000);
    const std::string cost =
        is_frozen ? fmt::format("TLS 1.3 is frozen (--tls-idle): it costs a connection {} to {} B "
                                "more, by its cipher{}",
                                kTlsFrozenBytes + tls::state_bytes(tls::Suite::aes_128_gcm_sha256),
                                kTlsFrozenBytes + tls::kStateBytesMax,
                                only_new ? std::string() : ", and TLS 1.2 " + older)
                  : fmt::format("TLS {} and later costs a connection {} more",
                                only_new ? "1.3" : "1.2", older);
    return cost + fmt::format("; a handshake in flight, of at most {}, about {} KB: {}",
                              options.tls_handshakes_max, kTlsHandshakeBytes / 1'000,
                              format_mib(options.tls_handshakes_max * kTlsHandshakeBytes));
}

}  // namespace

uint64_t ServerPlan::ledger_bytes_max() const {
    return reactors * Ledger::memory_bytes_max(ledger_share(options.ledger, reactors));
}

std::vector<std::string> ServerPlan::describe() const {
    const TickClock clock{options.tick_shift};
    std::vector<std::string> lines = {
        fmt::format("backend {} ({})", uring ? "io_uring" : "epoll", backend_note),
        fmt::format("{} cores{}, {} reactors{}, {} descriptors {}", cores.size(),
                    cpu_quota > 0 ? fmt::format(" (the cgroup's quota is {:.2f})", cpu_quota)
                                  : std::string(),
                    reactors, options.pin ? " pinned" : "", descriptors,
                    own_tables ? std::string("each") : "for all together: " + table_note),
        fmt::format("holds {} connections, at most {} a reactor", options.max_connections,
                    connections_per_reactor),
        fmt::format("all of them idle cost {} here and about {} in the kernel; {} are available{}",
                    format_mib(user_bytes), format_mib(kernel_bytes), format_mib(available.bytes),
                    available.bound.empty() ? std::string() : " (" + available.bound + ")"),
        fmt::format(
            "logged in, each user costs about {} B more; of all users names, devices and "
            "labels take at most {}",
            kUserBytes,
            format_mib(std::max<uint64_t>(kSessionTextBytesMax, reactors * kSessionTextBytesMin))),
        authentication(*this),
        resuming(options),
        options.ledger == 0
            ? std::string("remembers no connection that has ended")
            : fmt::format("remembers the last {} connections that ended, in {} at most",
                          options.ledger, format_mib(ledger_bytes_max())),
        fmt::format("where addresses or users are limited each takes {} B, all of them {} at most",
                    AddressTable::kEntryBytes,
                    format_mib(2 * AddressTable::memory_bytes_max(options.max_connections))),
        fmt::format("heartbeats every {}, eviction after {} of silence, in ticks of {:.2f} ms",
                    format_duration(options.heartbeat_interval),
                    format_duration(options.heartbeat_timeout),
                    static_cast<double>(clock.tick_ns()) / kMillisecond),
    };
    if (std::ranges::any_of(options.idle, &IdleRule::on)) lines.push_back(idle_clocks(options));
    if (options.tls_context != nullptr) {
        for (const std::string& note : tls_notes) lines.push_back(note);
        lines.push_back(transport_security(options));
    }
    for (const CohortPolicy& policy : options.policies) lines.push_back("policy " + policy.text);
    const bool of_all = std::ranges::any_of(
        options.policies, [](const CohortPolicy& policy) { return policy.labels.empty(); });
    if (of_all) lines.push_back("each connection costs 1 B more: a policy is for a share of all");
    return lines;
}

}  // namespace pulse
