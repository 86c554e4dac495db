// The clocks of the backends that wait in the kernel, and how long they wait at most.
#pragma once

#include <ctime>

#include "core/types.h"

namespace pulse {

// No wait is longer, so that no deadline, kNever among them, overflows what the kernel takes.
inline constexpr Nanos kWaitMax = 3600 * kSecond;

inline Nanos read_kernel_clock(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return Nanos{now.tv_sec} * kSecond + now.tv_nsec;
}

// CLOCK_MONOTONIC: what now() of these backends is read from.
inline Nanos monotonic_clock() { return read_kernel_clock(CLOCK_MONOTONIC); }
// What the calling thread has spent.
inline Nanos thread_cpu_clock() { return read_kernel_clock(CLOCK_THREAD_CPUTIME_ID); }

// Until `until` of CLOCK_MONOTONIC, or a signal.
inline void sleep_until(Nanos until) {
    const timespec instant{.tv_sec = until / kSecond, .tv_nsec = until % kSecond};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &instant, nullptr);
}

}  // namespace pulse
