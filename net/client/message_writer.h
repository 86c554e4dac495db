// Messages of a client as they go out: each a masked WebSocket frame, or a line. Made on the stack
// for a call or a few; writes into its sink and owns nothing.
#pragma once

#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "core/random.h"
#include "net/client/endpoint.h"
#include "proto/codec.h"
#include "proto/json.h"
#include "proto/unmask.h"
#include "proto/websocket.h"

namespace pulse::client {

template <ByteSink Out>
class MessageWriter {
  public:
    // `random`: of the masks, a fresh one for each frame (RFC 6455 5.3).
    MessageWriter(Out out, Framing framing, Random& random)
        : out_(std::move(out)), framing_(framing), random_(random) {}

    // Where `bytes` of payload go; seal() once they are there. nullptr: there is no room.
    // Requires: a line holds no LF; binary is of WebSocket.
    uint8_t* claim(MessageKind kind, size_t bytes) {
        if (framing_ == Framing::lines) {
            payload_ = {out_.claim(bytes + 1), bytes};
            if (payload_.data() != nullptr) payload_.data()[bytes] = '\n';
            return payload_.data();
        }
        uint8_t* const to = out_.claim(websocket::frame_header_bytes(bytes, true) + bytes);
        if (to == nullptr) return nullptr;
        const auto opcode =
            kind == MessageKind::text ? websocket::Opcode::text : websocket::Opcode::binary;
        const auto first =
            static_cast<uint8_t>(static_cast<uint8_t>(opcode) | websocket::kFinalBit);
        key_ = fresh_mask();
        payload_ = {websocket::format_header(to, first, bytes, key_), bytes};
        return payload_.data();
    }
    void seal() {
        if (framing_ == Framing::websocket) apply_mask(payload_, key_);
    }

    // Each returns whether there was room.
    bool object(const json::Object& object) {
        uint8_t* const to = claim(MessageKind::text, object.bytes());
        if (to == nullptr) return false;
        object.write(to);
        seal();
        return true;
    }
    bool message(MessageKind kind, std::string_view bytes) {
        uint8_t* const to = claim(kind, bytes.size());
        if (to == nullptr) return false;
        std::memcpy(to, bytes.data(), bytes.size());
        seal();
        return true;
    }
    // Control frames: of WebSocket alone.
    bool frame(websocket::Opcode opcode, std::span<const uint8_t> payload) {
        return websocket::write_frame(out_, opcode, payload, fresh_mask());
    }
    // code 0: as the answer to a close frame without one.
    bool close(uint16_t code) { return websocket::write_close(out_, code, {}, fresh_mask()); }

  private:
    MaskKey fresh_mask() {
        const auto word = static_cast<uint32_t>(random_.next());
        MaskKey key;
        std::memcpy(key.data(), &word, key.size());
        return key;
    }

    Out out_;
    const Framing framing_;
    Random& random_;
    std::span<uint8_t> payload_;
    MaskKey key_{};
};

}  // namespace pulse::client
