// Answers that are about drains: of the server, of a listener, of those that match a filter.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "net/control/body.h"
#include "net/control/limits.h"
#include "net/control/routes.h"

namespace pulse {
namespace {

double seconds(Nanos time) { return static_cast<double>(time) / kSecond; }

std::string how_it_drains(const ServingState& state) {
    if (state.draining_for < state.drain_delay)
        return fmt::format("it drains: it stops to accept in {:.1f} s",
                           seconds(state.drain_delay - state.draining_for));
    return fmt::format("it drains: {} of {} connections are left", state.connections,
                       std::max(state.connections, state.connections_at_drain));
}

std::string_view phase_of(const ServingState& state) {
    if (!state.draining) return "serving";
    if (state.stopping_hard) return "stopping";
    return state.draining_for < state.drain_delay ? "not_ready" : "goodbyes";
}

}  // namespace

std::vector<std::string> Routes::reasons_of_drains() const {
    std::vector<std::string> reasons;
    const ServingState state = target_.serving();
    if (state.draining) reasons.push_back(how_it_drains(state));
    const std::lock_guard guard(parts_lock_);
    if (std::ranges::find(drained_listeners_, false) == drained_listeners_.end())
        reasons.emplace_back("every listener is drained");
    return reasons;
}

Json Routes::part_json(const Part& part) const {
    const auto since = std::chrono::steady_clock::now() - part.began;
    Json object = {{"number", part.number}};
    if (part.listener)
        object["listener"] = target_.listeners()[*part.listener];
    else
        object["filter"] = part.filter;
    object["connections"] = part.connections;
    object["closed"] = part.drain->closed.load();
    object["goodbyes_per_s"] = part.drain->pace.per_second();
    object["since_s"] = std::chrono::duration<double>(since).count();
    object["finished"] = part.drain->walking == 0;
    return object;
}

Reply Routes::drain_state(const Ask&) {
    const ServingState state = target_.serving();
    Json parts = Json::array();
    const std::lock_guard guard(parts_lock_);
    for (const Part& part : parts_) parts.push_back(part_json(part));
    return json_reply({{"draining", state.draining},
                       {"connections", state.connections},
                       {"phase", phase_of(state)},
                       {"connections_at_drain", state.connections_at_drain},
                       {"goodbyes_per_s", state.goodbyes_per_second},
                       {"since_s", seconds(state.draining_for)},
                       {"delay_s", seconds(state.drain_delay)},
                       {"window_s", seconds(state.drain_window)},
                       {"parts", std::move(parts)}});
}

Reply Routes::drain(const Ask& ask) {
    if (ask.body.contains("listener") || ask.body.contains("filter")) return drain_partly(ask);
    if (Result<void> known = only_keys(ask.body, {"listener", "filter", "rate"}); !known)
        return bad(known.error());
    if (ask.body.contains("rate"))
        return bad("rate: is for a listener or a filter; the server's own is --drain-rate");
    if (Result<void> begun = target_.drain(); !begun)
        return error_reply(503, "main thread", begun.error());
    Reply reply = drain_state(ask);
    reply.status = 202;
    return reply;
}

// ------------------------------------------------------------------------- of a part of the server

// What is to be drained, by which filter.
Result<Routes::Part> Routes::part_of(const Json& body, ConnectionFilter& filter) const {
    Part part{};
    if (!body.contains("listener")) {
        Result<ConnectionFilter> named = whom(body, filter_names());
        if (!named) return Error{named.error()};
        filter = *named;
        part.filter = body["filter"];
        return part;
    }
    if (body.contains("filter")) return Error{"filter: excludes listener; write one of them"};
    const Result<std::string> listener = text_of(body, "listener", kAdminPathBytesMax);
    if (!listener) return Error{listener.error()};
    if (Result<void> set = set_filter(filter, filter_names(), "listener", *listener); !set)
        return Error{set.error()};
    part.listener = filter.listeners.front();
    return part;
}

// How many there are says how fast they are to go where the request does not: evenly over three
// quarters of the window, as when the server drains.
Reply Routes::drain_partly(const Ask& ask) {
    if (Result<void> known = only_keys(ask.body, {"listener", "filter", "rate"}); !known)
        return bad(known.error());
    ConnectionFilter filter;
    Result<Part> part = part_of(ask.body, filter);
    if (!part) return bad(part.error());
    const Result<uint64_t> rate = rate_of(ask.body);
    if (!rate) return bad(rate.error());
    Chosen chosen = choose(ask, filter);
    if (chosen.refused) return *std::move(chosen.refused);
    std::vector<std::shared_ptr<Job>> jobs;
    std::vector<std::shared_ptr<CountJob>> counts;
    for (const ConnectionFilter& each : chosen.filters) {
        counts.push_back(std::make_shared<CountJob>(each));
        jobs.push_back(counts.back());
    }
    const Errands::Outcome outcome = errands_.run(jobs, kAdminAnswerNs, ask.gone);
    if (!outcome.all()) return unanswered(outcome);
    for (const auto& count : counts) part->connections += count->total;
    const double window_s = std::max(seconds(target_.serving().drain_window) * 0.75, 1e-3);
    const auto needed = std::ceil(static_cast<double>(part->connections) / window_s);
    const uint64_t per_second = *rate > 0 ? *rate : std::max<uint64_t>(1, uint64_t(needed));
    part->drain = std::make_shared<PartialDrain>(per_second, errands_.reactors());
    const bool passed = part->listener && target_.is_passed(*part->listener);
    for (size_t reactor = 0; reactor < jobs.size(); ++reactor) {
        jobs[reactor] = std::make_shared<PartialDrainJob>(chosen.filters[reactor], part->listener,
                                                          passed, part->drain);
    }
    {
        const std::lock_guard guard(parts_lock_);
        const auto goes_on = [](const Part& each) { return each.drain->walking > 0; };
        if (std::ranges::count_if(parts_, goes_on) >= std::ptrdiff_t{kPartialDrainsAtOnce})
            return error_reply(503, "drain", "too many go on already", "wait for one of them");
        const std::vector<uint32_t> busy = errands_.start(jobs);
        if (!busy.empty()) return unanswered({.unanswered = busy, .not_asked = busy});
        if (part->listener) drained_listeners_[*part->listener] = true;
        part->number = ++parts_began_;
        part->began = std::chrono::steady_clock::now();
        if (parts_.size() >= kPartialDrainsShown)
            parts_.erase(std::ranges::find_if_not(parts_, goes_on));
        parts_.push_back(*std::move(part));
    }
    Reply reply = drain_state(ask);
    reply.status = 202;
    return reply;
}

}  // namespace pulse
