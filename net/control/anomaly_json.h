// What the anomaly watch has found, as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "net/control/anomaly_report.h"
#include "net/control/target.h"

namespace pulse {

// GET /api/v1/anomalies.
Json to_json(const AnomalyReport& report);
// The events that go on, for the stream of figures.
Json active_json(const AnomalyReport& report);

}  // namespace pulse
