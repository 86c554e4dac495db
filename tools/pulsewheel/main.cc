// pulsewheel: the server. Reads its settings, says what it found and what that will cost, serves
// until it is told to stop, and says how it went by its exit code: 0 ok, 1 could not start, 2
// usage, 3 some peers did not take their goodbye in time.
#include <malloc.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <span>
#include <string>

#include "core/units.h"
#include "core/version.h"
#include "net/descriptors.h"
#include "net/server.h"
#include "proto/json.h"
#include "tools/pulsewheel/flags.h"

namespace pulse {
namespace {

enum ExitCode { kOk = 0, kCouldNotStart = 1, kUsage = 2, kDrainCutShort = 3 };

// Between two looks at whether a stopping server has ended.
constexpr Nanos kStopPollNs = 20 * kMillisecond;
// A drain may take its window, and a reactor a moment to close; after this much more it is stopped.
constexpr Nanos kStopGraceNs = 5 * kSecond;
// M_MMAP_THRESHOLD, glibc's initial value, kept. Left alone it grows with the first big block that
// is freed; the histograms of a snapshot then come from the heap, zeroed by hand, never returned:
// 54 empty reactors take 56 to 86 MB instead of 17.
constexpr int kMappedBlockBytes = 128 * 1024;
constexpr Nanos kStatsIntervalDefault = kSecond;  // of --stats-json without --stats-interval

// %* in a pattern: the message as the inside of a JSON string.
class JsonMessageFlag final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&,
                spdlog::memory_buf_t& out) override {
        const std::string_view text(message.payload.data(), message.payload.size());
        std::string escaped(json::escaped_bytes(text), '\0');
        json::write_escaped(reinterpret_cast<uint8_t*>(escaped.data()), text);
        out.append(escaped.data(), escaped.data() + escaped.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override {
        return std::make_unique<JsonMessageFlag>();
    }
};

void set_up_log(const ServerOptions& options) {
    auto logger = spdlog::stderr_color_mt("pulsewheel");
    constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                     spdlog::level::warn, spdlog::level::err};
    logger->set_level(kLevels[static_cast<size_t>(options.log_level)]);
    if (options.log_format == LogFormat::json) {
        auto formatter = std::make_unique<spdlog::pattern_formatter>();
        formatter->add_flag<JsonMessageFlag>('*');
        formatter->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%*"})");
        logger->set_formatter(std::move(formatter));
    } else {
        logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%-5l%$ %v");
    }
    spdlog::set_default_logger(std::move(logger));
}

// --stats-json: one object a line, appended. Opened again on SIGHUP, so that it can be rotated.
class StatsFile {
  public:
    ~StatsFile() { close(); }
    bool open(const std::string& path) {
        close();
        path_ = path;
        file_ = std::fopen(path.c_str(), "ae");
        if (file_ == nullptr) {
            spdlog::error("--stats-json {}: {}; name a file that can be written", path,
                          std::strerror(errno));
        }
        return file_ != nullptr;
    }
    void reopen() {
        if (!path_.empty()) open(path_);
    }
    void write(const std::string& object) {
        if (file_ == nullptr) return;
        if (std::fprintf(file_, "%s\n", object.c_str()) < 0 || std::fflush(file_) != 0) {
            spdlog::error("--stats-json {}: {}; nothing more is written", path_,
                          std::strerror(errno));
            close();
        }
    }

  private:
    void close() {
        if (file_ != nullptr) std::fclose(file_);
        file_ = nullptr;
    }
    std::string path_;
    std::FILE* file_ = nullptr;
};

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

// What the main thread does: signals and statistics, until the reactors have ended.
class Operator {
  public:
    Operator(Server& server, const ServerOptions& options, std::span<const char* const> arguments)
        : server_(server), options_(options), arguments_(arguments) {
        interval_ = options.stats_interval;
        if (interval_ == 0 && !options.stats_json.empty()) interval_ = kStatsIntervalDefault;
        next_stats_ = interval_ == 0 ? kNever : monotonic_now() + interval_;
    }
    bool open_stats() { return options_.stats_json.empty() || file_.open(options_.stats_json); }

    int run(const sigset_t& signals) {
        for (;;) {
            wait_for_signal(signals);
            if (monotonic_now() >= next_stats_) report();
            if (stopping_at_ == 0) continue;
            if (server_.ended(0)) break;
            if (monotonic_now() - stopping_at_ > options_.drain_timeout + kStopGraceNs) stop_now();
        }
        const ServerStats& stats = server_.stats();
        file_.write(stats.json(true));
        const MetricsSnapshot& metrics = stats.total.metrics;
        spdlog::info(
            "ended: {} connections were accepted, {} evicted, {} refused; {} heartbeats answered",
            metrics[Metric::accepted], metrics[Metric::evicted], metrics[Metric::refused],
            metrics[Metric::heartbeats_answered]);
        return hard_ || server_.drain_cut_short() ? kDrainCutShort : kOk;
    }

  private:
    void wait_for_signal(const sigset_t& signals) {
        Nanos wait = next_stats_ == kNever ? kSecond : next_stats_ - monotonic_now();
        if (stopping_at_ != 0) wait = std::min(wait, kStopPollNs);
        wait = std::max<Nanos>(wait, 0);
        const timespec timeout{wait / kSecond, wait % kSecond};
        switch (sigtimedwait(&signals, nullptr, &timeout)) {
            case SIGTERM:
            case SIGINT:
                return stop();
            case SIGHUP:
                return reload();
            default:
                return;
        }
    }
    void stop() {
        if (stopping_at_ != 0) return stop_now();
        stopping_at_ = monotonic_now();
        spdlog::info("stopping: saying goodbye over {}; once more stops at once",
                     format_duration(options_.drain_timeout));
        server_.drain();
    }
    void stop_now() {
        if (hard_) return;
        hard_ = true;
        spdlog::warn("stopping at once");
        server_.stop();
    }
    // What can change while it runs: heartbeats, the log level, the file of the statistics.
    void reload() {
        file_.reopen();
        const Result<serve::Invocation> again =
            serve::read_invocation(arguments_, [](const char* name) { return std::getenv(name); });
        if (!again || !again->serve) {
            spdlog::error("reload: kept as it was: {}", again ? again->text : again.error());
            return;
        }
        options_.heartbeat_interval = again->options.heartbeat_interval;
        options_.heartbeat_timeout = again->options.heartbeat_timeout;
        options_.heartbeat_probe = again->options.heartbeat_probe;
        options_.liveness = again->options.liveness;
        server_.retune(options_);
        spdlog::info("reloaded: heartbeats every {}, eviction after {}",
                     format_duration(options_.heartbeat_interval),
                     format_duration(options_.heartbeat_timeout));
    }
    void report() {
        const ServerStats& stats = server_.stats();
        if (options_.stats_interval != 0) {
            std::printf("%s\n", stats.line(last_).c_str());
            std::fflush(stdout);
        }
        file_.write(stats.json(false));
        last_ = stats.moment();
        next_stats_ = std::max(next_stats_ + interval_, monotonic_now());
    }

    Server& server_;
    ServerOptions options_;
    std::span<const char* const> arguments_;
    StatsFile file_;
    ServerStats::Moment last_;
    Nanos interval_ = 0;
    Nanos next_stats_ = kNever;
    Nanos stopping_at_ = 0;
    bool hard_ = false;
};

int serve_with(const ServerOptions& options, std::span<const char* const> arguments) {
    mallopt(M_MMAP_THRESHOLD, kMappedBlockBytes);
    set_up_log(options);
    // Blocked before any thread is started, so that only the main thread ever sees one.
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    spdlog::info("pulsewheel {}", kVersion);
    const Result<ServerPlan> plan = plan_server(options);
    if (!plan) {
        spdlog::error("{}", plan.error());
        return kCouldNotStart;
    }
    for (const std::string& line : plan->describe()) spdlog::info("{}", line);
    for (const std::string& line : plan->warnings) spdlog::warn("{}", line);
    Server::DebugLog debug;
    if (options.log_level == LogLevel::debug) {
        debug = [](const std::string& line) { spdlog::debug("{}", line); };
    }
    const Result<std::unique_ptr<Server>> server = Server::start(*plan, std::move(debug));
    if (!server) {
        spdlog::error("{}", server.error());
        return kCouldNotStart;
    }
    Operator main_thread(**server, options, arguments);
    if (!main_thread.open_stats()) return kCouldNotStart;
    for (const std::string& listener : (*server)->listening())
        spdlog::info("listening on {}", listener);
    return main_thread.run(signals);
}

}  // namespace
}  // namespace pulse

// What escapes is what nobody here can mend, such as no memory; it ends the program loudly.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
    pulse::open_standard_descriptors();
    const std::span<const char* const> arguments(argv + 1,
                                                 static_cast<size_t>(argc > 0 ? argc - 1 : 0));
    const auto invocation = pulse::serve::read_invocation(
        arguments, [](const char* name) { return std::getenv(name); });
    if (!invocation) {
        std::fprintf(stderr, "pulsewheel: %s\n", invocation.error().c_str());
        return pulse::kUsage;
    }
    if (!invocation->serve) {
        // A configuration that was cut short must not look like one.
        if (std::fputs(invocation->text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0)
            return pulse::kOk;
        std::fprintf(stderr,
                     "pulsewheel: stdout cannot be written: %s; give it a file or a pipe that "
                     "takes the output\n",
                     std::strerror(errno));
        return pulse::kCouldNotStart;
    }
    return pulse::serve_with(invocation->options, arguments);
}
