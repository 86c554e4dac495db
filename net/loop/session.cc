// What each frame and message of a peer comes to, protocol by protocol.
#include "net/loop/session.h"

#include <algorithm>
#include <vector>

#include "core/metrics.h"
#include "net/loop/connections.h"
#include "net/loop/probe_value.h"
#include "proto/binary.h"
#include "proto/handshake.h"
#include "proto/jsonl.h"
#include "proto/proxy.h"
#include "proto/refusal.h"
#include "proto/websocket.h"

namespace pulse {
namespace {

// The source that a PROXY header names; none where it names none.
SocketAddress address_of(const ProxyAddress& named) {
    SocketAddress address;
    if (named.family == ProxyAddress::Family::ipv4) {
        address.v4.sin_family = AF_INET;
        std::memcpy(&address.v4.sin_addr, named.bytes.data(), sizeof address.v4.sin_addr);
    } else if (named.family == ProxyAddress::Family::ipv6) {
        address.v6.sin6_family = AF_INET6;
        std::memcpy(&address.v6.sin6_addr, named.bytes.data(), sizeof address.v6.sin6_addr);
    }
    address.set_port(named.port);
    address.unmap();
    return address;
}

}  // namespace

void Session::begin() {
    if (connection_.stage != Stage::proxy && !shakes_hands()) {
        return connections_.begin_heartbeats(index_);
    }
    greet();
}

void Session::receive(std::span<uint8_t> bytes) {
    switch (connection_.stage) {
        case Stage::open:
            return decode(bytes);
        case Stage::proxy:
            if (!take_proxy_header(bytes)) return;
            [[fallthrough]];
        case Stage::detect:
            return detect(bytes);
        case Stage::http:
            return shake_hands(bytes);
        case Stage::free:
        case Stage::closing:
        case Stage::closed:
            return;
    }
}

void Session::decode(std::span<uint8_t> bytes) {
    switch (connection_.protocol) {
        case Protocol::detect:
            return;
        case Protocol::binary:
            return decode_binary(bytes);
        case Protocol::jsonl:
            return end(jsonl::decode(bytes, limits(), *this), bytes);
        case Protocol::websocket:
            return decode_websocket(bytes);
    }
}

void Session::resume(std::span<uint8_t> message, std::span<uint8_t> bytes) {
    resumed_ = true;
    if (!message.empty() && !stopped()) decode_framed(message);
    resumed_ = false;
    if (bytes.empty() || stopped()) return;
    if (share_.paused()) {
        rest_ = bytes;
    } else {
        receive(bytes);
    }
}

void Session::on_ping(uint32_t sequence, std::span<const uint8_t> payload) {
    proof();
    share_.spend(payload.size());
    connections_.metrics().add(Metric::heartbeats_answered);
    if (in_message_) return replies().frame(binary::Type::pong, sequence, payload);
    replies().pong(sequence, payload);
}

void Session::on_pong(uint32_t sequence, std::span<const uint8_t> payload) {
    const bool in_frame = connection_.protocol == Protocol::binary || in_message_;
    pong([&](const ProbeValue& value) {
        return in_frame ? value.in_frame(sequence, payload) : value.in_ping(payload);
    });
}

void Session::on_hello(uint32_t sequence, std::span<const uint8_t> object) {
    frame();
    share_.spend(kHelloWork + object.size());
    JsonMessage hello;
    if (const JsonFault wrong = shared().json.parse(object, hello); !wrong.ok()) {
        return offence(wrong);
    }
    // The frame's type says that it is a hello, so that the object need not; another it is not.
    if (hello.kind == JsonKind::bare_ping) return offence({"is no JSON object"});
    if (hello.has_type && hello.kind != JsonKind::hello) {
        return offence({"is not hello, as the frame is", "type"});
    }
    if (!settle_profile(hello)) return;
    replies().frame(binary::Type::welcome, sequence, welcome().bytes());
}

void Session::on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> bytes) {
    share_.spend(bytes.size());
    if (kind == MessageKind::text) return on_text(bytes);
    frame();
    if (connection_.protocol == Protocol::websocket && !in_message_) {
        if ((connection_.flags & kFramedBinary) != 0) return decode_framed(bytes);
        if (wants_echo()) replies().message(kind, bytes);
        return;
    }
    if (wants_echo()) replies().frame(binary::Type::data, sequence, bytes);
}

void Session::on_goodbye(uint16_t code, std::span<const uint8_t>) {
    frame();
    // A binary frame's code is not the WebSocket's: its close frame says 1000, as to JSON.
    replies().close_answer(in_message_ ? 1000 : code);
    connections_.let_go(index_, CloseReason::peer_closed);
}

bool Session::admits(size_t wire_bytes, bool compressed) {
    return stopped() || share_.admits(wire_bytes, compressed);
}

bool Session::hold(std::span<const uint8_t> piece) {
    if (in_message_) return true;
    // The codec bounds messages; a control frame may lie behind an unfinished one.
    const size_t most = std::max(limits().message_bytes_max, kHandshakeBytesMax);
    return connections_.hold(index_, piece, most + kControlPayloadBytesMax);
}

std::span<uint8_t> Session::held() {
    if (in_message_ || connection_.inbox == 0) return {};
    return connections_.buffers().bytes(connection_.inbox);
}

void Session::keep_held(size_t bytes) {
    if (in_message_ || connection_.inbox == 0) return;
    if (bytes > 0) return connections_.buffers().truncate(connection_.inbox, bytes);
    connections_.buffers().release(connection_.inbox);
    connection_.inbox = 0;
}

ShortText Session::name() const {
    const ConnectionId id = connections_.table().id(index_);
    ShortText number;
    number << uint64_t{id.index};
    ShortText text;
    text << "r" << uint64_t{connections_.config().number} << "-";
    for (size_t digits = number.view().size(); digits < 6; ++digits) text << "0";
    return text << number.view() << "-" << uint64_t{id.generation};
}

void Session::send_probe() {
    if (!wants_roundtrip()) return replies().probe();
    replies().probe(probe_value(connections_.config().probe_key, connections_.table().id(index_),
                                connection_.heard));
}

void Session::send_goodbye(CloseReason reason, std::string_view detail) {
    // To a balancer that has not said whose connection this is: it would pass the words on.
    if (connection_.stage == Stage::proxy) return;
    const bool come_back = reason == CloseReason::going_away;
    replies().goodbye(reason, detail, come_back ? connections_.config().retry_after_ms : 0);
}

void Session::send_interval() {
    const uint8_t profile = connection_.profile;
    replies().interval(connections_.config().interval_ms[profile],
                       connections_.config().timeout_ms[profile]);
}

bool Session::shakes_hands() const {
    return connection_.protocol == Protocol::detect || connection_.protocol == Protocol::websocket;
}

// Its handshake, or its first complete message, has this long.
void Session::greet() { connections_.set_profile(index_, kProfileGreeting); }

const ListenAddress& Session::listener() const {
    return connections_.config().options->listen[connection_.listener];
}

void Session::frame() {
    complete_message();
    connections_.frame(connection_);
}

void Session::proof() {
    complete_message();
    connections_.proof(connection_);
}

bool Session::wants_roundtrip() const {
    return connections_.heartbeat_of(connection_).liveness == Liveness::roundtrip;
}

// Where a round trip is wanted a pong proves life only if a probe is out and this is its value.
template <class Matches>
void Session::pong(Matches matches) {
    const bool proves = !wants_roundtrip() ||
                        answers_probe(connections_.config().probe_key,
                                      connections_.table().id(index_), connection_.heard, matches);
    if (!proves) return frame();
    proof();
    connections_.metrics().add(Metric::probe_answers);
}

// The first one ends the greeting.
void Session::complete_message() {
    connections_.metrics().add(Metric::frames_received);
    if (is_greeting(connection_)) [[unlikely]]
        connections_.begin_heartbeats(index_);
}

bool Session::wants_echo() {
    const bool echo = connections_.config().options->on_message == OnMessage::echo;
    connections_.metrics().add(echo ? Metric::messages_echoed : Metric::messages_discarded);
    return echo;
}

// The codec's memory is copied out and in, so that no codec ever points into the record.
template <class State>
State Session::load() const {
    State state;
    std::memcpy(&state, connection_.codec.data(), sizeof state);
    return state;
}

template <class State>
void Session::store(const State& state) {
    std::memcpy(connection_.codec.data(), &state, sizeof state);
}

// Takes the header, or as much of it as has come; true if there is something behind it. The
// handshake deadline goes on: a peer has one, whichever way it comes.
bool Session::take_proxy_header(std::span<uint8_t>& bytes) {
    const ProxyHeader header = read_proxy_header(bytes, *this);
    if (!header.fault.ok()) {
        connections_.metrics().add(Metric::faults);
        connections_.tell(index_, "refused: ", header.fault.detail);
        connections_.let_go_quietly(index_, CloseReason::bad_proxy_header);
        return false;
    }
    if (header.bytes == 0) return false;
    connection_.stage = Stage::detect;
    connections_.metrics().add(Metric::proxy_headers);
    connections_.meet(index_, address_of(header.source));
    if (!shakes_hands()) connections_.begin_heartbeats(index_);
    return !bytes.empty();
}

// Once for each connection, before its first byte is decoded: a line that begins with `GET ` in
// mid-conversation is a line. The first bytes may come one by one; those before them are held,
// and are few.
void Session::detect(std::span<uint8_t> bytes) {
    if (!is_greeting(connection_)) greet();
    uint8_t first[kReceiveFrontBytes + kDetectBytesMax + kReceivePadBytes] = {};
    const std::span<uint8_t> before = held();
    uint8_t* const start = first + kReceiveFrontBytes;
    std::copy(before.begin(), before.end(), start);
    const size_t more = std::min(bytes.size(), kDetectBytesMax - before.size());
    std::copy_n(bytes.begin(), more, start + before.size());
    const Detected detected = detect_protocol({start, before.size() + more}, connection_.protocol);
    if (detected.spoken == Spoken::undecided) {
        if (!hold(bytes)) end({CloseReason::out_of_memory, "no memory to listen with"});
        return;
    }
    if (!detected.fault.ok()) {
        const std::string_view spoken =
            name_of_what_began({start, before.size() + more}, detected.spoken);
        connections_.tell(index_, "began with what is not spoken here",
                          spoken.empty() ? "" : std::string(": ").append(spoken));
        if (!spoken.empty()) connections_.notices().foreign(spoken, name().view(), listener().text);
        if (!is_for_codec(detected)) return refuse(detected);
    }
    const size_t held_bytes = before.size();
    keep_held(0);
    if (connection_.protocol == Protocol::detect) connection_.protocol = detected.protocol;
    const bool upgrades = connection_.protocol == Protocol::websocket;
    connection_.stage = upgrades ? Stage::http : Stage::open;
    if (held_bytes > 0) receive({start, held_bytes});
    receive(bytes);
}

// A listener of one protocol tells peers of another so in their own words. What is not a
// protocol at all is its codec's to judge.
bool Session::is_for_codec(const Detected& detected) const {
    return detected.spoken == Spoken::unknown && connection_.protocol != Protocol::detect;
}

void Session::refuse(const Detected& detected) {
    connections_.metrics().add(Metric::faults);
    ConnectionOut out{connections_, index_};
    write_refusal(out, detected.spoken, detected.fault);
    connections_.let_go_quietly(index_, detected.fault.fault);
}

void Session::decode_binary(std::span<uint8_t> bytes) {
    auto state = load<binary::State>();
    const Decoded decoded = binary::decode(state, bytes, limits(), *this);
    store(state);
    end(decoded, bytes);
}

void Session::decode_websocket(std::span<uint8_t> bytes) {
    auto state = load<websocket::State>();
    const Decoded decoded = websocket::decode(state, bytes, limits(), *this, shared().inflater);
    store(state);
    end(decoded, bytes);
}

// pulse.v1.binary: a message is one or more whole frames of the binary protocol.
void Session::decode_framed(std::span<uint8_t> message) {
    in_message_ = true;
    binary::State state{};
    const Decoded decoded = binary::decode(state, message, limits(), *this);
    in_message_ = false;
    if (!decoded.ok()) return end(decoded);
    if (decoded.rest_bytes > 0) return keep_message(message.last(decoded.rest_bytes));
    if (state.spill_bytes != 0 || state.in_payload != 0) {
        end({CloseReason::protocol_error, "a message ends inside a binary frame"});
    }
}

// The message goes with the codec's next step, or lies in the parking already.
void Session::keep_message(std::span<uint8_t> rest) {
    message_rest_ = rest;
    if (resumed_) return;
    kept_message_ = connections_.keep(index_, rest);
    if (kept_message_ == 0) end({CloseReason::out_of_memory, "no memory for the message"});
}

void Session::shake_hands(std::span<uint8_t> bytes) {
    auto state = load<HandshakeState>();
    const HandshakePolicy policy{.origins = connections_.config().options->ws_origins,
                                 .deflate = connections_.config().options->ws_deflate};
    ConnectionOut out{connections_, index_};
    const Handshake handshake = serve_handshake(state, bytes, policy, *this, out);
    store(state);
    if (handshake.step == Handshake::Step::more) return;
    if (handshake.step == Handshake::Step::ended) {
        return connections_.let_go_quietly(index_, handshake.outcome.fault);
    }
    websocket::State frames;
    frames.window_bits = handshake.deflate.window_bits;
    store(frames);
    if (handshake.subprotocol == Subprotocol::json) connection_.flags |= kSpeaksJson;
    if (handshake.subprotocol == Subprotocol::binary) connection_.flags |= kFramedBinary;
    connection_.stage = Stage::open;
    connections_.begin_heartbeats(index_);
    const std::span<uint8_t> rest = bytes.subspan(handshake.consumed_bytes);
    if (!rest.empty()) decode_websocket(rest);
}

// Over a WebSocket, text that is not an object of ours is the application's; a line must be ours.
void Session::on_text(std::span<uint8_t> text) {
    share_.spend((kJsonWorkPerByte - 1) * text.size());
    JsonMessage message;
    const JsonFault wrong = shared().json.parse(text, message);
    const bool ours = wrong.ok() && message.kind != JsonKind::application;
    const bool may_be_anything = connection_.protocol == Protocol::websocket;
    if (ours && message.kind == JsonKind::pong) return on_json_pong(message);
    frame();
    if (ours) return on_json(message, text);
    if (may_be_anything && message.kind == JsonKind::application) {
        if (wants_echo()) replies().message(MessageKind::text, text);
        return;
    }
    offence(wrong.ok() ? JsonFault{"is not a type of this protocol", "type"} : wrong);
}

void Session::on_json_pong(const JsonMessage& message) {
    connection_.flags |= kSpeaksJson;
    pong([&](const ProbeValue& value) { return value.in_json(message.seq); });
}

void Session::on_json(const JsonMessage& message, std::span<const uint8_t> text) {
    if (message.kind != JsonKind::bare_ping) connection_.flags |= kSpeaksJson;
    switch (message.kind) {
        case JsonKind::bare_ping:
            connections_.proof(connection_);
            connections_.metrics().add(Metric::heartbeats_answered);
            return replies().text(text[0] == 'P' ? "PONG" : "pong");
        case JsonKind::ping:
            connections_.proof(connection_);
            connections_.metrics().add(Metric::heartbeats_answered);
            return replies().object(json::pong(message));
        case JsonKind::pong:
            return;  // on_json_pong
        case JsonKind::hello:
            if (!settle_profile(message)) return;
            return replies().object(json::Object().raw(welcome().view()));
        case JsonKind::data:
            if (wants_echo()) {
                replies().text({reinterpret_cast<const char*>(text.data()), text.size()});
            }
            return;
        case JsonKind::goodbye:
            replies().close_answer(1000);
            return connections_.let_go(index_, CloseReason::peer_closed);
        case JsonKind::welcome:
        case JsonKind::interval:
        case JsonKind::error:
        case JsonKind::application:
            return offence({"may be sent by the server only", "type"});
    }
}

// Bytes that no conversation can go on from: say what was wrong with them, and close.
void Session::end(const Decoded& decoded, std::span<uint8_t> input) {
    if (decoded.rest_bytes > 0) {
        rest_ = {input.data() + input.size() - decoded.rest_bytes, decoded.rest_bytes};
    }
    if (decoded.ok() || stopped()) return;
    connections_.metrics().add(Metric::faults);
    if (connection_.protocol != Protocol::websocket) {
        replies().error(describe(decoded.fault).code, decoded.detail);
    }
    connections_.let_go(index_, decoded.fault, decoded.detail);
}

// A message that means nothing, from a peer that frames well: forgiven a few times.
void Session::offence(const JsonFault& wrong) {
    connections_.metrics().add(Metric::offences);
    ShortText words;
    if (!wrong.key.empty()) words << "'" << wrong.key << "' ";
    words << wrong.what << " (at byte " << uint64_t{wrong.offset} << ")";
    if (connection_.protocol == Protocol::websocket && (connection_.flags & kFramedBinary) == 0) {
        connection_.flags |= kSpeaksJson;
    }
    replies().error(describe(CloseReason::invalid_data).code, words.view());
    if (stopped() || ++connection_.offences < kOffencesMax) return;
    connections_.let_go(index_, CloseReason::too_many_offences);
}

// Takes the profile that a hello names, or keeps the one it has; false if it is none of ours.
// The first probe is spread anew: a storm of hellos must not become a storm of probes. Where a
// round trip is wanted a hello proves none, and the silence goes on.
bool Session::settle_profile(const JsonMessage& hello) {
    uint8_t profile = connection_.profile;
    if (!hello.profile.empty()) {
        const std::optional<uint8_t> named = profile_named(hello.profile);
        if (!named) {
            offence({"is not a profile of this server", "profile"});
            return false;
        }
        profile = *named;
    }
    if (wants_roundtrip()) {
        connections_.change_profile(index_, profile);
    } else {
        connections_.set_profile(index_, profile);
    }
    connections_.metrics().add(Metric::hellos);
    return true;
}

std::optional<uint8_t> Session::profile_named(std::string_view name) const {
    const std::vector<std::string>& names = connections_.config().profile_names;
    for (size_t i = kProfileDefault; i < names.size(); ++i) {
        if (names[i] == name) return connections_.place_of(static_cast<uint8_t>(i));
    }
    return std::nullopt;
}

// {"type":"welcome","conn":"r3-000123-9","interval_ms":60000,"timeout_ms":120000}
ShortText Session::welcome() const {
    ShortText text;
    text << R"({"type":"welcome","conn":")" << name().view() << R"(","interval_ms":)"
         << uint64_t{connections_.config().interval_ms[connection_.profile]} << R"(,"timeout_ms":)"
         << uint64_t{connections_.config().timeout_ms[connection_.profile]} << "}";
    return text;
}

}  // namespace pulse
