// What the anomaly watch has found, as the admin endpoint, /metrics and the log show it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/anomaly/series.h"
#include "core/overload.h"
#include "core/types.h"

namespace pulse {

// A part of those that were examined, at least half of them; empty: none holds so much.
struct AnomalyShare {
    std::string of;
    double part = 0;
};

// Instants to be shown are since 1970; those whose names end in _at are the same on a clock that is
// never set, for durations.
struct AnomalyEvent {
    uint64_t number = 0;
    AnomalySeries series{};
    Nanos since = 0, since_at = 0;    // the values began to be too high
    Nanos raised = 0, raised_at = 0;  // that was certain
    Nanos over = 0, over_at = 0;      // 0: it goes on
    bool adopted = false;             // over because it lasted, and is what is normal now
    double value = 0;                 // when it was raised, in the unit of the series
    double expected = 0;
    double distance = 0;  // in spreads of what is normal
    double peak = 0;
    // Connections that are a part of it, of those that could be looked at; and who holds most.
    uint64_t examined = 0;
    AnomalyShare prefix, listener, label;
    std::optional<uint32_t> reactor{};  // of a lag
};

struct AnomalyReport {
    bool on = false;
    bool degrades = false;
    Nanos interval = 0;
    uint64_t samples = 0;
    bool draining = false;                   // nothing is judged
    OverloadStep step = OverloadStep::none;  // that anomalies ask for
    struct Series {
        bool measured = false;  // there was a value
        bool learned = false;
        bool active = false;
        double value = 0, expected = 0, distance = 0, score = 0;
        uint64_t anomalies = 0;  // since the start
    };
    std::array<Series, kAnomalySeries> series{};
    std::vector<AnomalyEvent> events;  // the newest first, those that go on before all others
};

}  // namespace pulse
