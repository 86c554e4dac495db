// Differences of counters and histograms.
#include "net/control/anomaly_sampler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/close_reason.h"

namespace pulse {
namespace {

double to_seconds(Nanos nanos) { return static_cast<double>(nanos) / kSecond; }

// Ends for which the network or its silence was the reason.
uint64_t evictions_of(const MetricsSnapshot& metrics) {
    uint64_t count = metrics[Metric::evicted];
    for (size_t reason = 0; reason < kCloseReasons; ++reason)
        if (kCloseReasonInfos[reason].party == CloseParty::by_network)
            count += metrics.closed[reason];
    return count;
}

}  // namespace

void AnomalySampler::note_lag(uint32_t reactor, double seconds) {
    double& lag = sample_[AnomalySeries::loop_lag];
    if (seconds >= lag) slowest_of_next_ = reactor;
    lag = std::max(lag, seconds);
}

void AnomalySampler::add(uint32_t reactor, const ReactorStats& stats, Nanos now) {
    Seen& seen = reactors_[reactor];
    const Seen before = std::exchange(
        seen, {.known = true,
               .answered_at = now,
               .evictions = evictions_of(stats.metrics),
               .missed_probes = stats.metrics[Metric::probes_missed],
               .newcomers = stats.metrics[Metric::accepted] + stats.metrics[Metric::refused],
               .round_trip = stats.distributions.probe_round_trip,
               .turn_time = stats.distributions.turn_time});
    if (!before.known) return;
    compared_ = true;
    const auto count = [&](AnomalySeries series, uint64_t Seen::* member) {
        sample_[series] += static_cast<double>(seen.*member - before.*member);
    };
    count(AnomalySeries::evictions, &Seen::evictions);
    count(AnomalySeries::missed_probes, &Seen::missed_probes);
    count(AnomalySeries::newcomers, &Seen::newcomers);
    Histogram turns = seen.turn_time;
    turns.subtract(before.turn_time);
    const double longest = turns.count() > 0 ? to_seconds(turns.max()) : 0;
    note_lag(reactor, std::max(longest, to_seconds(static_cast<Nanos>(stats.gauges.judge_lag))));
    Histogram trips = seen.round_trip;
    trips.subtract(before.round_trip);
    trips.visit([&](Nanos lowest, Nanos highest, uint64_t times) {
        const double middle = to_seconds(lowest + (highest - lowest) / 2);
        log_sum_ += static_cast<double>(times) * std::log(std::max(1e-6, middle));
    });
    round_trips_ += trips.count();
}

void AnomalySampler::add_unanswered(uint32_t reactor, Nanos now) {
    Seen& seen = reactors_[reactor];
    if (!seen.known) return;
    compared_ = true;
    note_lag(reactor, to_seconds(now - seen.answered_at));
}

std::optional<AnomalySample> AnomalySampler::finish(uint32_t second_of_day, Nanos interval,
                                                    Nanos now) {
    AnomalySample sample = std::exchange(sample_, {});
    const Nanos since = now - std::exchange(finished_at_, now);
    const bool compared = std::exchange(compared_, false);
    const uint64_t trips = std::exchange(round_trips_, 0);
    const double log_sum = std::exchange(log_sum_, 0);
    slowest_ = std::exchange(slowest_of_next_, 0);
    if (!compared) return std::nullopt;
    sample.second_of_day = second_of_day;
    if (since > interval) {
        for (size_t series = 0; series < kAnomalySeries; ++series)
            if (kAnomalySeriesInfos[series].scale == SeriesScale::count)
                sample.values[series] *= to_seconds(interval) / to_seconds(since);
    }
    sample[AnomalySeries::round_trip] = trips >= kAnomalyRoundTripsMin
                                            ? std::exp(log_sum / static_cast<double>(trips))
                                            : kNotMeasured;
    return sample;
}

}  // namespace pulse
