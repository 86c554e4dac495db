// The protocols as the peers of a simulation speak them: of every listener, and written apart from
// proto/ so that a mistake there cannot cancel itself out. (zlib, which inflates, is shared.)
//
//   binary     frames, on tcp:// and auto://
//   jsonl      lines, on jsonl:// and auto://
//   ws_json    WebSocket: JSON in text messages, application data in binary ones, and pings of
//              WebSocket's own
//   ws_binary  WebSocket with pulse.v1.binary: a frame in a binary message
//
// A SimCodec is one end of one connection. It keeps no bytes: what is not whole stays in `in`.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"

namespace pulse {

enum class SimWire : uint8_t { binary, jsonl, ws_json, ws_binary };
inline constexpr size_t kSimWires = 4;

enum class SimKind : uint8_t {
    opened,  // the answer to a WebSocket's request
    ping,
    pong,
    hello,
    welcome,
    data,
    goodbye,  // and a close frame, and an HTTP answer that refuses
    interval,
    error,
};

struct SimMessage {
    SimKind kind = SimKind::ping;
    bool control = false;  // a frame of WebSocket's own
    uint32_t sequence = 0;
    uint16_t code = 0;          // of goodbye and error; 0: HTTP has another
    uint32_t answer_every = 1;  // of welcome and interval
    // What these announce; 0: it is another message.
    uint32_t interval_ms = 0;
    uint32_t timeout_ms = 0;
    // Of a ping in JSON: all that follows its type, to be given back.
    std::vector<uint8_t> payload;
};

class SimCodec {
  public:
    enum class Parsed : uint8_t { more, message, garbage };
    static constexpr size_t kPayloadBytesMax = 65'535;  // what a binary frame can have

    SimCodec() = default;
    SimCodec(SimWire wire, bool offers_deflate) : wire_(wire), offers_deflate_(offers_deflate) {}

    SimWire wire() const { return wire_; }
    bool is_websocket() const { return wire_ == SimWire::ws_json || wire_ == SimWire::ws_binary; }
    // Whether a welcome tells which hello it answers.
    bool numbers_welcomes() const {
        return wire_ == SimWire::binary || wire_ == SimWire::ws_binary;
    }

    // Appends what a WebSocket begins with.
    void put_request(std::vector<uint8_t>& out) const;
    // Appends a whole message. Where the wire has several forms for it, `random` chooses; returns
    // whether that is a frame of WebSocket's own. The payload of a hello is its JSON object, of a
    // goodbye its code; a ping has 100 bytes at most.
    bool put(SimKind kind, uint32_t sequence, std::span<const uint8_t> payload, Random& random,
             std::vector<uint8_t>& out) const;
    // Appends the answer to a ping of the server's.
    void put_answer(const SimMessage& ping, Random& random, std::vector<uint8_t>& out) const;
    // Appends a message that proves nothing and asks for nothing: a pong to no ping.
    void put_pong(uint32_t sequence, Random& random, std::vector<uint8_t>& out) const;

    // WebSocket only: appends a fragment that a message begins with, and whose end never comes; and
    // a ping of WebSocket's own, which may stand behind it.
    void put_fragment(std::span<const uint8_t> payload, Random& random,
                      std::vector<uint8_t>& out) const;
    void put_own_ping(uint32_t sequence, std::span<const uint8_t> payload, Random& random,
                      std::vector<uint8_t>& out) const;

    // Takes the first whole message from `in`.
    Parsed parse(std::vector<uint8_t>& in, SimMessage& message);

  private:
    void put_in_dialect(SimKind kind, uint32_t sequence, std::span<const uint8_t> payload,
                        Random& random, std::vector<uint8_t>& out) const;
    void put_text(std::string_view text, Random& random, std::vector<uint8_t>& out) const;
    void put_message(uint8_t opcode, std::span<const uint8_t> payload, Random& random,
                     std::vector<uint8_t>& out) const;
    Parsed parse_binary(std::span<const uint8_t> in, size_t& whole, SimMessage& message) const;
    Parsed parse_text(std::string_view text, SimMessage& message) const;
    Parsed parse_answer(std::vector<uint8_t>& in, SimMessage& message);
    Parsed parse_websocket(std::span<const uint8_t> in, size_t& whole, SimMessage& message) const;
    Parsed parse_payload(uint8_t first, std::span<const uint8_t> payload,
                         SimMessage& message) const;

    SimWire wire_ = SimWire::binary;
    bool offers_deflate_ = false;
    bool opened_ = false;    // was answered
    bool refused_ = false;   // in HTTP
    bool deflates_ = false;  // the server agreed
};

}  // namespace pulse
