// pulsewheel: the server. Reads its settings, logs what it will hold and cost, and serves until a
// signal stops it. Exit codes: 0 ok, 1 could not start, 2 usage, 3 some peers did not take their
// goodbye in time.
#include <malloc.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "core/trace.h"
#include "core/version.h"
#include "net/control/anomaly_watch.h"
#include "net/observe/otlp_endpoint.h"
#include "net/observe/trace_exporter.h"
#include "net/server/descriptors.h"
#include "net/server/server.h"
#include "net/tls/openssl_memory.h"
#include "proto/printable.h"
#include "tools/pulsewheel/admin.h"
#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/operator.h"
#include "tools/pulsewheel/passed_sockets.h"
#include "tools/pulsewheel/service_manager.h"

namespace pulse::serve {
namespace {

// M_MMAP_THRESHOLD, glibc's initial value, kept. Left alone it grows with the first big block that
// is freed; histograms of reactors then come from the heap, backed by memory where nothing counts.
constexpr int kMappedBlockBytes = 128 * 1024;
// What the log has at the exit to take what is still queued.
constexpr Nanos kFinishNs = 500 * kMillisecond;

int print_error(const std::string& what, int code) {
    std::fprintf(stderr, "pulsewheel: %s\n", printable_lines(what).c_str());
    return code;
}

int print(const std::string& text) {
    // A configuration that was cut short must not look like one.
    if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kOk;
    return print_error(std::string("stdout cannot be written: ") + std::strerror(errno) +
                           "; give it a file or a pipe that takes the output",
                       kCouldNotStart);
}

// --check-config: everything that a start does, but for the listening.
int check(const ServerOptions& options, const Origins& origins) {
    for (const auto& [setting, path] :
         {std::pair{"log-file", options.log_file}, std::pair{"stats-json", options.stats_json}}) {
        if (path.empty()) continue;
        if (Result<void> possible = can_append_to(path); !possible)
            return print_error(origin_of(origins, setting) + ": " + possible.error(),
                               kCouldNotStart);
    }
    if (Result<void> possible = Admin::check(options, origins); !possible)
        return print_error(possible.error(), kCouldNotStart);
    const Result<ServerPlan> plan = plan_server(options);
    if (!plan) return print_error(plan.error(), kCouldNotStart);
    std::string text = "the configuration makes sense, and this machine can serve it\n";
    for (const std::string& line : plan->describe()) text += "  " + line + "\n";
    for (const std::string& line : plan->warnings) text += "warning: " + line + "\n";
    return print(text);
}

// Signals that the main thread waits for. Blocked before any thread is started, so that only the
// main thread ever takes one.
sigset_t block_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, task_signal()})
        sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    for (const int number : {SIGPIPE, SIGUSR2}) std::signal(number, SIG_IGN);
    return signals;
}

// nullptr: --otlp-endpoint is off.
Result<std::unique_ptr<TraceExporter>> export_traces(const ServerOptions& options,
                                                     const Server& server) {
    if (options.otlp_endpoint.empty()) return std::unique_ptr<TraceExporter>();
    const Result<OtlpEndpoint> endpoint = parse_otlp_endpoint(options.otlp_endpoint);
    if (!endpoint) return Error{endpoint.error()};
    const size_t reactors = server.traces()->size();
    spdlog::info("traces of {:g} % of connections to {}, in {} MiB at most",
                 100.0 * options.trace_ratio / kTraceRatioOne, endpoint->text(),
                 (TraceExporter::memory_bytes_max(reactors) + (1 << 19)) >> 20);
    return TraceExporter::start(*endpoint, server.listening(), server.traces(),
                                [](const std::string& line) { spdlog::warn("{}", line); });
}

void end_traces(TraceExporter& traces, const DrainTrace& drain) {
    traces.finish(drain);
    uint64_t exported = 0, dropped = 0;
    for (const TraceCounter& counter : traces.counters()) {
        if (counter.family == "pulsewheel_trace_spans_exported_total") exported += counter.value;
        if (counter.family == "pulsewheel_trace_spans_dropped_total") dropped += counter.value;
    }
    spdlog::info("traces: {} spans were exported, {} dropped", exported, dropped);
}

// `passed`: what the service manager listens on already.
int start_and_run(Log& log, const ServerOptions& options, SettingsSource source,
                  ServiceManager manager, const std::vector<PassedSocket>& passed,
                  const sigset_t& signals) {
    spdlog::info("pulsewheel {}", kVersion);
    // What is reloaded is compared with what was asked for.
    ServerOptions with_sockets = options;
    const bool listen_given = source.origins.contains("listen");
    const Result<std::vector<std::string>> matched =
        match_passed_sockets(with_sockets, listen_given, passed);
    if (!matched) {
        spdlog::error("{}", matched.error());
        return kCouldNotStart;
    }
    for (const std::string& line : *matched) spdlog::warn("{}", line);
    const Result<ServerPlan> plan = plan_server(with_sockets);
    if (!plan) {
        spdlog::error("{}", plan.error());
        return kCouldNotStart;
    }
    for (const std::string& line : plan->describe()) spdlog::info("{}", line);
    for (const std::string& line : plan->warnings) spdlog::warn("{}", line);
    if (plan->options.tls_context != nullptr && !openssl_memory_is_counted()) {
        spdlog::warn(
            "OpenSSL's memory: another library used it before this program began, so that it is "
            "not counted, and secrets in it are not wiped when it is freed; start without what "
            "LD_PRELOAD or LD_AUDIT names");
    }
    Result<Admin> admin = Admin::open(options, source.origins);
    if (!admin) {
        spdlog::error("{}", admin.error());
        return kCouldNotStart;
    }
    ServerOptions running = options;
    running.credentials = plan->options.credentials;
    running.tls_context = plan->options.tls_context;
    Operator main_thread(log, std::move(running), std::move(source), std::move(manager));
    if (Result<void> opened = main_thread.open_outputs(); !opened) {
        spdlog::error("{}", opened.error());
        return kCouldNotStart;
    }
    const Result<std::unique_ptr<Server>> server = Server::start(
        *plan, [](const std::string& line) { spdlog::debug("{}", line); },
        [](const std::string& line) { spdlog::warn("{}", line); },
        [](const LogEvent& event) { Log::event(event); });
    if (!server) {
        spdlog::error("{}", server.error());
        return kCouldNotStart;
    }
    for (const std::string& listener : (*server)->listening())
        spdlog::info("listening on {}", listener);
    AnomalyWatch watch((*server)->reactors(), (*server)->listening(),
                       {[](const std::string& line) { spdlog::warn("{}", line); },
                        [&](OverloadStep step) { (*server)->set_anomaly_step(step); },
                        [&] { return main_thread.progress().draining_since != 0; }});
    const Result<std::unique_ptr<TraceExporter>> traces = export_traces(options, **server);
    const Result<void> serving =
        traces ? admin->serve(**server, main_thread, watch, traces->get()) : Error{traces.error()};
    if (!serving) {
        spdlog::error("{}", serving.error());
        return kCouldNotStart;
    }
    if (const std::string line = admin->describe(); !line.empty()) spdlog::info("{}", line);
    spdlog::info("--on-anomaly takes {} KiB at most where it is on",
                 AnomalyWatch::memory_bytes(plan->reactors) / 1024);
    const int code = main_thread.run(**server, watch, signals);
    admin->stop();
    watch.stop();
    if (*traces) end_traces(**traces, main_thread.drain_trace());
    return code;
}

int serve_with(Invocation invocation, std::span<const char* const> arguments) {
    mallopt(M_MMAP_THRESHOLD, kMappedBlockBytes);
    const sigset_t signals = block_signals();
    ServiceManager manager = ServiceManager::take_from_environment();
    const Result<std::vector<PassedSocket>> passed = take_passed_sockets();
    if (!passed) return print_error(passed.error(), kCouldNotStart);
    Result<Log> log = Log::open(invocation.options);
    if (!log) return print_error(log.error(), kCouldNotStart);
    const int code =
        start_and_run(*log, invocation.options,
                      {arguments, std::move(invocation.kept_config), std::move(invocation.origins)},
                      std::move(manager), *passed, signals);
    log->finish(kFinishNs);
    return code;
}

}  // namespace
}  // namespace pulse::serve

// libssl takes memory when it is loaded, behind which OpenSSL refuses to have it counted: so before
// that, which is when the loader calls what a program has in this section (System V gABI).
static void count_memory_of_openssl() { pulse::count_openssl_memory(); }
[[gnu::section(".preinit_array"), gnu::used]] static void (*const kBeforeLibraries)() =
    &count_memory_of_openssl;

// What escapes cannot be handled here, such as no memory; it ends the program loudly.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
    using namespace pulse::serve;
    // A log at its file size limit is a failed write, not the end of all connections.
    std::signal(SIGXFSZ, SIG_IGN);
    pulse::open_standard_descriptors();
    const std::span<const char* const> arguments(argv + 1,
                                                 static_cast<size_t>(argc > 0 ? argc - 1 : 0));
    auto invocation =
        read_invocation(arguments, [](const char* name) { return std::getenv(name); });
    if (!invocation) return print_error(invocation.error(), kUsage);
    switch (invocation->action) {
        case Action::print:
            return print(invocation->text);
        case Action::check:
            return check(invocation->options, invocation->origins);
        case Action::serve:
            break;
    }
    return serve_with(std::move(*invocation), arguments);
}
