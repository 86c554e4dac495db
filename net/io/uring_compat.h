// What io_uring has learnt since Debian 12's liburing 2.3 and kernel headers (6.1), each with the
// kernel that brought it. Whether the running kernel knows it is asked at run time (UringFeatures),
// never concluded from a version: distributions backport, and containers switch off.
#pragma once

#include <cstdint>

namespace pulse {

// 6.15: IORING_OP_EPOLL_WAIT: the ready events of an epoll set, as a completion.
inline constexpr uint8_t kUringOpEpollWait = 59;

}  // namespace pulse
