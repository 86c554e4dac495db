// The command line's settings as reports show them, and this machine.
#include "tools/pulseload/run/describe.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <thread>

#include "core/units.h"
#include "core/version.h"
#include "tools/pulseload/run/environment.h"

namespace pulse::load {
namespace {

std::string machine() {
    utsname name{};
    uname(&name);
    struct sysinfo info{};
    sysinfo(&info);
    const double gib = static_cast<double>(info.totalram) * info.mem_unit / (1u << 30);
    return fmt::format("{} cores, {:.0f} GiB, {} {}", std::thread::hardware_concurrency(), gib,
                       name.sysname, name.release);
}

void count_kinds(const LoadOptions& options, RunResult& result) {
    const Mix mix = options.effective_mix();
    const Behaviours behaviours = options.effective_behaviours();
    std::array<uint64_t, kWires> wires{};
    std::array<uint64_t, kBehaviours> kinds{};
    for (uint64_t client = 0; client < options.connections; ++client) {
        const ClientKind kind = kind_of(client, mix, behaviours);
        ++wires[static_cast<size_t>(kind.wire)];
        ++kinds[static_cast<size_t>(client == 0 ? Behaviour::beat : kind.behaviour)];
    }
    for (size_t i = 0; i < kWires; ++i) {
        if (wires[i] == 0) continue;
        result.protocols.emplace_back(name_of(static_cast<Wire>(i)), wires[i]);
    }
    for (size_t i = 0; i < kBehaviours; ++i) {
        if (kinds[i] == 0) continue;
        result.behaviours.emplace_back(name_of(static_cast<Behaviour>(i)), kinds[i]);
    }
}

Facts settings_of(const LoadOptions& options, const Layout& layout, const std::string& targets) {
    const auto interval = options.heartbeat_interval;
    const Mix mix = options.effective_mix();
    const bool only_plain = mix.total() == mix.of[static_cast<size_t>(Wire::ws)];
    Facts settings = {
        {"target", targets},
        {"connections", std::to_string(options.connections)},
        {"connect rate", options.connect_rate.text},
        {"connect timeout", format_duration(options.connect_timeout)},
        {"connecting at most", std::to_string(options.connecting_max) + " a thread"},
        {"heartbeat interval", interval > 0 ? format_duration(interval) : "none"},
        {"hold", format_duration(options.duration)},
        {"threads", std::to_string(layout.threads)},
        {"source addresses", std::to_string(std::max<size_t>(1, layout.sources.size()))},
        {"seed", std::to_string(options.seed)},
        {"hello", options.tcp_only    ? "none: not a byte is sent"
                  : options.users > 0 ? fmt::format("every client, as {} users with {} devices",
                                                    options.users, options.devices)
                  : options.hello     ? "every client"
                  : options.answer_every > 1 && !only_plain ? "each that asks for its answers"
                  : options.no_hello || options.expect_timeout > 0 ? "none"
                                                                   : "the first client"},
        {"expected timeout", options.expect_timeout > 0 ? format_duration(options.expect_timeout)
                                                        : "as the target announces it"},
        {"tolerance", format_duration(options.tolerance)},
        {"flap interval", format_duration(options.flap_interval)},
        {"reconnect", fmt::format("{}, {} to {}", name_of(options.reconnect),
                                  format_duration(options.reconnect_base),
                                  format_duration(options.reconnect_cap))},
    };
    for (const StormPlan& storm : options.storms) settings.emplace_back("storm", storm.text);
    if (options.message_rate) {
        settings.emplace_back("message rate", options.message_rate->text);
        settings.emplace_back("message size", std::to_string(options.message_bytes) + " B");
    }
    if (options.answer_every > 1)
        settings.emplace_back("answer every", std::to_string(options.answer_every) + " heartbeats");
    if (options.speaks_tls()) {
        settings.emplace_back(
            "TLS", fmt::format("{} % of handshakes offer a session, {} at once",
                               options.tls_resume, options.tls_handshakes_max));
        settings.emplace_back("certificates",
                              !options.tls_verify               ? "not looked at"
                              : options.tls_authorities.empty() ? "verified as the system has it"
                                                                : "verified by " +
                                                                      options.tls_authorities);
        if (!options.tls_server_name.empty())
            settings.emplace_back("TLS server name", options.tls_server_name);
    }
    if (!options.profile.empty()) settings.emplace_back("profile", options.profile);
    if (!options.subprotocol.empty()) settings.emplace_back("subprotocol", options.subprotocol);
    // Values may be secrets.
    for (const std::string& header : options.headers)
        settings.emplace_back("header", header.substr(0, header.find(':')));
    if (!options.slo.empty()) settings.emplace_back("objectives", options.slo);
    return settings;
}

}  // namespace

void describe_run(const LoadOptions& options, const Layout& layout, RunResult& result) {
    result.version = kVersion;
    result.machine = machine();
    result.started_at = format_utc(std::time(nullptr));
    result.wanted = options.connections;
    std::string targets;
    for (const Target& target : options.targets) {
        targets += (targets.empty() ? "" : ", ") + target.text;
        const std::string address = target.address_text();
        if (target.text.find(address) == std::string::npos) targets += " (" + address + ")";
    }
    result.settings = settings_of(options, layout, targets);
    result.environment = describe_environment();
    result.target = targets;
    count_kinds(options, result);
}

std::string name_of_signal(int number) {
    const char* const name = sigabbrev_np(number);
    return name == nullptr ? fmt::format("signal {}", number) : fmt::format("SIG{}", name);
}

}  // namespace pulse::load
