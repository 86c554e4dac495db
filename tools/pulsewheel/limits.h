// Bounds of the operator's part of the server.
#pragma once

#include <cstddef>

#include "core/types.h"

namespace pulse::serve {

// ------------------------------------------------------------------------------ a service manager
// Changes of state that wait for a manager that does not read: a few reloads' worth.
inline constexpr size_t kNotifyMessagesKept = 16;
// Between two looks at what a status says. Seldom: each is an event for the manager.
inline constexpr Nanos kStatusEveryNs = 5 * kSecond;
// The same in a drain, whose progress is waited for.
inline constexpr Nanos kDrainStatusEveryNs = kSecond;
// Between two lines of the log that say how far a drain is.
inline constexpr Nanos kDrainLineEveryNs = 5 * kSecond;
// Time that a drain asks the manager for, again and again: well above the interval between two.
inline constexpr Nanos kDrainExtensionNs = 15 * kSecond;
// Checks of the reactors in a watchdog's timeout, as sd_watchdog_enabled(3) advises.
inline constexpr Nanos kWatchdogParts = 2;
// The shortest timeout of a watchdog that is honoured as it is: the main thread looks at
// acknowledgements every 20 ms.
inline constexpr Nanos kWatchdogLeastNs = 100 * kMillisecond;

}  // namespace pulse::serve
