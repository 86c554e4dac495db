// Sums and rates over samples and rows.
#include "tools/pulseload/run/derived.h"

#include <algorithm>
#include <cmath>

#include "tools/pulseload/run/human.h"

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

// Over the samples in which the count grew: a storm later on is not thinned by the rest between.
std::optional<double> rate_while_busy(const RunResult& result, uint64_t Counts::* field) {
    double count = 0;
    double seconds = 0;
    const Sample none;
    const Sample* before = &none;
    for (const Sample& sample : result.samples) {
        const uint64_t more = sample.counts.*field - before->counts.*field;
        if (more > 0) seconds += sample.at_s - before->at_s;
        count += static_cast<double>(more);
        before = &sample;
    }
    if (seconds <= 0) return std::nullopt;
    return count / seconds;
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

std::optional<ConnectionOutcome> connection_outcome(const RunResult& result) { return result.ends; }

// Of what opened, not of what was tried.
std::optional<double> connect_rate(const RunResult& result) {
    double connected = 0;
    double seconds = 0;
    for (const Sample& sample : result.samples) {
        if (sample.phase != Phase::ramp) break;
        connected = static_cast<double>(sample.counts.connected);
        seconds = sample.at_s;
    }
    if (result.connected_s > 0) seconds = result.connected_s;
    if (connected == 0 || seconds <= 0) return std::nullopt;
    return connected / seconds;
}

std::optional<double> tls_full_rate(const RunResult& result) {
    return rate_while_busy(result, &Counts::tls_full);
}

std::optional<double> tls_resumed_rate(const RunResult& result) {
    return rate_while_busy(result, &Counts::tls_resumed);
}

std::optional<double> generator_rss_per_connection(const RunResult& result) {
    const Generator& own = result.generator;
    const Sample* last = last_held(result);
    if (last == nullptr || last->counts.open == 0 || own.rss_bytes <= own.rss_empty_bytes)
        return std::nullopt;
    return static_cast<double>(own.rss_bytes - own.rss_empty_bytes) /
           static_cast<double>(last->counts.open);
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
    cost.at_the_end = hold.last->server;
    return cost;
}

std::optional<double> rss_per_connection(const ServerReading& server, uint64_t open) {
    if (!server.present || open == 0) return std::nullopt;
    const uint64_t above = server.rss_bytes - std::min(server.rss_bytes, server.rss_empty_bytes);
    return static_cast<double>(above) / static_cast<double>(open);
}

std::optional<double> kernel_per_connection(const ServerReading& server, uint64_t open) {
    if (!server.present || open == 0 || !server.kernel_bytes) return std::nullopt;
    return static_cast<double>(*server.kernel_bytes) / static_cast<double>(open);
}

const Histogram& reported_latency(const RunResult& result, Timed timed) {
    const auto at = static_cast<size_t>(timed);
    const bool of_all = timed == Timed::connect || timed == Timed::connect_service ||
                        timed == Timed::tls_handshake;
    const bool held = !of_all && result.hold_latency[at].count() > 0;
    return held ? result.hold_latency[at] : result.latency[at];
}

uint64_t values_for_percentile(double percent) {
    if (percent <= 0 || percent >= 100) return 1;
    // Less a little: 100 / (100 - 99.9) is not quite 1,000 in binary.
    return static_cast<uint64_t>(std::ceil(100 / (100 - percent) - 1e-6));
}

std::string human_percentile(const Histogram& histogram, double percent) {
    if (histogram.count() < values_for_percentile(percent)) return "-";
    return human_duration(histogram.percentile(percent));
}

std::optional<double> generator_cores(const RunResult& result) {
    const Hold hold = find_hold(result);
    if (hold.seconds() <= 0) return std::nullopt;
    return (hold.last->generator_cpu_seconds - hold.first->generator_cpu_seconds) / hold.seconds();
}

}  // namespace pulse::load
