// One connection's conversation: what its codec found becomes heartbeats, replies and endings.
//
// A Session is made on the stack for the length of one call and owns nothing: it is the CodecSink
// that a codec talks to (proto/codec.h), over the connection's record and its reactor. It also
// speaks: probe, welcome, goodbye, in whichever protocol the connection has.
#pragma once

#include <charconv>
#include <cstring>
#include <span>
#include <string_view>

#include "core/connection.h"
#include "core/metrics.h"
#include "net/reactor_config.h"
#include "proto/binary.h"
#include "proto/codec.h"
#include "proto/json.h"

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

// What the sessions of one reactor share.
struct SessionShared {
    JsonParser json;
};

// A few words into a buffer on the stack; what does not fit is cut.
class ShortText {
  public:
    ShortText& operator<<(std::string_view text) {
        const size_t piece = std::min(text.size(), sizeof text_ - size_);
        std::memcpy(text_ + size_, text.data(), piece);
        size_ += piece;
        return *this;
    }
    ShortText& operator<<(uint64_t number) {
        char digits[20];
        const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
        return *this << std::string_view(digits, static_cast<size_t>(end - digits));
    }
    std::string_view view() const { return {text_, size_}; }
    std::span<const uint8_t> bytes() const { return binary::bytes_of(view()); }

  private:
    char text_[256];
    size_t size_ = 0;
};

// A goodbye for a peer that never got a connection, in the listener's protocol.
ShortText farewell(Scheme scheme, CloseReason reason, uint32_t retry_after_ms);

template <class R>
class Session {
  public:
    Session(R& reactor, Index index)
        : reactor_(reactor), index_(index), connection_(reactor.at(index)) {}

    // --- bytes in
    // ----------------------------------------------------------------------------------- After our
    // goodbye they are dropped: draining them is what keeps a reset from destroying it.
    void receive(std::span<uint8_t> bytes) {
        if (stopped()) return;
        switch (connection_.protocol) {
            case Protocol::binary:
                return decode_binary(bytes);
            default:
                return fault({CloseReason::protocol_error, "this protocol is not spoken here"});
        }
    }

    // --- what the codec calls
    // -----------------------------------------------------------------------
    void on_ping(uint32_t sequence, std::span<const uint8_t> payload) {
        proof();
        reactor_.metrics_.add(Metric::heartbeats_answered);
        binary::write_frame(*this, binary::Type::pong, sequence, payload);
    }
    void on_pong(uint32_t, std::span<const uint8_t>) {
        proof();
        reactor_.metrics_.add(Metric::probe_answers);
    }
    void on_hello(uint32_t sequence, std::span<const uint8_t> object) {
        frame();
        Hello hello;
        if (const JsonFault wrong = reactor_.shared_.json.parse_hello(object, hello); !wrong.ok()) {
            return offence(wrong);
        }
        if (!hello.profile.empty()) {
            const std::optional<uint8_t> profile = profile_named(hello.profile);
            if (!profile) return offence({"is no profile of this server", "profile"});
            reactor_.set_profile(index_, *profile);
        }
        reactor_.metrics_.add(Metric::hellos);
        binary::write_frame(*this, binary::Type::welcome, sequence, welcome().bytes());
    }
    void on_message(MessageKind, uint32_t sequence, std::span<const uint8_t> bytes) {
        frame();
        if (reactor_.config_.on_message == OnMessage::discard) {
            return reactor_.metrics_.add(Metric::messages_discarded);
        }
        reactor_.metrics_.add(Metric::messages_echoed);
        binary::write_frame(*this, binary::Type::data, sequence, bytes);
    }
    void on_goodbye(uint16_t, std::span<const uint8_t>) {
        frame();
        reactor_.let_go(index_, CloseReason::peer_closed);
    }

    bool hold(std::span<const uint8_t> piece) {
        if (connection_.inbox == 0) connection_.inbox = reactor_.buffers_.take();
        const size_t limit = reactor_.config_.limits.message_bytes_max;
        return reactor_.buffers_.append(connection_.inbox, piece, limit);
    }
    std::span<uint8_t> held() {
        if (connection_.inbox == 0) return {};
        return reactor_.buffers_.bytes(connection_.inbox);
    }
    void keep_held(size_t bytes) {
        if (connection_.inbox == 0) return;
        if (bytes > 0) return reactor_.buffers_.truncate(connection_.inbox, bytes);
        reactor_.buffers_.release(connection_.inbox);
        connection_.inbox = 0;
    }
    bool stopped() const { return connection_.state >= ConnectionState::closing; }

    // --- bytes out
    // ----------------------------------------------------------------------------------
    uint8_t* claim(size_t bytes) { return reactor_.claim(index_, bytes); }

    void send_probe() { binary::write_frame(*this, binary::Type::ping, 0, {}); }
    // What the peer is told before its connection ends, where the reason has something to say.
    void send_goodbye(CloseReason reason, std::string_view detail) {
        const CloseReasonInfo& info = describe(reason);
        if (info.code == 1000) return;
        ShortText text;
        text << info.text;
        if (!detail.empty()) text << ": " << detail;
        if (reason == CloseReason::going_away) {
            text << "; retry_after_ms=" << reactor_.config_.retry_after_ms;
        }
        binary::write_code(*this, binary::Type::goodbye, info.code, text.view());
    }
    // A heartbeat profile changed under the peer: the server's advice.
    void send_interval() {
        const uint8_t profile = connection_.profile;
        binary::write_interval(*this, reactor_.config_.interval_ms[profile],
                               reactor_.config_.timeout_ms[profile]);
    }

  private:
    void frame() {
        reactor_.metrics_.add(Metric::frames_received);
        reactor_.frame(connection_);
    }
    void proof() {
        reactor_.metrics_.add(Metric::frames_received);
        reactor_.proof(connection_);
    }

    void decode_binary(std::span<uint8_t> bytes) {
        binary::State state;
        std::memcpy(&state, connection_.codec.data(), sizeof state);
        const Decoded decoded = binary::decode(state, bytes, reactor_.config_.limits, *this);
        if (!decoded.ok()) return fault(decoded);
        std::memcpy(connection_.codec.data(), &state, sizeof state);
    }

    // Bytes that no conversation can go on from: say what was wrong with them, and close.
    void fault(const Decoded& decoded) {
        if (stopped()) return;
        reactor_.metrics_.add(Metric::faults);
        binary::write_code(*this, binary::Type::error, describe(decoded.fault).code,
                           decoded.detail);
        reactor_.let_go(index_, decoded.fault, decoded.detail);
    }
    // A message that means nothing, from a peer that frames well: forgiven a few times.
    void offence(const JsonFault& wrong) {
        reactor_.metrics_.add(Metric::offences);
        ShortText text;
        if (!wrong.key.empty()) text << wrong.key << " ";
        text << wrong.what;
        binary::write_code(*this, binary::Type::error, describe(CloseReason::invalid_data).code,
                           text.view());
        if (stopped() || ++connection_.offences < kOffencesMax) return;
        reactor_.let_go(index_, CloseReason::too_many_offences);
    }

    std::optional<uint8_t> profile_named(std::string_view name) const {
        const std::vector<std::string>& names = reactor_.config_.profile_names;
        for (size_t i = kProfileDefault; i < names.size(); ++i) {
            if (names[i] == name) return static_cast<uint8_t>(i);
        }
        return std::nullopt;
    }
    ShortText welcome() const {
        const ConnectionId id = reactor_.table_.id(index_);
        ShortText number;
        number << uint64_t{id.index};
        ShortText text;
        text << R"({"type":"welcome","conn":"r)" << uint64_t{reactor_.config_.number} << "-";
        for (size_t digits = number.view().size(); digits < 6; ++digits) text << "0";
        text << number.view() << "-" << uint64_t{id.generation} << R"(","interval_ms":)"
             << uint64_t{reactor_.config_.interval_ms[connection_.profile]} << R"(,"timeout_ms":)"
             << uint64_t{reactor_.config_.timeout_ms[connection_.profile]} << "}";
        return text;
    }

    R& reactor_;
    Index index_;
    Connection& connection_;
};

}  // namespace pulse
