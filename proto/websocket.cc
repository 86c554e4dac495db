// Headers and close payloads: the judgements that need no sink (websocket.h has the decoder).
#include "proto/websocket.h"

namespace pulse::websocket {
namespace {

constexpr uint8_t kMaskBit = 0x80;
constexpr uint8_t kLength16 = 126;  // in the 7-bit length: the length is in the next 2 bytes
constexpr uint8_t kLength64 = 127;  // the next 8

constexpr Decoded protocol_error(std::string_view detail) {
    return {CloseReason::protocol_error, detail};
}

// Of the headers that came before the next continuation.
bool overhead_fits(const State& state, size_t message_bytes) {
    return state.overhead_bytes <
           kFrameOverheadBytesMin + message_bytes / kPayloadBytesPerOverheadByte;
}

Decoded judge_first_byte(const State& state, uint8_t byte, size_t message_bytes) {
    const uint8_t opcode = byte & 0x0F;
    if ((byte & 0x30) != 0) return protocol_error("RSV2 or RSV3 is set");
    const bool starts_message = opcode == static_cast<uint8_t>(Opcode::text) ||
                                opcode == static_cast<uint8_t>(Opcode::binary);
    if ((byte & kCompressedBit) != 0 && (state.window_bits == 0 || !starts_message)) {
        return protocol_error(state.window_bits == 0
                                  ? "RSV1 is set without permessage-deflate"
                                  : "RSV1 is set on a frame that does not start a message");
    }
    if (opcode >= static_cast<uint8_t>(Opcode::close)) {
        if (opcode > static_cast<uint8_t>(Opcode::pong))
            return protocol_error("unknown control opcode");
        if ((byte & kFinalBit) == 0) return protocol_error("fragmented control frame");
        return {};
    }
    if (opcode > static_cast<uint8_t>(Opcode::binary)) return protocol_error("unknown data opcode");
    if (starts_message) {
        if (state.in_message) return protocol_error("new message before the last one ended");
        return {};
    }
    if (!state.in_message) return protocol_error("continuation of no message");
    if (!overhead_fits(state, message_bytes))
        return {CloseReason::message_too_big, "message of too many tiny fragments"};
    return {};
}

Decoded judge_second_byte(uint8_t opcode, Role role, uint8_t byte) {
    const bool masked = (byte & kMaskBit) != 0;
    const uint8_t length = byte & 0x7F;
    if (role == Role::server && !masked)
        return protocol_error("frame from a client without a mask");
    if (role == Role::client && masked) return protocol_error("frame from a server with a mask");
    if (opcode < static_cast<uint8_t>(Opcode::close)) return {};
    if (length > kControlPayloadBytesMax) return protocol_error("control frame over 125 bytes");
    if (opcode == static_cast<uint8_t>(Opcode::close) && length == 1)
        return protocol_error("close frame with half a code");
    return {};
}

uint64_t read_big_endian(const uint8_t* bytes, size_t count) {
    uint64_t value = 0;
    for (size_t at = 0; at < count; ++at) value = value << 8 | bytes[at];
    return value;
}

void write_big_endian(uint8_t* to, uint64_t value, size_t count) {
    for (size_t at = 0; at < count; ++at)
        to[at] = static_cast<uint8_t>(value >> (8 * (count - 1 - at)));
}

constexpr size_t length_bytes(size_t payload_bytes) {
    return payload_bytes < kLength16 ? 0 : payload_bytes <= UINT16_MAX ? 2 : 8;
}

}  // namespace

FrameHeader read_frame_header(const State& state, Role role, std::span<const uint8_t> bytes,
                              size_t message_bytes, const CodecLimits& limits) {
    FrameHeader header;
    header.opcode = bytes[0] & 0x0F;
    header.final_frame = (bytes[0] & kFinalBit) != 0;
    header.compressed = (bytes[0] & kCompressedBit) != 0;
    header.fault = judge_first_byte(state, bytes[0], message_bytes);
    if (!header.fault.ok() || bytes.size() < 2) return header;
    header.fault = judge_second_byte(header.opcode, role, bytes[1]);
    if (!header.fault.ok()) return header;

    const uint8_t length = bytes[1] & 0x7F;
    const size_t extra = length < kLength16 ? 0 : length == kLength16 ? 2 : 8;
    if (extra == 8 && bytes.size() > 2 && (bytes[2] & 0x80) != 0) {
        header.fault = protocol_error("payload length over 63 bits");
        return header;
    }
    if (bytes.size() < 2 + extra) return header;
    header.payload_bytes = extra == 0 ? length : read_big_endian(bytes.data() + 2, extra);
    if (extra != 0 && length_bytes(header.payload_bytes) != extra) {
        header.fault = protocol_error("payload length not in its shortest form");
        return header;
    }
    if (header.opcode < static_cast<uint8_t>(Opcode::close) &&
        (header.payload_bytes > limits.message_bytes_max ||
         message_bytes + header.payload_bytes > limits.message_bytes_max)) {
        header.fault = {CloseReason::message_too_big, "message over --max-message-bytes"};
        return header;
    }
    const size_t mask_bytes = role == Role::server ? sizeof(MaskKey) : 0;
    if (bytes.size() < 2 + extra + mask_bytes) return header;
    if (mask_bytes != 0) std::memcpy(header.mask.data(), bytes.data() + 2 + extra, mask_bytes);
    header.bytes = static_cast<uint8_t>(2 + extra + mask_bytes);
    return header;
}

ClosePayload read_close_payload(std::span<uint8_t> payload) {
    ClosePayload close;
    if (payload.empty()) return close;
    close.code = static_cast<uint16_t>(read_big_endian(payload.data(), 2));
    close.reason = payload.subspan(2);
    if (!close_code_valid(close.code)) {
        close.fault = protocol_error("close code that may not be sent");
    } else if (!utf8_valid(close.reason)) {
        close.fault = {CloseReason::invalid_data, "close reason is no UTF-8"};
    }
    return close;
}

size_t frame_header_bytes(size_t payload_bytes, bool masked) {
    return 2 + length_bytes(payload_bytes) + (masked ? sizeof(MaskKey) : 0);
}

uint8_t* format_header(uint8_t* to, uint8_t first_byte, size_t payload_bytes, FrameMask mask) {
    const size_t extra = length_bytes(payload_bytes);
    to[0] = first_byte;
    to[1] = static_cast<uint8_t>((mask ? kMaskBit : 0) | (extra == 0   ? payload_bytes
                                                          : extra == 2 ? size_t{kLength16}
                                                                       : size_t{kLength64}));
    write_big_endian(to + 2, payload_bytes, extra);
    to += 2 + extra;
    return mask ? std::copy(mask->begin(), mask->end(), to) : to;
}

void format_frame(uint8_t* to, uint8_t first_byte, std::span<const uint8_t> payload,
                  FrameMask mask) {
    to = format_header(to, first_byte, payload.size(), mask);
    if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
    if (mask) apply_mask({to, payload.size()}, *mask);
}

CloseBytes close_payload(uint16_t code, std::string_view reason) {
    CloseBytes payload;
    if (code == 0) return payload;
    size_t bytes = std::min(reason.size(), kReasonBytesMax);
    // Back to the start of the character that was cut, if one was.
    while (bytes < reason.size() && bytes > 0 &&
           (static_cast<uint8_t>(reason[bytes]) & 0xC0) == 0x80)
        --bytes;
    write_big_endian(payload.bytes.data(), code, 2);
    std::copy_n(reason.data(), bytes, payload.bytes.data() + 2);  // of nothing, too
    payload.count = 2 + bytes;
    return payload;
}

}  // namespace pulse::websocket
