// Sums and rates over samples and rows.
#include "tools/pulseload/reading.h"

#include <algorithm>

namespace pulse::load {
namespace {

// The samples between which the hold passed: the last before it, or its own first, and its last.
struct Hold {
    const Sample* first = nullptr;
    const Sample* last = nullptr;
    double seconds() const {
        return first == nullptr || last == nullptr ? 0 : last->at_s - first->at_s;
    }
};

Hold find_hold(const RunResult& result) {
    Hold hold;
    const Sample* before = nullptr;
    for (const Sample& sample : result.samples) {
        if (sample.phase == Phase::hold) {
            if (hold.first == nullptr) hold.first = before != nullptr ? before : &sample;
            hold.last = &sample;
        }
        before = &sample;
    }
    return hold;
}

}  // namespace

Detection::Row silenced_peers(const Detection& detection) {
    Detection::Row sum;
    for (const Detection::Row& row : detection.rows) {
        sum.silenced += row.silenced;
        sum.evicted += row.evicted;
        sum.early += row.early;
        sum.missed += row.missed;
        sum.waiting += row.waiting;
        sum.late_by.merge(row.late_by);
        sum.early_by.merge(row.early_by);
    }
    return sum;
}

bool any_judged(const Detection& detection) {
    const Detection::Row sum = silenced_peers(detection);
    return detection.timeout != 0 && sum.evicted + sum.early + sum.missed != 0;
}

const Sample* last_held(const RunResult& result) {
    if (const Sample* last = find_hold(result).last; last != nullptr) return last;
    return result.samples.empty() ? nullptr : &result.samples.back();
}

std::optional<Whereabouts> whereabouts(const RunResult& result) {
    const Sample* last = find_hold(result).last;
    if (last == nullptr) return std::nullopt;
    uint64_t leaving = 0;
    for (const auto& [name, count] : result.behaviours) {
        for (const Behaviour behaviour :
             {Behaviour::flapper, Behaviour::garbage, Behaviour::slowloris, Behaviour::slow_reader,
              Behaviour::duplicate_login}) {
            if (name == name_of(behaviour)) leaving += count;
        }
    }
    const Detection::Row silenced = silenced_peers(result.detection);
    uint64_t rest = result.wanted;
    const auto take = [&rest](uint64_t most) {
        const uint64_t taken = std::min(rest, most);
        rest -= taken;
        return taken;
    };
    Whereabouts found;
    found.there = take(last->counts.open + last->counts.connecting);
    found.let_go = take(silenced.evicted + silenced.early);
    found.by_kind = take(leaving);
    found.lost = rest;
    return found;
}

std::optional<double> connect_rate(const RunResult& result) {
    double connected = 0;
    double seconds = 0;
    for (const Sample& sample : result.samples) {
        if (sample.phase != Phase::ramp) break;
        connected = static_cast<double>(sample.counts.connected);
        seconds = sample.at_s;
    }
    if (result.connected_s > 0) {
        // A ramp within one sample leaves only the wanted number.
        if (connected == 0) connected = result.wanted;
        seconds = result.connected_s;
    }
    if (connected == 0 || seconds <= 0) return std::nullopt;
    return connected / seconds;
}

std::optional<double> heartbeat_rate(const RunResult& result) {
    const Hold hold = find_hold(result);
    if (hold.seconds() <= 0) return std::nullopt;
    return static_cast<double>(hold.last->counts.pongs - hold.first->counts.pongs) / hold.seconds();
}

std::optional<ServerCost> server_cost(const RunResult& result) {
    const Hold hold = find_hold(result);
    if (hold.seconds() <= 0 || !hold.last->server.present || !hold.first->server.present)
        return std::nullopt;
    ServerCost cost;
    cost.cores = (hold.last->server.cpu_seconds - hold.first->server.cpu_seconds) / hold.seconds();
    cost.open = hold.last->counts.open;
    cost.rss_bytes = hold.last->server.rss_bytes;
    cost.kernel_bytes = hold.last->server.kernel_bytes;
    return cost;
}

const Histogram& told_latency(const RunResult& result, Timed timed) {
    const auto at = static_cast<size_t>(timed);
    const bool of_all = timed == Timed::connect || timed == Timed::connect_service;
    const bool held = !of_all && result.hold_latency[at].count() > 0;
    return held ? result.hold_latency[at] : result.latency[at];
}

std::optional<double> generator_cores(const RunResult& result) {
    const Hold hold = find_hold(result);
    if (hold.seconds() <= 0) return std::nullopt;
    return (hold.last->generator_cpu_seconds - hold.first->generator_cpu_seconds) / hold.seconds();
}

}  // namespace pulse::load
