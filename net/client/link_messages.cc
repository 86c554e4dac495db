// What the messages of a server mean to a connection of its client.
#include <charconv>
#include <cstring>
#include <utility>

#include "net/client/link.h"

namespace pulse::client {
namespace {

constexpr Nanos kAckAfter = kSecond;  // behind a message that no other follows

// Of a hello that the server puts off: this many tries, the first again after so long.
constexpr uint32_t kPutOffMax = 5;
constexpr Nanos kPutOff = kSecond;

constexpr uint16_t kCodeInvalid = 1007;
constexpr uint16_t kCodePutOff = 1013;

std::string_view name_of(JsonKind kind) {
    switch (kind) {
        case JsonKind::welcome:
            return "welcome";
        case JsonKind::interval:
            return "interval";
        case JsonKind::goodbye:
            return "goodbye";
        case JsonKind::error:
            return "error";
        case JsonKind::expiring:
            return "expiring";
        default:
            return "heartbeat";
    }
}

uint64_t number_of(std::string_view token) {
    uint64_t number = 0;
    std::from_chars(token.data(), token.data() + token.size(), number);
    return number;
}

Nanos from_ms(uint32_t ms) { return ms * kMillisecond; }

}  // namespace

void Link::on_text(std::span<uint8_t> text) {
    JsonMessage message;
    const JsonFault fault = context_.json.parse(text, message);
    switch (message.kind) {
        case JsonKind::application:
        case JsonKind::bare_ping:
        case JsonKind::hello:
        case JsonKind::ack:
            return on_application(MessageKind::text, false, text);
        case JsonKind::data:
            return on_application(MessageKind::text, fault.ok(), text);
        default:
            break;
    }
    if (!fault.ok()) return unreadable(message, fault);
    on_object(text, message);
}

void Link::on_object(std::span<uint8_t> text, const JsonMessage& message) {
    switch (message.kind) {
        case JsonKind::ping:
            if (may_answer()) write_object(json::pong(message));
            return;
        case JsonKind::pong:
            if (phase_ != Phase::open) return;
            heartbeat_.heard(context_.now, number_of(message.seq));
            return confirm(number_of(message.seq));
        case JsonKind::welcome:
            return on_welcome(text, message);
        case JsonKind::interval:
            return on_interval(message);
        case JsonKind::goodbye:
            return on_goodbye(message);
        case JsonKind::error:
            return on_error(message.code, std::string(message.message));
        case JsonKind::expiring:
            return owner_.link_heard(*this, TokenExpires{from_ms(message.in_ms)});
        default:
            return;
    }
}

// A message of the application is counted, and then handed over.
void Link::on_application(MessageKind kind, bool is_data, std::span<const uint8_t> bytes) {
    const std::string_view view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    context_.events.push_back(Message{kind, is_data, std::string(view)});
    if (session == nullptr || phase_ != Phase::open) return;
    if (session->count(bytes.size())) return acknowledge();
    if (ack_at_ == kNever) ack_at_ = after(context_.now, kAckAfter);
}

// A server that asks on and reads nothing must not fill this end's memory. Beyond what messages may
// have waiting its pings go unanswered (RFC 6455 5.5.3: all but the last may), and acks wait.
bool Link::may_answer() const {
    return context_.transport.buffered(id_) / 4 <= options_.backlog_max;
}

void Link::acknowledge() {
    ack_at_ = kNever;
    if (!takes_messages() || session == nullptr) return;
    if (!may_answer()) {
        ack_at_ = after(context_.now, kAckAfter);
        return;
    }
    const std::optional<uint64_t> received = session->take_ack();
    if (!received) return;
    json::Object ack;
    ack.raw(R"({"type":"ack","received":)").number(*received).raw("}");
    write_object(ack);
}

void Link::unreadable(const JsonMessage& message, const JsonFault& fault) {
    std::string words = "the server's " + std::string(name_of(message.kind)) + " cannot be read: ";
    if (!fault.key.empty()) words += quoted(fault.key) + " ";
    words += fault.what;
    if (message.kind == JsonKind::welcome && phase_ == Phase::greeting)
        return end({.name = "protocol_error", .message = words});
    owner_.link_heard(*this, Reported{0, words});
}

void Link::on_welcome(std::span<const uint8_t> text, const JsonMessage& message) {
    if (hellos_.empty()) {  // one that nothing asked for
        if (message.interval_ms > 0) heartbeat_.retime(context_.now, from_ms(message.interval_ms));
        return;
    }
    const bool first = phase_ == Phase::greeting;
    if (first && message.interval_ms == 0)
        return end({.name = "protocol_error", .message = "the server's welcome has no interval"});
    Welcomed welcome;
    welcome.url = endpoint_.url;
    welcome.conn = message.conn;
    welcome.user = message.user;
    welcome.device = message.device;
    welcome.interval = from_ms(message.interval_ms);
    welcome.timeout = from_ms(message.timeout_ms);
    JsonResumption resumption;
    const JsonFault fault = context_.welcomes.parse(text, resumption);
    if (!fault.ok()) return unreadable(message, fault);
    welcome.session = resumption.session;
    const HelloFor purpose = hellos_.front().purpose;
    if (first) {
        phase_ = Phase::open;
        heartbeat_.start(context_.now, welcome.interval, context_.random);
        hello_answered();
        return owner_.link_welcomed(*this, std::move(welcome), resumption);
    }
    if (message.interval_ms > 0) heartbeat_.retime(context_.now, welcome.interval);
    hello_answered();
    owner_.hello_welcomed(*this, purpose, std::move(welcome));
}

void Link::on_interval(const JsonMessage& message) {
    if (message.interval_ms == 0)
        return owner_.link_heard(*this, Reported{0, "the server's interval has no interval_ms"});
    if (phase_ != Phase::open) return;
    heartbeat_.retime(context_.now, from_ms(message.interval_ms));
    owner_.link_heard(*this,
                      IntervalTold{from_ms(message.interval_ms), from_ms(message.timeout_ms)});
}

void Link::on_goodbye(const JsonMessage& message) {
    if (goodbye_) return;  // it has gone by the first already
    Cause cause;
    cause.code = message.code;
    cause.name = message.reason.empty() ? "close_" + std::to_string(message.code)
                                        : std::string(message.reason);
    if (message.retry_after_ms > 0) cause.retry_after = from_ms(message.retry_after_ms);
    cause.move_to = message.move_to;
    goodbye_ = cause;
    std::optional<Endpoint> target;
    if (!cause.move_to.empty()) target = move_target(cause.move_to, endpoint_);
    if (phase_ != Phase::open) target.reset();
    if (owner_.link_told_goodbye(*this, cause, target)) return;
    if (target) cause.move_to.clear();  // it may not go there
    goodbye_ = cause;
    end(cause);
}

void Link::hello_answered() {
    hellos_.pop_front();
    put_off_ = 0;
    hello_at_ = kNever;
    patience_.end();
    if (hellos_.empty()) return;
    patience_.begin(context_.now, options_.welcome_timeout);
    send_hello();
}

// An error while a hello is out is about that: before the welcome nothing else is sent, and
// afterwards nothing that the server answers with one.
void Link::on_error(uint16_t code, std::string message) {
    owner_.link_heard(*this, Reported{code, message});
    if (hellos_.empty() || phase_ == Phase::ended) return;
    const bool forbidden = message.starts_with("duplicate") || message.starts_with("user_full");
    if (code == kCodePutOff && !forbidden && ++put_off_ < kPutOffMax) return put_off_hello();
    if (phase_ == Phase::greeting) {
        if (code == kCodePutOff && !forbidden)
            return end({.name = "hello_put_off", .code = code, .message = message});
        // Otherwise the goodbye is on its way, and says why.
        if (code == kCodeInvalid) end({.name = "hello_refused", .message = message});
        return;
    }
    const HelloFor purpose = hellos_.front().purpose;
    hello_answered();
    owner_.hello_refused(*this, purpose,
                         "the server refused the hello: " + std::to_string(code) + " " + message);
}

void Link::put_off_hello() {
    const Nanos wait = kPutOff << (put_off_ - 1);
    patience_.begin(context_.now, after(wait, options_.welcome_timeout));
    const auto spread = static_cast<uint64_t>(wait / 2) + 1;
    hello_at_ = after(context_.now, wait - static_cast<Nanos>(context_.random.below(spread)));
}

}  // namespace pulse::client
