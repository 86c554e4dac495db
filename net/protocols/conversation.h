// What a protocol may do with its connection: what codecs ask, what frames come to, bytes out.
//
// A conversation is one connection for the length of one call, on its reactor's thread. The loop's
// Session is the only one in the server; a test may make its own. What a codec asks for each frame
// is inline here; the rest is the session's, one indirect call a frame and one a reply.
#pragma once

#include <cstring>
#include <span>
#include <string_view>

#include "core/buffer_pool.h"
#include "core/connection.h"
#include "core/trace.h"
#include "core/turn_budget.h"
#include "net/protocols/protocol.h"
#include "proto/codec.h"
#include "proto/deflate.h"
#include "proto/json.h"

namespace pulse {

// What the conversations of one reactor share.
struct ConversationShared {
    const CodecLimits& limits;
    BufferPool& buffers;
    JsonParser json{};
    Inflater inflater{};
    Deflater deflater{};
};

class Conversation {
  public:
    Conversation(const Conversation&) = delete;
    Conversation& operator=(const Conversation&) = delete;

    ConversationShared& shared() { return shared_; }
    Stage stage() const { return connection_.stage; }
    const Protocol& protocol() const { return *kProtocols[connection_.protocol]; }
    // The peer showed that it understands this dialect, or agreed on it.
    void set_dialect(Dialect dialect) {
        if (!protocol().dialect_is_open) return;
        const uint8_t row = with_dialect(connection_.protocol, dialect);
        if (row != connection_.protocol) becomes(row);
    }
    // The codec's memory is copied out and in, so that no codec ever points into the record.
    template <class State>
    State load() const {
        static_assert(sizeof(State) <= kCodecStateBytes);
        State state;
        std::memcpy(&state, connection_.codec.data(), sizeof state);
        return state;
    }
    template <class State>
    void store(const State& state) {
        std::memcpy(connection_.codec.data(), &state, sizeof state);
    }

    // ---- what a codec asks (proto/codec.h)
    bool stopped() const { return connection_.stage >= Stage::closing; }
    bool admits(size_t wire_bytes, bool compressed) {
        return stopped() || share_.admits(wire_bytes, compressed);
    }
    virtual bool hold(std::span<const uint8_t> piece) = 0;
    std::span<uint8_t> held() {
        if (connection_.inbox == 0) return {};
        return shared_.buffers.bytes(connection_.inbox);
    }
    void keep_held(size_t bytes) {
        if (connection_.inbox == 0) return;
        if (bytes > 0) return shared_.buffers.truncate(connection_.inbox, bytes);
        shared_.buffers.release(connection_.inbox);
        connection_.inbox = 0;
    }
    // Of what was admitted: so much was handed over, or costs as much.
    void spend(size_t work) { share_.spend(work); }
    // How a decode went: takes what is left for the next turn, fails where it has a fault.
    virtual void finish(const Decoded& decoded, std::span<uint8_t> input) = 0;

    // ---- bytes out
    // A ByteSink. nullptr: the connection is closing, or has too much waiting and is closed.
    virtual uint8_t* claim(size_t bytes) = 0;
    bool append(std::span<const uint8_t> bytes) {
        uint8_t* to = claim(bytes.size());
        if (to != nullptr) std::memcpy(to, bytes.data(), bytes.size());
        return to != nullptr;
    }

    // ---- what frames come to. Each is a complete frame, and the first opens the connection.
    // A heartbeat of the framing, which is always answered; one of the dialect, and whether it is
    // to be answered; then, an answer to a probe; then, anything else.
    virtual void on_ping() = 0;
    virtual bool on_heartbeat() = 0;
    virtual void on_pong(const ProbeAnswer& answer) = 0;
    virtual void on_frame() = 0;
    // After on_frame(); `sequence` is that of its frame. True: it is to be welcomed. False: it was
    // answered, or will be (Protocol::welcome).
    virtual bool on_hello(const JsonMessage& hello, uint32_t sequence) = 0;
    // The object that welcomes it; and what follows once that is sent.
    virtual WelcomeText welcome() const = 0;
    virtual void on_welcomed() = 0;
    // Application data: counted, and whether it is to be sent back, as it came.
    virtual bool wants_echo(MessageForm form, uint32_t sequence,
                            std::span<const uint8_t> bytes) = 0;
    // After on_frame(): the peer says how many messages of the application it has received.
    virtual void on_ack(uint64_t received) = 0;
    // Of a message that is decoded in parts: keeps what one turn did not reach, for resume().
    virtual void keep_message(std::span<uint8_t> rest) = 0;

    // ---- stages and endings
    virtual HandshakePolicy handshake_policy() = 0;
    // Another row of kProtocols is spoken from now on.
    virtual void becomes(uint8_t protocol) = 0;
    // The handshake is over: frames follow. `trace`: what its head says that it is part of.
    virtual void open(const TraceContext& trace) = 0;
    // A message that means nothing, from a peer that frames well: forgiven a few times.
    virtual void report_error(const JsonFault& wrong) = 0;
    // Bytes that no conversation can go on from: says what was wrong with them, and closes.
    virtual void fail(const Decoded& decoded) = 0;
    // The peer leaves, and was answered where its protocol answers; code 0: it gave none. Closes.
    virtual void peer_said_goodbye(uint16_t code) = 0;
    // Closes without a goodbye: what there was to say of the outcome was said.
    virtual void begin_close_silent(const Decoded& outcome) = 0;

  protected:
    Conversation(Connection& connection, ConversationShared& shared, WorkBudget& work, bool fresh)
        : connection_(connection), shared_(shared), share_(work, fresh) {}
    ~Conversation() = default;

    Connection& connection_;
    ConversationShared& shared_;
    TurnShare share_;
};

// What every sink of a codec forwards; a protocol adds what its frames come to.
struct ConversationSink {
    Conversation& conversation;

    bool stopped() const { return conversation.stopped(); }
    bool admits(size_t wire_bytes, bool compressed) {
        return conversation.admits(wire_bytes, compressed);
    }
    bool hold(std::span<const uint8_t> piece) { return conversation.hold(piece); }
    std::span<uint8_t> held() { return conversation.held(); }
    void keep_held(size_t bytes) { conversation.keep_held(bytes); }
};

// Reads what is no frame of a protocol: a handshake, a PROXY header.
struct HeadSink : ConversationSink {
    void on_ping(uint32_t, std::span<const uint8_t>) {}
    void on_pong(uint32_t, std::span<const uint8_t>) {}
    void on_hello(uint32_t, std::span<const uint8_t>) {}
    void on_message(MessageKind, uint32_t, std::span<uint8_t>) {}
    void on_goodbye(uint16_t, std::span<const uint8_t>) {}
};
static_assert(CodecSink<HeadSink> && ByteSink<Conversation>);

}  // namespace pulse
