// JSON lines: each line of a TCP stream is one text message. LF ends a line, a CR before it is
// dropped, blank lines are nothing. The line's content is judged elsewhere (proto/json.h).
#pragma once

#include <cstring>
#include <span>

#include "proto/codec.h"

namespace pulse::jsonl {

// What is remembered between two reads is what the sink holds of the line.
struct State {};

// A line longer than limits.message_bytes_max, without its LF, is message_too_big at its
// first byte over.
template <CodecSink S>
Decoded decode(std::span<uint8_t> input, const CodecLimits& limits, S& sink) {
    constexpr Decoded kTooLong{CloseReason::message_too_big, "a line is over the message limit"};
    while (!input.empty() && !sink.stopped()) {
        void* const found = std::memchr(input.data(), '\n', input.size());
        const size_t here = found == nullptr
                                ? input.size()
                                : static_cast<size_t>(static_cast<uint8_t*>(found) - input.data());
        const std::span<uint8_t> piece = input.first(here);
        const size_t before = sink.held().size();
        if (here > limits.message_bytes_max || before > limits.message_bytes_max - here) {
            return kTooLong;
        }
        if (found != nullptr && before + here > 0 && !admitted(sink, before + here)) {
            return {.rest_bytes = input.size()};
        }
        if (found == nullptr || before > 0) {
            if (!piece.empty() && !sink.hold(piece)) {
                return {CloseReason::out_of_memory, "no memory for the line"};
            }
            if (found == nullptr) return {};
        }
        std::span<uint8_t> line = before > 0 ? sink.held() : piece;
        if (!line.empty() && line.back() == '\r') line = line.first(line.size() - 1);
        if (!line.empty()) sink.on_message(MessageKind::text, 0, line);
        if (before > 0) sink.keep_held(0);
        input = input.subspan(here + 1);
    }
    return {};
}

}  // namespace pulse::jsonl
