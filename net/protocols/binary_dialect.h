// The binary dialect: what its frames come to, and those of the server, wherever they travel: in a
// stream (binary.cc), or inside WebSocket messages (websocket.cc).
#pragma once

#include <span>
#include <string_view>

#include "net/protocols/conversation.h"
#include "net/protocols/limits.h"
#include "proto/binary.h"

namespace pulse {

// `Out` is a ByteSink made from a conversation; each claim is one frame.
template <class Out>
struct BinaryDialect {
    static void frame(Conversation& conversation, binary::Type type, uint32_t sequence,
                      std::span<const uint8_t> payload, std::span<const uint8_t> more = {}) {
        Out out{conversation};
        binary::write_frame(out, type, sequence, payload, more);
    }
    static void welcome(Conversation& conversation, uint32_t sequence, std::string_view object) {
        frame(conversation, binary::Type::welcome, sequence, binary::bytes_of(object));
    }
    static void interval(Conversation& conversation, uint32_t interval_ms, uint32_t timeout_ms,
                         uint32_t answer_every) {
        Out out{conversation};
        binary::write_interval(out, interval_ms, timeout_ms, answer_every);
    }
    static void data(Conversation& conversation, std::string_view text) {
        frame(conversation, binary::Type::data, 0, binary::bytes_of(text));
    }
    static void again(Conversation& conversation, MessageForm, uint32_t sequence,
                      std::span<const uint8_t> bytes) {
        frame(conversation, binary::Type::data, sequence, bytes);
    }
    static void expiring(Conversation& conversation, uint32_t in_ms) {
        Out out{conversation};
        binary::write_expiring(out, in_ms);
    }
    static void error(Conversation& conversation, uint16_t code, std::string_view words) {
        Out out{conversation};
        binary::write_code(out, binary::Type::error, code, words);
    }
    static void goodbye(Conversation& conversation, const Goodbye& goodbye) {
        Out out{conversation};
        binary::write_code(out, binary::Type::goodbye, describe(goodbye.reason).code,
                           goodbye.words);
    }

    // What binary::decode calls, but for the peer's goodbye and what a codec holds.
    struct Sink : ConversationSink {
        void on_ping(uint32_t sequence, std::span<const uint8_t> payload) {
            conversation.spend(payload.size());
            if (conversation.on_heartbeat())
                frame(conversation, binary::Type::pong, sequence, payload);
        }
        void on_pong(uint32_t sequence, std::span<const uint8_t> payload) {
            conversation.on_pong(ProbeValue::in_frame(sequence, payload));
        }
        void on_hello(uint32_t sequence, std::span<const uint8_t> object) {
            conversation.on_frame();
            JsonMessage hello;
            if (const JsonFault wrong = read_hello(conversation, object, hello); !wrong.ok()) {
                return conversation.report_error(wrong);
            }
            if (!conversation.on_hello(hello, sequence)) return;
            welcome(conversation, sequence, conversation.welcome().view());
            conversation.on_welcomed();
        }
        void on_ack(uint64_t received) {
            conversation.on_frame();
            conversation.on_ack(received);
        }
        void on_message(MessageKind, uint32_t sequence, std::span<uint8_t> bytes) {
            conversation.spend(bytes.size());
            conversation.on_frame();
            if (!conversation.wants_echo(MessageForm::frame, sequence, bytes)) return;
            frame(conversation, binary::Type::data, sequence, bytes);
        }
    };

    // The frame's type says that it is a hello, so that the object need not; another it is not.
    static JsonFault read_hello(Conversation& conversation, std::span<const uint8_t> object,
                                JsonMessage& hello) {
        conversation.spend(kHelloWork + object.size());
        const JsonFault wrong = conversation.shared().json.parse(object, hello);
        if (!wrong.ok()) return wrong;
        if (hello.kind == JsonKind::bare_ping) return {"is not a JSON object"};
        if (hello.has_type && hello.kind != JsonKind::hello) {
            return {"is not hello, as the frame is", "type"};
        }
        return {};
    }
};

}  // namespace pulse
