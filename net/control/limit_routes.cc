// GET /api/v1/limits: each limit with what it allows, what is in use of it, and how often it was
// the reason to refuse or to close.
#include <algorithm>
#include <atomic>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>

#include "net/control/limits.h"
#include "net/control/routes.h"
#include "net/loop/connections.h"

namespace pulse {
namespace {

// What reactors share, seen by one of them; it outlives them.
struct LimitsJob final : Job {
    Nanos step(Connections& connections, Nanos, uint32_t& budget) override {
        options = connections.config().options;
        admission = connections.config().admission;
        addresses = connections.config().addresses;
        budget = 0;
        return kNever;
    }

    std::shared_ptr<const LoopOptions> options;
    const Admission* admission = nullptr;
    const AddressTable* addresses = nullptr;
};

class LimitRows {
  public:
    // Settings by name, as text.
    LimitRows(std::map<std::string, std::string> values, const MetricsSnapshot& metrics)
        : values_(std::move(values)), metrics_(metrics) {}

    // `most` 0: it is not a number, or off; then there is no use of it. `used` -1: not known.
    void add(const std::string& setting, std::string_view of, uint64_t most, int64_t used,
             std::initializer_list<CloseReason> reasons) {
        uint64_t refused = 0;
        for (const CloseReason reason : reasons) {
            const auto at = static_cast<size_t>(reason);
            refused += metrics_.refused[at] + metrics_.closed[at];
        }
        Json row = {{"limit", setting},
                    {"of", of},
                    {"value", setting == "listen" ? std::to_string(most) : values_[setting]},
                    {"most", nullptr},
                    {"used", nullptr},
                    {"refused", refused}};
        if (most > 0) row["most"] = most;
        if (most > 0 && used >= 0) row["used"] = used;
        rows_.push_back(std::move(row));
    }
    Json take() { return std::move(rows_); }

  private:
    std::map<std::string, std::string> values_;
    const MetricsSnapshot& metrics_;
    Json rows_ = Json::array();
};

}  // namespace

Reply Routes::limits(const Ask& ask) {
    const Result<Json> settings = target_.config();
    if (!settings) return error_reply(503, "main thread", settings.error());
    std::map<std::string, std::string> values;
    for (const Json& setting : *settings)
        values[setting["name"].get<std::string>()] = setting["value"].get<std::string>();

    const Measured measured = measure(ask);
    ReactorStats total;
    uint32_t asked = 0;
    for (uint32_t reactor = 0; reactor < measured.jobs.size(); ++reactor) {
        if (!measured.has(reactor)) continue;
        total += *measured.jobs[reactor]->stats;
        asked = reactor;
    }
    const auto job = std::make_shared<LimitsJob>();
    const Errands::Outcome outcome = errands_.run(only(asked, job), kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    if (!job->finished())
        return error_reply(503, "reactors", "have ended", "ask a server that serves");

    using enum CloseReason;
    const LoopOptions& options = *job->options;
    LimitRows rows(std::move(values), total.metrics);
    rows.add("max-connections", "the server", job->admission->connections_max(),
             job->admission->live(), {server_full, reactor_full});
    for (uint8_t at = 0; at < options.listen.size(); ++at) {
        const ListenAddress& listener = options.listen[at];
        if (listener.connections_max == 0) continue;
        rows.add("listen", listener.text, listener.connections_max, job->admission->live(at),
                 {listener_full});
    }
    rows.add("max-handshakes", "the server", options.handshakes_max, job->admission->handshakes(),
             {handshakes_full});
    rows.add("accept-rate", "the server", 0, -1, {accept_rate});
    rows.add("overload", "a reactor, or memory", 0, -1, {overloaded});
    const bool counts = options.max_connections_per_address > 0;
    rows.add("max-connections-per-address", "the address that has most",
             options.max_connections_per_address, counts ? job->addresses->most_connections() : -1,
             {address_full});
    rows.add("address-share", "an address", options.address_share, -1, {address_share});
    rows.add("address-accept-rate", "an address", 0, -1, {address_rate});
    rows.add("flapping", "an address", 0, -1, {flapping});
    rows.add("max-connections-per-user", "a user", options.max_connections_per_user, -1,
             {user_full});
    rows.add("message-rate", "a connection", 0, -1, {message_rate});
    rows.add("user-message-rate", "a user", 0, -1, {user_message_rate});
    return json_reply({{"limits", rows.take()}});
}

}  // namespace pulse
