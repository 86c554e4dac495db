// What threads say to a reactor: one small, trivially copied struct.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/close_reason.h"
#include "core/heartbeat_policy.h"
#include "core/types.h"

namespace pulse {

struct Message {
    enum class Kind : uint8_t {
        kick,    // let `target` go, for `reason`
        retune,  // profile `profile` is `heartbeat` from now on; those who have it are told
        drain,     // stop accepting, say goodbye to everybody over the drain window
        stop,      // reset everybody now
        snapshot,  // call `respond(context, reactor)` on the reactor's thread
    };

    Kind kind = Kind::snapshot;
    CloseReason reason = CloseReason::none;
    uint8_t profile = 0;
    uint32_t interval_ms = 0;  // what peers are told of a retuned profile
    uint32_t timeout_ms = 0;
    ConnectionId target{};
    HeartbeatConfig heartbeat{};
    // snapshot: the context is the sender's and must live until respond was called.
    void (*respond)(void* context, uint32_t reactor) = nullptr;
    void* context = nullptr;
};

static_assert(sizeof(Message) <= 64 && std::is_trivially_copyable_v<Message>);

}  // namespace pulse
