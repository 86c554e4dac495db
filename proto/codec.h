// What every codec promises, and what it asks of the session it decodes for.
//
// A codec is a pure transformer: bytes in, calls on a Sink out, at most 24 bytes of memory between
// reads (Connection::codec; all zero is the initial state). No I/O, no clock, no allocation.
// Encoders append to a ByteSink. Codecs: proto/binary.h, proto/websocket.h (with proto/handshake.h
// before it and proto/deflate.h inside), proto/jsonl.h (with proto/json.h for the objects);
// net/protocols/ chooses one and says what its frames come to.
//
//     template <CodecSink S>
//     Decoded decode(State& state, std::span<uint8_t> input, const CodecLimits& limits, S& sink);
//
//   D1  All of `input` is consumed, or a fault is returned and the rest is worth nothing, or
//       sink.stopped() became true and the rest is dropped (the session has begun to close),
//       or sink.admits() said no and the last `rest_bytes` of the input were not decoded. They are
//       to be the first bytes of the next call; until then nothing else may be decoded. There may
//       be more of them than `input` has: a spilled header was put back into the slack in front.
//   D2  Cut anywhere, in any number of pieces, the same bytes give the same calls and the same
//       fault, but for how hold() pieces are cut. A fault is found at the first byte that proves
//       it.
//   D3  `input` is writable, has kReceiveFrontBytes of slack in front that may be overwritten and
//       kReceivePadBytes readable behind. Spans given to the sink are valid during the call, and
//       padded in the same way behind.
//   D4  A complete message that lies whole in `input` is handed over in place, without a copy. What
//       is not whole is given to hold() as it arrives, and the message is handed over from held().
//   D5  Between messages nothing is held: an idle connection owns its record and nothing else. A
//       header cut in half is kept in the state.
//   D6  A declared length is judged before its payload arrives; memory is asked for as the bytes
//       of it arrive.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/close_reason.h"
#include "proto/limits.h"

namespace pulse {

// Which end of a connection a codec is; the peer is the other. What may be received differs.
enum class Role : uint8_t { server, client };

enum class MessageKind : uint8_t { text, binary };

// The bounds that flags can move; the others are in proto/limits.h.
struct CodecLimits {
    size_t message_bytes_max = kMessageBytesDefault;
};

// How a decode ended. `fault` is the reason to close with; `detail` is a string literal that names
// the offender and the reason, without numbers ("unknown frame type").
struct Decoded {
    CloseReason fault = CloseReason::none;
    std::string_view detail{};
    size_t rest_bytes = 0;  // D1: what admits() left over
    bool ok() const { return fault == CloseReason::none; }
};

// Where encoders write: one contiguous piece per call. false: no room, nothing was appended.
template <class B>
concept ByteSink = requires(B out, size_t bytes) {
    { out.claim(bytes) } -> std::same_as<uint8_t*>;  // nullptr: no room; else writable
};

// The session of one connection, as its codec sees it. Every on_... is a complete frame, and so a
// proof of life; none of them re-enters the codec.
template <class S>
concept CodecSink = requires(S sink, std::span<uint8_t> bytes, std::span<const uint8_t> piece,
                             uint32_t sequence, uint16_t code, MessageKind kind,
                             size_t keep_bytes) {
    // Heartbeats. The sequence is the binary protocol's, 0 elsewhere.
    sink.on_ping(sequence, bytes);
    sink.on_pong(sequence, bytes);
    // A binary hello frame's JSON object. (JSON hellos come as on_message.)
    sink.on_hello(sequence, bytes);
    // Application data and JSON: a whole message. `sequence` is the binary protocol's.
    sink.on_message(kind, sequence, bytes);
    // The peer says that it is leaving. code 0: it gave none.
    sink.on_goodbye(code, bytes);
    // Bytes of a message that is not whole. Returns false if there is no memory (a fault follows).
    { sink.hold(piece) } -> std::same_as<bool>;
    // All that is held, contiguous, writable, padded behind; and how to let the tail of it go.
    { sink.held() } -> std::same_as<std::span<uint8_t>>;
    sink.keep_held(keep_bytes);  // forget everything held after the first keep_bytes; 0 frees it
    // True once the session has begun to close: decoding ends.
    { sink.stopped() } -> std::same_as<bool>;
};

// A sink may bound what it takes in one call: admits() is asked before each complete frame or
// message is handed over, with the bytes that it has on the wire and whether they are to be
// inflated. A sink without admits() takes everything.
template <class S>
bool admitted(S& sink, size_t wire_bytes, bool compressed = false) {
    if constexpr (requires { sink.admits(wire_bytes, compressed); }) {
        return sink.admits(wire_bytes, compressed);
    } else {
        return true;
    }
}

}  // namespace pulse
