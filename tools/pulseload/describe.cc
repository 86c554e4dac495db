// The command line's settings as reports show them, and this machine.
#include "tools/pulseload/describe.h"

#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <csignal>
#include <cstring>
#include <ctime>
#include <thread>

#include "core/units.h"
#include "core/version.h"

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
    const auto interval = options.heartbeat_interval;
    result.settings = {
        {"target", targets},
        {"connections", std::to_string(options.connections)},
        {"connect rate", options.connect_rate.text},
        {"heartbeat interval", interval > 0 ? format_duration(interval) : "none"},
        {"hold", format_duration(options.duration)},
        {"threads", std::to_string(layout.threads)},
        {"source addresses", std::to_string(std::max<size_t>(1, layout.sources.size()))},
    };
    for (const StormPlan& storm : options.storms) {
        result.settings.emplace_back("storm", storm.text);
    }
    if (options.message_rate) {
        result.settings.emplace_back("message rate", options.message_rate->text);
        result.settings.emplace_back("message size", std::to_string(options.message_bytes) + " B");
    }
    result.target = targets;
    count_kinds(options, result);
}

std::string name_of_signal(int number) {
    const char* const name = sigabbrev_np(number);
    return name == nullptr ? fmt::format("signal {}", number) : fmt::format("SIG{}", name);
}

}  // namespace pulse::load
