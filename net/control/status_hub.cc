// A loop over reactors and followers, and the object that they are sent.
#include "net/control/status_hub.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "net/control/anomaly_json.h"
#include "net/control/limits.h"
#include "net/control/warn_of_streams.h"
#include "net/loop/reactor_json.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

double to_seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

// One level: `slots` slots of `slot_ticks` ticks each, the hand so many ticks behind their first.
Json ring_json(const std::array<uint64_t, kWheelSectors>& entries, uint64_t slots,
               uint64_t slot_ticks, const WheelRings& rings) {
    const uint64_t ticks = slots * slot_ticks;
    return {{"span_s", to_seconds(static_cast<Nanos>(ticks) * rings.tick)},
            {"hand", static_cast<double>(rings.cursor % ticks) / static_cast<double>(ticks)},
            {"entries", entries}};
}

Json wheel_json(const WheelRings& rings) {
    constexpr uint64_t kSlots = uint64_t{1} << kWheelSlotsLog2;
    constexpr uint64_t kUpperSlots = uint64_t{1} << kWheelUpperSlotsLog2;
    return {{"lower", ring_json(rings.lower, kSlots, 1, rings)},
            {"upper", ring_json(rings.upper, kUpperSlots, kSlots / 2, rings)}};
}

// Those that have connections.
Json protocols_json(const Population::Counts& population) {
    Json object = Json::object();
    for (size_t protocol = 0; protocol < population.size(); ++protocol) {
        uint64_t connections = 0;
        for (const uint32_t of_stage : population[protocol]) connections += of_stage;
        if (connections > 0) object[std::string(all_protocols()[protocol]->name)] = connections;
    }
    return object;
}

}  // namespace

// `begun` and `over` are the hub thread's.
struct StatusHub::Follower final : EventBuffer {
    bool begun = false;  // it has had an event
    bool over = false;   // it was dropped
};

bool offer_status(EventBuffer& follower, const std::string& event) {
    if (event.size() <= follower.room()) {
        follower.add(event, false);
        return true;
    }
    follower.add(event_text("dropped", R"({"reason":"figures came faster than they were read"})"),
                 true);
    return false;
}

StatusHub::~StatusHub() {
    {
        const std::lock_guard guard(lock_);
        stopping_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
}

// A follower has its buffer here and what the front sends of it.
size_t StatusHub::memory_bytes_max() { return kStatusFollowersMax * 2 * kFollowerBufferBytes; }

Result<void> StatusHub::start() {
    if (thread_.joinable()) return {};
    try {
        thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
        return Error{"a thread cannot be started: " + error.code().message() +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=)"};
    }
    return {};
}

Result<std::shared_ptr<HttpStream>> StatusHub::follow() {
    const std::lock_guard guard(lock_);
    std::erase_if(followers_, [](const auto& follower) { return follower->gone(); });
    if (followers_.size() >= kStatusFollowersMax) return std::shared_ptr<HttpStream>();
    if (Result<void> started = start(); !started) return Error{started.error()};
    auto follower = std::make_shared<Follower>();
    followers_.push_back(follower);
    changed_.notify_all();
    return std::shared_ptr<HttpStream>(std::move(follower));
}

bool StatusHub::all_begun() const {
    return std::ranges::all_of(followers_, [](const auto& follower) { return follower->begun; });
}

// What is thrown, where memory is short as a rule, must not end the process with its connections.
void StatusHub::run() {
    pthread_setname_np(pthread_self(), "admin status");
    for (bool stopped = false; !stopped;) {
        try {
            serve();
            stopped = true;
        } catch (const std::exception& error) {
            drop_all(error.what());
        }
    }
}

void StatusHub::drop_all(std::string_view why) {
    warn_of_streams(target_, "status", why);
    std::unique_lock guard(lock_);
    for (const auto& follower : followers_) follower->drop();
    followers_.clear();
    // Where it goes on being thrown, this thread does not spin.
    changed_.wait_for(guard, std::chrono::milliseconds(kAdminRetryMs),
                      [this] { return stopping_; });
}

void StatusHub::serve() {
    reactors_.resize(errands_.reactors());
    using Clock = std::chrono::steady_clock;
    std::string event;
    Clock::time_point due{};
    std::unique_lock guard(lock_);
    while (!stopping_) {
        std::erase_if(followers_, [](const auto& each) { return each->over || each->gone(); });
        if (followers_.empty()) {
            changed_.wait(guard, [this] { return stopping_ || !followers_.empty(); });
            continue;
        }
        const auto followers = followers_;
        guard.unlock();
        const bool is_due = Clock::now() >= due;
        if (is_due) {
            due = Clock::now() + std::chrono::nanoseconds(kStatusPollNs);
            measure();
            const Json object = status();
            event =
                event_text("status", object.dump(-1, ' ', false, Json::error_handler_t::replace));
        }
        for (const auto& follower : followers) {
            if (!is_due && follower->begun) continue;
            follower->begun = true;
            follower->over = !offer_status(*follower, event);
        }
        guard.lock();
        changed_.wait_until(guard, due, [this] { return stopping_ || !all_begun(); });
    }
}

// ---------------------------------------------------------------------------------- the reactors

void StatusHub::measure() {
    std::vector<std::shared_ptr<StatsJob>> figures;
    std::vector<std::shared_ptr<Job>> jobs;
    for (uint32_t reactor = 0; reactor < errands_.reactors(); ++reactor) {
        figures.push_back(std::make_shared<StatsJob>());
        jobs.push_back(figures.back());
    }
    const auto gone = [this] {
        const std::lock_guard guard(lock_);
        return stopping_;
    };
    const Errands::Outcome outcome = errands_.run(jobs, kStatusAnswerNs, gone);
    distributions_ = {};
    for (uint32_t reactor = 0; reactor < figures.size(); ++reactor) {
        Seen& seen = reactors_[reactor];
        if (std::ranges::count(outcome.unanswered, reactor) > 0) {
            seen.state = "stuck";
        } else if (figures[reactor]->finished()) {
            seen.state = "serving";
            take(seen, *figures[reactor]->stats);
        } else {  // what it has counted stays counted
            seen.state = "ended";
            seen.gauges = {};
            seen.rings = {};
            seen.population = {};
        }
    }
}

void StatusHub::take(Seen& seen, const ReactorStats& stats) {
    seen.metrics = stats.metrics;
    seen.gauges = stats.gauges;
    seen.io = stats.io;
    seen.rings = stats.rings;
    seen.population = stats.population;
    seen.turn_p99 = stats.distributions.turn_time.percentile(99);
    seen.turn_max = stats.distributions.turn_time.max();
    distributions_ += stats.distributions;
}

// --------------------------------------------------------------------------------------- figures

Json StatusHub::status() const {
    ReactorStats total;
    Json list = Json::array();
    for (uint32_t reactor = 0; reactor < reactors_.size(); ++reactor) {
        const Seen& seen = reactors_[reactor];
        total.metrics += seen.metrics;
        total.gauges += seen.gauges;
        total.io += seen.io;
        total.rings += seen.rings;
        Population::add(total.population, seen.population);
        list.push_back({{"reactor", reactor},
                        {"state", seen.state},
                        {"connections", seen.gauges.live},
                        {"wheel_entries", seen.gauges.wheel_entries},
                        {"wait_s", to_seconds(seen.gauges.wait_total)},
                        {"judge_lag_us", seen.gauges.judge_lag / 1'000},
                        {"judge_lag_max_us", seen.gauges.judge_lag_max / 1'000},
                        {"turns", seen.metrics[Metric::turns]},
                        {"turn_p99_us", seen.turn_p99 / 1'000},
                        {"turn_max_us", seen.turn_max / 1'000}});
    }
    total.distributions = distributions_;
    const ServingState state = target_.serving();
    Json object = target_.process();
    object["state"] = state.draining ? "draining" : "serving";
    object["connections"] = state.connections;
    object["max_connections"] = state.connections_max;
    object["by_protocol"] = protocols_json(total.population);
    object["wheel"] = wheel_json(total.rings);
    object["anomalies"] = active_json(target_.anomalies());
    object["total"] = to_json(total);
    object["reactors"] = std::move(list);
    return object;
}

}  // namespace pulse
