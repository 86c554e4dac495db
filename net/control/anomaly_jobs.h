// What the anomaly watch asks of a reactor once an anomaly has begun: which connections are a part
// of it, and where they come from.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/anomaly/holders.h"
#include "core/anomaly/series.h"
#include "core/even_order.h"
#include "net/control/anomaly_report.h"
#include "net/control/limits.h"
#include "net/control/presence_jobs.h"
#include "net/loop/job.h"

namespace pulse {

// Of evictions those of the ledger that ended for the network within `within`; of missed probes the
// connections that owe an answer; of newcomers those that were accepted within it; of round trips
// those that the kernel measures as longer than `round_trip`. Nothing where the ledger that this
// needs is off, and of a lag. Ends after kAnomalyWalkNs, or with as many as `Most` says, and then
// has found an even part of them all.
struct HoldersJob final : Job {
    struct Most {
        uint64_t examined = kAnomalyExaminedMax;  // that are a part of it
        uint64_t asked = kAnomalyAskedMax;        // of the kernel, to know whether they are
    };
    HoldersJob(AnomalySeries of, Nanos within_ns, Nanos round_trip_ns)
        : HoldersJob(of, within_ns, round_trip_ns, Most{}) {}
    HoldersJob(AnomalySeries of, Nanos within_ns, Nanos round_trip_ns, Most bounds)
        : series(of), within(within_ns), round_trip(round_trip_ns), most(bounds) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const AnomalySeries series;
    const Nanos within;
    const Nanos round_trip;
    const Most most;
    Holders holders;
    uint64_t asked = 0;
    // Sessions of some of those that are logged in, by the reactor of their user.
    struct LoggedIn {
        NamesJob::Session session;
        uint32_t shard;
    };
    std::vector<LoggedIn> logged_in;

  private:
    EvenOrder places_of(const Connections& connections, Nanos now);
    Nanos walk(Connections& connections, Nanos now, uint32_t& budget);
    uint32_t consider_ended(const Connections& connections, uint64_t entry);
    uint32_t consider(Connections& connections, Index index, Nanos now);
    bool may_be_part(Connections& connections, Index index, Nanos now) const;
    bool is_full() const { return holders.total() >= most.examined || asked >= most.asked; }

    std::optional<Nanos> began_at_;
    EvenOrder places_;
    uint64_t first_entry_ = 0;  // of the ledger, of those that count
};

// Puts into `event` where `found` comes from, if it is more than was examined before: what was
// found with most connections stays. Returns whether it was. The listener is left out where there
// is but one, or where `listeners` does not have it.
bool note_holders(AnomalyEvent& event, const Holders& found,
                  std::span<const std::string> listeners);
// The label that at least half of the sessions have. Each text has the labels of one of them, such
// as "ring=canary region=eu".
AnomalyShare label_of(std::span<const std::string> sessions);

}  // namespace pulse
