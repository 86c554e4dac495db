// Waiting for the events of an epoll set, to the nanosecond where the kernel can.
#pragma once

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <span>

#include "core/types.h"
#include "net/io/system_calls.h"

namespace pulse {

class WatchWait {
  public:
    // epoll_wait() for at most `duration`: the number of events, or -1 with errno.
    int operator()(SystemCalls& calls, int set, std::span<epoll_event> events, Nanos duration) {
        duration = std::max<Nanos>(duration, 0);
        const auto most = static_cast<int>(events.size());
        if (is_precise_) {
            const timespec timeout{.tv_sec = duration / kSecond, .tv_nsec = duration % kSecond};
            const int taken =
                calls([&] { return epoll_pwait2(set, events.data(), most, &timeout, nullptr); });
            // Older than 5.11, or a filter of system calls that does not know it.
            if (taken >= 0 || (errno != ENOSYS && errno != EPERM)) return taken;
            is_precise_ = false;
        }
        const int timeout_ms = static_cast<int>((duration + kMillisecond - 1) / kMillisecond);
        return calls([&] { return epoll_wait(set, events.data(), most, timeout_ms); });
    }

  private:
    bool is_precise_ = true;  // the kernel has epoll_pwait2
};

}  // namespace pulse
