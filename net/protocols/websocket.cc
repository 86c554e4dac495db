// WebSocket, and what messages hold: ws:// (proto/websocket.h, proto/handshake.h,
// proto/PROTOCOL.md). Three rows with one framing: the peer's own messages until it speaks JSON or
// a subprotocol is agreed on; JSON; binary frames.
#include "proto/websocket.h"

#include "net/protocols/binary_dialect.h"
#include "net/protocols/json_dialect.h"
#include "net/protocols/refusal.h"

namespace pulse {
namespace {

using namespace std::string_view_literals;

// Room for the payload of one unmasked frame whose header is written.
uint8_t* claim_message(Conversation& conversation, websocket::Opcode opcode, size_t bytes) {
    const size_t header = websocket::frame_header_bytes(bytes, false);
    uint8_t* to = conversation.claim(header + bytes);
    if (to == nullptr) return nullptr;
    const auto first = static_cast<uint8_t>(static_cast<uint8_t>(opcode) | websocket::kFinalBit);
    websocket::format_header(to, first, bytes);
    return to + header;
}

// Application data, as it came.
void message(Conversation& conversation, MessageKind kind, std::span<const uint8_t> bytes) {
    websocket::write_message(conversation, kind, bytes, conversation.shared().deflater,
                             conversation.load<websocket::State>().window_bits);
}

struct TextMessages {
    static constexpr bool kMayBeAnything = true;
    // Into a frame of its own; compressing so little never pays.
    static void object(Conversation& conversation, const json::Object& object) {
        uint8_t* to = claim_message(conversation, websocket::Opcode::text, object.bytes());
        if (to != nullptr) object.write(to);
    }
    static void text(Conversation& conversation, std::span<const uint8_t> words) {
        message(conversation, MessageKind::text, words);
    }
    static void answer_goodbye(Conversation& conversation) {
        websocket::write_close(conversation, 1000, {});
    }
};
using InTexts = JsonDialect<TextMessages>;

// Binary frames, each a message of its own.
struct BinaryMessages {
    Conversation& conversation;
    uint8_t* claim(size_t bytes) {
        return claim_message(conversation, websocket::Opcode::binary, bytes);
    }
};
using InMessages = BinaryDialect<BinaryMessages>;

// Of a message of binary frames, which is whole: a frame that does not fit into it is a fault, and
// nothing of it is held. The message may lie in the inbox itself, so that nothing may move that.
struct FramesInMessage : InMessages::Sink {
    bool hold(std::span<const uint8_t>) { return true; }
    std::span<uint8_t> held() { return {}; }
    void keep_held(size_t) {}
    void on_goodbye(uint16_t code, std::span<const uint8_t>) {
        conversation.on_frame();
        // A binary frame's code is not the WebSocket's: its close frame says 1000, as to JSON.
        TextMessages::answer_goodbye(conversation);
        conversation.peer_said_goodbye(code);
    }
};

// A message is one or more whole frames of the binary protocol.
void receive_frames(Conversation& conversation, std::span<uint8_t> message) {
    FramesInMessage sink{{{conversation}}};
    binary::State state{};
    const Decoded decoded = binary::decode(state, message, conversation.shared().limits, sink);
    if (!decoded.ok()) return conversation.fail(decoded);
    if (decoded.rest_bytes > 0) return conversation.keep_message(message.last(decoded.rest_bytes));
    if (state.spill_bytes != 0 || state.in_payload != 0) {
        conversation.fail({CloseReason::protocol_error, "a message ends inside a binary frame"});
    }
}

// Besides the HeadSink's hello, which is the binary codec's.
template <bool kBinaryFrames>
struct Sink : HeadSink {
    // RFC 6455 5.5.2: a ping frame MUST be answered, so that answer_every is not about these. Who
    // wants no answer sends a pong (5.5.3).
    void on_ping(uint32_t, std::span<const uint8_t> payload) {
        conversation.spend(payload.size());
        conversation.on_ping();
        websocket::write_frame(conversation, websocket::Opcode::pong, payload);
    }
    void on_pong(uint32_t, std::span<const uint8_t> payload) {
        conversation.on_pong(ProbeValue::in_ping(payload));
    }
    void on_fragment() { conversation.on_frame(); }
    void on_message(MessageKind kind, uint32_t, std::span<uint8_t> bytes) {
        if (kind == MessageKind::text) return InTexts::receive(conversation, bytes);
        conversation.spend(bytes.size());
        conversation.on_frame();
        if (kBinaryFrames) return receive_frames(conversation, bytes);
        if (conversation.wants_echo(MessageForm::binary, 0, bytes))
            message(conversation, kind, bytes);
    }
    void on_goodbye(uint16_t code, std::span<const uint8_t>) {
        conversation.on_frame();
        websocket::write_close(conversation, code, {});
        conversation.peer_said_goodbye(code);
    }
};

template <bool kBinaryFrames>
void receive(Conversation& conversation, std::span<uint8_t> bytes) {
    auto state = conversation.load<websocket::State>();
    Sink<kBinaryFrames> sink{{{conversation}}};
    ConversationShared& shared = conversation.shared();
    const Decoded decoded = websocket::decode(state, bytes, shared.limits, sink, shared.inflater);
    conversation.store(state);
    conversation.finish(decoded, bytes);
}

void continue_handshake(Conversation& conversation, std::span<uint8_t> bytes) {
    auto state = conversation.load<HandshakeState>();
    HeadSink sink{{conversation}};
    const Handshake handshake =
        serve_handshake(state, bytes, conversation.handshake_policy(), sink, conversation);
    conversation.store(state);
    if (handshake.step == Handshake::Step::more) return;
    if (handshake.step == Handshake::Step::ended) {
        return conversation.begin_close_silent(handshake.outcome);
    }
    websocket::State frames;
    frames.window_bits = handshake.deflate.window_bits;
    conversation.store(frames);
    if (handshake.subprotocol == Subprotocol::json) conversation.set_dialect(Dialect::json);
    if (handshake.subprotocol == Subprotocol::binary) conversation.set_dialect(Dialect::binary);
    conversation.open(handshake.trace);
    const std::span<uint8_t> rest = bytes.subspan(handshake.consumed_bytes);
    if (!rest.empty()) conversation.protocol().receive(conversation, rest);
}

void ping(Conversation& conversation, const ProbeValue* value) {
    if (value == nullptr) {
        conversation.append(websocket::kProbe);
    } else {
        websocket::write_frame(conversation, websocket::Opcode::ping, value->bytes());
    }
}

void data(Conversation& conversation, std::string_view text) {
    TextMessages::text(conversation, binary::bytes_of(text));
}

void again(Conversation& conversation, MessageForm form, uint32_t sequence,
           std::span<const uint8_t> bytes) {
    if (form == MessageForm::frame)
        return InMessages::frame(conversation, binary::Type::data, sequence, bytes);
    const bool is_text = form == MessageForm::text;
    message(conversation, is_text ? MessageKind::text : MessageKind::binary, bytes);
}

void close(Conversation& conversation, const Goodbye& goodbye) {
    websocket::write_close(conversation, describe(goodbye.reason).code, goodbye.words);
}

// Before the upgrade it is HTTP that ends.
void goodbye(Conversation& conversation, const Goodbye& goodbye) {
    if (conversation.stage() == Stage::open) return close(conversation, goodbye);
    if (goodbye.reason == CloseReason::unauthorized) {
        HttpBytes answer;
        write_token_refusal(answer, AuthFailure::no_token);
        conversation.append({reinterpret_cast<const uint8_t*>(answer.chars.data()), answer.count});
        return;
    }
    const bool late = goodbye.reason == CloseReason::handshake_timeout;
    conversation.append(http_refusal(late ? 408 : http_status_of(goodbye.reason),
                                     describe(goodbye.reason).text, goodbye.retry_after_ms)
                            .bytes());
}

template <class InDialect>
void goodbye_in(Conversation& conversation, const Goodbye& goodbye) {
    InDialect::goodbye(conversation, goodbye);
    close(conversation, goodbye);
}

RefusalMessage reject(uint16_t, std::string_view words) { return http_refusal(400, words); }

// Methods. PRI begins HTTP/2 with prior knowledge. Empty lines may come before each.
constexpr Prefix kPrefixes[] = {
    {"GET "sv, true},   {"HEAD "sv, true},   {"POST "sv, true},    {"PUT "sv, true},
    {"PATCH "sv, true}, {"DELETE "sv, true}, {"OPTIONS "sv, true}, {"CONNECT "sv, true},
    {"TRACE "sv, true}, {"PRI "sv, true},
};

// What the rows have in common.
constexpr Protocol row(std::string_view name, std::string_view title) {
    return {
        .name = name,
        .title = title,
        .framing = Framing::websocket,
        .greets_at_once = true,
        .receive = receive<false>,
        .ping = ping,
        .again = again,
        .goodbye_says_all = true,
        .refuse = http_refusal_for,
        .reject = reject,
    };
}

constexpr Protocol plain_row() {
    Protocol plain = row("websocket", "WebSocket");
    plain.scheme = "ws";
    plain.dialect_is_open = true;
    plain.prefixes = kPrefixes;
    plain.prefix_name = "HTTP";
    plain.only_this = "this listener speaks WebSocket only (ws://): begin with an HTTP upgrade";
    plain.handshake = continue_handshake;
    plain.data = data;
    plain.goodbye = goodbye;
    return plain;
}

constexpr Protocol json_row() {
    Protocol json = row("websocket_json", "JSON in WebSocket messages");
    json.dialect = Dialect::json;
    json.welcome = InTexts::welcome;
    json.interval = InTexts::interval;
    json.data = InTexts::data;
    json.expiring = InTexts::expiring;
    json.error = InTexts::error;
    json.goodbye = goodbye_in<InTexts>;
    json.move = InTexts::goodbye;
    return json;
}

constexpr Protocol binary_row() {
    Protocol frames = row("websocket_binary", "binary frames in WebSocket messages");
    frames.dialect = Dialect::binary;
    frames.receive = receive<true>;
    frames.resume = receive_frames;
    frames.welcome = InMessages::welcome;
    frames.interval = InMessages::interval;
    frames.data = InMessages::data;
    frames.expiring = InMessages::expiring;
    frames.error = InMessages::error;
    frames.goodbye = goodbye_in<InMessages>;
    return frames;
}

}  // namespace

constinit const Protocol websocket_protocol = plain_row();
constinit const Protocol websocket_json_protocol = json_row();
constinit const Protocol websocket_binary_protocol = binary_row();

}  // namespace pulse
