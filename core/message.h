// What threads ask of a reactor: a tagged union in one cache line, trivially copied.
//
// A message is of one kind, which has its own fields. Whatever its kind it may carry two things of
// its sender's: a payload, for what does not fit into it, and an acknowledgement, which the reactor
// calls once it has handled the message, or the job of it has ended. A message owns nothing: what
// both point to is the sender's, and must live until the acknowledgement was called. A message that
// post() refused, or that waited when the mailbox was destroyed, is not handled or acknowledged.
//
// A new kind is a struct here, with its name in `Body`, and what it does in `Handle`
// (net/loop/connections.cc): without that it does not compile (tests/add_one_test.py).
#pragma once

#include <cstdint>
#include <type_traits>
#include <variant>

#include "core/check.h"
#include "core/close_reason.h"
#include "core/types.h"

namespace pulse {

// A handle on a value of the sender's, which the reactor reads as the type that it was made of.
class Payload {
  public:
    Payload() = default;
    template <class T>
    static Payload of(const T& value) {
        return Payload(&value, &kTypeTag<T>);
    }
    // Requires: made by of() of a T.
    template <class T>
    const T& as() const {
        PULSE_ASSERT(type_ == &kTypeTag<T>);
        return *static_cast<const T*>(value_);
    }

  private:
    template <class T>
    static constexpr char kTypeTag = 0;  // its address is the type's
    Payload(const void* value, const char* type) : value_(value), type_(type) {}

    const void* value_ = nullptr;
    const char* type_ = nullptr;
};

// Called on the reactor's thread, once, after the message was handled: it must not wait.
struct Acknowledgement {
    void (*call)(void* context, uint32_t reactor) = nullptr;
    void* context = nullptr;
};

struct alignas(kCacheLineBytes) Message {
    // Nothing by itself. Its acknowledgement, on the reactor's thread, reads what is the reactor's.
    struct Snapshot {};
    // Closes `target` for `reason`, if that connection still lives.
    struct Kick {
        ConnectionId target;
        CloseReason reason = CloseReason::kicked;
    };
    // The options of the payload, a std::shared_ptr<const LoopOptions>, are in force from now on.
    struct Reload {};
    // Stop accepting, send goodbyes to all peers over the drain window.
    struct Drain {};
    // Reset all peers now.
    struct Stop {};
    // Steps the job of the payload, a Job* (net/loop/job.h), in this turn and those that follow.
    struct Run {};

    using Body = std::variant<Snapshot, Kick, Reload, Drain, Stop, Run>;
    Body body;
    Payload payload{};
    Acknowledgement acknowledgement{};
};

static_assert(sizeof(Message) == kCacheLineBytes && std::is_trivially_copyable_v<Message>);

}  // namespace pulse
