// The JSON dialect: what its objects come to, and those of the server, wherever they travel: on
// lines (jsonl.cc), or in WebSocket text messages (websocket.cc).
#pragma once

#include <span>
#include <string_view>

#include "net/protocols/conversation.h"
#include "net/protocols/limits.h"
#include "proto/binary.h"
#include "proto/json.h"

namespace pulse {

// `Texts` sends one text: text(), of words as they stand, and object(). Where its kMayBeAnything
// is true, a text that is not an object of ours is the application's.
template <class Texts>
struct JsonDialect {
    static void welcome(Conversation& conversation, uint32_t, std::string_view object) {
        Texts::object(conversation, json::Object().raw(object));
    }
    static void interval(Conversation& conversation, uint32_t interval_ms, uint32_t timeout_ms,
                         uint32_t answer_every) {
        Texts::object(conversation, json::interval(interval_ms, timeout_ms, answer_every));
    }
    static void data(Conversation& conversation, std::string_view text) {
        Texts::object(conversation, json::data(text));
    }
    static void expiring(Conversation& conversation, uint32_t in_ms) {
        Texts::object(conversation, json::expiring(in_ms));
    }
    static void error(Conversation& conversation, uint16_t code, std::string_view words) {
        Texts::object(conversation, json::error(code, words));
    }
    static void goodbye(Conversation& conversation, const Goodbye& goodbye) {
        const CloseReasonInfo& info = describe(goodbye.reason);
        Texts::object(conversation,
                      json::goodbye(info.code, info.name, goodbye.retry_after_ms, goodbye.move_to));
    }

    // A whole text of the peer.
    static void receive(Conversation& conversation, std::span<uint8_t> text) {
        conversation.spend(kJsonWorkPerByte * text.size());
        JsonMessage message;
        const JsonFault wrong = conversation.shared().json.parse(text, message);
        const bool ours = wrong.ok() && message.kind != JsonKind::application;
        if (ours) return receive(conversation, message, text);
        conversation.on_frame();
        if (Texts::kMayBeAnything && message.kind == JsonKind::application) {
            if (conversation.wants_echo(MessageForm::text, 0, text))
                Texts::text(conversation, text);
            return;
        }
        conversation.report_error(wrong.ok() ? JsonFault{"is not a type of this protocol", "type"}
                                             : wrong);
    }

  private:
    static void receive(Conversation& conversation, const JsonMessage& message,
                        std::span<const uint8_t> text) {
        if (message.kind != JsonKind::bare_ping) conversation.set_dialect(Dialect::json);
        switch (message.kind) {
            case JsonKind::bare_ping:
                if (!conversation.on_heartbeat()) return;
                return Texts::text(conversation,
                                   binary::bytes_of(text[0] == 'P' ? "PONG" : "pong"));
            case JsonKind::ping:
                if (!conversation.on_heartbeat()) return;
                return Texts::object(conversation, json::pong(message));
            case JsonKind::pong:
                return conversation.on_pong(ProbeValue::in_json(message.seq));
            case JsonKind::hello:
                conversation.on_frame();
                if (!conversation.on_hello(message, 0)) return;
                welcome(conversation, 0, conversation.welcome().view());
                return conversation.on_welcomed();
            case JsonKind::data:
                conversation.on_frame();
                if (conversation.wants_echo(MessageForm::text, 0, text))
                    Texts::text(conversation, text);
                return;
            case JsonKind::ack:
                conversation.on_frame();
                return conversation.on_ack(message.received);
            case JsonKind::goodbye:
                conversation.on_frame();
                Texts::answer_goodbye(conversation);
                return conversation.peer_said_goodbye(message.code);
            case JsonKind::welcome:
            case JsonKind::interval:
            case JsonKind::error:
            case JsonKind::expiring:
            case JsonKind::application:
                conversation.on_frame();
                return conversation.report_error({"may be sent by the server only", "type"});
        }
    }
};

}  // namespace pulse
