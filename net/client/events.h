// What a client reports to its program: client.h has the order in which it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>

#include "core/types.h"
#include "net/client/cause.h"
#include "proto/codec.h"

namespace pulse::client {

// idle until connect(); connecting, or waiting for the next try; open from a welcome to the end of
// its connection; closed by close(), or by a cause that no policy tries again.
enum class State : uint8_t { idle, connecting, open, waiting, closed };

struct StateChanged {
    State state, before;
};

// Of each connection, and of each later hello that is welcomed.
struct Welcomed {
    std::string url, conn;
    Nanos interval = 0, timeout = 0;
    std::string user, device;  // empty: none
    std::string session;       // new, took_over, refreshed, resumed; empty without a user
};

// Of each connection after the first, where the one before could be resumed.
struct Resumed {
    bool resumed = false;
    uint64_t lost = 0;       // messages of the server that it did not keep; not known if !resumed
    size_t resent = 0;       // messages of the client that were sent again
    size_t unconfirmed = 0;  // those that were sent, and may have come or not, if !resumed
    std::string why{};       // if !resumed
};

// Of the application. A `data` object (proto/PROTOCOL.md) comes as its text, whole.
struct Message {
    MessageKind kind = MessageKind::text;
    bool is_data = false;  // a {"type":"data"} object; else text or bytes as the server sent them
    std::string bytes;
};

enum class Outcome : uint8_t {
    // A connection that the server had welcomed took it. A cut may still lose it where the session
    // cannot be resumed.
    sent,
    received,     // with `confirm`: the server has read it
    unconfirmed,  // with `confirm`: sent, and the connection or its session ended before that
    dropped,      // not sent
};

// What became of a message: exactly one for each that send() took.
struct Answered {
    uint64_t id = 0;  // that send() returned
    Outcome outcome = Outcome::sent;
    // dropped: count, bytes or age (a bound of the queue), closed (by close()), ended (no policy
    // tries again). unconfirmed: the name of what ended the connection or the session.
    std::string reason{};
};

struct IntervalTold {
    Nanos interval = 0, timeout = 0;
};

// The server announces the end of the connection; Lost or a move follows.
struct GoodbyeHeard {
    uint16_t code = 0;
    std::string reason;
    std::optional<Nanos> retry_after;
    std::string move_to;  // empty: nowhere
};

// The token ends in so long. A token_source is asked for another one; else login() may give one.
struct TokenExpires {
    Nanos in = 0;
};

// A ping was not answered in time.
struct Missed {
    uint32_t misses = 0, of = 0;
};

// What the server reported, or what it sent that cannot be read, or why there is no new token.
struct Reported {
    uint16_t code = 0;  // 0: not of the server
    std::string message;
};

// An open connection ended.
struct Lost {
    Cause cause;
};

// It is tried again after `wait`.
struct RetryPlanned {
    Cause cause;
    Nanos wait = 0;
    uint32_t attempt = 0;  // ends in a row
};

// It is not tried any more.
struct Ended {
    Cause cause;
};

using Event = std::variant<StateChanged, Welcomed, Resumed, Message, Answered, IntervalTold,
                           GoodbyeHeard, TokenExpires, Missed, Reported, Lost, RetryPlanned, Ended>;
using Events = std::deque<Event>;

}  // namespace pulse::client
