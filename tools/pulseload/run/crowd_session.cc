// Bytes in: the handshake, the codecs, and what their messages mean to a client.
#include "tools/pulseload/run/crowd_session.h"

#include <algorithm>
#include <charconv>

#include "proto/jsonl.h"
#include "proto/websocket.h"

namespace pulse::load {
namespace {

std::string_view text_of(std::span<const uint8_t> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

constexpr size_t kQuotedBytesMax = 120;

// The first line of what may be anything.
std::string_view first_line(std::string_view text) {
    return text.substr(0, std::min(text.find_first_of("\r\n"), kQuotedBytesMax));
}

// Whether a server may say so before its welcome.
bool greets(JsonKind kind) {
    return kind == JsonKind::welcome || kind == JsonKind::ping || kind == JsonKind::interval ||
           kind == JsonKind::goodbye || kind == JsonKind::error;
}

// A server may echo what we sent, and send as much besides.
constexpr CodecLimits kLimits{.message_bytes_max = kMessageBytesMax};

}  // namespace

// ---------------------------------------------------------------------------------- bytes in

void Crowd::on_bytes(Index index, std::span<uint8_t> bytes) {
    if (table_[index].stage == pulse::Stage::closed) return;
    bump(counts_.bytes_received, bytes.size());
    if (tls_.has(index)) return read_records(index, bytes);
    take(index, bytes);
}

void Crowd::take(Index index, std::span<uint8_t> bytes) {
    Client& client = clients_[index];
    if (client.stage == Stage::misbehaving) return;
    const bool websocket = client.wire == Wire::ws || client.wire == Wire::ws_json;
    if (websocket && !has(index, kUpgraded)) return continue_handshake(index, bytes);
    decode(index, bytes);
}

void Crowd::continue_handshake(Index index, std::span<uint8_t> bytes) {
    Connection& connection = table_[index];
    HandshakeState state;
    std::memcpy(&state, connection.codec.data(), sizeof state);
    ClientSession sink(*this, index);
    const UpgradePlan plan = upgrade_plan(index);
    UpgradeOutcome outcome;
    const Handshake answer = client::take_answer(state, bytes, sink, plan, outcome);
    std::memcpy(connection.codec.data(), &state, sizeof state);
    if (answer.step == Handshake::Step::more) return;
    if (!outcome.upgraded) return refused_upgrade(index, outcome);
    connection.codec = {};
    clients_[index].flags |= kUpgraded;
    if (has(index, kIdentifies)) {
        clients_[index].flags &= static_cast<uint16_t>(~kIdentifies);
        if (outcome.subprotocol != kIdentifyingOffers[1]) {
            conductor_.foreign = true;
            clients_[index].flags &= static_cast<uint16_t>(~kSaysHello);
        }
    }
    if (!asks_answer_every(clients_[index])) {
        open(index);
    } else if (has(index, kSaysHello)) {
        send_hello(index);  // its welcome opens
        flush(index);
    } else {
        return refused_answer_every(index, "the target is not Pulsewheel");
    }
    bytes = bytes.subspan(answer.consumed_bytes);
    if (!bytes.empty() && !sink.stopped()) decode(index, bytes);
}

void Crowd::decode(Index index, std::span<uint8_t> bytes) {
    Connection& connection = table_[index];
    ClientSession sink(*this, index);
    Decoded decoded;
    switch (clients_[index].wire) {
        case Wire::tcp: {
            binary::State state;
            std::memcpy(&state, connection.codec.data(), sizeof state);
            decoded = binary::decode<Role::client>(state, bytes, kLimits, sink);
            std::memcpy(connection.codec.data(), &state, sizeof state);
            break;
        }
        case Wire::jsonl:
            decoded = jsonl::decode(bytes, kLimits, sink);
            break;
        case Wire::ws:
        case Wire::ws_json: {
            websocket::State state;
            std::memcpy(&state, connection.codec.data(), sizeof state);
            decoded = websocket::decode<Role::client>(state, bytes, kLimits, sink, inflater_);
            std::memcpy(connection.codec.data(), &state, sizeof state);
            break;
        }
    }
    if (decoded.ok() || sink.stopped()) return;
    if (clients_[index].stage == Stage::greeting) {
        // A server that does not know the protocol yet refuses in plain text.
        return refused(index, "refused: " + std::string(first_line(text_of(bytes))));
    }
    broke_the_protocol(index, std::string(decoded.detail));
}

void Crowd::broke_the_protocol(Index index, std::string how) {
    bump(counts_.protocol_errors);
    note_error("the target broke the protocol: " + how);
    ended_by_server(index, EPROTO);
}

// What is not agreed on must not be timed: one-way heartbeats would be answered, or answers missed.
void Crowd::refused_answer_every(Index index, std::string why) {
    why = "--answer-every " + std::to_string(options_.answer_every) + ": " + why +
          "; leave --answer-every out for this target";
    if (clients_[index].stage != Stage::greeting) return broke_the_protocol(index, why);
    refused(index, std::move(why));
    close(index, CloseMode::orderly);
}

// --------------------------------------------------------------------------- what they mean

void ClientSession::on_ping(uint32_t sequence, std::span<const uint8_t> payload) {
    Crowd::bump(crowd_.counts_.probes);
    if (!crowd_.answers(crowd_.clients_[index_])) return;
    Crowd::bump(crowd_.counts_.probes_answered);
    crowd_.speech(index_).pong(sequence, payload);
    crowd_.flush(index_);
}

void ClientSession::on_pong(uint32_t sequence, std::span<const uint8_t> payload) {
    if (crowd_.clients_[index_].wire == Wire::tcp) return crowd_.pong(index_, sequence);
    if (payload.size() == 4) crowd_.pong(index_, load_be32(payload.data()));
}

void ClientSession::on_message(MessageKind kind, uint32_t, std::span<uint8_t> bytes) {
    if (const std::optional<Stamp> stamp = read_stamp(bytes)) {
        crowd_.echo(index_, stamp->intended_at);
        return;
    }
    if (kind == MessageKind::text) on_text(bytes);
}

void ClientSession::on_text(std::span<uint8_t> text) {
    JsonMessage message;
    if (!crowd_.json_.parse(text, message).ok()) {
        Crowd::bump(crowd_.counts_.protocol_errors);
        return;
    }
    const bool waits = crowd_.clients_[index_].stage == Crowd::Stage::greeting;
    if (waits && crowd_.asks_answer_every(crowd_.clients_[index_]) && !greets(message.kind))
        return crowd_.refused_answer_every(index_, "the target answers a hello with no welcome");
    switch (message.kind) {
        case JsonKind::pong: {
            uint32_t sequence = 0;
            std::from_chars(message.seq.data(), message.seq.data() + message.seq.size(), sequence);
            return crowd_.pong(index_, sequence);
        }
        case JsonKind::ping:
            Crowd::bump(crowd_.counts_.probes);
            if (!crowd_.answers(crowd_.clients_[index_])) return;
            Crowd::bump(crowd_.counts_.probes_answered);
            crowd_.speech(index_).json_pong(message);
            return crowd_.flush(index_);
        case JsonKind::welcome:
            return on_welcomed(message);
        case JsonKind::interval:
            return on_interval(message.interval_ms, message.timeout_ms,
                               std::max(message.answer_every, 1u));
        case JsonKind::goodbye:
            crowd_.clients_[index_].retry_after_ms = message.retry_after_ms;
            return crowd_.closed_by_server(index_, message.code, message.reason);
        case JsonKind::error:
            return on_error(message.code, binary::bytes_of(message.message));
        case JsonKind::expiring:
        case JsonKind::ack:
        case JsonKind::application:
        case JsonKind::bare_ping:
        case JsonKind::hello:
        case JsonKind::data:
            return;
    }
}

// A close frame, or a goodbye of the binary protocol.
void ClientSession::on_goodbye(uint16_t code, std::span<const uint8_t> reason) {
    const std::string_view words = text_of(reason);
    constexpr std::string_view kHint = "retry_after_ms=";
    if (const size_t hint = words.find(kHint); hint != words.npos) {
        const char* const digits = words.data() + hint + kHint.size();
        std::from_chars(digits, words.data() + words.size(),
                        crowd_.clients_[index_].retry_after_ms);
    }
    crowd_.closed_by_server(index_, code, words);
    if (stopped() || !crowd_.answers(crowd_.clients_[index_])) return;
    crowd_.speech(index_).close_answer(code);
    crowd_.flush(index_);
}

void ClientSession::on_welcome(uint32_t, std::span<uint8_t> object) {
    JsonMessage message;
    if (!crowd_.json_.parse(object, message).ok()) {
        Crowd::bump(crowd_.counts_.protocol_errors);
        return;
    }
    on_welcomed(message);
}

void ClientSession::on_welcomed(const JsonMessage& welcome) {
    on_interval(welcome.interval_ms, welcome.timeout_ms, std::max(welcome.answer_every, 1u));
    if (crowd_.clients_[index_].stage == Crowd::Stage::greeting) crowd_.open(index_);
}

// Whether the target does what was asked for; ends the connection where it does not.
bool ClientSession::has_answer_every(uint32_t answer_every) {
    if (!crowd_.asks_answer_every(crowd_.clients_[index_])) return true;
    if (answer_every == crowd_.options_.answer_every) return true;
    std::string why = "the target does not echo answer_every, and answers every heartbeat";
    if (answer_every != 1) why = "the target has answer_every " + std::to_string(answer_every);
    crowd_.refused_answer_every(index_, std::move(why));
    return false;
}

void ClientSession::on_interval(uint32_t interval_ms, uint32_t timeout_ms, uint32_t answer_every) {
    if (!has_answer_every(answer_every)) return;
    Conductor& conductor = crowd_.conductor_;
    if (crowd_.options_.expect_timeout > 0) return;
    conductor.interval.store(interval_ms * kMillisecond, std::memory_order_relaxed);
    conductor.timeout.store(timeout_ms * kMillisecond, std::memory_order_relaxed);
    conductor.announced.store(true, std::memory_order_relaxed);
}

void ClientSession::on_error(uint16_t code, std::span<const uint8_t> text) {
    Crowd::bump(crowd_.counts_.error_frames);
    crowd_.note_error("the target reported error " + std::to_string(code) + ": " +
                      std::string(first_line(text_of(text))));
}

// -------------------------------------------------------------------- what is not whole yet

bool ClientSession::hold(std::span<const uint8_t> piece) {
    if (connection_.inbox == 0) connection_.inbox = crowd_.buffers_.take();
    return crowd_.buffers_.append(connection_.inbox, piece,
                                  kMessageBytesMax + kControlPayloadBytesMax);
}

std::span<uint8_t> ClientSession::held() {
    if (connection_.inbox == 0) return {};
    return crowd_.buffers_.bytes(connection_.inbox);
}

void ClientSession::keep_held(size_t bytes) {
    if (connection_.inbox == 0) return;
    if (bytes > 0) return crowd_.buffers_.truncate(connection_.inbox, bytes);
    crowd_.buffers_.release(connection_.inbox);
    connection_.inbox = 0;
}

}  // namespace pulse::load
