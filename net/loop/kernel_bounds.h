// What the kernel is to end by itself: by default no sooner than the heartbeats of a connection,
// whose timeout its peer was promised, and soon behind them.
//
// Without bounds a kernel keeps a connection whose sent bytes are never acknowledged for 15
// minutes, and one on which nothing is sent for ever.
#pragma once

#include <algorithm>

#include "core/types.h"
#include "net/io/sockets.h"
#include "net/loop/limits.h"
#include "net/loop/loop_options.h"

namespace pulse {

// Of connections that are judged after `heartbeat_timeout`: what their listener gives them.
constexpr SocketOptions kernel_bounds(const LoopOptions& options, Nanos heartbeat_timeout) {
    const Nanos bound = std::max(heartbeat_timeout, kKernelBoundMinNs);
    const auto asked_or = [&](Nanos asked) { return asked == kByHeartbeat ? bound : asked; };
    return {asked_or(options.tcp_keepalive), asked_or(options.tcp_user_timeout)};
}

// What is to be set where the timeout of one becomes another; 0: stays as it is.
constexpr SocketOptions changed_bounds(const LoopOptions& options, Nanos before, Nanos now) {
    const SocketOptions old = kernel_bounds(options, before), fresh = kernel_bounds(options, now);
    return {fresh.tcp_keepalive == old.tcp_keepalive ? 0 : fresh.tcp_keepalive,
            fresh.tcp_user_timeout == old.tcp_user_timeout ? 0 : fresh.tcp_user_timeout};
}

}  // namespace pulse
