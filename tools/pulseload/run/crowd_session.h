// What a client makes of the server's bytes: the sink of all codecs in their client role. Made on
// the stack for the length of one call, over the crowd and one of its clients; owns nothing.
#pragma once

#include <span>
#include <string_view>

#include "proto/codec.h"
#include "tools/pulseload/run/crowd.h"

namespace pulse::load {

class ClientSession {
  public:
    ClientSession(Crowd& crowd, Index index)
        : crowd_(crowd), index_(index), connection_(crowd.table_[index]) {}

    void on_ping(uint32_t sequence, std::span<const uint8_t> payload);
    void on_pong(uint32_t sequence, std::span<const uint8_t> payload);
    void on_hello(uint32_t, std::span<const uint8_t>) {}  // no server sends a hello
    void on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> bytes);
    void on_goodbye(uint16_t code, std::span<const uint8_t> reason);
    void on_welcome(uint32_t sequence, std::span<uint8_t> object);
    void on_interval(uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every);
    void on_expiring(uint32_t) {}  // the load generator gives no token
    void on_error(uint16_t code, std::span<const uint8_t> text);

    bool hold(std::span<const uint8_t> piece);
    std::span<uint8_t> held();
    void keep_held(size_t bytes);
    bool stopped() const { return connection_.stage == Stage::closed; }

  private:
    void on_text(std::span<uint8_t> text);
    void on_welcomed(const JsonMessage& welcome);
    bool has_answer_every(uint32_t answer_every);

    Crowd& crowd_;
    Index index_;
    Connection& connection_;
};

}  // namespace pulse::load
