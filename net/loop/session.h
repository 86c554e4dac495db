// One connection's conversation: what its codec found becomes heartbeats, replies and endings.
//
// A Session is made on the stack for the length of one call and owns nothing: it is the CodecSink
// that a codec talks to (proto/codec.h), over the connection's record and its reactor's
// Connections. What is said back is worded by Replies.
//
//   Stage      proxy ----> detect ----> http ----> open ----> closing
//   reads      a header    first bytes  an upgrade frames     nothing
//   where      ?proxy=on   everywhere   WebSocket
//
// Besides, a connection is greeting until its handshake or its first complete message is whole:
// --handshake-timeout runs, from the accept or, on tcp:// and jsonl://, where a peer may do nothing
// but answer probes, from its first byte or the PROXY header's.
#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "core/buffer_pool.h"
#include "core/connection.h"
#include "core/fixed_text.h"
#include "core/turn_budget.h"
#include "net/io/address.h"
#include "net/loop/connection_flags.h"
#include "net/loop/connections.h"
#include "net/loop/replies.h"
#include "proto/codec.h"
#include "proto/detect.h"
#include "proto/json.h"

namespace pulse {

// The protocol of a listener's connections; detect: their first bytes tell.
constexpr Protocol protocol_of(Scheme scheme) {
    switch (scheme) {
        case Scheme::binary:
            return Protocol::binary;
        case Scheme::jsonl:
            return Protocol::jsonl;
        case Scheme::websocket:
        case Scheme::websocket_tls:
            return Protocol::websocket;
        case Scheme::detect:
            break;
    }
    return Protocol::detect;
}

class Session {
  public:
    // `fresh`: what it is given was read just now.
    Session(Connections& connections, Index index, bool fresh = true)
        : connections_(connections),
          index_(index),
          connection_(connections.at(index)),
          share_(fresh ? connections.fresh_work() : connections.parked_work(), fresh) {}

    // Just accepted. Where there is no handshake, heartbeats count until the first byte.
    void begin();

    // --- bytes in --------------------------------------------------------------------------------
    // After our goodbye they are dropped: draining them is what keeps a reset from destroying it.
    void receive(std::span<uint8_t> bytes);

    // What was parked, in the order of its coming. Requires: made with `fresh` false.
    void resume(std::span<uint8_t> message, std::span<uint8_t> bytes);
    // What a turn's share did not reach: of a message of pulse.v1.binary, and of the bytes given.
    bool left_something() const { return !stopped() && share_.paused(); }
    std::span<uint8_t> message_rest() const { return message_rest_; }
    BufferPool::Handle kept_message() const { return kept_message_; }
    std::span<uint8_t> rest() const { return rest_; }

    // --- what the codec calls --------------------------------------------------------------------
    void on_ping(uint32_t sequence, std::span<const uint8_t> payload);
    void on_pong(uint32_t sequence, std::span<const uint8_t> payload);
    void on_hello(uint32_t sequence, std::span<const uint8_t> object);
    void on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> bytes);
    void on_fragment() { frame(); }
    void on_goodbye(uint16_t code, std::span<const uint8_t>);

    // While a message of pulse.v1.binary is decoded it may lie in the inbox itself: nothing is
    // kept there, and nothing moves it. Such a message is whole, so that a frame which does not fit
    // into it is a fault (decode_framed) and its bytes are wanted by nothing.
    // Asked before each frame and message is handed over; what is left after a no is parked.
    bool admits(size_t wire_bytes, bool compressed);
    bool hold(std::span<const uint8_t> piece);
    std::span<uint8_t> held();
    void keep_held(size_t bytes);
    bool stopped() const { return connection_.stage >= Stage::closing; }

    // The connection's public name: r3-000123-9.
    ShortText name() const;

    // --- bytes out -------------------------------------------------------------------------------
    void send_probe();
    void send_goodbye(CloseReason reason, std::string_view detail);
    // The heartbeats of its profile changed: the server's advice.
    void send_interval();

  private:
    Replies replies() { return {{connections_, index_}, connection_, shared().deflater}; }
    SessionShared& shared() { return connections_.shared(); }
    bool shakes_hands() const;
    void greet();
    const ListenAddress& listener() const;
    const CodecLimits& limits() const { return connections_.config().limits; }
    void frame();
    void proof();
    bool wants_roundtrip() const;
    template <class Matches>
    void pong(Matches matches);
    void complete_message();
    bool wants_echo();

    template <class State>
    State load() const;
    template <class State>
    void store(const State& state);

    // --- PROXY headers ---------------------------------------------------------------------------
    bool take_proxy_header(std::span<uint8_t>& bytes);

    // --- protocols -------------------------------------------------------------------------------
    void decode(std::span<uint8_t> bytes);
    void detect(std::span<uint8_t> bytes);
    bool is_for_codec(const Detected& detected) const;
    void refuse(const Detected& detected);
    void decode_binary(std::span<uint8_t> bytes);
    void decode_websocket(std::span<uint8_t> bytes);
    void decode_framed(std::span<uint8_t> message);
    void keep_message(std::span<uint8_t> rest);
    void shake_hands(std::span<uint8_t> bytes);

    // --- JSON ------------------------------------------------------------------------------------
    void on_text(std::span<uint8_t> text);
    void on_json_pong(const JsonMessage& message);
    void on_json(const JsonMessage& message, std::span<const uint8_t> text);

    // --- endings ---------------------------------------------------------------------------------
    void end(const Decoded& decoded, std::span<uint8_t> input = {});
    void offence(const JsonFault& wrong);

    // --- hello -----------------------------------------------------------------------------------
    bool settle_profile(const JsonMessage& hello);
    std::optional<uint8_t> profile_named(std::string_view name) const;
    ShortText welcome() const;

    Connections& connections_;
    Index index_;
    Connection& connection_;
    TurnShare share_;
    std::span<uint8_t> rest_;
    std::span<uint8_t> message_rest_;
    BufferPool::Handle kept_message_ = 0;
    bool resumed_ = false;     // a message that was parked is decoded
    bool in_message_ = false;  // a binary frame inside a WebSocket message is decoded
};

}  // namespace pulse
