// What the anomaly watch asks of a reactor once an anomaly has begun: which connections are a part
// of it, and where they come from.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/anomaly/holders.h"
#include "core/anomaly/series.h"
#include "net/control/presence_jobs.h"
#include "net/loop/job.h"

namespace pulse {

// Of evictions those of the ledger that ended for the network within `within`; of missed probes the
// connections that owe an answer; of newcomers those that were accepted within it; of round trips
// those that the kernel measures as longer than `round_trip`. Nothing where the ledger that this
// needs is off, and of a lag. Looks at kAnomalyExaminedMax connections at most.
struct HoldersJob final : Job {
    HoldersJob(AnomalySeries of, Nanos within_ns, Nanos round_trip_ns)
        : series(of), within(within_ns), round_trip(round_trip_ns) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const AnomalySeries series;
    const Nanos within;
    const Nanos round_trip;
    Holders holders;
    // Sessions of some of those that are logged in, by the reactor of their user.
    struct LoggedIn {
        NamesJob::Session session;
        uint32_t shard;
    };
    std::vector<LoggedIn> logged_in;

  private:
    Nanos walk_ledger(Connections& connections, Nanos now, uint32_t& budget);
    Nanos walk_living(Connections& connections, Nanos now, uint32_t& budget);
    uint32_t consider(Connections& connections, Index index, Nanos now);
    bool may_be_part(Connections& connections, Index index, Nanos now) const;

    std::optional<uint64_t> next_entry_;
    std::optional<Index> next_;
};

}  // namespace pulse
