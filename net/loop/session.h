// One connection's conversation: what its protocol makes of bytes becomes heartbeats and endings.
//
// A Session is made on the stack for the length of one call and owns nothing: it is what a protocol
// (net/protocols/) sees as its Conversation, over the connection's record and Connections.
//
//   Stage      proxy ----> tls ------> detect ----> http ----> open ----> closing
//   reads      a header    a handshake first bytes  an upgrade frames     nothing
//   where      ?proxy=on   wss://, (*) everywhere   WebSocket
//   (*) tls+tcp:// and the like; and from `detect` on auto://, where a ClientHello comes first
//
// Behind `tls` what is read here is plaintext (net/loop/records.cc).
//
// Besides, a connection is greeting until its handshake or its first complete message is whole:
// --handshake-timeout runs, from the accept or, on tcp:// and jsonl://, where a peer may do nothing
// but answer probes, from its first byte or the PROXY header's.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "core/buffer_pool.h"
#include "core/connection.h"
#include "core/fixed_text.h"
#include "net/io/address.h"
#include "net/loop/connections.h"
#include "net/protocols/conversation.h"
#include "net/protocols/first_bytes.h"

namespace pulse {

class Session final : public Conversation, private TokenJudge {
  public:
    // `fresh`: what it is given was read just now.
    Session(Connections& connections, Index index, bool fresh = true)
        : Conversation(connections.at(index), connections.shared(),
                       fresh ? connections.fresh_work() : connections.parked_work(), fresh),
          connections_(connections),
          index_(index) {}

    // Just accepted. Where there is no handshake, heartbeats count until the first byte.
    void begin();

    // --- bytes in --------------------------------------------------------------------------------
    // After our goodbye they are dropped: draining them is what keeps a reset from destroying it.
    void receive(std::span<uint8_t> bytes);

    // What was parked, in the order of its coming. Requires: made with `fresh` false.
    void resume(std::span<uint8_t> message, std::span<uint8_t> bytes);
    // What a turn's share did not reach: of a message in parts, and of the bytes given.
    bool left_something() const { return !stopped() && share_.paused(); }
    std::span<uint8_t> message_rest() const { return message_rest_; }
    BufferPool::Handle kept_message() const { return kept_message_; }
    std::span<uint8_t> rest() const { return rest_; }

    // --- what its protocol calls -----------------------------------------------------------------
    bool hold(std::span<const uint8_t> piece) override;
    uint8_t* claim(size_t bytes) override { return connections_.claim(index_, bytes); }
    void finish(const Decoded& decoded, std::span<uint8_t> input) override;
    void on_ping() override;
    bool on_heartbeat() override;
    void on_pong(const ProbeAnswer& answer) override;
    void on_frame() override;
    bool on_hello(const JsonMessage& hello, uint32_t sequence) override;
    WelcomeText welcome() const override;
    void on_welcomed() override;
    bool wants_echo(MessageForm form, uint32_t sequence, std::span<const uint8_t> bytes) override;
    void on_ack(uint64_t received) override;
    void keep_message(std::span<uint8_t> rest) override;
    HandshakePolicy handshake_policy() override;
    void open(const TraceContext& trace) override;
    void becomes(uint8_t protocol) override { connections_.set_protocol(index_, protocol); }
    void report_error(const JsonFault& wrong) override;
    void fail(const Decoded& decoded) override;
    void peer_said_goodbye(uint16_t code) override {
        connections_.begin_close(index_, {CloseReason::peer_goodbye, {}, code});
    }
    void begin_close_silent(const Decoded& outcome) override {
        connections_.begin_close_silent(index_, {outcome.fault, outcome.detail});
    }

    // The connection's public name: r3-000123-9.
    FixedText<512> name() const;

    // --- bytes out -------------------------------------------------------------------------------
    void send_probe();
    void send_goodbye(CloseReason reason, std::string_view detail);
    // The goodbye of one that is to go there, and is served until it has. False: in what it speaks
    // a goodbye is the end.
    bool send_move(std::string_view to);
    // The heartbeats of its profile changed: the server's advice.
    void send_interval() {
        connections_.drop_announced(index_);
        send_interval(connection_.profile);
    }
    // The same of heartbeats that it does not have yet.
    void send_interval(uint8_t profile);
    // Whether its protocol has a message for that, and it has begun to speak it.
    bool hears_of_intervals() const {
        return stage() == Stage::open && protocol().interval != nullptr;
    }
    // Its protocol wants each endpoint to answer probes, whatever program speaks it.
    bool must_answer() const { return protocol().framing == Framing::websocket; }
    // Answers to a hello that named a user (logins.h).
    void welcome_user(const UserHello& hello, const LoginAnswer& answer,
                      const ResumeWelcome* resumable = nullptr);
    // What the client of a session that it resumes has not seen.
    void send_again();
    // A text of the operator's. Requires: the protocol has data().
    void send_data(std::string_view text);
    void refuse_login(CloseReason reason, std::string_view words, bool closes);
    // To a token that is not right, or to a peer that had to give one: says why, and closes.
    void refuse_token(AuthFailure failure);
    // The peer's token ends in so long.
    void send_expiring(uint32_t in_ms);

  private:
    Goodbye goodbye_of(CloseReason reason, std::string_view detail, FixedText<512>& words);
    void send_error(CloseReason reason, std::string_view words);
    WelcomeText begin_welcome() const;
    void add_resumable(WelcomeText& text, const ResumeWelcome& resumable) const;
    void greet();
    const ListenAddress& listener() const;
    void answered();
    void proof();
    void trace_frame() const;
    bool wants_roundtrip() const;
    void complete_message();
    void measure_round_trip();
    void set_answer_every(uint32_t answer_every);
    uint32_t answer_every() const { return connection_.one_way + 1u; }
    bool begin_side(const JsonMessage& hello);
    bool read_nat(const JsonMessage& hello, NatSilence& found);
    void add_nat(WelcomeText& text) const;
    const std::optional<Connections::Network>& network() const;
    AuthFailure judge(std::string_view token, uint32_t count) override;
    std::optional<Authentication::Bearer> bearer_of(const UserHello& hello, std::string_view token);
    std::optional<uint8_t> profile_named(std::string_view name) const;

    // --- what comes before frames ----------------------------------------------------------------
    bool take_proxy_header(std::span<uint8_t>& bytes);
    void refuse(const Refusal& refusal);
    void continue_handshake(std::span<uint8_t> records);
    bool puts_off_tls(std::span<uint8_t> records);
    bool may_turn_to_tls() const;
    void turn_to_tls(std::span<uint8_t> held, std::span<uint8_t> records);
    bool began_without_tls(std::span<const uint8_t> first_bytes);
    void detect(std::span<uint8_t> bytes);
    bool speaks_other_protocol(std::span<const uint8_t> first_bytes, const FirstBytes& first);

    Connections& connections_;
    Index index_;
    std::span<uint8_t> rest_;
    std::span<uint8_t> message_rest_;
    BufferPool::Handle kept_message_ = 0;
    bool resumed_ = false;             // a message that was parked is decoded
    bool names_answer_every_ = false;  // the hello that is answered
    mutable std::optional<std::optional<Connections::Network>> network_;  // once it was asked for
};

}  // namespace pulse
