// What counts as pressure.
#include "net/control/anomaly_steps.h"

#include <algorithm>

#include "core/anomaly/limits.h"

namespace pulse {

bool AnomalySteps::update(Nanos now, Nanos interval, std::span<const AnomalyEvent> active,
                          const OverloadRules& rules) {
    const bool pressed = std::ranges::any_of(active, [this](const AnomalyEvent& event) {
        return event.series != AnomalySeries::newcomers || event.raised_at > returns_until_;
    });
    const bool changed = overload_.update(now, pressed ? 1 : 0, rules);
    if (step() != OverloadStep::none) returns_until_ = now + kAnomalyCalmSamples * interval;
    return changed;
}

}  // namespace pulse
