// Makes samples of the anomaly watch (core/anomaly/) from what reactors publish of themselves: the
// differences between two copies of their figures. Asks nothing more of them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/anomaly/series.h"
#include "core/histogram.h"
#include "core/types.h"
#include "net/loop/reactor_stats.h"

namespace pulse {

// Round trips in an interval below which they are not a sample: one slow client would be all of it.
inline constexpr uint64_t kAnomalyRoundTripsMin = 10;

class AnomalySampler {
  public:
    explicit AnomalySampler(uint32_t reactors) : reactors_(reactors) {}

    // Of each reactor one of the three, then finish(). `now` is one clock's, never moving back.
    void add(uint32_t reactor, const ReactorStats& stats, Nanos now);
    // It did not answer: its lag is the time since its last answer, and nothing else is known.
    void add_unanswered(uint32_t reactor, Nanos now);
    void add_ended(uint32_t) {}
    // Empty where there is nothing before to compare with. Counts are brought to one interval,
    // where the look before was longer ago: this thread was late, and nothing else.
    std::optional<AnomalySample> finish(uint32_t second_of_day, Nanos interval, Nanos now);
    // The reactor with the largest lag of that sample.
    uint32_t slowest() const { return slowest_; }

  private:
    struct Seen {
        bool known = false;
        Nanos answered_at = 0;
        uint64_t evictions = 0, missed_probes = 0, newcomers = 0;
        Histogram round_trip, turn_time;
    };
    void note_lag(uint32_t reactor, double seconds);

    std::vector<Seen> reactors_;
    AnomalySample sample_;
    bool compared_ = false;
    double log_sum_ = 0;
    uint64_t round_trips_ = 0;
    uint32_t slowest_ = 0, slowest_of_next_ = 0;
    Nanos finished_at_ = 0;
};

}  // namespace pulse
