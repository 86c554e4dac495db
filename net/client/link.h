// One connection of a client, from its connect to its end: the greeting, heartbeats, messages both
// ways. Pure but for the transport that it is given.
//
//     connecting --upgraded--> greeting --welcome--> open --> ended
//         |                       |                    |
//         +---- too long, refused, closed, silent -----+--> owner.link_ended(link, cause), once
//
// A goodbye ends it at once, but for one that names another server: then it is kept until that one
// welcomes the client (make before break), or the server closes it. Messages wait meanwhile: not
// every server reads on behind its goodbye. What is heard after the end is dropped.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "net/client/deadline.h"
#include "net/client/heartbeat.h"
#include "net/client/resume_window.h"
#include "net/client/transport.h"
#include "net/client/upgrade.h"
#include "proto/websocket.h"

namespace pulse::client {

class Link;

// What a hello is for; the first of a link is for its welcome.
enum class HelloFor : uint8_t { welcome, login, renewal };

// The engine, as its links see it.
class LinkOwner {
  public:
    // The first welcome; messages may be sent from now on.
    virtual void link_welcomed(Link& link, Welcomed welcome, const JsonResumption& resumption) = 0;
    // A later hello was answered.
    virtual void hello_welcomed(Link& link, HelloFor purpose, Welcomed welcome) = 0;
    virtual void hello_refused(Link& link, HelloFor purpose, std::string why) = 0;
    // `target`: of a goodbye that names another server. Returns whether the link is kept for it.
    virtual bool link_told_goodbye(Link& link, const Cause& cause,
                                   const std::optional<Endpoint>& target) = 0;
    virtual void link_heard(Link& link, Event event) = 0;
    virtual void link_confirmed(Link& link) = 0;  // some of what it sent
    virtual void link_ended(Link& link, const Cause& cause) = 0;
    // It may be resumed, now that the link ends.
    virtual bool keeps_session(const Link& link) const = 0;

  protected:
    ~LinkOwner() = default;
};

struct LinkOptions {
    Nanos connect_timeout = 10 * kSecond;  // until WebSocket or the line is open
    Nanos welcome_timeout = 10 * kSecond;  // from there, and of each later hello
    HeartbeatOptions heartbeat{};
    size_t message_bytes_max = size_t{16} << 20;  // of the server's
    size_t backlog_max = size_t{1} << 20;         // a quarter of what messages may have waiting
};

class Link {
  public:
    enum class Phase : uint8_t { connecting, greeting, open, ended };

    // Connects. `hello`: what it greets with.
    Link(LinkOwner& owner, Context& context, const LinkOptions& options, LinkId id,
         Endpoint endpoint, std::string hello);

    LinkId id() const { return id_; }
    Phase phase() const { return phase_; }
    const Endpoint& endpoint() const { return endpoint_; }
    const Heartbeat& heartbeat() const { return heartbeat_; }

    // ------------------------------------------------------------------------------- the network
    void on_connected();
    void on_bytes(std::span<const uint8_t> bytes);
    void on_end(const std::string& why);  // the network's; empty: an orderly end of the stream

    // When poll() has something to do, and doing it.
    Nanos due_at() const;
    void poll();
    // The network is another, or the machine was asleep: a beat, and then a judgement.
    void wake();

    // ---------------------------------------------------------------------------- what it is told
    // Another hello, once those before it are answered.
    void greet_again(HelloFor purpose, std::string hello);
    // Whether a message that is sent now has a chance.
    bool takes_messages() const { return phase_ == Phase::open && !goodbye_; }
    // Whether so much more may be sent before some is confirmed. Where not, asks for that.
    bool has_room(const QueuedMessage& message, const QueueBounds& bounds);
    // Requires: takes_messages().
    void send(QueuedMessage message);
    // What was sent on the connection before and may not have come, in its order.
    void send_again(std::deque<QueuedMessage> messages);
    // It has no place any more: ends, once what it sent is confirmed or can wait no longer.
    void retire();
    void end(const Cause& cause, Ending ending = Ending::orderly);

    // Where the server lets it be resumed, from the welcome on: then all that is sent is kept until
    // it is confirmed.
    std::shared_ptr<ResumeWindow> session;
    uint32_t identity_version = 0;  // of what it was greeted with
    bool moves = false;             // its goodbye has sent the client to another server

  private:
    class Sink;
    struct Hello {
        HelloFor purpose;
        std::string text;
    };
    struct Unconfirmed {
        QueuedMessage message;
        uint64_t seq;  // of the ping whose answer, or that of a later one, confirms it
    };

    void continue_upgrade(std::span<uint8_t> bytes);
    void decode(std::span<uint8_t> bytes);
    void opened();
    void closed_by_server(uint16_t code, std::string_view words);

    void on_text(std::span<uint8_t> text);
    void on_object(std::span<uint8_t> text, const JsonMessage& message);
    void on_application(MessageKind kind, bool is_data, std::span<const uint8_t> bytes);
    void on_welcome(std::span<const uint8_t> text, const JsonMessage& message);
    void on_interval(const JsonMessage& message);
    void on_goodbye(const JsonMessage& message);
    void on_error(uint16_t code, std::string message);
    void unreadable(const JsonMessage& message, const JsonFault& fault);

    void send_hello();
    void hello_answered();
    void put_off_hello();
    bool may_answer() const;
    void acknowledge();
    void beat();
    void ask_to_confirm();
    void confirm(uint64_t seq);
    bool wants_to_confirm() const;
    void await(QueuedMessage message);
    void leave(const Cause& cause);
    void say_close(const Cause& cause);
    bool is_backlogged() const;
    void look_at_backlog();
    template <class Write>
    void write(Write make);
    void write_object(const json::Object& object);

    LinkOwner& owner_;
    Context& context_;
    const LinkOptions options_;
    const LinkId id_;
    const Endpoint endpoint_;
    Phase phase_ = Phase::connecting;
    bool is_retired_ = false;
    std::optional<Cause> goodbye_;

    // Decoding.
    bool upgraded_ = false;
    UpgradePlan upgrade_;
    HandshakeState head_{};
    websocket::State frames_{};
    std::vector<uint8_t> inbox_;  // a piece, with what a codec wants around it
    std::vector<uint8_t> held_;   // of a message that is not whole, padded
    size_t held_bytes_ = 0;
    std::optional<uint16_t> close_code_;  // of the server's close frame

    Heartbeat heartbeat_;
    Patience patience_;
    std::deque<Hello> hellos_;  // the first is out
    uint32_t put_off_ = 0;      // times in a row
    bool hello_behind_ = false;  // messages that had not left, when that was last looked at
    Nanos hello_at_ = kNever;
    Nanos ack_at_ = kNever;
    Nanos retires_at_ = kNever;

    std::deque<Unconfirmed> unconfirmed_;
    size_t unconfirmed_bytes_ = 0;
    size_t confirmations_ = 0;  // of them, those that asked for it
    uint64_t confirming_seq_ = 0;

    size_t buffered_seen_ = 0;  // bytes that waited when that was last looked at
    bool had_backlog_ = false;  // some, at the last beat: a ping from then on is behind them
    bool has_moved_ = false;    // some have left since
};

}  // namespace pulse::client
