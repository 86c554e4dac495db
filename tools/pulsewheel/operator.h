// What the main thread does while the reactors serve: signals, reloads, statistics, and messages to
// a service manager. It acts before it logs, and never waits for an output; for a reactor's
// statistics at most a second.
#pragma once

#include <atomic>
#include <csignal>
#include <memory>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/control/anomaly_watch.h"
#include "net/observe/otlp_json.h"
#include "net/server/server.h"
#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/line_writer.h"
#include "tools/pulsewheel/log.h"
#include "tools/pulsewheel/main_tasks.h"
#include "tools/pulsewheel/reload.h"
#include "tools/pulsewheel/service_manager.h"

namespace pulse::serve {

enum ExitCode { kOk = 0, kCouldNotStart = 1, kUsage = 2, kDrainCutShort = 3 };

// Where settings come from, to be read again.
struct SettingsSource {
    std::span<const char* const> arguments;
    std::optional<std::string> kept_config;  // of a config that was a pipe
    Origins origins;                         // of the start
};

class Operator {
  public:
    Operator(Log& log, ServerOptions options, SettingsSource source, ServiceManager manager)
        : log_(log),
          options_(std::move(options)),
          source_(std::move(source)),
          manager_(std::move(manager)),
          tls_(options_.tls_context) {}

    // Opens what statistics are written to. The error names the file.
    Result<void> open_outputs();
    // Until all reactors have ended, or do not answer; `signals` are blocked. An exit code. Where a
    // reactor does not answer the process ends here.
    int run(Server& server, AnomalyWatch& watch, const sigset_t& signals);

    const ServerOptions& options() const { return options_; }

    // What other threads have this one do (main_tasks.h), and may read of it.
    MainTasks& tasks() { return tasks_; }
    struct Progress {
        std::atomic<Nanos> draining_since{0};  // 0: it serves
        std::atomic<bool> stopped{false};      // hard
        std::atomic<uint32_t> connections_at_drain{0};
        std::atomic<uint64_t> goodbyes_per_second{0};
        std::atomic<Nanos> drain_delay{0};
        std::atomic<Nanos> drain_window{0};  // of the present or the next drain
        std::atomic<uint32_t> reactors_stuck{0};
    };
    const Progress& progress() const { return progress_; }
    // Those in force; none where TLS is off.
    std::vector<CertificateTerm> certificates() const;
    // After run(): how it drained, for a trace.
    const DrainTrace& drain_trace() const { return drain_trace_; }

    // Tasks.
    // SIGTERM's first: a drain begins, unless one has.
    void drain() {
        if (stopping_at_ == 0) stop();
    }
    // SIGHUP. The error has a line for each thing that is wrong; then nothing was changed.
    Result<Reload> reload();
    // Until the next reload. The error quotes what it was given.
    Result<void> set_log_level(std::string_view level);
    std::string log_level() const;
    // These policies and no others, until the next reload; or those that were in force before the
    // last change of them, whatever brought it. The error quotes what is wrong.
    Result<void> set_policies(const std::vector<std::string>& texts);
    Result<void> roll_back_policies();
    // [{"name": "listen", "value": "...", "origin": "--listen", "reload": "restart"}, ...]
    nlohmann::ordered_json config() const;

  private:
    // An error begins with `origin`, which names the setting.
    Result<void> open_stats_file(const std::string& path, const std::string& origin);
    void set_interval();
    void wait_for_signal(const sigset_t& signals);
    void on_signal(int number);
    void stop();
    void stop_now();
    void log_drain();
    void report_drain();
    void watch_stop();
    void check_reactors();
    void watch_reactors();
    void watch_memory();
    void trim_heap();
    void tune_watch();
    void report_trouble();
    void apply(const ServerOptions& options);
    Result<void> room_for_policies(const ServerOptions& options) const;
    Result<void> apply_policies(const ServerOptions& changed);
    void reopen();
    void report();
    int end();

    Log& log_;
    ServerOptions options_;  // in force
    SettingsSource source_;
    ServiceManager manager_;
    mutable std::mutex tls_lock_;
    std::shared_ptr<const TlsContext> tls_;  // of options_, for other threads
    std::optional<std::vector<CohortPolicy>> policies_before_;
    Server* server_ = nullptr;
    AnomalyWatch* watch_ = nullptr;
    MainTasks tasks_;
    Progress progress_;
    std::unique_ptr<LineWriter> lines_;       // --stats-interval, to stdout
    std::unique_ptr<LineWriter> stats_file_;  // --stats-json
    ServerStats::Moment last_;
    Nanos interval_ = 0;
    Nanos next_stats_ = kNever;
    Nanos next_watch_ = 0;
    Nanos next_check_ = kNever;  // of the reactors, with --admin
    Nanos next_memory_look_ = 0;
    bool handshakes_over_ = false;  // most of them were, at the last look
    uint32_t handshakes_most_ = 0;  // of TLS, in flight at once since the last trim
    Nanos stalled_since_ = 0;  // an order is not acknowledged; 0: all are
    bool stall_logged_ = false;
    Nanos stopping_at_ = 0;
    Nanos window_changed_at_ = 0;  // by a reload since then
    Nanos stop_watched_at_ = 0;
    DrainPlan drain_plan_;
    DrainTrace drain_trace_;
    Nanos next_drain_line_ = kNever;
    Nanos stopped_at_ = 0;  // the hard stop
};

}  // namespace pulse::serve
