// What the server says, in whichever protocol the connection has: pong, probe, welcome, echo,
// advice, error, goodbye. Made on the stack for one call; writes into the connection's next send
// and owns nothing.
//
//   protocol               pong             probe           goodbye
//   binary                 frame 2          frame 1         frame 6
//   websocket              pong frame       ping frame      close frame; to who spoke JSON, both
//   websocket, JSON text   {"type":"pong"}  ping frame
//   websocket, pulse.v1.binary: binary frames inside binary messages, and the websocket's own
//   jsonl                  {"type":"pong"}  {"type":"ping"} {"type":"goodbye"}
#pragma once

#include <charconv>
#include <cstring>
#include <span>
#include <string_view>

#include "core/connection.h"
#include "net/probe_value.h"
#include "proto/binary.h"
#include "proto/deflate.h"
#include "proto/handshake.h"
#include "proto/json.h"
#include "proto/websocket.h"

namespace pulse {

// Connection::flags.
inline constexpr uint8_t kDirty = 1;  // the reactor's: stands in its list of those to be sent to
inline constexpr uint8_t kPeerEnded = 2;  // its FIN was seen
inline constexpr uint8_t kFinished = 4;   // our FIN was asked for
inline constexpr uint8_t kSpeaksJson =
    8;  // it sent a JSON object of ours, or agreed on pulse.v1.json
inline constexpr uint8_t kFramedBinary = 16;       // agreed on pulse.v1.binary
inline constexpr uint8_t kAwaitsProxyHeader = 32;  // its proxy has not said yet whose it is
inline constexpr uint8_t kBulkOut = 128;  // kBulkBytes or more were sent and may still be waiting
inline constexpr uint8_t kToldApart = 64;          // its first bytes were; no others are

// A few words into a buffer on the stack. Requires: they fit; what is put into one has a bound.
template <size_t kBytes>
class FixedText {
  public:
    FixedText& operator<<(std::string_view text) {
        PULSE_ASSERT(text.size() <= sizeof text_ - size_);
        std::memcpy(text_ + size_, text.data(), text.size());
        size_ += text.size();
        return *this;
    }
    FixedText& operator<<(uint64_t number) {
        char digits[20];
        const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        return *this << std::string_view(digits, static_cast<size_t>(end - digits));
    }
    std::string_view view() const { return {text_, size_}; }
    std::span<const uint8_t> bytes() const { return binary::bytes_of(view()); }

  private:
    char text_[kBytes];
    size_t size_ = 0;
};
// Of our own literals and a number or two.
using ShortText = FixedText<512>;
// A whole HTTP answer fits.
using RefusalMessage = FixedText<sizeof(HttpBytes::octets)>;

// Tells a peer that never got a connection why, in the listener's protocol.
RefusalMessage refusal_message(Protocol protocol, CloseReason reason, uint32_t retry_after_ms);

template <ByteSink Out>
class Speech {
  public:
    Speech(Out out, const Connection& connection, Deflater& deflater)
        : out_(out), connection_(connection), deflater_(deflater) {}

    // Answers to a codec's on_ping: the binary protocol's or WebSocket's own.
    void pong(uint32_t sequence, std::span<const uint8_t> payload) {
        if (!is_websocket()) return frame(binary::Type::pong, sequence, payload);
        websocket::write_frame(out_, websocket::Opcode::pong, payload);
    }
    void probe() {
        switch (connection_.protocol) {
            case Protocol::binary:
                return frame(binary::Type::ping, 0, {});
            case Protocol::websocket:
                return say(websocket::kProbe);
            case Protocol::jsonl:
                return line(json::Object().raw(json::kProbe));
            case Protocol::detect:
                return;
        }
    }
    // One that its answer must bring back.
    void probe(const ProbeValue& value) {
        switch (connection_.protocol) {
            case Protocol::binary:
                return frame(binary::Type::ping, value.sequence(), value.payload());
            case Protocol::websocket:
                websocket::write_frame(out_, websocket::Opcode::ping, value.bytes());
                return;
            case Protocol::jsonl:
                return line(json::ping(value.number()));
            case Protocol::detect:
                return;
        }
    }
    // Application data of a WebSocket, as it came.
    void message(MessageKind kind, std::span<const uint8_t> bytes) {
        if (!is_websocket()) return;
        websocket::write_message(out_, kind, bytes, deflater_, window_bits());
    }
    // A JSON text as it came, or a bare word: PONG.
    void text(std::string_view words) {
        if (is_websocket()) return message(MessageKind::text, binary::bytes_of(words));
        line(json::Object().raw(words));
    }
    void object(const json::Object& object) {
        if (!is_websocket()) return line(object);
        // Into a frame of its own; compressing so little never pays.
        uint8_t* to = claim_message(websocket::Opcode::text, object.bytes());
        if (to != nullptr) object.write(to);
    }
    // A frame of the binary protocol, by itself or as a WebSocket message.
    void frame(binary::Type type, uint32_t sequence, std::span<const uint8_t> payload,
               std::span<const uint8_t> more = {}) {
        if (!is_websocket()) {
            binary::write_frame(out_, type, sequence, payload, more);
            return;
        }
        struct InMessage {
            Speech& speech;
            uint8_t* claim(size_t bytes) {
                return speech.claim_message(websocket::Opcode::binary, bytes);
            }
        } in_message{*this};
        binary::write_frame(in_message, type, sequence, payload, more);
    }
    void interval(uint32_t interval_ms, uint32_t timeout_ms) {
        if (speaks_binary()) {
            uint8_t payload[8];
            store_be32(payload, interval_ms);
            store_be32(payload + 4, timeout_ms);
            return frame(binary::Type::interval, 0, payload);
        }
        if (speaks_json()) object(json::interval(interval_ms, timeout_ms));
    }
    // What was wrong with something that is forgiven, or will not be.
    void error(uint16_t code, std::string_view words) {
        if (speaks_binary()) return coded(binary::Type::error, code, words);
        if (speaks_json()) return object(json::error(code, words));
        if (connection_.protocol == Protocol::detect) {
            say(binary::bytes_of(words));
            say(binary::bytes_of("\n"));
        }
    }
    void goodbye(CloseReason reason, std::string_view detail, uint32_t retry_after_ms) {
        const CloseReasonInfo& info = describe(reason);
        if (info.code == 1000) return;
        if (connection_.protocol == Protocol::websocket &&
            connection_.state == ConnectionState::greeting) {
            return http_goodbye(reason, retry_after_ms);
        }
        ShortText words;
        words << info.text;
        if (!detail.empty()) words << ": " << detail;
        if (retry_after_ms > 0) words << "; retry_after_ms=" << uint64_t{retry_after_ms};
        if (speaks_binary()) coded(binary::Type::goodbye, info.code, words.view());
        if (speaks_json()) object(json::goodbye(info.code, info.name, retry_after_ms));
        if (is_websocket()) websocket::write_close(out_, info.code, words.view());
    }
    // The answer to a peer's close frame: its code, and nothing more (RFC 6455 section 5.5.1).
    void close_answer(uint16_t code) {
        if (is_websocket()) websocket::write_close(out_, code, {});
    }

  private:
    bool is_websocket() const { return connection_.protocol == Protocol::websocket; }
    bool speaks_binary() const {
        return connection_.protocol == Protocol::binary ||
               (is_websocket() && (connection_.flags & kFramedBinary) != 0);
    }
    bool speaks_json() const {
        return connection_.protocol == Protocol::jsonl ||
               (is_websocket() && (connection_.flags & kSpeaksJson) != 0);
    }
    uint8_t window_bits() const {
        websocket::State state;
        std::memcpy(&state, connection_.codec.data(), sizeof state);
        return state.window_bits;
    }
    void say(std::span<const uint8_t> bytes) {
        if (uint8_t* to = out_.claim(bytes.size()); to != nullptr) {
            std::memcpy(to, bytes.data(), bytes.size());
        }
    }
    void line(const json::Object& object) {
        uint8_t* to = out_.claim(object.bytes() + 1);
        if (to == nullptr) return;
        object.write(to);
        to[object.bytes()] = '\n';
    }
    void coded(binary::Type type, uint16_t code, std::string_view words) {
        uint8_t head[2];
        store_be16(head, code);
        frame(type, 0, head, binary::bytes_of(words));
    }
    // Room for the payload of one unmasked frame whose header is written.
    uint8_t* claim_message(websocket::Opcode opcode, size_t bytes) {
        const size_t header = websocket::frame_header_bytes(bytes, false);
        uint8_t* to = out_.claim(header + bytes);
        if (to == nullptr) return nullptr;
        websocket::format_header(
            to, static_cast<uint8_t>(static_cast<uint8_t>(opcode) | websocket::kFinalBit), bytes);
        return to + header;
    }
    void http_goodbye(CloseReason reason, uint32_t retry_after_ms) {
        HttpBytes answer;
        const bool late = reason == CloseReason::handshake_timeout;
        write_http_answer(answer, late ? 408 : 503, describe(reason).text, false,
                          (retry_after_ms + 999) / 1000);
        say({reinterpret_cast<const uint8_t*>(answer.octets.data()), answer.count});
    }

    Out out_;
    const Connection& connection_;
    Deflater& deflater_;
};

}  // namespace pulse
