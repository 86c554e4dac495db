// Which step of overload the anomalies that go on ask for (--on-anomaly degrade). A pure class: the
// time is a parameter.
//
// An anomaly of newcomers must not keep itself up: clients that are refused come again, and count
// as newcomers. So it asks for a step only if it began while there was none, nor one shortly
// before. Then `refuse` lasts kOverloadLeaveSpans spans, and those that come back are let in.
#pragma once

#include <limits>
#include <span>

#include "core/overload.h"
#include "core/types.h"
#include "net/control/anomaly_report.h"

namespace pulse {

class AnomalySteps {
  public:
    // Samples are `interval` apart; `now` never moves back. Returns true if the step changed.
    bool update(Nanos now, Nanos interval, std::span<const AnomalyEvent> active,
                const OverloadRules& rules);
    OverloadStep step() const { return overload_.step(); }

  private:
    Overload overload_;
    // Newcomers of before that come again.
    Nanos returns_until_ = std::numeric_limits<Nanos>::min();
};

}  // namespace pulse
