// RFC 6455 frames, in both roles, decoded in place; after the handshake (proto/handshake.h).
//
// The decoder promises what proto/codec.h says, and refuses (with the section that says so):
//   protocol_error 1002   reserved bits and opcodes, lengths not in their shortest form (5.2),
//                         masks missing or present where they must not be (5.1), control frames
//                         fragmented or over 125 bytes (5.5), close payloads of 1 byte (5.5.1),
//                         close codes that may not be sent (7.4), continuations of nothing and
//                         messages inside messages (5.4)
//   invalid_data 1007     text, close reasons, inflated text that are no UTF-8 (8.1); bad DEFLATE
//   message_too_big 1009  a message over its limit, or one that is mostly frame headers
//   out_of_memory 1013    hold() said no
// A header is judged field by field as it arrives, and text byte by byte; the payload of a
// control frame and a compressed message are judged when they are whole.
//
// After a close frame nothing more is decoded (5.5.1): what follows is dropped. Answering it,
// timing the closing handshake and matching pongs with probes are the session's.
//
// A message in one frame that lies whole in the input is handed over in place; every other is
// gathered with hold(), its fragments without their headers. Control frames between fragments are
// handed over at once.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "core/check.h"
#include "core/limits.h"
#include "proto/codec.h"
#include "proto/deflate.h"
#include "proto/limits.h"
#include "proto/unmask.h"
#include "proto/utf8.h"

namespace pulse::websocket {

enum class Opcode : uint8_t {
    continuation = 0,
    text = 1,
    binary = 2,
    close = 8,
    ping = 9,
    pong = 10,
};

inline constexpr size_t kHeaderBytesMax = 14;

// What one connection remembers between reads. All zero is the initial state; window_bits is set
// once, to DeflateAgreement::window_bits, where permessage-deflate was agreed.
struct State {
    struct Payload {
        uint32_t left;  // bytes of the frame that are still to come
        MaskKey mask;   // as it applies to the next of them
        uint8_t held;   // bytes of a control frame that were given to hold()
    };
    union {
        std::array<uint8_t, kHeaderBytesMax - 1> header{};  // the first header_bytes of a cut one
        Payload payload;                                    // while in_payload
    };
    uint32_t overhead_bytes = 0;           // of the headers of the message's frames so far
    Utf8State utf8 = Utf8State::boundary;  // of the text so far; messages begin and end at one
    uint8_t window_bits = 0;               // 0: no permessage-deflate
    uint8_t header_bytes : 4 = 0;
    uint8_t opcode : 4 = 0;  // of the frame in `payload`
    uint8_t in_payload : 1 = 0;
    uint8_t final_frame : 1 = 0;
    uint8_t in_message : 1 = 0;  // a fragment came and the last is still to come
    uint8_t text : 1 = 0;        // the message's kind
    uint8_t compressed : 1 = 0;  // the message had RSV1
    uint8_t closed : 1 = 0;      // a close frame came
};
static_assert(sizeof(State) <= kCodecStateBytes);
static_assert(std::is_trivially_copyable_v<State>);
static_assert(kMessageBytesMax <= UINT32_MAX);
static_assert(kFrameOverheadBytesMin + kMessageBytesMax / kPayloadBytesPerOverheadByte < INT32_MAX);
static_assert(kReceiveFrontBytes >= kHeaderBytesMax);

// A header, or as much of a judgement as its first bytes allow.
struct FrameHeader {
    uint64_t payload_bytes = 0;
    MaskKey mask{};
    uint8_t bytes = 0;  // of the header itself; 0: more is needed
    uint8_t opcode = 0;
    bool final_frame = false;
    bool compressed = false;
    Decoded fault;
};

// `bytes`: one or more. `message_bytes`: of the unfinished message so far.
FrameHeader read_frame_header(const State& state, Role role, std::span<const uint8_t> bytes,
                              size_t message_bytes, const CodecLimits& limits);

// Codes that a close frame may carry: those of section 7.4.1 and its registry, and 3000 to 4999.
constexpr bool close_code_valid(uint16_t code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

// A close frame's payload, whole. `fault` says why it may not stand.
struct ClosePayload {
    uint16_t code = 0;  // 0: none was given
    std::span<uint8_t> reason;
    Decoded fault;
};
ClosePayload read_close_payload(std::span<uint8_t> payload);

// ---------------------------------------------------------------------------------------- decoding
template <Role role, CodecSink S>
class Decoder {
  public:
    Decoder(State& state, const CodecLimits& limits, S& sink, Inflater& inflater)
        : state_(state), limits_(limits), sink_(sink), inflater_(inflater) {}

    Decoded run(std::span<uint8_t> input) {
        PULSE_ASSERT(limits_.message_bytes_max <= kMessageBytesMax);
        if (state_.closed) return {};
        uint8_t* at = input.data();
        uint8_t* const end = at + input.size();
        if (state_.header_bytes > 0) {  // put it back in front of the bytes that complete it
            at -= state_.header_bytes;
            std::memcpy(at, state_.header.data(), state_.header_bytes);
            state_.header_bytes = 0;
        }
        for (;;) {
            bool starts_here = false;
            if (!state_.in_payload) {
                if (at == end) return {};
                const FrameHeader header =
                    read_frame_header(state_, role, {at, end}, message_bytes(), limits_);
                if (!header.fault.ok()) return header.fault;
                if (header.bytes == 0) return spill_header({at, end});
                if (!admits_whole(header, static_cast<size_t>(end - at))) return rest({at, end});
                begin_frame(header);
                at += header.bytes;
                starts_here = true;
            }
            const size_t bytes =
                std::min<size_t>(state_.payload.left, static_cast<size_t>(end - at));
            if (!starts_here && !admits_last(bytes)) return rest({at, end});
            const Decoded fault = take_payload({at, bytes}, starts_here);
            if (!fault.ok()) return fault;
            at += bytes;
            if (state_.in_payload || state_.closed || sink_.stopped()) return {};
        }
    }

  private:
    static Decoded rest(std::span<const uint8_t> bytes) { return {.rest_bytes = bytes.size()}; }
    // A frame that lies whole in the input, header and all, and completes something.
    bool admits_whole(const FrameHeader& header, size_t here_bytes) {
        if (header.bytes + header.payload_bytes > here_bytes) return true;
        const bool control = header.opcode >= static_cast<uint8_t>(Opcode::close);
        const bool starts = header.opcode != static_cast<uint8_t>(Opcode::continuation);
        const bool compressed = starts ? header.compressed : state_.compressed != 0;
        const bool inflates = !control && header.final_frame && compressed;
        return admitted(sink_, message_bytes() + header.bytes + header.payload_bytes, inflates);
    }
    // The last `bytes` of a frame that began in an earlier call.
    bool admits_last(size_t bytes) {
        if (bytes < state_.payload.left) return true;
        const bool control = state_.opcode >= static_cast<uint8_t>(Opcode::close);
        const bool inflates = !control && state_.final_frame && state_.compressed;
        return admitted(sink_, sink_.held().size() + bytes, inflates);
    }
    size_t message_bytes() { return state_.in_message ? sink_.held().size() : 0; }

    Decoded spill_header(std::span<const uint8_t> bytes) {
        state_.header = {};
        std::memcpy(state_.header.data(), bytes.data(), bytes.size());
        state_.header_bytes = static_cast<uint8_t>(bytes.size()) & 0x0F;
        return {};
    }

    void begin_frame(const FrameHeader& header) {
        state_.payload = {static_cast<uint32_t>(header.payload_bytes), header.mask, 0};
        state_.in_payload = 1;
        state_.opcode = header.opcode & 0x0F;
        state_.final_frame = header.final_frame;
        if (header.opcode == static_cast<uint8_t>(Opcode::text) ||
            header.opcode == static_cast<uint8_t>(Opcode::binary)) {
            state_.text = header.opcode == static_cast<uint8_t>(Opcode::text);
            state_.compressed = header.compressed;
            state_.overhead_bytes = header.bytes;
        } else if (header.opcode == static_cast<uint8_t>(Opcode::continuation)) {
            state_.overhead_bytes += header.bytes;
        }
    }

    // Bytes of the current frame's payload; the last of them if none is left after.
    Decoded take_payload(std::span<uint8_t> piece, bool starts_here) {
        State::Payload& payload = state_.payload;
        payload.left -= static_cast<uint32_t>(piece.size());
        if constexpr (role == Role::server) {
            apply_mask(piece, payload.mask);
            if (payload.left > 0) payload.mask = rotate_mask(payload.mask, piece.size());
        }
        const bool whole_here = starts_here && payload.left == 0;
        if (state_.opcode >= static_cast<uint8_t>(Opcode::close))
            return take_control(piece, whole_here);
        return take_data(piece, whole_here);
    }

    Decoded take_control(std::span<uint8_t> piece, bool whole_here) {
        if (whole_here) {
            state_.in_payload = 0;
            return deliver_control(piece);
        }
        if (!piece.empty() && !sink_.hold(piece)) return no_memory();
        state_.payload.held = static_cast<uint8_t>(state_.payload.held + piece.size());
        if (state_.payload.left > 0) return {};
        // What is held before it may be fragments of a message: only the tail is the frame's.
        const size_t bytes = state_.payload.held;
        const std::span<uint8_t> held = sink_.held();
        const size_t keep = held.size() - bytes;
        state_.in_payload = 0;
        const Decoded fault = deliver_control(held.subspan(keep));
        if (fault.ok()) sink_.keep_held(keep);
        return fault;
    }

    Decoded deliver_control(std::span<uint8_t> payload) {
        if (state_.opcode == static_cast<uint8_t>(Opcode::ping)) {
            sink_.on_ping(0, payload);
        } else if (state_.opcode == static_cast<uint8_t>(Opcode::pong)) {
            sink_.on_pong(0, payload);
        } else {
            const ClosePayload close = read_close_payload(payload);
            if (!close.fault.ok()) return close.fault;
            state_.closed = 1;
            sink_.on_goodbye(close.code, close.reason);
        }
        return {};
    }

    Decoded take_data(std::span<uint8_t> piece, bool whole_here) {
        const bool check = state_.text && !state_.compressed;
        if (check && !utf8_continue(state_.utf8, piece)) return no_utf8();
        const bool frame_ends = state_.payload.left == 0;
        const bool message_ends = frame_ends && state_.final_frame;
        if (message_ends && check && state_.utf8 != Utf8State::boundary) return no_utf8();
        if (message_ends && whole_here && !state_.in_message) {
            state_.in_payload = 0;
            return deliver_message(piece);
        }
        if (!piece.empty() && !sink_.hold(piece)) return no_memory();
        if (!frame_ends) return {};
        state_.in_payload = 0;
        state_.in_message = !message_ends;
        if (!message_ends) {
            // A complete frame, though not a message.
            if constexpr (requires { sink_.on_fragment(); }) sink_.on_fragment();
            return {};
        }
        const Decoded fault = deliver_message(sink_.held());
        if (fault.ok()) sink_.keep_held(0);
        return fault;
    }

    Decoded deliver_message(std::span<uint8_t> payload) {
        const MessageKind kind = state_.text ? MessageKind::text : MessageKind::binary;
        if (!state_.compressed) {
            sink_.on_message(kind, 0, payload);
            return {};
        }
        const Inflater::Outcome outcome = inflater_.inflate(payload, limits_.message_bytes_max);
        Decoded fault = outcome.fault;
        if (fault.ok() && state_.text && !utf8_valid(outcome.message)) fault = no_utf8();
        if (fault.ok()) sink_.on_message(kind, 0, outcome.message);
        inflater_.trim();  // whatever came of it: it may have grown to the message limit
        return fault;
    }

    static Decoded no_memory() {
        return {CloseReason::out_of_memory, "no memory to hold a message"};
    }
    static Decoded no_utf8() { return {CloseReason::invalid_data, "text message is no UTF-8"}; }

    State& state_;
    const CodecLimits& limits_;
    S& sink_;
    Inflater& inflater_;
};

// The inflater is the reactor's; it is used only where permessage-deflate was agreed.
template <Role role = Role::server, CodecSink S>
Decoded decode(State& state, std::span<uint8_t> input, const CodecLimits& limits, S& sink,
               Inflater& inflater) {
    return Decoder<role, S>(state, limits, sink, inflater).run(input);
}

// ---------------------------------------------------------------------------------------- encoding
// Each write_... appends one frame; false: no room, nothing was appended.

// The server's probe is the shortest ping there is; its pong is as empty.
inline constexpr std::array<uint8_t, 2> kProbe = {0x89, 0x00};

// A client masks what it sends and gives the key, fresh from a good source for each frame; a server
// gives none (5.1).
using FrameMask = std::optional<MaskKey>;

size_t frame_header_bytes(size_t payload_bytes, bool masked);
// `to` has room for frame_header_bytes. `first_byte`: FIN, reserved bits, opcode. Returns where
// the payload begins.
uint8_t* format_header(uint8_t* to, uint8_t first_byte, size_t payload_bytes, FrameMask mask = {});
// The whole frame; there is room for the payload, too.
void format_frame(uint8_t* to, uint8_t first_byte, std::span<const uint8_t> payload,
                  FrameMask mask);

inline constexpr uint8_t kFinalBit = 0x80;
inline constexpr uint8_t kCompressedBit = 0x40;  // RSV1

template <ByteSink B>
bool write_raw_frame(B& out, uint8_t first_byte, std::span<const uint8_t> payload, FrameMask mask) {
    uint8_t* to = out.claim(frame_header_bytes(payload.size(), mask.has_value()) + payload.size());
    if (to == nullptr) return false;
    format_frame(to, first_byte, payload, mask);
    return true;
}

// One frame, whole or (final_frame false, or Opcode::continuation) a fragment. Control payloads are
// at most kControlPayloadBytesMax.
template <ByteSink B>
bool write_frame(B& out, Opcode opcode, std::span<const uint8_t> payload, FrameMask mask = {},
                 bool final_frame = true) {
    PULSE_ASSERT(opcode < Opcode::close ||
                 (final_frame && payload.size() <= kControlPayloadBytesMax));
    const uint8_t first_byte = static_cast<uint8_t>(opcode) | (final_frame ? kFinalBit : 0);
    return write_raw_frame(out, first_byte, payload, mask);
}

// A message in one frame, compressed where that was agreed (window_bits not 0) and pays.
template <ByteSink B>
bool write_message(B& out, MessageKind kind, std::span<const uint8_t> message, Deflater& deflater,
                   uint8_t window_bits, FrameMask mask = {}) {
    const Opcode opcode = kind == MessageKind::text ? Opcode::text : Opcode::binary;
    if (window_bits != 0) {
        const std::span<const uint8_t> payload = deflater.deflate(message, window_bits);
        if (!payload.empty()) {
            const uint8_t first_byte = static_cast<uint8_t>(opcode) | kFinalBit | kCompressedBit;
            const bool sent = write_raw_frame(out, first_byte, payload, mask);
            deflater.trim();
            return sent;
        }
    }
    return write_frame(out, opcode, message, mask);
}

// code 0: no payload, as in the answer to a close frame that had none. A reason over
// kReasonBytesMax is cut before the character that does not fit.
struct CloseBytes {
    std::array<uint8_t, kControlPayloadBytesMax> bytes;
    size_t count = 0;
    std::span<const uint8_t> span() const { return {bytes.data(), count}; }
};
CloseBytes close_payload(uint16_t code, std::string_view reason);

template <ByteSink B>
bool write_close(B& out, uint16_t code, std::string_view reason, FrameMask mask = {}) {
    return write_frame(out, Opcode::close, close_payload(code, reason).span(), mask);
}

}  // namespace pulse::websocket
