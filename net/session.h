// One connection's conversation: what its codec found becomes heartbeats, replies and endings.
//
// A Session is made on the stack for the length of one call and owns nothing: it is the CodecSink
// that a codec talks to (proto/codec.h), over the connection's record and its reactor. What is said
// back is Speech's (net/speech.h).
//
//   auto://, ws://     greeting: detect --> websocket: handshake ----------------> open
//                                       --> binary, jsonl: a complete message ---> open
//   tcp://, jsonl://   open: silent --> greeting: detect --> a complete message --> open
//
// While a connection is greeting --handshake-timeout runs, from the accept or, on tcp:// and
// jsonl://, where a peer may do nothing but answer probes, from its first byte. With ?proxy=on a
// PROXY header comes before all of that; until then the connection is greeting.
#pragma once

#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "core/connection.h"
#include "core/metrics.h"
#include "core/turn_budget.h"
#include "net/probe_value.h"
#include "net/reactor_config.h"
#include "net/speech.h"
#include "proto/binary.h"
#include "proto/codec.h"
#include "proto/detect.h"
#include "proto/handshake.h"
#include "proto/json.h"
#include "proto/jsonl.h"
#include "proto/proxy.h"
#include "proto/refusal.h"
#include "proto/websocket.h"

namespace pulse {

constexpr Protocol protocol_of(Scheme scheme) {
    switch (scheme) {
        case Scheme::binary:
            return Protocol::binary;
        case Scheme::jsonl:
            return Protocol::jsonl;
        case Scheme::websocket:
        case Scheme::websocket_tls:
            return Protocol::websocket;
        case Scheme::detect:
            break;
    }
    return Protocol::detect;
}

// Whom a PROXY header names; none where it names nobody.
inline SocketAddress address_of(const ProxyAddress& named) {
    SocketAddress address;
    if (named.family == ProxyAddress::Family::ipv4) {
        address.v4.sin_family = AF_INET;
        std::memcpy(&address.v4.sin_addr, named.octets.data(), sizeof address.v4.sin_addr);
    } else if (named.family == ProxyAddress::Family::ipv6) {
        address.v6.sin6_family = AF_INET6;
        std::memcpy(&address.v6.sin6_addr, named.octets.data(), sizeof address.v6.sin6_addr);
    }
    address.set_port(named.port);
    address.unmap();
    return address;
}

// What the sessions of one reactor share.
struct SessionShared {
    JsonParser json;
    Inflater inflater;
    Deflater deflater;
};

// Room in the next send of one connection.
template <class R>
struct SessionOut {
    R& reactor;
    Index index;
    uint8_t* claim(size_t bytes) { return reactor.claim(index, bytes); }
};

template <class R>
class Session {
  public:
    // `fresh`: what it is given was read just now.
    Session(R& reactor, Index index, bool fresh = true)
        : reactor_(reactor),
          index_(index),
          connection_(reactor.at(index)),
          share_(fresh ? reactor.fresh_work_ : reactor.parked_work_, fresh) {}

    // Just accepted. Where there is no handshake, heartbeats count until the first byte.
    void begin() {
        if (!awaits_proxy_header() && !shakes_hands()) return reactor_.open(index_);
        greet();
    }

    // --- bytes in --------------------------------------------------------------------------------
    // After our goodbye they are dropped: draining them is what keeps a reset from destroying it.
    void receive(std::span<uint8_t> bytes) {
        if (stopped()) return;
        if (awaits_proxy_header() && !take_proxy_header(bytes)) return;
        if ((connection_.flags & kToldApart) == 0) return detect(bytes);
        switch (connection_.protocol) {
            case Protocol::detect:
                return;
            case Protocol::binary:
                return decode_binary(bytes);
            case Protocol::jsonl:
                return end(jsonl::decode(bytes, limits(), *this), bytes);
            case Protocol::websocket:
                if (connection_.state == ConnectionState::greeting) return shake_hands(bytes);
                return decode_websocket(bytes);
        }
    }

    // What was parked, in the order of its coming. Requires: made with `fresh` false.
    void resume(std::span<uint8_t> message, std::span<uint8_t> bytes) {
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
    // What a turn's share did not reach: of a message of pulse.v1.binary, and of the bytes given.
    bool left_something() const { return !stopped() && share_.paused(); }
    std::span<uint8_t> message_rest() const { return message_rest_; }
    BufferPool::Handle kept_message() const { return kept_message_; }
    std::span<uint8_t> rest() const { return rest_; }

    // --- what the codec calls --------------------------------------------------------------------
    void on_ping(uint32_t sequence, std::span<const uint8_t> payload) {
        proof();
        share_.spend(payload.size());
        reactor_.metrics_.add(Metric::heartbeats_answered);
        if (in_message_) return speech().frame(binary::Type::pong, sequence, payload);
        speech().pong(sequence, payload);
    }
    void on_pong(uint32_t sequence, std::span<const uint8_t> payload) {
        const bool in_frame = connection_.protocol == Protocol::binary || in_message_;
        pong([&](const ProbeValue& value) {
            return in_frame ? value.in_frame(sequence, payload) : value.in_ping(payload);
        });
    }
    void on_hello(uint32_t sequence, std::span<const uint8_t> object) {
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
        speech().frame(binary::Type::welcome, sequence, welcome().bytes());
    }
    void on_message(MessageKind kind, uint32_t sequence, std::span<uint8_t> bytes) {
        share_.spend(bytes.size());
        if (kind == MessageKind::text) return on_text(bytes);
        frame();
        if (connection_.protocol == Protocol::websocket && !in_message_) {
            if ((connection_.flags & kFramedBinary) != 0) return decode_framed(bytes);
            if (wants_echo()) speech().message(kind, bytes);
            return;
        }
        if (wants_echo()) speech().frame(binary::Type::data, sequence, bytes);
    }
    void on_fragment() { frame(); }
    void on_goodbye(uint16_t code, std::span<const uint8_t>) {
        frame();
        // A binary frame's code is not the WebSocket's: its close frame says 1000, as to JSON.
        speech().close_answer(in_message_ ? 1000 : code);
        reactor_.let_go(index_, CloseReason::peer_closed);
    }

    // While a message of pulse.v1.binary is decoded it may lie in the inbox itself: nothing is
    // kept there, and nothing moves it. Such a message is whole, so that a frame which does not fit
    // into it is a fault (decode_framed) and its bytes are wanted by nothing.
    // Asked before each frame and message is handed over; what is left after a no is parked.
    bool admits(size_t wire_bytes, bool compressed) {
        return stopped() || share_.admits(wire_bytes, compressed);
    }
    bool hold(std::span<const uint8_t> piece) {
        if (in_message_) return true;
        // The codec bounds messages; a control frame may lie behind an unfinished one.
        const size_t most = std::max(limits().message_bytes_max, kHandshakeBytesMax);
        return reactor_.hold(index_, piece, most + kControlPayloadBytesMax);
    }
    std::span<uint8_t> held() {
        if (in_message_ || connection_.inbox == 0) return {};
        return reactor_.buffers_.bytes(connection_.inbox);
    }
    void keep_held(size_t bytes) {
        if (in_message_ || connection_.inbox == 0) return;
        if (bytes > 0) return reactor_.buffers_.truncate(connection_.inbox, bytes);
        reactor_.buffers_.release(connection_.inbox);
        connection_.inbox = 0;
    }
    bool stopped() const { return connection_.state >= ConnectionState::closing; }

    // The connection's public name: r3-000123-9.
    ShortText name() const {
        const ConnectionId id = reactor_.table_.id(index_);
        ShortText number;
        number << uint64_t{id.index};
        ShortText text;
        text << "r" << uint64_t{reactor_.config_.number} << "-";
        for (size_t digits = number.view().size(); digits < 6; ++digits) text << "0";
        return text << number.view() << "-" << uint64_t{id.generation};
    }

    // --- bytes out -------------------------------------------------------------------------------
    void send_probe() {
        if (!wants_roundtrip()) return speech().probe();
        speech().probe(
            probe_value(reactor_.config_.probe_key, reactor_.table_.id(index_), connection_.heard));
    }
    void send_goodbye(CloseReason reason, std::string_view detail) {
        // To a balancer that has not said whose connection this is: it would pass the words on.
        if (awaits_proxy_header()) return;
        const bool come_back = reason == CloseReason::going_away;
        speech().goodbye(reason, detail, come_back ? reactor_.config_.retry_after_ms : 0);
    }
    // The heartbeats of its profile changed: the server's advice.
    void send_interval() {
        const uint8_t profile = connection_.profile;
        speech().interval(reactor_.config_.interval_ms[profile],
                          reactor_.config_.timeout_ms[profile]);
    }

  private:
    Speech<SessionOut<R>> speech() { return {{reactor_, index_}, connection_, shared().deflater}; }
    SessionShared& shared() { return reactor_.shared_; }
    bool shakes_hands() const {
        return connection_.protocol == Protocol::detect ||
               connection_.protocol == Protocol::websocket;
    }
    // Its handshake, or its first complete message, has this long.
    void greet() {
        connection_.state = ConnectionState::greeting;
        reactor_.set_profile(index_, kProfileGreeting);
    }
    const ListenAddress& listener() const {
        return reactor_.config_.listeners[connection_.listener];
    }
    const CodecLimits& limits() const { return reactor_.config_.limits; }
    void frame() {
        complete_message();
        reactor_.frame(connection_);
    }
    void proof() {
        complete_message();
        reactor_.proof(connection_);
    }
    bool wants_roundtrip() const {
        return reactor_.heartbeat_of(connection_).liveness == Liveness::roundtrip;
    }
    // Where a round trip is wanted a pong proves life only if a probe is out and this is its value.
    template <class Matches>
    void pong(Matches matches) {
        const bool proves = !wants_roundtrip() ||
                            answers_probe(reactor_.config_.probe_key, reactor_.table_.id(index_),
                                          connection_.heard, matches);
        if (!proves) return frame();
        proof();
        reactor_.metrics_.add(Metric::probe_answers);
    }
    // The first one ends the greeting.
    void complete_message() {
        reactor_.metrics_.add(Metric::frames_received);
        if (connection_.state == ConnectionState::greeting) [[unlikely]]
            reactor_.open(index_);
    }
    bool wants_echo() {
        const bool echo = reactor_.config_.on_message == OnMessage::echo;
        reactor_.metrics_.add(echo ? Metric::messages_echoed : Metric::messages_discarded);
        return echo;
    }

    // The codec's memory is copied out and in, so that no codec ever points into the record.
    template <class State>
    State load() const {
        State state;
        std::memcpy(&state, connection_.codec.data(), sizeof state);
        return state;
    }
    template <class State>
    void store(const State& state) {
        std::memcpy(connection_.codec.data(), &state, sizeof state);
    }

    // --- PROXY headers ---------------------------------------------------------------------------
    bool awaits_proxy_header() const { return (connection_.flags & kAwaitsProxyHeader) != 0; }
    // Takes the header, or as much of it as has come; true if there is something behind it. The
    // handshake deadline goes on: a peer has one, whoever it comes through.
    bool take_proxy_header(std::span<uint8_t>& bytes) {
        const ProxyHeader header = read_proxy_header(bytes, *this);
        if (!header.fault.ok()) {
            reactor_.metrics_.add(Metric::faults);
            reactor_.tell(index_, "turned away: ", header.fault.detail);
            reactor_.let_go_quietly(index_, CloseReason::bad_proxy_header);
            return false;
        }
        if (header.bytes == 0) return false;
        connection_.flags &= static_cast<uint8_t>(~kAwaitsProxyHeader);
        reactor_.metrics_.add(Metric::proxy_headers);
        reactor_.meet(index_, address_of(header.source));
        if (!shakes_hands()) reactor_.open(index_);
        return !bytes.empty();
    }

    // --- protocols -------------------------------------------------------------------------------
    // Once for each connection, before its first byte is decoded: a line that begins with `GET ` in
    // mid-conversation is a line. The first bytes may come one by one; those before them are held,
    // and are few.
    void detect(std::span<uint8_t> bytes) {
        if (connection_.state == ConnectionState::open) greet();
        uint8_t first[kReceiveFrontBytes + kDetectBytesMax + kReceivePadBytes] = {};
        const std::span<uint8_t> before = held();
        uint8_t* const start = first + kReceiveFrontBytes;
        std::copy(before.begin(), before.end(), start);
        const size_t more = std::min(bytes.size(), kDetectBytesMax - before.size());
        std::copy_n(bytes.begin(), more, start + before.size());
        const Detected detected =
            detect_protocol({start, before.size() + more}, connection_.protocol);
        if (detected.spoken == Spoken::undecided) {
            if (!hold(bytes)) end({CloseReason::out_of_memory, "no memory to listen with"});
            return;
        }
        if (!detected.fault.ok()) {
            const std::string_view spoken =
                name_of_what_began({start, before.size() + more}, detected.spoken);
            reactor_.tell(index_, "began with what is not spoken here",
                          spoken.empty() ? "" : std::string(": ").append(spoken));
            if (!spoken.empty()) reactor_.notices_.foreign(spoken, name().view(), listener().text);
            if (!is_for_codec(detected)) return refuse(detected);
        }
        const size_t held_bytes = before.size();
        keep_held(0);
        connection_.flags |= kToldApart;
        if (connection_.protocol == Protocol::detect) connection_.protocol = detected.protocol;
        if (held_bytes > 0) receive({start, held_bytes});
        receive(bytes);
    }
    // A listener of one protocol tells peers of another so in their own words. What is not a
    // protocol at all is its codec's to judge.
    bool is_for_codec(const Detected& detected) const {
        return detected.spoken == Spoken::unknown && connection_.protocol != Protocol::detect;
    }
    void refuse(const Detected& detected) {
        reactor_.metrics_.add(Metric::faults);
        SessionOut<R> out{reactor_, index_};
        write_refusal(out, detected.spoken, detected.fault);
        reactor_.let_go_quietly(index_, detected.fault.fault);
    }
    void decode_binary(std::span<uint8_t> bytes) {
        auto state = load<binary::State>();
        const Decoded decoded = binary::decode(state, bytes, limits(), *this);
        store(state);
        end(decoded, bytes);
    }
    void decode_websocket(std::span<uint8_t> bytes) {
        auto state = load<websocket::State>();
        const Decoded decoded = websocket::decode(state, bytes, limits(), *this, shared().inflater);
        store(state);
        end(decoded, bytes);
    }
    // pulse.v1.binary: a message is one or more whole frames of the binary protocol.
    void decode_framed(std::span<uint8_t> message) {
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
    void keep_message(std::span<uint8_t> rest) {
        message_rest_ = rest;
        if (resumed_) return;
        kept_message_ = reactor_.keep(index_, rest);
        if (kept_message_ == 0) end({CloseReason::out_of_memory, "no memory for the message"});
    }
    void shake_hands(std::span<uint8_t> bytes) {
        auto state = load<HandshakeState>();
        const HandshakePolicy policy{.origins = reactor_.config_.ws_origins,
                                     .deflate = reactor_.config_.ws_deflate};
        SessionOut<R> out{reactor_, index_};
        const Handshake handshake = serve_handshake(state, bytes, policy, *this, out);
        store(state);
        if (handshake.step == Handshake::Step::more) return;
        if (handshake.step == Handshake::Step::ended) {
            return reactor_.let_go_quietly(index_, handshake.outcome.fault);
        }
        websocket::State frames;
        frames.window_bits = handshake.deflate.window_bits;
        store(frames);
        if (handshake.subprotocol == Subprotocol::json) connection_.flags |= kSpeaksJson;
        if (handshake.subprotocol == Subprotocol::binary) connection_.flags |= kFramedBinary;
        reactor_.open(index_);
        const std::span<uint8_t> rest = bytes.subspan(handshake.consumed_bytes);
        if (!rest.empty()) decode_websocket(rest);
    }

    // --- JSON ------------------------------------------------------------------------------------
    // Over a WebSocket any text that is no object of ours is the peers' own business; a line must
    // be one.
    void on_text(std::span<uint8_t> text) {
        share_.spend((kJsonWorkPerByte - 1) * text.size());
        JsonMessage message;
        const JsonFault wrong = shared().json.parse(text, message);
        const bool ours = wrong.ok() && message.kind != JsonKind::application;
        const bool may_be_anything = connection_.protocol == Protocol::websocket;
        if (ours && message.kind == JsonKind::pong) return on_json_pong(message);
        frame();
        if (ours) return on_json(message, text);
        if (may_be_anything && message.kind == JsonKind::application) {
            if (wants_echo()) speech().message(MessageKind::text, text);
            return;
        }
        offence(wrong.ok() ? JsonFault{"is no type of this protocol", "type"} : wrong);
    }
    void on_json_pong(const JsonMessage& message) {
        connection_.flags |= kSpeaksJson;
        pong([&](const ProbeValue& value) { return value.in_json(message.seq); });
    }
    void on_json(const JsonMessage& message, std::span<const uint8_t> text) {
        if (message.kind != JsonKind::bare_ping) connection_.flags |= kSpeaksJson;
        switch (message.kind) {
            case JsonKind::bare_ping:
                reactor_.proof(connection_);
                reactor_.metrics_.add(Metric::heartbeats_answered);
                return speech().text(text[0] == 'P' ? "PONG" : "pong");
            case JsonKind::ping:
                reactor_.proof(connection_);
                reactor_.metrics_.add(Metric::heartbeats_answered);
                return speech().object(json::pong(message));
            case JsonKind::pong:
                return;  // on_json_pong
            case JsonKind::hello:
                if (!settle_profile(message)) return;
                return speech().object(json::Object().raw(welcome().view()));
            case JsonKind::data:
                if (wants_echo()) {
                    speech().text({reinterpret_cast<const char*>(text.data()), text.size()});
                }
                return;
            case JsonKind::goodbye:
                speech().close_answer(1000);
                return reactor_.let_go(index_, CloseReason::peer_closed);
            case JsonKind::welcome:
            case JsonKind::interval:
            case JsonKind::error:
            case JsonKind::application:
                return offence({"is for the server to say", "type"});
        }
    }

    // --- endings ---------------------------------------------------------------------------------
    // Bytes that no conversation can go on from: say what was wrong with them, and close.
    void end(const Decoded& decoded, std::span<uint8_t> input = {}) {
        if (decoded.rest_bytes > 0) {
            rest_ = {input.data() + input.size() - decoded.rest_bytes, decoded.rest_bytes};
        }
        if (decoded.ok() || stopped()) return;
        reactor_.metrics_.add(Metric::faults);
        if (connection_.protocol != Protocol::websocket) {
            speech().error(describe(decoded.fault).code, decoded.detail);
        }
        reactor_.let_go(index_, decoded.fault, decoded.detail);
    }
    // A message that means nothing, from a peer that frames well: forgiven a few times.
    void offence(const JsonFault& wrong) {
        reactor_.metrics_.add(Metric::offences);
        ShortText words;
        if (!wrong.key.empty()) words << "'" << wrong.key << "' ";
        words << wrong.what << " (at octet " << uint64_t{wrong.offset} << ")";
        if (connection_.protocol == Protocol::websocket &&
            (connection_.flags & kFramedBinary) == 0) {
            connection_.flags |= kSpeaksJson;
        }
        speech().error(describe(CloseReason::invalid_data).code, words.view());
        if (stopped() || ++connection_.offences < kOffencesMax) return;
        reactor_.let_go(index_, CloseReason::too_many_offences);
    }

    // --- hello -----------------------------------------------------------------------------------
    // Takes the profile that a hello names, or keeps the one it has; false if it is none of ours.
    // The first probe is spread anew: a storm of hellos must not become a storm of probes. Where a
    // round trip is wanted a hello proves none, and the silence goes on.
    bool settle_profile(const JsonMessage& hello) {
        uint8_t profile = connection_.profile;
        if (!hello.profile.empty()) {
            const std::optional<uint8_t> named = profile_named(hello.profile);
            if (!named) {
                offence({"is no profile of this server", "profile"});
                return false;
            }
            profile = *named;
        }
        if (wants_roundtrip()) {
            reactor_.change_profile(index_, profile);
        } else {
            reactor_.set_profile(index_, profile);
        }
        reactor_.metrics_.add(Metric::hellos);
        return true;
    }
    std::optional<uint8_t> profile_named(std::string_view name) const {
        const std::vector<std::string>& names = reactor_.config_.profile_names;
        for (size_t i = kProfileDefault; i < names.size(); ++i) {
            if (names[i] == name) return static_cast<uint8_t>(i);
        }
        return std::nullopt;
    }
    // {"type":"welcome","conn":"r3-000123-9","interval_ms":60000,"timeout_ms":120000}
    ShortText welcome() const {
        ShortText text;
        text << R"({"type":"welcome","conn":")" << name().view() << R"(","interval_ms":)"
             << uint64_t{reactor_.config_.interval_ms[connection_.profile]} << R"(,"timeout_ms":)"
             << uint64_t{reactor_.config_.timeout_ms[connection_.profile]} << "}";
        return text;
    }

    R& reactor_;
    Index index_;
    Connection& connection_;
    TurnShare share_;
    std::span<uint8_t> rest_;
    std::span<uint8_t> message_rest_;
    BufferPool::Handle kept_message_ = 0;
    bool resumed_ = false;     // a message that was parked is decoded
    bool in_message_ = false;  // a binary frame inside a WebSocket message is decoded
};

}  // namespace pulse
