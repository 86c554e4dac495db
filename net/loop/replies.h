// What the server says to one peer, in whichever protocol the connection has: pong, probe, welcome,
// echo, advice, error, goodbye. Made on the stack for one call; writes into the connection's next
// send and owns nothing.
//
//   protocol               pong             probe           goodbye
//   binary                 frame 2          frame 1         frame 6
//   websocket              pong frame       ping frame      close frame; to who spoke JSON, both
//   websocket, JSON text   {"type":"pong"}  ping frame
//   websocket, pulse.v1.binary: binary frames inside binary messages, and the websocket's own
//   jsonl                  {"type":"pong"}  {"type":"ping"} {"type":"goodbye"}
#pragma once

#include <span>
#include <string_view>

#include "core/connection.h"
#include "core/fixed_text.h"
#include "net/loop/probe_value.h"
#include "proto/binary.h"
#include "proto/deflate.h"
#include "proto/handshake.h"
#include "proto/json.h"
#include "proto/websocket.h"

namespace pulse {

class Connections;

// A whole HTTP answer fits.
using RefusalMessage = FixedText<sizeof(HttpBytes::chars)>;

// Tells a peer that never got a connection why, in the listener's protocol.
RefusalMessage refusal_message(Protocol protocol, CloseReason reason, uint32_t retry_after_ms);

// Room in the next send of one connection: what the encoders write into.
struct ConnectionOut {
    Connections& connections;
    Index index;
    // nullptr: it is gone, or going, or has too much waiting.
    uint8_t* claim(size_t bytes);
};

class Replies {
  public:
    Replies(ConnectionOut out, const Connection& connection, Deflater& deflater)
        : out_(out), connection_(connection), deflater_(deflater) {}

    // Answers to a codec's on_ping: the binary protocol's or WebSocket's own.
    void pong(uint32_t sequence, std::span<const uint8_t> payload);
    void probe();
    // One that its answer must bring back.
    void probe(const ProbeValue& value);
    // Application data of a WebSocket, as it came.
    void message(MessageKind kind, std::span<const uint8_t> bytes);
    // A JSON text as it came, or a bare word: PONG.
    void text(std::string_view words);
    void object(const json::Object& object);
    // A frame of the binary protocol, by itself or as a WebSocket message.
    void frame(binary::Type type, uint32_t sequence, std::span<const uint8_t> payload,
               std::span<const uint8_t> more = {});
    void interval(uint32_t interval_ms, uint32_t timeout_ms);
    // What was wrong with something that is forgiven, or will not be.
    void error(uint16_t code, std::string_view words);
    void goodbye(CloseReason reason, std::string_view detail, uint32_t retry_after_ms);
    // The answer to a peer's close frame: its code, and nothing more (RFC 6455 section 5.5.1).
    void close_answer(uint16_t code);

  private:
    bool is_websocket() const { return connection_.protocol == Protocol::websocket; }
    bool speaks_binary() const;
    bool speaks_json() const;
    uint8_t window_bits() const;
    void say(std::span<const uint8_t> bytes);
    void line(const json::Object& object);
    void coded(binary::Type type, uint16_t code, std::string_view words);
    uint8_t* claim_message(websocket::Opcode opcode, size_t bytes);
    void http_goodbye(CloseReason reason, uint32_t retry_after_ms);

    ConnectionOut out_;
    const Connection& connection_;
    Deflater& deflater_;
};

}  // namespace pulse
