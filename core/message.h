// What threads say to a reactor: one cache line, trivially copied.
//
// A message owns nothing. What it points to belongs to the sender, who keeps it until the reactor
// has answered; a message that post() refused, or that still waited when the mailbox was destroyed,
// is never answered.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/close_reason.h"
#include "core/heartbeat_policy.h"
#include "core/types.h"

namespace pulse {

struct alignas(kCacheLineBytes) Message {
    enum class Kind : uint8_t {
        kick,      // let `target` go, for `reason`, if that connection still lives
        retune,    // profile `profile` is `heartbeat` from now on; its peers are told
        debug,     // `on`: log every peer's coming and going from now on, or no longer
        drain,     // stop accepting, say goodbye to all peers over the drain window
        stop,      // reset all peers now
        snapshot,  // call `respond(context, reactor)` on the reactor's thread, to read what is its
    };

    Kind kind = Kind::snapshot;
    CloseReason reason = CloseReason::none;
    uint8_t profile = 0;
    bool on = false;
    uint32_t interval_ms = 0;  // what peers are told of a retuned profile
    uint32_t timeout_ms = 0;
    ConnectionId target{};
    HeartbeatConfig heartbeat{};
    // snapshot: the context is the sender's and must live until respond was called.
    void (*respond)(void* context, uint32_t reactor) = nullptr;
    void* context = nullptr;
};

static_assert(sizeof(Message) == kCacheLineBytes && std::is_trivially_copyable_v<Message>);

}  // namespace pulse
