// The server and the main thread, as the admin endpoint sees them.
#include "tools/pulsewheel/admin.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/units.h"
#include "net/control/limits.h"
#include "net/loop/reactor_config.h"
#include "tools/pulsewheel/page/files.h"

namespace pulse::serve {

class AdminTarget final : public ControlTarget {
  public:
    AdminTarget(Server& server, Operator& main_thread, const AnomalyWatch& watch,
                const TraceExporter* traces, const ServerOptions& options)
        : server_(server),
          main_thread_(main_thread),
          watch_(watch),
          traces_(traces),
          listeners_(server.listening()),
          profiles_(make_reactor_config(std::make_shared<LoopOptions>(options)).profile_names),
          send_queue_bytes_(options.send_queue_bytes) {}

    Reactors& reactors() override { return server_.reactors(); }
    ServingState serving() const override {
        std::vector<CertificateEnd> certificates;
        for (const CertificateTerm& term : main_thread_.certificates())
            certificates.push_back({term.file, term.not_after_s});
        const Operator::Progress& progress = main_thread_.progress();
        const Nanos since = progress.draining_since;
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        return {.draining = since != 0,
                .stopping_hard = progress.stopped,
                .draining_for = since == 0 ? 0 : now.tv_sec * kSecond + now.tv_nsec - since,
                .drain_delay = progress.drain_delay,
                .drain_window = progress.drain_window,
                .goodbyes_per_second = progress.goodbyes_per_second,
                .connections = server_.connections(),
                .connections_max = server_.connections_max(),
                .connections_at_drain = progress.connections_at_drain,
                .reactors_stuck = progress.reactors_stuck,
                .reactors_overloaded = server_.overloaded(),
                .certificates = std::move(certificates)};
    }
    Json process() const override {
        ServerStats stats;
        server_.fill_process(stats);
        return stats.process_json();
    }
    std::vector<std::string> listeners() const override { return listeners_; }
    std::vector<std::string> profiles() const override { return profiles_; }
    bool is_passed(size_t listener) const override { return server_.is_passed(listener); }
    size_t send_queue_bytes() const override { return send_queue_bytes_; }
    std::span<const PageFile> page() const override { return page_files(); }
    AnomalyReport anomalies() const override { return watch_.report(); }
    std::vector<ThreadCounter> counters() const override {
        std::vector<ThreadCounter> counters;
        if (traces_ == nullptr) return counters;
        for (const TraceCounter& counter : traces_->counters())
            counters.push_back({counter.family, counter.reason, counter.help, counter.value});
        return counters;
    }
    void warn(const std::string& line) const override { spdlog::warn("admin: {}", line); }

    Result<Json> config() override {
        return ask<Json>([this] { return main_thread_.config(); });
    }
    Result<std::string> log_level() override {
        return ask<std::string>([this] { return main_thread_.log_level(); });
    }
    Result<Result<void>> set_log_level(std::string_view level) override {
        return ask<Result<void>>([&] { return main_thread_.set_log_level(level); });
    }
    Result<Result<Json>> reload() override {
        return ask<Result<Json>>([this]() -> Result<Json> {
            const Result<Reload> reload = main_thread_.reload();
            if (!reload) return Error{reload.error()};
            return Json{{"applied", changes(reload->applied)},
                        {"wait_for_a_restart", changes(reload->deferred)}};
        });
    }
    Result<Result<void>> set_policies(const std::vector<std::string>& texts) override {
        return ask<Result<void>>([&] { return main_thread_.set_policies(texts); });
    }
    Result<Result<void>> roll_back_policies() override {
        return ask<Result<void>>([this] { return main_thread_.roll_back_policies(); });
    }
    Result<void> revoke(const std::string& token_id) override {
        const auto ordered = ask<bool>([this, token_id] {
            server_.revoke(token_id);
            return true;
        });
        return ordered ? Result<void>() : Error{ordered.error()};
    }
    Result<void> drain() override {
        const auto begun = ask<bool>([this] {
            main_thread_.drain();
            return true;
        });
        return begun ? Result<void>() : Error{begun.error()};
    }

  private:
    static Json changes(const std::vector<Change>& list) {
        Json all = Json::array();
        for (const Change& change : list) {
            all.push_back(
                {{"setting", change.setting}, {"before", change.before}, {"after", change.after}});
        }
        return all;
    }
    // Has the main thread call `what`, and waits for it.
    template <class T, class What>
    Result<T> ask(What&& what) {
        const auto answer = std::make_shared<std::optional<T>>();
        const bool done =
            main_thread_.tasks().run([&] { answer->emplace(what()); }, kAdminAnswerNs);
        if (done) return *std::move(*answer);
        return Error{"has not answered within " + format_duration(kAdminAnswerNs) +
                     ", or the server ends, or the log says why not; try again"};
    }

    Server& server_;
    Operator& main_thread_;
    const AnomalyWatch& watch_;
    const TraceExporter* const traces_;
    const std::vector<std::string> listeners_;
    const std::vector<std::string> profiles_;
    const size_t send_queue_bytes_;
};

Admin::Admin() = default;
Admin::Admin(Admin&&) noexcept = default;
Admin::~Admin() { control_.reset(); }

Result<Admin> Admin::read(const ServerOptions& options, const Origins& origins) {
    Admin admin;
    if (options.admin.empty() || options.admin_token_file.empty()) return admin;
    Result<std::vector<std::string>> tokens = read_admin_tokens(options.admin_token_file);
    if (!tokens) return Error{origin_of(origins, "admin-token-file") + ": " + tokens.error()};
    admin.tokens_ = std::move(*tokens);
    return admin;
}

Result<void> Admin::check(const ServerOptions& options, const Origins& origins) {
    const Result<Admin> admin = read(options, origins);
    return admin ? Result<void>() : Error{admin.error()};
}

Result<Admin> Admin::open(const ServerOptions& options, const Origins& origins) {
    Result<Admin> admin = read(options, origins);
    if (!admin || options.admin.empty()) return admin;
    const Result<AdminAddress> address = parse_admin_address(options.admin);
    if (!address) return Error{origin_of(origins, "admin") + ": " + address.error()};
    Result<AdminListener> listener = AdminListener::open(*address);
    if (!listener) return Error{origin_of(origins, "admin") + ": " + listener.error()};
    admin->text_ = listener->text();
    admin->listener_ = std::make_unique<AdminListener>(std::move(*listener));
    return admin;
}

Result<void> Admin::serve(Server& server, Operator& main_thread, const AnomalyWatch& watch,
                          const TraceExporter* traces) {
    if (listener_ == nullptr) return {};
    target_ =
        std::make_unique<AdminTarget>(server, main_thread, watch, traces, main_thread.options());
    Result<std::unique_ptr<Control>> control =
        Control::start(std::move(*listener_), std::move(tokens_), *target_);
    listener_.reset();
    if (!control) return Error{control.error()};
    control_ = std::move(*control);
    return {};
}

std::string Admin::describe() const {
    if (text_.empty()) return {};
    return fmt::format("admin endpoint on {}, at most {} clients and {} MiB", text_,
                       kAdminConnectionsMax, (Control::memory_bytes_max() + (1 << 19)) >> 20);
}

}  // namespace pulse::serve
