// A connection's life: the socket's side of it, the upgrade, deadlines, the end. What its messages
// mean is in link_messages.cc.
#include "net/client/link.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/limits.h"
#include "net/client/message_writer.h"
#include "net/client/wire.h"
#include "proto/jsonl.h"

namespace pulse::client {
namespace {

constexpr size_t kPieceBytes = 65'536;  // decoded at once
constexpr std::string_view kSubprotocol = "pulse.v1.json";

constexpr uint16_t kClosed = 1000;
// The client comes back: a server that reads this yet keeps the session (proto/PROTOCOL.md).
constexpr uint16_t kComesBack = 4000;
constexpr uint16_t kAbnormal = 1006;
constexpr uint16_t kTooBig = 1009;

HandshakeNonce nonce_from(Random& random) {
    HandshakeNonce nonce;
    for (uint8_t& byte : nonce) byte = static_cast<uint8_t>(random.next());
    return nonce;
}

// Where writers write; transport.send() takes it from here.
struct StringSink {
    std::string& to;
    uint8_t* claim(size_t bytes) {
        const size_t before = to.size();
        to.resize(before + bytes);
        return reinterpret_cast<uint8_t*>(to.data()) + before;
    }
};

// What became of an upgrade that was refused.
Cause refusal_of(const UpgradeOutcome& outcome, Nanos wall_now) {
    if (outcome.status == 0 || outcome.status == 101)
        return {.name = "http_other", .message = outcome.why_not};
    Cause cause{.name = "http_" + std::to_string(outcome.status), .status = outcome.status};
    cause.retry_after = parse_retry_after(outcome.retry_after, wall_now);
    cause.message = outcome.why_not;
    return cause;
}

}  // namespace

// The sink of both codecs, and of the upgrade.
class Link::Sink {
  public:
    explicit Sink(Link& link) : link_(link) {}

    void on_ping(uint32_t, std::span<const uint8_t> payload) {
        if (!link_.may_answer()) return;
        link_.write([&](auto& writer) { writer.frame(websocket::Opcode::pong, payload); });
    }
    void on_pong(uint32_t, std::span<const uint8_t>) {}
    void on_hello(uint32_t, std::span<const uint8_t>) {}
    void on_message(MessageKind kind, uint32_t, std::span<uint8_t> bytes) {
        if (kind == MessageKind::text) return link_.on_text(bytes);
        link_.on_application(kind, false, bytes);
    }
    void on_goodbye(uint16_t code, std::span<const uint8_t> reason) {
        link_.closed_by_server(code, {reinterpret_cast<const char*>(reason.data()), reason.size()});
    }

    bool hold(std::span<const uint8_t> piece) {
        std::vector<uint8_t>& held = link_.held_;
        held.resize(link_.held_bytes_);
        held.insert(held.end(), piece.begin(), piece.end());
        link_.held_bytes_ = held.size();
        held.resize(held.size() + kReceivePadBytes);
        return true;
    }
    std::span<uint8_t> held() { return std::span(link_.held_).first(link_.held_bytes_); }
    void keep_held(size_t bytes) {
        link_.held_bytes_ = bytes;
        if (bytes == 0) std::vector<uint8_t>().swap(link_.held_);
    }
    bool stopped() const { return link_.phase_ == Phase::ended; }

  private:
    Link& link_;
};

template <class Write>
void Link::write(Write make) {
    std::string bytes;
    MessageWriter writer(StringSink{bytes}, endpoint_.framing, context_.random);
    make(writer);
    look_at_backlog();
    context_.transport.send(id_, std::move(bytes));
    buffered_seen_ = context_.transport.buffered(id_);
}

void Link::write_object(const json::Object& object) {
    write([&](auto& writer) { writer.object(object); });
}

Link::Link(LinkOwner& owner, Context& context, const LinkOptions& options, LinkId id,
           Endpoint endpoint, std::string hello)
    : owner_(owner),
      context_(context),
      options_(options),
      id_(id),
      endpoint_(std::move(endpoint)),
      inbox_(kReceiveFrontBytes + kPieceBytes + kReceivePadBytes),
      heartbeat_(options.heartbeat) {
    hellos_.push_back({HelloFor::welcome, std::move(hello)});
    patience_.begin(context_.now, options_.connect_timeout);
    context_.transport.connect(id_, endpoint_);
}

// ------------------------------------------------------------------------------------ the network

void Link::on_connected() {
    if (phase_ != Phase::connecting) return;
    if (endpoint_.framing == Framing::lines) return opened();
    upgrade_.host = endpoint_.authority;
    upgrade_.path = endpoint_.path;
    upgrade_.subprotocols = {kSubprotocol};
    upgrade_.nonce = nonce_from(context_.random);
    context_.transport.send(id_, upgrade_text(upgrade_));
}

void Link::opened() {
    upgraded_ = true;
    phase_ = Phase::greeting;
    patience_.begin(context_.now, options_.welcome_timeout);
    send_hello();
}

void Link::on_bytes(std::span<const uint8_t> bytes) {
    while (!bytes.empty() && phase_ != Phase::ended) {
        const size_t count = std::min(bytes.size(), kPieceBytes);
        const std::span<uint8_t> piece = std::span(inbox_).subspan(kReceiveFrontBytes, count);
        std::memcpy(piece.data(), bytes.data(), count);
        bytes = bytes.subspan(count);
        // Also in the middle of a message: its sender is alive.
        if (phase_ == Phase::open) heartbeat_.heard(context_.now);
        upgraded_ ? decode(piece) : continue_upgrade(piece);
    }
}

void Link::continue_upgrade(std::span<uint8_t> bytes) {
    Sink sink(*this);
    UpgradeOutcome outcome;
    const Handshake answer = take_answer(head_, bytes, sink, upgrade_, outcome);
    if (answer.step == Handshake::Step::more) return;
    if (!outcome.upgraded)
        return end(refusal_of(outcome, context_.transport.wall_clock()), Ending::reset);
    opened();
    bytes = bytes.subspan(answer.consumed_bytes);
    if (!bytes.empty() && phase_ != Phase::ended) decode(bytes);
}

void Link::decode(std::span<uint8_t> bytes) {
    Sink sink(*this);
    const CodecLimits limits{options_.message_bytes_max};
    const Decoded decoded =
        endpoint_.framing == Framing::lines
            ? jsonl::decode(bytes, limits, sink)
            : websocket::decode<Role::client>(frames_, bytes, limits, sink, context_.inflater);
    if (decoded.ok() || phase_ == Phase::ended) return;
    // As browsers do of what is not WebSocket; a broken path may do this to a good server.
    const uint16_t code = decoded.fault == CloseReason::message_too_big ? kTooBig : kAbnormal;
    end({.name = "close_" + std::to_string(code),
         .code = code,
         .message = std::string(decoded.detail)},
        Ending::reset);
}

// A close frame.
void Link::closed_by_server(uint16_t code, std::string_view words) {
    close_code_ = code;
    end(goodbye_ ? *goodbye_ : cause_of_close(code, words));
}

void Link::on_end(const std::string& why) {
    if (phase_ == Phase::ended) return;
    Cause cause{.name = "close_1006", .code = kAbnormal, .message = why};
    if (phase_ == Phase::connecting) cause = {.name = "refused", .message = why};
    if (goodbye_) cause = *goodbye_;
    end(cause, Ending::reset);
}

// Ends it, once.
void Link::end(const Cause& cause, Ending ending) {
    if (phase_ == Phase::ended) return;
    if (phase_ == Phase::connecting) ending = Ending::reset;
    if (ending == Ending::orderly) say_close(cause);
    phase_ = Phase::ended;
    patience_.end();
    hello_at_ = ack_at_ = retires_at_ = kNever;
    context_.transport.close(id_, ending);
    leave(cause);
    for (const Hello& hello : std::exchange(hellos_, {})) {
        if (hello.purpose == HelloFor::welcome) continue;  // its end says it
        owner_.hello_refused(*this, hello.purpose, "the connection ended: " + cause.name);
    }
    owner_.link_ended(*this, cause);
}

void Link::say_close(const Cause& cause) {
    const uint16_t code = cause.name == "closed" ? kClosed : kComesBack;
    if (endpoint_.framing == Framing::lines) return write_object(json::goodbye(code, {}, 0));
    write([&](auto& writer) { writer.close(close_code_.value_or(code)); });
}

// What is not confirmed waits for the next connection, or has its answer.
void Link::leave(const Cause& cause) {
    std::deque<QueuedMessage> left;
    for (Unconfirmed& one : unconfirmed_) left.push_back(std::move(one.message));
    unconfirmed_.clear();
    unconfirmed_bytes_ = confirmations_ = 0;
    if (session != nullptr && owner_.keeps_session(*this)) {
        session->keep(std::move(left));
        return;
    }
    for (const QueuedMessage& message : left) {
        if (!message.confirm) continue;
        context_.events.push_back(Answered{message.id, Outcome::unconfirmed, cause.name});
    }
}

// -------------------------------------------------------------------------------------- deadlines

Nanos Link::due_at() const {
    if (phase_ == Phase::ended) return kNever;
    const Nanos beat = phase_ == Phase::open ? heartbeat_.due_at() : kNever;
    return std::min({beat, patience_.due_at(), hello_at_, ack_at_, retires_at_});
}

void Link::poll() {
    const Nanos now = context_.now;
    if (phase_ == Phase::ended) return;
    if (patience_.poll(now)) {
        // A later hello may wait behind messages: whether those move, heartbeats judge.
        const bool was_behind = std::exchange(hello_behind_, is_backlogged());
        if (!was_behind && !hello_behind_) {
            const bool connects = phase_ == Phase::connecting;
            return end({.name = connects ? "connect_timeout" : "welcome_timeout"});
        }
        patience_.begin(now, options_.welcome_timeout);
    }
    if (now >= retires_at_) return end({.name = "closed"});
    if (now >= hello_at_) send_hello();
    if (now >= ack_at_) acknowledge();
    if (phase_ == Phase::open && now >= heartbeat_.due_at()) beat();
}

void Link::wake() {
    if (phase_ != Phase::open) return;
    heartbeat_.wake(context_.now);
    if (context_.now >= heartbeat_.due_at()) beat();
}

void Link::beat() {
    look_at_backlog();
    const bool has_backlog = buffered_seen_ > 0;
    // Without a backlog what leaves proves nothing: a system takes much that reaches no server.
    const bool uploads = has_moved_ && (has_backlog || had_backlog_);
    const Heartbeat::Step step = heartbeat_.poll(context_.now, uploads);
    had_backlog_ = has_backlog;
    has_moved_ = false;
    if (step.missed) {
        owner_.link_heard(*this, Missed{heartbeat_.misses(), options_.heartbeat.misses_max});
    }
    if (step.gone) return end({.name = "silent"}, Ending::reset);
    if (step.ping != 0) write_object(json::ping(step.ping));
}

bool Link::is_backlogged() const {
    return phase_ == Phase::open && context_.transport.buffered(id_) > 0;
}

// Between two sends of this end the bytes that wait only leave. Their number at two beats would not
// show it: while the program goes on to send, it stays.
void Link::look_at_backlog() {
    const size_t buffered = context_.transport.buffered(id_);
    if (buffered < buffered_seen_) has_moved_ = true;
    buffered_seen_ = buffered;
}

// ------------------------------------------------------------------------------------ messages out

void Link::send_hello() {
    hello_at_ = kNever;
    if (hellos_.empty()) return;
    hello_behind_ = is_backlogged();
    write([&](auto& writer) { writer.message(MessageKind::text, hellos_.front().text); });
}

void Link::greet_again(HelloFor purpose, std::string hello) {
    hellos_.push_back({purpose, std::move(hello)});
    if (hellos_.size() > 1) return;
    patience_.begin(context_.now, options_.welcome_timeout);
    send_hello();
}

void Link::send(QueuedMessage message) {
    write([&](auto& writer) { writer.message(message.kind, message.bytes); });
    if (!message.confirm) context_.events.push_back(Answered{message.id, Outcome::sent, {}});
    await(std::move(message));
}

void Link::send_again(std::deque<QueuedMessage> messages) {
    for (QueuedMessage& message : messages) {
        write([&](auto& writer) { writer.message(message.kind, message.bytes); });
        await(std::move(message));
    }
}

// The server reads in order: the answer to a later ping shows that it has read this.
void Link::await(QueuedMessage message) {
    if (!message.confirm && session == nullptr) return;
    unconfirmed_bytes_ += message.bytes.size();
    if (message.confirm) ++confirmations_;
    unconfirmed_.push_back({std::move(message), heartbeat_.last_ping() + 1});
    if (wants_to_confirm()) ask_to_confirm();
}

// What asked to be confirmed waits for that; the rest has time, but not for ever.
bool Link::wants_to_confirm() const {
    constexpr size_t kConfirmMessages = 32;
    constexpr size_t kConfirmBytes = 65'536;
    return confirmations_ > 0 || unconfirmed_.size() >= kConfirmMessages ||
           unconfirmed_bytes_ >= kConfirmBytes;
}

bool Link::has_room(const QueuedMessage& message, const QueueBounds& bounds) {
    if (unconfirmed_.empty() || !(message.confirm || session != nullptr)) return true;
    const bool full = unconfirmed_.size() >= bounds.messages_max ||
                      unconfirmed_bytes_ + message.bytes.size() > bounds.bytes_max;
    if (full) ask_to_confirm();
    return !full;
}

// One ping at a time asks for all that was sent before it.
void Link::ask_to_confirm() {
    if (confirming_seq_ != 0 || unconfirmed_.empty() || phase_ != Phase::open) return;
    confirming_seq_ = heartbeat_.last_ping() + 1;
    heartbeat_.hurry();
    beat();
}

void Link::confirm(uint64_t seq) {
    size_t count = 0;
    for (; !unconfirmed_.empty() && unconfirmed_.front().seq <= seq; ++count) {
        const QueuedMessage& message = unconfirmed_.front().message;
        unconfirmed_bytes_ -= message.bytes.size();
        if (message.confirm) {
            --confirmations_;
            context_.events.push_back(Answered{message.id, Outcome::received, {}});
        }
        unconfirmed_.pop_front();
    }
    if (session != nullptr) session->confirm(count);
    if (confirming_seq_ == 0 || seq < confirming_seq_) return;
    confirming_seq_ = 0;
    if (phase_ != Phase::open) return;
    if (is_retired_ && unconfirmed_.empty()) return end({.name = "closed"});
    if (is_retired_ || wants_to_confirm()) ask_to_confirm();
    owner_.link_confirmed(*this);
}

void Link::retire() {
    is_retired_ = true;
    if (unconfirmed_.empty()) return end({.name = "closed"});
    ask_to_confirm();
    retires_at_ = after(context_.now, heartbeat_.wait());
}

}  // namespace pulse::client
