// What the admin endpoint can be asked, as one table, and the answers to it. No socket and no HTTP
// here: control.h brings the requests.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/control/closed.h"
#include "net/control/errands.h"
#include "net/control/evidence_json.h"
#include "net/control/filter.h"
#include "net/control/jobs.h"
#include "net/control/presence_hub.h"
#include "net/control/presence_jobs.h"
#include "net/control/reply.h"
#include "net/control/status_hub.h"
#include "net/control/target.h"

namespace pulse {

class Routes;

enum class Access : uint8_t {
    open,   // a balancer asks, without a token
    token,  // where there are tokens
};

struct Route {
    std::string_view method;
    std::string_view path;  // {id} stands for one part, {name} for the name of a user
    Access access;
    bool waits;  // for a reactor or the main thread
    Reply (Routes::*answer)(const Ask& ask);
    std::string_view about;
};

class Routes {
  public:
    // `target` outlives this.
    explicit Routes(ControlTarget& target)
        : target_(target),
          drained_listeners_(target.listeners().size()),
          errands_(target.reactors()) {}

    static std::span<const Route> table();
    // Any thread, several at once. Requires: `route` is one of table().
    Reply answer(const Route& route, const Ask& ask) { return (this->*route.answer)(ask); }

  private:
    friend struct RouteTable;
    Reply healthz(const Ask& ask);
    Reply readyz(const Ask& ask);
    Reply metrics(const Ask& ask);
    Reply index(const Ask& ask);
    Reply server(const Ask& ask);
    Reply reactors(const Ask& ask);
    Reply config(const Ask& ask);
    Reply limits(const Ask& ask);
    Reply anomalies(const Ask& ask);
    Reply log_level(const Ask& ask);
    Reply set_log_level(const Ask& ask);
    Reply reload(const Ask& ask);
    Reply drain_state(const Ask& ask);
    Reply drain(const Ask& ask);
    Reply drain_partly(const Ask& ask);
    Reply count(const Ask& ask);
    Reply connections(const Ask& ask);
    Reply connection(const Ask& ask);
    Reply closed(const Ask& ask);
    Reply closed_one(const Ask& ask);
    Reply kick_one(const Ask& ask);
    Reply kick(const Ask& ask);
    Reply broadcast(const Ask& ask);
    Reply retune(const Ask& ask);
    Reply users(const Ask& ask);
    Reply user(const Ask& ask);
    Reply send_to_user(const Ask& ask);
    Reply presence(const Ask& ask);
    Reply revoke(const Ask& ask);
    Reply page(const Ask& ask);
    Reply stream(const Ask& ask);
    Reply policies(const Ask& ask);
    Reply set_policies(const Ask& ask);
    Reply roll_back_policies(const Ask& ask);

    struct Measured {
        std::vector<std::shared_ptr<StatsJob>> jobs;  // by reactor
        Errands::Outcome outcome;
        bool has(uint32_t reactor) const;
    };
    Measured measure(const Ask& ask);
    // Of a filter one for each reactor, with the connections that it names looked up.
    struct Chosen {
        std::vector<ConnectionFilter> filters;  // by reactor
        std::optional<Reply> refused{};
    };
    Chosen choose(const Ask& ask, const ConnectionFilter& filter);
    void name_sessions(const Ask& ask, std::span<ConnectionRow* const> rows);
    FilterNames filter_names() const { return {target_.listeners(), target_.profiles()}; }
    Reply unanswered(const Errands::Outcome& outcome, Json so_far = nullptr) const;
    Reply page_by_id(const Ask& ask, const std::vector<ConnectionFilter>& filters, uint32_t limit,
                     std::string_view cursor);
    Reply page_by_length(const Ask& ask, const std::vector<ConnectionFilter>& filters,
                         LongestJob::Order order, uint32_t limit, std::string_view cursor);
    Reply act(const Ask& ask, std::span<const std::shared_ptr<ActJob>> jobs, Nanos most);
    template <class Make>
    Reply act_on_all(const Ask& ask, const ConnectionFilter& filter, Nanos most, Make&& make);
    Reply send_text(const Ask& ask, const ConnectionFilter& filter, const std::string& text);
    Json row_json(const ConnectionRow& row) const;
    Json closed_json(const Evidence& facts, const Clocks& clocks) const;
    std::vector<std::shared_ptr<Job>> only(uint32_t reactor, std::shared_ptr<Job> job) const;

    // A drain that was asked for of a listener or a filter, and is not over or was the last time.
    struct Part {
        uint64_t number;
        std::optional<uint8_t> listener;
        Json filter;  // null: a listener is drained
        uint64_t connections;
        std::chrono::steady_clock::time_point began;
        std::shared_ptr<PartialDrain> drain;
    };
    Result<Part> part_of(const Json& body, ConnectionFilter& filter) const;
    Json part_json(const Part& part) const;
    std::vector<std::string> reasons_of_drains() const;

    ControlTarget& target_;
    mutable std::mutex parts_lock_;
    uint64_t parts_began_ = 0;
    std::vector<Part> parts_;
    std::vector<bool> drained_listeners_;
    // Last: it ends what goes on.
    Errands errands_;
    std::atomic<uint32_t> long_ones_{0};  // kicks with a rate
    PresenceHub hub_{errands_, target_};
    StatusHub status_hub_{errands_, target_};
};

}  // namespace pulse
