// What the kernel is to end by itself: by default no sooner than the heartbeats of a connection,
// whose timeout its peer was promised, and soon behind them.
//
// Its own probes begin when the timeout is over, which they are for a peer that lives and only
// answers while this process is stopped. With a user timeout that is over, too, the first of them
// without an answer resets the connection (tcp_keepalive_timer), and a mobile one loses a packet
// now and then: so the user timeout is twice that, behind kKeepaliveProbes of them.
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
    const Nanos asked = options.tcp_user_timeout;
    const Nanos silence = options.tcp_keepalive == kByHeartbeat ? bound : options.tcp_keepalive;
    return {silence, asked == kByHeartbeat ? 2 * std::max(bound, silence) : asked};
}

// What is to be set where the timeout of one becomes another; 0: stays as it is.
constexpr SocketOptions changed_bounds(const LoopOptions& options, Nanos before, Nanos now) {
    const SocketOptions old = kernel_bounds(options, before), fresh = kernel_bounds(options, now);
    return {fresh.tcp_keepalive == old.tcp_keepalive ? 0 : fresh.tcp_keepalive,
            fresh.tcp_user_timeout == old.tcp_user_timeout ? 0 : fresh.tcp_user_timeout};
}

}  // namespace pulse
