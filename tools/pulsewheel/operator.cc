// Signals, timers, and what they ask of the server.
#include "tools/pulsewheel/operator.h"

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/units.h"
#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/limits.h"
#include "tools/pulsewheel/reload.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {
namespace {

// Between two looks at whether a stopping server has ended, or all orders are acknowledged.
constexpr Nanos kStopPollNs = 20 * kMillisecond;
// A drain may take its window, and a reactor a moment to close; after this much more it is stopped.
constexpr Nanos kStopGraceNs = 5 * kSecond;
// What a reactor may take to reset all peers. One that takes longer is stuck, and left behind.
constexpr Nanos kHardStopNs = 2 * kSecond;
// An order that is not acknowledged for so long is worth a line.
constexpr Nanos kStallLoggedNs = kSecond;
// Between two orders that only ask for a sign of life, for /readyz to know which reactor is stuck.
constexpr Nanos kCheckEveryNs = kSecond;
// What the outputs have at the exit to take what is still queued.
constexpr Nanos kFinishNs = 500 * kMillisecond;
constexpr Nanos kWatchNs = kSecond;                  // between two looks at the outputs
// So many handshakes leave 0.7 MiB of free blocks in the heap (44 KB each).
constexpr uint32_t kTrimHandshakesMin = 16;
constexpr Nanos kMemoryLookNs = 250 * kMillisecond;  // with --overload, between two at memory
constexpr Nanos kStatsIntervalDefault = kSecond;     // of --stats-json without --stats-interval

Nanos monotonic_now() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * kSecond + time.tv_nsec;
}

// A line for each of the errors.
Error refuse_reload(std::string_view errors) {
    for (std::string_view left = errors; !left.empty();) {
        const size_t end = std::min(left.find('\n'), left.size());
        spdlog::error("reload: nothing was changed: {}", left.substr(0, end));
        left.remove_prefix(std::min(end + 1, left.size()));
    }
    return Error{std::string(errors)};
}

// A line for each change, and one for all of them.
void log_reload(const Reload& reload) {
    for (const Change& change : reload.applied) spdlog::info("reload: {}", change.text());
    for (const Change& change : reload.deferred)
        spdlog::warn("reload: {} waits for a restart", change.text());
    spdlog::info("reloaded: {} settings changed, {} wait for a restart", reload.applied.size(),
                 reload.deferred.size());
}

}  // namespace

// ---------------------------------------------------------------------------------------- outputs

Result<void> Operator::open_outputs() {
    set_interval();
    Result<std::unique_ptr<LineWriter>> lines = LineWriter::to(STDOUT_FILENO, "stdout");
    if (!lines) return Error{lines.error()};
    lines_ = std::move(*lines);
    return open_stats_file(options_.stats_json, origin_of(source_.origins, "stats-json"));
}

Result<void> Operator::open_stats_file(const std::string& path, const std::string& origin) {
    if (path.empty()) {
        stats_file_.reset();
        return {};
    }
    Result<std::unique_ptr<LineWriter>> file = LineWriter::append_to(path);
    if (!file) return Error{origin + ": " + file.error()};
    stats_file_ = std::move(*file);
    return {};
}

void Operator::set_interval() {
    interval_ = options_.stats_interval;
    if (interval_ == 0 && !options_.stats_json.empty()) interval_ = kStatsIntervalDefault;
    next_stats_ = interval_ == 0 ? kNever : monotonic_now() + interval_;
}

void Operator::reopen() {
    log_.reopen();
    if (stats_file_) stats_file_->reopen();
    spdlog::info("opened the log and statistics files anew");
}

void Operator::report_trouble() {
    log_.report_trouble();
    if (const std::optional<std::string> trouble = manager_.take_trouble())
        spdlog::warn("{}", *trouble);
    for (const auto* writer : {&lines_, &stats_file_}) {
        if (*writer == nullptr) continue;
        if (const std::optional<std::string> trouble = (*writer)->take_trouble())
            spdlog::warn("statistics: {}", *trouble);
    }
}

void Operator::report() {
    const ServerStats& stats = server_->stats();
    if (options_.stats_interval != 0) lines_->write(stats.line(last_) + "\n");
    if (stats_file_) stats_file_->write(stats.json(false) + "\n");
    last_ = stats.moment();
    next_stats_ = std::max(next_stats_ + interval_, monotonic_now());
}

// ---------------------------------------------------------------------------------------- the loop

int Operator::run(Server& server, AnomalyWatch& watch, const sigset_t& signals) {
    server_ = &server;
    watch_ = &watch;
    tune_watch();
    progress_.drain_window = options_.drain_timeout;
    manager_.started(server);
    for (;;) {
        wait_for_signal(signals);
        manager_.tend(monotonic_now());
        tasks_.run_waiting();
        check_reactors();
        watch_reactors();
        watch_memory();
        if (monotonic_now() >= next_stats_ && stopped_at_ == 0) report();
        if (monotonic_now() >= next_watch_) {
            report_trouble();
            trim_heap();
            next_watch_ = monotonic_now() + kWatchNs;
        }
        if (stopping_at_ == 0) continue;
        if (server.ended(0)) return end();
        watch_stop();
    }
}

void Operator::wait_for_signal(const sigset_t& signals) {
    Nanos wait =
        std::min({next_stats_, next_watch_, next_check_, next_memory_look_, manager_.due_at()}) -
        monotonic_now();
    if (stopping_at_ != 0 || stalled_since_ != 0) wait = std::min(wait, kStopPollNs);
    wait = std::clamp<Nanos>(wait, 0, kWatchNs);
    const timespec timeout{wait / kSecond, wait % kSecond};
    on_signal(sigtimedwait(&signals, nullptr, &timeout));
}

void Operator::on_signal(int number) {
    switch (number) {
        case SIGTERM:
        case SIGINT:
            return stop();
        case SIGHUP:
            static_cast<void>(reload());  // it has logged how it went
            return;
        case SIGUSR1:
            return reopen();
        default:
            return;
    }
}

// A reactor that has nothing to do and one that is stuck look the same until it is asked.
void Operator::check_reactors() {
    if (options_.admin.empty()) return;
    if (next_check_ == kNever) next_check_ = monotonic_now();
    if (monotonic_now() < next_check_) return;
    next_check_ = monotonic_now() + kCheckEveryNs;
    server_->check();
}

// Also once after --overload was turned off, which ends its steps.
void Operator::watch_memory() {
    if (monotonic_now() < next_memory_look_) return;
    if (const std::string line = server_->watch_memory(); !line.empty()) spdlog::warn("{}", line);
    const bool watches = options_.overload != OverloadStep::none;
    next_memory_look_ = watches ? monotonic_now() + kMemoryLookNs : kNever;
}

// malloc keeps what handshakes have freed; once most are over it goes back to the kernel. Only a
// reactor that allocates meanwhile waits for it: heartbeats do behind OpenSSL's objects alone.
void Operator::trim_heap() {
    const uint32_t handshakes = server_->tls_handshakes();
    handshakes_most_ = std::max(handshakes_most_, server_->take_tls_handshakes_most());
    const bool are_over =
        handshakes_most_ >= kTrimHandshakesMin && handshakes <= handshakes_most_ / 4;
    // Those that were over a look ago have been freed.
    if (!std::exchange(handshakes_over_, are_over) || !are_over) return;
    malloc_trim(0);
    handshakes_most_ = handshakes;
    handshakes_over_ = false;
}

void Operator::tune_watch() {
    const bool degrades = options_.on_anomaly == OnAnomaly::degrade;
    const Result<void> tuned =
        watch_->tune({.on = options_.on_anomaly != OnAnomaly::off,
                      .degrades = degrades,
                      .interval = options_.anomaly_interval,
                      .overload = {options_.overload, options_.overload_span}});
    if (!tuned) spdlog::error("{}", tuned.error());
}

// Posts the orders that had to wait. A reactor that acknowledges none for a while is worth a line:
// it, or the machine, is stuck.
void Operator::watch_reactors() {
    const uint32_t waiting = server_->deliver();
    if (waiting == 0) {
        manager_.acknowledged();
        if (stall_logged_) spdlog::info("all reactors have acknowledged their orders");
        stalled_since_ = 0;
        stall_logged_ = false;
        progress_.reactors_stuck = 0;
        return;
    }
    if (stalled_since_ == 0) stalled_since_ = monotonic_now();
    if (monotonic_now() - stalled_since_ < kStallLoggedNs) return;
    progress_.reactors_stuck = waiting;
    if (std::exchange(stall_logged_, true)) return;
    spdlog::warn("{} reactors have not acknowledged their orders for {}; the orders wait", waiting,
                 format_duration(kStallLoggedNs));
}

// --------------------------------------------------------------------------------------- stopping

void Operator::stop() {
    if (stopping_at_ != 0) return stop_now();
    stopping_at_ = stop_watched_at_ = monotonic_now();
    progress_.connections_at_drain = server_->connections();
    progress_.drain_delay = options_.drain_delay;
    progress_.draining_since = stopping_at_;  // balancers read it before a listener closes
    drain_plan_ = server_->drain();
    progress_.goodbyes_per_second = drain_plan_.rate;
    next_drain_line_ = stopping_at_ + kDrainLineEveryNs;
    manager_.draining();
    log_drain();
}

void Operator::log_drain() {
    const uint64_t asked = options_.drain_rate;
    if (asked > 0 && !drain_plan_.keeps_rate) {
        spdlog::warn("{} connections take longer than {} at --drain-rate {}; drains at {}",
                     drain_plan_.connections, format_duration(options_.drain_timeout),
                     format_rate(asked), format_rate(drain_plan_.rate));
    }
    const Nanos delay = progress_.drain_delay;
    spdlog::info(
        "stopping: not ready from now on; {}sends {} goodbyes, {}, stops hard {} later; a "
        "second signal stops at once",
        delay == 0 ? "" : "accepts for " + format_duration(delay) + " more, then ",
        drain_plan_.connections, format_rate(std::max<uint64_t>(1, drain_plan_.rate)),
        format_duration(options_.drain_timeout));
}

void Operator::report_drain() {
    const Nanos now = monotonic_now();
    if (now < next_drain_line_) return;
    next_drain_line_ = now + kDrainLineEveryNs;
    spdlog::info("stopping: {} of {} connections are left", server_->connections(),
                 drain_plan_.connections);
}

void Operator::stop_now() {
    if (stopped_at_ != 0) return;
    stopped_at_ = monotonic_now();
    progress_.stopped = true;
    server_->stop();
    manager_.stopping_at_once();
    spdlog::warn("stopping at once");
}

// A pause of this thread was one of the process, as a rule: the reactors did not have it either.
void Operator::watch_stop() {
    const Nanos now = monotonic_now();
    const Nanos away = now - std::exchange(stop_watched_at_, now);
    if (away > kStopGraceNs / 2) stopping_at_ += away;
    // What a shorter window makes due at once is said first.
    const Nanos since_change = window_changed_at_ == 0 ? kNever : now - window_changed_at_;
    const Nanos bound = progress_.drain_delay + options_.drain_timeout + kStopGraceNs;
    const bool over = now - stopping_at_ > bound && since_change > kStopGraceNs;
    if (stopped_at_ == 0 && over) return stop_now();
    report_drain();
    if (stopped_at_ == 0 || now - stopped_at_ < kHardStopNs) return;
    spdlog::error("a reactor has not stopped within {}: leaving it behind",
                  format_duration(kHardStopNs));
    log_.finish(kFinishNs);
    // Not exit(): its handlers would run beside that reactor.
    std::_Exit(kDrainCutShort);
}

int Operator::end() {
    tasks_.close();
    const ServerStats& stats = server_->stats();
    if (stats_file_) stats_file_->write(stats.json(true) + "\n");
    const MetricsSnapshot& metrics = stats.total.metrics;
    spdlog::info(
        "ended: {} connections were accepted, {} evicted, {} refused; {} heartbeats answered",
        metrics[Metric::accepted], metrics[Metric::evicted], metrics[Metric::refused],
        metrics[Metric::heartbeats_answered]);
    drain_trace_ = {.began_at = progress_.draining_since,
                    .ended_at = monotonic_now(),
                    .connections = drain_plan_.connections,
                    .goodbyes_per_second = drain_plan_.rate,
                    .reset = metrics.closed[static_cast<size_t>(CloseReason::hard_stop)],
                    .cut_short = server_->drain_cut_short(),
                    .stopped_hard = stopped_at_ != 0};
    report_trouble();
    if (stats_file_) stats_file_->finish(kFinishNs);
    lines_->finish(kFinishNs);
    return stopped_at_ != 0 || server_->drain_cut_short() ? kDrainCutShort : kOk;
}

// -------------------------------------------------------------------------------------- reloading

std::vector<CertificateTerm> Operator::certificates() const {
    const std::lock_guard lock(tls_lock_);
    return tls_ != nullptr ? tls_->terms() : std::vector<CertificateTerm>();
}

Result<Reload> Operator::reload() {
    manager_.reload_began();
    log_.reopen();
    // The arguments are those of the start, so that this is a serve again.
    const Result<Invocation> again = read_invocation(
        source_.arguments, [](const char* name) { return std::getenv(name); }, source_.kept_config);
    if (!again) return refuse_reload(again.error());
    Result<Reload> reload = plan_reload(options_, again->options, again->origins);
    if (!reload) return refuse_reload(reload.error());
    if (Result<void> room = room_for_policies(reload->options); !room)
        return refuse_reload(room.error());
    Result<LoadedCredentials> loaded = load_credentials(reload->options.auth);
    if (!loaded) return refuse_reload(loaded.error());
    Result<LoadedTls> tls = load_tls(reload->options.tls, options_.tls_context.get());
    if (!tls) return refuse_reload(tls.error());
    if (reload->options.stats_json != options_.stats_json) {
        const std::string origin = origin_of(again->origins, "stats-json");
        if (Result<void> opened = open_stats_file(reload->options.stats_json, origin); !opened)
            return refuse_reload(opened.error());
    } else if (stats_file_) {
        stats_file_->reopen();
    }
    // Read anew although their names are the same, and all of them or none.
    reload->options.credentials = std::move(loaded->credentials);
    reload->options.tls_context = std::move(tls->context);
    apply(reload->options);
    for (const auto* notes : {&loaded->notes, &tls->notes})
        for (const std::string& note : *notes) spdlog::info("reload: {}", note);
    std::vector<std::string> others = client_certificate_warnings(reload->options);
    for (const auto* warnings : {&loaded->warnings, &tls->warnings, &others})
        for (const std::string& warning : *warnings) spdlog::warn("reload: {}", warning);
    if (source_.kept_config)
        spdlog::info(
            "reload: the config came from a pipe, and is kept as it was read at the start");
    log_reload(*reload);
    source_.origins = again->origins;
    return reload;
}

Result<void> Operator::set_log_level(std::string_view level) {
    const Setting& setting = *find_setting("log-level");
    ServerOptions changed = options_;
    if (Result<void> set = setting.set(changed, level); !set) return set;
    if (changed.log_level == options_.log_level) return {};
    const Change change{setting.name, log_level(), std::string(level)};
    apply(changed);
    source_.origins[setting.name] = "the admin endpoint";
    spdlog::info("the admin endpoint: {}", change.text());
    return {};
}

std::string Operator::log_level() const { return joined(find_setting("log-level")->get(options_)); }

Result<void> Operator::set_policies(const std::vector<std::string>& texts) {
    const Setting& setting = *find_setting("policy");
    ServerOptions changed = options_;
    setting.clear(changed);
    for (const std::string& text : texts)
        if (Result<void> set = setting.set(changed, text); !set) return set;
    return apply_policies(changed);
}

Result<void> Operator::roll_back_policies() {
    if (!policies_before_)
        return Error{"there was no change of policies to be rolled back; change them first"};
    ServerOptions changed = options_;
    changed.policies = *policies_before_;
    return apply_policies(changed);
}

Result<void> Operator::room_for_policies(const ServerOptions& options) const {
    if (server_->has_cohorts_for(options.policies)) return {};
    return Error{
        "policy: connections are still told of the changes before, and there are no cohorts for so "
        "many new policies; try again in a moment"};
}

Result<void> Operator::apply_policies(const ServerOptions& changed) {
    const auto text = [](const ServerOptions& options) {
        return joined(find_setting("policy")->get(options), "; ");
    };
    const Change change{"policy", text(options_), text(changed)};
    if (change.before == change.after) return {};
    if (Result<void> room = room_for_policies(changed); !room) return room;
    apply(changed);
    source_.origins["policy"] = "the admin endpoint";
    spdlog::info("the admin endpoint: {}", change.text());
    return {};
}

nlohmann::ordered_json Operator::config() const {
    auto list = nlohmann::ordered_json::array();
    for (const Setting& setting : settings()) {
        const auto origin = source_.origins.find(setting.name);
        const bool given = origin != source_.origins.end();
        list.push_back({{"name", setting.name},
                        {"value", joined(setting.get(options_))},
                        {"origin", given ? origin->second : "default"},
                        {"reload", setting.reload == ReloadKind::live ? "live" : "restart"}});
    }
    return list;
}

void Operator::apply(const ServerOptions& options) {
    if (stopping_at_ != 0 && options.drain_timeout != options_.drain_timeout)
        window_changed_at_ = monotonic_now();
    const bool timing = options.stats_interval != options_.stats_interval ||
                        options.stats_json != options_.stats_json;
    const auto text = &CohortPolicy::text;
    if (!std::ranges::equal(options.policies, options_.policies, {}, text, text))
        policies_before_ = options_.policies;
    options_ = options;
    {
        const std::lock_guard lock(tls_lock_);
        tls_ = options_.tls_context;
    }
    server_->reload(options_);
    tune_watch();
    next_memory_look_ = 0;
    manager_.reload_applied();
    log_.tune(options_);
    if (timing) set_interval();
    progress_.drain_window = options_.drain_timeout;
    if (stopping_at_ == 0 || drain_plan_.keeps_rate) return;
    drain_plan_.rate = goodbyes_needed(drain_plan_.connections, options_.drain_timeout);
    progress_.goodbyes_per_second = drain_plan_.rate;
}

}  // namespace pulse::serve
