// What tests of whole conversations say to a ReactorStage, and what they are answered.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "proto/endian.h"

#include "tests/net/loop/reactor_stage.h"
#include "tests/support/websocket_frames.h"

namespace pulse::test {

inline constexpr uint8_t kBinaryPing = 1, kBinaryPong = 2, kBinaryHello = 3, kBinaryWelcome = 4,
                         kBinaryData = 5, kBinaryGoodbye = 6, kBinaryError = 8;

// A frame of the binary protocol, made without the encoder that is under test.
inline std::string binary_frame(uint8_t type, uint32_t sequence, std::string_view payload) {
    std::string frame(kBinaryHeaderBytes, '\0');
    auto* header = reinterpret_cast<uint8_t*>(frame.data());
    header[0] = 0xB7;
    header[1] = type;
    store_be16(header + 2, static_cast<uint16_t>(payload.size()));
    store_be32(header + 4, sequence);
    return frame.append(payload);
}

// A WebSocket frame of the client's, masked, and one of the server's, under 126 bytes.
inline std::string masked(uint8_t first, std::string_view payload) {
    return text_of(frame(first, payload));
}
inline std::string plain(uint8_t first, std::string_view payload) {
    return std::string{static_cast<char>(first), static_cast<char>(payload.size())}.append(payload);
}

inline std::string upgrade_request(std::string_view subprotocol = {}) {
    std::string request =
        "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    if (!subprotocol.empty()) {
        request.append("Sec-WebSocket-Protocol: ").append(subprotocol).append("\r\n");
    }
    return request + "\r\n";
}

// What the peer was sent since the last call.
inline std::string take(ReactorStage& stage, size_t peer) {
    stage.settle();
    return std::exchange(stage.heard(peer), {});
}
inline std::string answer(ReactorStage& stage, size_t peer, std::string_view words) {
    stage.write(peer, words);
    return take(stage, peer);
}

inline uint64_t closed_for(const ReactorStage& stage, CloseReason reason) {
    return stage.metrics().closed[static_cast<size_t>(reason)];
}

}  // namespace pulse::test
