// What a binary header may say.
#include "proto/binary.h"

namespace pulse::binary {
namespace {

struct Rule {
    bool server;  // a server may receive it
    bool client;  // a client may receive it
    uint16_t payload_bytes_min;
    uint16_t payload_bytes_max;
};

constexpr uint16_t kAny = kBinaryPayloadBytesMax;
constexpr Rule kRules[] = {
    {false, false, 0, 0},    // 0 is not a type
    {true, true, 0, kAny},   // ping
    {true, true, 0, kAny},   // pong
    {true, false, 2, kAny},  // hello: at least {}
    {false, true, 2, kAny},  // welcome
    {true, true, 0, kAny},   // data
    {true, true, 2, kAny},   // goodbye: a code
    {false, true, 8, 8},     // interval
    {false, true, 2, kAny},  // error: a code
    {false, true, 4, 4},     // expiring
    {true, false, 8, 8},     // ack
};

}  // namespace

Decoded judge_header(const uint8_t* header, size_t bytes, Role role, const CodecLimits& limits) {
    if (header[0] != kMagic) return {CloseReason::protocol_error, "a frame must begin with 0xB7"};
    if (bytes < 2) return {};
    if (header[1] >= std::size(kRules) || header[1] == 0) {
        return {CloseReason::protocol_error, "unknown frame type"};
    }
    const Rule& rule = kRules[header[1]];
    if (!(role == Role::server ? rule.server : rule.client)) {
        return {CloseReason::protocol_error, "frame type is not for this side"};
    }
    if (bytes < 3) return {};
    // With half of the length, what it can still be.
    const int payload_bytes_least = header[2] << 8 | (bytes > 3 ? header[3] : 0x00);
    const int payload_bytes_most = header[2] << 8 | (bytes > 3 ? header[3] : 0xFF);
    if (payload_bytes_most < rule.payload_bytes_min ||
        payload_bytes_least > rule.payload_bytes_max) {
        return {CloseReason::protocol_error, "wrong payload length for the frame type"};
    }
    if (static_cast<size_t>(payload_bytes_least) > limits.message_bytes_max) {
        return {CloseReason::message_too_big, "payload is over the message limit"};
    }
    return {};
}

}  // namespace pulse::binary
