// The binary protocol (proto/PROTOCOL.md): frames of an 8-byte header and at most 65,535
// bytes of payload.
//
//     0        1      2..3 (big-endian)   4..7 (big-endian)   8..
//     0xB7     type   payload bytes       sequence            payload
//
// A server receives ping, pong, hello, data, goodbye and ack; a client receives ping, pong,
// welcome, data, goodbye, interval, error and expiring. Anything else, another magic, or a length
// that the type cannot have is a fault, found at the header byte that proves it.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "core/limits.h"
#include "proto/codec.h"
#include "proto/endian.h"
#include "proto/limits.h"

namespace pulse::binary {

inline constexpr uint8_t kMagic = 0xB7;

enum class Type : uint8_t {
    ping = 1,
    pong = 2,
    hello = 3,
    welcome = 4,
    data = 5,
    goodbye = 6,
    interval = 7,
    error = 8,
    expiring = 9,
    ack = 10,
};

// What is remembered between two reads. All zero at the start of a frame.
struct State {
    uint8_t spill[kBinaryHeaderBytes];  // the part of a header that has come
    uint8_t spill_bytes;
    uint8_t in_payload;  // the header is whole, payload_left of its payload has not come yet
    uint16_t payload_left;
};
static_assert(sizeof(State) <= kCodecStateBytes);

// What only a client receives, beside CodecSink.
template <class S>
concept ClientSink =
    CodecSink<S> && requires(S sink, std::span<uint8_t> bytes, uint32_t word, uint16_t code) {
        sink.on_welcome(word, bytes);  // sequence, a JSON object
        // interval_ms, timeout_ms, answer_every: the server's advice
        sink.on_interval(word, word, word);
        sink.on_error(code, bytes);  // an error frame; text
        sink.on_expiring(word);      // in_ms: the token ends then
    };

// Returns the fault that the first `bytes` (1..8) of a header prove, if any: magic, type or length.
Decoded judge_header(const uint8_t* header, size_t bytes, Role role, const CodecLimits& limits);

template <Role kRole, CodecSink S>
void deliver(const uint8_t* header, std::span<uint8_t> payload, S& sink) {
    const uint32_t sequence = load_be32(header + 4);
    switch (static_cast<Type>(header[1])) {
        case Type::ping:
            return sink.on_ping(sequence, payload);
        case Type::pong:
            return sink.on_pong(sequence, payload);
        case Type::hello:
            return sink.on_hello(sequence, payload);
        case Type::data:
            return sink.on_message(MessageKind::binary, sequence, payload);
        case Type::goodbye:
            return sink.on_goodbye(load_be16(payload.data()), payload.subspan(2));
        case Type::ack:
            // A sink that keeps nothing for its peer has no use for it, but as a frame.
            if constexpr (requires { sink.on_ack(uint64_t{}); })
                return sink.on_ack(load_be64(payload.data()));
            return;
        default:
            break;
    }
    if constexpr (kRole == Role::client) {
        switch (static_cast<Type>(header[1])) {
            case Type::welcome:
                return sink.on_welcome(sequence, payload);
            case Type::interval:
                return sink.on_interval(load_be32(payload.data()), load_be32(payload.data() + 4),
                                        std::max(sequence, 1u));
            case Type::error:
                return sink.on_error(load_be16(payload.data()), payload.subspan(2));
            case Type::expiring:
                return sink.on_expiring(load_be32(payload.data()));
            default:
                break;
        }
    }
}

template <Role kRole = Role::server, CodecSink S>
Decoded decode(State& state, std::span<uint8_t> input, const CodecLimits& limits, S& sink) {
    while (!input.empty() && !sink.stopped()) {
        if (state.in_payload != 0) {
            // Only the header came before, or the beginning of the payload too and is held.
            std::span<uint8_t> payload =
                input.first(std::min<size_t>(state.payload_left, input.size()));
            input = input.subspan(payload.size());
            const bool whole = payload.size() == state.payload_left;
            if (whole && !admitted(sink, kBinaryHeaderBytes + sink.held().size() + payload.size()))
                return {.rest_bytes = payload.size() + input.size()};
            if (const bool begun = !sink.held().empty(); begun || !whole) {
                if (!sink.hold(payload)) {
                    return {CloseReason::out_of_memory, "no memory for the frame"};
                }
                state.payload_left = static_cast<uint16_t>(state.payload_left - payload.size());
                if (!whole) break;
                payload = sink.held();
            }
            uint8_t header[kBinaryHeaderBytes];
            std::memcpy(header, state.spill, sizeof header);
            state = State{};
            deliver<kRole>(header, payload, sink);
            sink.keep_held(0);
            continue;
        }
        const uint8_t* header = input.data();
        size_t header_here = kBinaryHeaderBytes;
        if (state.spill_bytes > 0 || input.size() < kBinaryHeaderBytes) [[unlikely]] {
            header_here = std::min(kBinaryHeaderBytes - state.spill_bytes, input.size());
            std::memcpy(state.spill + state.spill_bytes, input.data(), header_here);
            if (state.spill_bytes + header_here < kBinaryHeaderBytes) {
                state.spill_bytes = static_cast<uint8_t>(state.spill_bytes + header_here);
                return judge_header(state.spill, state.spill_bytes, kRole, limits);
            }
            header = state.spill;
        }
        const Decoded fault = judge_header(header, kBinaryHeaderBytes, kRole, limits);
        if (!fault.ok()) return fault;
        const size_t payload_bytes = load_be16(header + 2);
        if (payload_bytes <= input.size() - header_here &&
            !admitted(sink, kBinaryHeaderBytes + payload_bytes)) {
            return {.rest_bytes = input.size()};  // a spilled header's first part stays spilled
        }
        input = input.subspan(header_here);
        if (payload_bytes <= input.size()) [[likely]] {
            uint8_t copy[kBinaryHeaderBytes];
            std::memcpy(copy, header, sizeof copy);
            state.spill_bytes = 0;
            deliver<kRole>(copy, input.first(payload_bytes), sink);
            input = input.subspan(payload_bytes);
            continue;
        }
        std::memmove(state.spill, header, kBinaryHeaderBytes);
        state.spill_bytes = 0;
        state.in_payload = 1;
        state.payload_left = static_cast<uint16_t>(payload_bytes);
    }
    return {};
}

// --- encoders ------------------------------------------------------------------------------------
// Each claims one frame; false when there was no room (nothing is written then). A payload may be
// at most kBinaryPayloadBytesMax bytes.

template <ByteSink B>
bool write_frame(B& out, Type type, uint32_t sequence, std::span<const uint8_t> payload,
                 std::span<const uint8_t> more = {}) {
    const size_t payload_bytes = payload.size() + more.size();
    if (payload_bytes > kBinaryPayloadBytesMax) return false;
    uint8_t* frame = out.claim(kBinaryHeaderBytes + payload_bytes);
    if (frame == nullptr) return false;
    frame[0] = kMagic;
    frame[1] = static_cast<uint8_t>(type);
    store_be16(frame + 2, static_cast<uint16_t>(payload_bytes));
    store_be32(frame + 4, sequence);
    if (!payload.empty()) std::memcpy(frame + kBinaryHeaderBytes, payload.data(), payload.size());
    if (!more.empty()) {
        std::memcpy(frame + kBinaryHeaderBytes + payload.size(), more.data(), more.size());
    }
    return true;
}

inline std::span<const uint8_t> bytes_of(std::string_view text) {
    return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// goodbye and error: a code and a text for people.
template <ByteSink B>
bool write_code(B& out, Type type, uint16_t code, std::string_view text) {
    uint8_t head[2];
    store_be16(head, code);
    return write_frame(out, type, 0, head, bytes_of(text));
}

// The sequence holds `answer_every`, or 0 where that is 1: a reader that knows of no such thing
// reads a payload of the length that it wants, and no sequence.
template <ByteSink B>
bool write_interval(B& out, uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every) {
    uint8_t payload[8];
    store_be32(payload, interval_ms);
    store_be32(payload + 4, timeout_ms);
    return write_frame(out, Type::interval, answer_every == 1 ? 0 : answer_every, payload);
}

template <ByteSink B>
bool write_expiring(B& out, uint32_t in_ms) {
    uint8_t payload[4];
    store_be32(payload, in_ms);
    return write_frame(out, Type::expiring, 0, payload);
}

}  // namespace pulse::binary
