// What threads ask of a reactor, and reactors ask of each other: a tagged union in one cache line
// that is trivially copied.
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
#include "core/sessions/login.h"
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
    bool present() const { return value_ != nullptr; }
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
    // No token is right any more whose id the payload, a std::vector<std::string>, names; close who
    // has given one.
    struct Revoke {};
    // Stop accepting, send goodbyes to all peers over the drain window.
    struct Drain {};
    // Reset all peers now.
    struct Stop {};
    // Steps the job of the payload, a Job* (net/loop/job.h), in this turn and those that follow.
    struct Run {};

    // ---- between reactors
    // An address (number_of() of net/io/address.h) has one too many of those that share its part:
    // close the oldest here, or pass it on to the next of so many reactors that were not asked.
    struct GiveWay {
        uint32_t address = 0;
        uint32_t left = 0;
    };

    // ---- the same, of logins (net/loop/logins.h). `session` is of the shard that has the user.
    // To the shard: the connection logs in as the payload, LoginTexts, says. The payload is the
    // sender's until the answer. `entry` is the sender's (SessionBook).
    struct Login {
        ConnectionRef connection;
        uint32_t entry = 0;
        SessionHandle session = 0;
    };
    // The shard's answer, once for each login. Where the session can be resumed it has a payload,
    // what that is done by: a SentParcel (net/loop/resumption.h).
    struct LoginAnswered {
        uint32_t entry = 0;
        SessionHandle session = 0;
        LoginAnswer::Verdict verdict = LoginAnswer::Verdict::accepted;
        bool replaces = false;
        uint8_t cohort = 0;
        uint32_t cohort_number = 0;  // of its policy: Cohorts::number
    };
    // To the shard: the connection that had the session ends. Likewise with a payload, where the
    // session waits for its client.
    struct SessionEnded {
        SessionHandle session = 0;
        ConnectionRef connection;
        CloseReason reason = CloseReason::none;
    };
    // To the shard: a probe of it is unanswered, or it answered after all.
    struct SessionSuspect {
        SessionHandle session = 0;
        ConnectionRef connection;
        bool suspect = false;
    };
    // From the shard: another connection has the session of this one now. It may have left the
    // session in the meantime, and have another.
    struct SessionTaken {
        ConnectionId connection;
        SessionHandle session = 0;
        uint32_t shard = 0;
        bool resumes = false;  // it is its client: what the session has is to go back to the shard
    };

    // From the shard: policies have changed, and this is the session's cohort now.
    struct Regroup {
        ConnectionId connection;
        SessionHandle session = 0;
        uint32_t shard = 0;
        uint8_t cohort = 0;
        uint32_t cohort_number = 0;
    };

    // A client found that its network bears a silence and does not bear a longer one, which is 0
    // where it does not know (core/heartbeat/nat_reports.h).
    struct NatFound {
        uint32_t network = 0;
        uint32_t client = 0;
        uint32_t kept_ms = 0;
        uint32_t lost_ms = 0;
    };

    using Body = std::variant<Snapshot, Kick, Reload, Revoke, Drain, Stop, Run, GiveWay, Login,
                              LoginAnswered, SessionEnded, SessionSuspect, SessionTaken, Regroup,
                              NatFound>;
    Body body;
    Payload payload{};
    Acknowledgement acknowledgement{};
};

static_assert(sizeof(Message) == kCacheLineBytes && std::is_trivially_copyable_v<Message>);

}  // namespace pulse
