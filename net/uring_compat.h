// What io_uring has learnt since Debian 12's liburing 2.3 and kernel headers (6.1), each with the
// kernel that brought it. Whether the running kernel knows it is asked at run time (UringFeatures),
// never concluded from a version: distributions backport, and containers switch off.
#pragma once

#include <cstdint>

namespace pulse {

// 6.12: io_uring_enter() with EXT_ARG waits for `min_complete` completions, but after min_wait_usec
// it returns as soon as there is one.
inline constexpr uint32_t kUringFeatMinTimeout = uint32_t{1} << 15;  // IORING_FEAT_MIN_TIMEOUT

// struct io_uring_getevents_arg with the word that was `pad` before 6.12.
struct UringGetEventsArg {
    uint64_t sigmask = 0;
    uint32_t sigmask_sz = 0;
    uint32_t min_wait_usec = 0;
    uint64_t ts = 0;
};
static_assert(sizeof(UringGetEventsArg) == 24);

// 6.15: IORING_OP_EPOLL_WAIT: the ready events of an epoll set, as a completion.
inline constexpr uint8_t kUringOpEpollWait = 59;

}  // namespace pulse
