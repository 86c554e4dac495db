// The words of each protocol: to one peer (Replies), and to those that never became connections.
#include "net/loop/replies.h"

#include <cstring>

#include "net/loop/connection_flags.h"
#include "net/loop/connections.h"
#include "proto/endian.h"

namespace pulse {
namespace {

// Collects what an encoder writes.
struct Collected {
    uint8_t bytes[256];
    uint8_t* claim(size_t wanted) {
        if (wanted > sizeof bytes) return nullptr;
        size = wanted;
        return bytes;
    }
    size_t size = 0;
};

}  // namespace

RefusalMessage refusal_message(Protocol protocol, CloseReason reason, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    RefusalMessage text;
    switch (protocol) {
        case Protocol::binary: {
            ShortText words;
            words << info.text;
            if (retry_after_ms > 0) words << "; retry_after_ms=" << uint64_t{retry_after_ms};
            Collected frame;
            binary::write_code(frame, binary::Type::goodbye, info.code, words.view());
            text << std::string_view(reinterpret_cast<const char*>(frame.bytes), frame.size);
            break;
        }
        case Protocol::jsonl:
            text << R"({"type":"goodbye","code":)" << uint64_t{info.code} << R"(,"reason":")"
                 << info.name << "\"";
            if (retry_after_ms > 0) text << R"(,"retry_after_ms":)" << uint64_t{retry_after_ms};
            text << "}\n";
            break;
        // A peer that has not spoken yet is most likely to be a browser or a proxy.
        case Protocol::websocket:
        case Protocol::detect: {
            HttpBytes answer;
            const uint16_t status = info.code == 1008 ? 403 : 503;
            write_http_answer(answer, status, info.text, false, (retry_after_ms + 999) / 1000);
            text << std::string_view(answer.chars.data(), answer.count);
            break;
        }
    }
    return text;
}

uint8_t* ConnectionOut::claim(size_t bytes) { return connections.claim(index, bytes); }

void Replies::pong(uint32_t sequence, std::span<const uint8_t> payload) {
    if (!is_websocket()) return frame(binary::Type::pong, sequence, payload);
    websocket::write_frame(out_, websocket::Opcode::pong, payload);
}

void Replies::probe() {
    switch (connection_.protocol) {
        case Protocol::binary:
            return frame(binary::Type::ping, 0, {});
        case Protocol::websocket:
            return say(websocket::kProbe);
        case Protocol::jsonl:
            return line(json::Object().raw(json::kProbe));
        case Protocol::detect:
            return;
    }
}

void Replies::probe(const ProbeValue& value) {
    switch (connection_.protocol) {
        case Protocol::binary:
            return frame(binary::Type::ping, value.sequence(), value.payload());
        case Protocol::websocket:
            websocket::write_frame(out_, websocket::Opcode::ping, value.bytes());
            return;
        case Protocol::jsonl:
            return line(json::ping(value.number()));
        case Protocol::detect:
            return;
    }
}

void Replies::message(MessageKind kind, std::span<const uint8_t> bytes) {
    if (!is_websocket()) return;
    websocket::write_message(out_, kind, bytes, deflater_, window_bits());
}

void Replies::text(std::string_view words) {
    if (is_websocket()) return message(MessageKind::text, binary::bytes_of(words));
    line(json::Object().raw(words));
}

void Replies::object(const json::Object& object) {
    if (!is_websocket()) return line(object);
    // Into a frame of its own; compressing so little never pays.
    uint8_t* to = claim_message(websocket::Opcode::text, object.bytes());
    if (to != nullptr) object.write(to);
}

void Replies::frame(binary::Type type, uint32_t sequence, std::span<const uint8_t> payload,
                    std::span<const uint8_t> more) {
    if (!is_websocket()) {
        binary::write_frame(out_, type, sequence, payload, more);
        return;
    }
    struct InMessage {
        Replies& speech;
        uint8_t* claim(size_t bytes) {
            return speech.claim_message(websocket::Opcode::binary, bytes);
        }
    } in_message{*this};
    binary::write_frame(in_message, type, sequence, payload, more);
}

void Replies::interval(uint32_t interval_ms, uint32_t timeout_ms) {
    if (speaks_binary()) {
        uint8_t payload[8];
        store_be32(payload, interval_ms);
        store_be32(payload + 4, timeout_ms);
        return frame(binary::Type::interval, 0, payload);
    }
    if (speaks_json()) object(json::interval(interval_ms, timeout_ms));
}

void Replies::error(uint16_t code, std::string_view words) {
    if (speaks_binary()) return coded(binary::Type::error, code, words);
    if (speaks_json()) return object(json::error(code, words));
    if (connection_.protocol == Protocol::detect) {
        say(binary::bytes_of(words));
        say(binary::bytes_of("\n"));
    }
}

void Replies::goodbye(CloseReason reason, std::string_view detail, uint32_t retry_after_ms) {
    const CloseReasonInfo& info = describe(reason);
    if (info.code == 1000) return;
    if (is_websocket() && connection_.stage < Stage::open) {
        return http_goodbye(reason, retry_after_ms);
    }
    ShortText words;
    words << info.text;
    if (!detail.empty()) words << ": " << detail;
    if (retry_after_ms > 0) words << "; retry_after_ms=" << uint64_t{retry_after_ms};
    if (speaks_binary()) coded(binary::Type::goodbye, info.code, words.view());
    if (speaks_json()) object(json::goodbye(info.code, info.name, retry_after_ms));
    if (is_websocket()) websocket::write_close(out_, info.code, words.view());
}

void Replies::close_answer(uint16_t code) {
    if (is_websocket()) websocket::write_close(out_, code, {});
}

bool Replies::speaks_binary() const {
    return connection_.protocol == Protocol::binary ||
           (is_websocket() && (connection_.flags & kFramedBinary) != 0);
}

bool Replies::speaks_json() const {
    return connection_.protocol == Protocol::jsonl ||
           (is_websocket() && (connection_.flags & kSpeaksJson) != 0);
}

uint8_t Replies::window_bits() const {
    websocket::State state;
    std::memcpy(&state, connection_.codec.data(), sizeof state);
    return state.window_bits;
}

void Replies::say(std::span<const uint8_t> bytes) {
    if (uint8_t* to = out_.claim(bytes.size()); to != nullptr) {
        std::memcpy(to, bytes.data(), bytes.size());
    }
}

void Replies::line(const json::Object& object) {
    uint8_t* to = out_.claim(object.bytes() + 1);
    if (to == nullptr) return;
    object.write(to);
    to[object.bytes()] = '\n';
}

void Replies::coded(binary::Type type, uint16_t code, std::string_view words) {
    uint8_t head[2];
    store_be16(head, code);
    frame(type, 0, head, binary::bytes_of(words));
}

// Room for the payload of one unmasked frame whose header is written.
uint8_t* Replies::claim_message(websocket::Opcode opcode, size_t bytes) {
    const size_t header = websocket::frame_header_bytes(bytes, false);
    uint8_t* to = out_.claim(header + bytes);
    if (to == nullptr) return nullptr;
    websocket::format_header(
        to, static_cast<uint8_t>(static_cast<uint8_t>(opcode) | websocket::kFinalBit), bytes);
    return to + header;
}

void Replies::http_goodbye(CloseReason reason, uint32_t retry_after_ms) {
    HttpBytes answer;
    const bool late = reason == CloseReason::handshake_timeout;
    write_http_answer(answer, late ? 408 : 503, describe(reason).text, false,
                      (retry_after_ms + 999) / 1000);
    say({reinterpret_cast<const uint8_t*>(answer.chars.data()), answer.count});
}

}  // namespace pulse
