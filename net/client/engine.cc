// Tries, moves, sessions and messages of a client.
#include "net/client/engine.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "core/check.h"
#include "core/limits.h"
#include "proto/limits.h"
#include "proto/utf8.h"

namespace pulse::client {
namespace {

constexpr uint32_t kMoveTries = 3;      // of another server, before the own address is tried again
constexpr uint32_t kRenewalTries = 3;   // to get a new token, before the old one ends
constexpr Nanos kWakeSpread = kSecond;  // over which the clients of one network come back with it
// How long before the end of a token servers say so, where one does not say how long.
constexpr Nanos kExpiring = 60 * kSecond;
constexpr size_t kBacklogMin = 16'384;  // however small the queue; not measured

PolicyTable table_of(const Options& options) {
    PolicyTable table;
    for (const auto& [name, policy] : options.policies) {
        const Result<void> replaced = table.replace(name, policy);
        PULSE_ASSERT(bool(replaced));
    }
    return table;
}

std::vector<Endpoint> endpoints_of(const Options& options) {
    std::vector<Endpoint> endpoints;
    for (const std::string& url : options.urls) {
        Result<Endpoint> endpoint = parse_endpoint(url);
        PULSE_ASSERT(bool(endpoint));
        endpoints.push_back(std::move(*endpoint));
    }
    PULSE_ASSERT(!endpoints.empty());
    return endpoints;
}

// Fails for a text that a server would not take for the application's: it would answer that with an
// error, and not count it, so that both ends' counts would differ from then on.
Result<void> check_text(JsonParser& parser, std::string_view text, bool lines) {
    std::string padded(text);  // the parser wants bytes behind it
    padded.resize(text.size() + kReceivePadBytes);
    const auto* const bytes = reinterpret_cast<const uint8_t*>(padded.data());
    if (!utf8_valid({bytes, text.size()}))
        return Error{"send: the text is not UTF-8; send it as binary"};
    JsonMessage message;
    const JsonFault fault = parser.parse({bytes, text.size()}, message);
    const bool is_data = message.kind == JsonKind::data;
    if (!is_data && message.kind != JsonKind::application)
        return Error{"send: the text is a message of the protocol itself; send a data object"};
    if (!fault.ok() && (is_data || lines)) {
        const std::string about = fault.key.empty() ? "the text" : quoted(fault.key);
        return Error{"send: " + about + " " + std::string(fault.what) +
                     R"(; write {"type":"data",...})"};
    }
    if (lines && (!is_data || text.find('\n') != text.npos))
        return Error{"send: JSON lines take data objects on one line, and nothing else"};
    return {};
}

}  // namespace

Result<void> check_options(const Options& options) {
    if (options.urls.empty()) return Error{"urls: is empty; give one"};
    std::optional<Framing> framing;
    for (const std::string& url : options.urls) {
        const Result<Endpoint> endpoint = parse_endpoint(url);
        if (!endpoint) return Error{endpoint.error()};
        if (framing.value_or(endpoint->framing) != endpoint->framing)
            return wrong_text(url, "is of another protocol than the URL before it",
                              "give URLs of one protocol");
        framing = endpoint->framing;
    }
    if (Result<void> identity = check_identity(options.identity); !identity) return identity;
    if (Result<void> token = check_token(options.token); !token) return token;
    PolicyTable table;
    for (const auto& [name, policy] : options.policies) {
        if (Result<void> replaced = table.replace(name, policy); !replaced) return replaced;
    }
    const std::pair<const char*, Nanos> times[] = {{"connect_timeout", options.connect_timeout},
                                                   {"welcome_timeout", options.welcome_timeout},
                                                   {"answer_timeout", options.answer_timeout},
                                                   {"stable", options.stable},
                                                   {"queue.age_max", options.queue.age_max}};
    for (const auto& [name, time] : times) {
        if (time <= 0)
            return Error{std::string(name) + ": must be above 0; leave it out for its default"};
    }
    const std::pair<const char*, size_t> counts[] = {
        {"misses", options.misses},
        {"buffered_max", options.buffered_max},
        {"queue.bytes_max", options.queue.bytes_max},
        {"message_bytes_max", options.message_bytes_max}};
    for (const auto& [name, count] : counts) {
        if (count == 0)
            return Error{std::string(name) + ": must be above 0; leave it out for its default"};
    }
    if (options.message_bytes_max > kMessageBytesMax)
        return Error{"message_bytes_max: must be at most " + std::to_string(kMessageBytesMax) +
                     "; give less"};
    return {};
}

Engine::Engine(Options options, Transport& transport)
    : options_(std::move(options)),
      endpoints_(endpoints_of(options_)),
      context_{transport, Random(options_.seed), {}},
      outbox_(options_.queue),
      retries_(table_of(options_)) {}

// ---------------------------------------------------------------------------- what is asked of it

// What a function of the program would change is in the middle of a change.
class Engine::Asking {
  public:
    explicit Asking(Engine& engine) : engine_(engine) { engine_.asks_ = true; }
    ~Asking() { engine_.asks_ = false; }

  private:
    Engine& engine_;
};

void Engine::enter(Nanos now) {
    PULSE_ASSERT(!asks_ && "a token_source or allow_move calls its client");
    context_.now = std::max(context_.now, now);
    ended_.clear();
}

void Engine::connect(Nanos now) {
    enter(now);
    if (state_ != State::idle && state_ != State::closed) return;
    retries_.reset();
    moved_to_.reset();
    refused_urls_ = 0;
    renew_token_ = false;
    token_cause_ = "connect";
    attempt();
}

Result<uint64_t> Engine::send(Nanos now, MessageKind kind, std::string_view bytes, bool confirm) {
    enter(now);
    const bool lines = endpoints_.front().framing == Framing::lines;
    if (kind == MessageKind::binary) {
        if (lines) return Error{"send: JSON lines have no binary messages; send a data object"};
    } else if (Result<void> check = check_text(context_.json, bytes, lines); !check) {
        return Error{check.error()};
    }
    QueuedMessage message{++last_message_, kind, std::string(bytes), confirm, context_.now};
    const uint64_t id = message.id;
    if (state_ == State::closed) {
        report(Answered{id, Outcome::dropped, "closed"});
        return id;
    }
    outbox_.expire(context_.now, context_.events);
    outbox_.push(std::move(message), context_.events);
    pump();
    return id;
}

Result<void> Engine::login(Nanos now, Identity identity, std::string token) {
    enter(now);
    if (Result<void> check = check_identity(identity); !check) return check;
    if (Result<void> check = check_token(token); !check) return check;
    options_.identity = std::move(identity);
    if (!token.empty()) {
        options_.token = std::move(token);
        options_.token_source = nullptr;
    }
    ++identity_version_;
    if (link_ != nullptr && link_->phase() == Link::Phase::open)
        greet_again(*link_, HelloFor::login);
    return {};
}

void Engine::wake(Nanos now) {
    enter(now);
    if (state_ == State::waiting && retry_at_ != kNever) {
        const auto spread = static_cast<uint64_t>(kWakeSpread);
        const Nanos soon = context_.now + static_cast<Nanos>(context_.random.below(spread));
        retry_at_ = std::min(retry_at_, std::max(soon, not_before_));
    }
    if (link_ != nullptr) link_->wake();
    if (next_ != nullptr) next_->wake();
}

void Engine::close(Nanos now) {
    enter(now);
    finish({.name = "closed"});
}

std::optional<Event> Engine::next() {
    if (context_.events.empty()) return std::nullopt;
    Event event = std::move(context_.events.front());
    context_.events.pop_front();
    return event;
}

std::optional<Nanos> Engine::round_trip() const {
    return link_ == nullptr ? std::nullopt : link_->heartbeat().round_trip();
}

// ------------------------------------------------------------------------------ what is due, when

Nanos Engine::due_at() const {
    Nanos due = std::min({retry_at_, stable_at_, renew_at_, outbox_.expires_at()});
    for (const Link* link : {link_.get(), next_.get()}) {
        if (link != nullptr) due = std::min(due, link->due_at());
    }
    for (const auto& link : retired_) due = std::min(due, link->due_at());
    return due;
}

void Engine::poll(Nanos now) {
    enter(now);
    outbox_.expire(context_.now, context_.events);
    if (context_.now >= stable_at_) {
        stable_at_ = kNever;
        retries_.reset();
    }
    std::vector<LinkId> links;
    for (const Link* link : {link_.get(), next_.get()}) {
        if (link != nullptr) links.push_back(link->id());
    }
    for (const auto& link : retired_) links.push_back(link->id());
    for (const LinkId id : links) {
        if (Link* const link = find(id)) link->poll();
    }
    if (context_.now >= renew_at_) renew();
    if (context_.now >= retry_at_) attempt();
}

Link* Engine::find(LinkId id) const {
    for (Link* const link : {link_.get(), next_.get()}) {
        if (link != nullptr && link->id() == id) return link;
    }
    for (const auto& link : retired_) {
        if (link->id() == id) return link.get();
    }
    return nullptr;
}

void Engine::on_connected(LinkId id, Nanos now) {
    enter(now);
    if (Link* const link = find(id)) link->on_connected();
}

void Engine::on_bytes(LinkId id, std::span<const uint8_t> bytes, Nanos now) {
    enter(now);
    if (Link* const link = find(id)) link->on_bytes(bytes);
}

void Engine::on_sent(LinkId, Nanos now) {
    enter(now);
    pump();
}

void Engine::on_end(LinkId id, const std::string& why, Nanos now) {
    enter(now);
    if (Link* const link = find(id)) link->on_end(why);
}

// ------------------------------------------------------------------------------------------ tries

void Engine::attempt() {
    retry_at_ = kNever;
    if (link_ != nullptr && !moved_to_) return leave_for_home();
    if (link_ == nullptr) become(State::connecting);
    const Result<std::string> token = token_for(token_cause_);
    if (!token) return try_failed({.name = "token_failed", .message = token.error()});
    const Endpoint& endpoint = moved_to_ ? *moved_to_ : endpoints_[endpoint_ % endpoints_.size()];
    const LinkOptions options{
        options_.connect_timeout, options_.welcome_timeout,
        HeartbeatOptions{options_.answer_timeout, options_.misses}, options_.message_bytes_max,
        std::max({options_.buffered_max, options_.queue.bytes_max, kBacklogMin})};
    auto link =
        std::make_unique<Link>(*this, context_, options, ++last_link_, endpoint,
                               hello_text(options_.identity, *token, resume_request(endpoint.url)));
    link->identity_version = identity_version_;
    std::unique_ptr<Link>& at = link_ == nullptr ? link_ : next_;
    const std::unique_ptr<Link> before = std::exchange(at, std::move(link));
    if (before != nullptr) before->end({.name = "closed"});
}

// It is not to be moved any more, and its old connection is served yet, beside which its own server
// might refuse another of the same user and device. What is not confirmed goes along.
void Engine::leave_for_home() {
    link_->moves = false;
    link_->end({.name = "moved"});
}

// A server to which a goodbye has just sent the client has nothing of its session.
std::optional<ResumeRequest> Engine::resume_request(const std::string& url) const {
    if (!options_.resume) return std::nullopt;
    const bool is_there = !moved_to_ || (session_ != nullptr && session_->url() == url);
    if (session_ == nullptr || link_ != nullptr || !is_there) return ResumeRequest{};
    return ResumeRequest{session_->token(), session_->received()};
}

Result<std::string> Engine::token_for(std::string_view cause) {
    if (!options_.token_source) return options_.token;
    std::optional<std::string> token;
    try {
        const Asking asking(*this);
        token = options_.token_source({cause, renew_token_});
    } catch (const std::exception& error) {
        return Error{std::string("token_source: threw: ") + error.what()};
    }
    if (!token) return Error{"token_source: gave none"};
    if (Result<void> check = check_token(*token); !check) return Error{check.error()};
    return std::move(*token);
}

// `cause`: of a try of another server, or of the only one.
void Engine::try_failed(const Cause& cause) {
    const bool elsewhere = moved_to_.has_value();
    if (!elsewhere) ++endpoint_;
    if (elsewhere && ++move_failures_ >= kMoveTries) moved_to_.reset();
    again(cause, elsewhere, !elsewhere && cause.name != "token_failed");
}

// `elsewhere`: it is of another server, and not a verdict on the own one. `is_of_url`: it is the
// verdict on one of the own addresses.
void Engine::again(const Cause& cause, bool elsewhere, bool is_of_url) {
    const bool can_renew = static_cast<bool>(options_.token_source);
    const Retries::Decision decision = retries_.decide(cause, can_renew, context_.random);
    if (is_of_url) refused_urls_ = decision.retry ? 0 : refused_urls_ + 1;
    const bool is_left = is_of_url && refused_urls_ < endpoints_.size();
    if (!decision.retry && !elsewhere && !is_left) return finish(cause);
    if (!decision.retry) moved_to_.reset();
    renew_token_ = renew_token_ || decision.renews_token;
    token_cause_ = cause.name;
    if (link_ == nullptr) become(State::waiting);
    retry_at_ = after(context_.now, decision.wait);
    not_before_ = cause.retry_after ? retry_at_ : 0;
    report(RetryPlanned{cause, decision.wait, decision.attempt});
}

void Engine::finish(const Cause& cause) {
    if (state_ == State::closed) return;
    retry_at_ = stable_at_ = kNever;
    end_renewal();
    const State before = std::exchange(state_, State::closed);  // links that end keep no session
    std::vector<std::unique_ptr<Link>> links = std::exchange(retired_, {});
    links.push_back(std::exchange(next_, nullptr));
    links.push_back(std::exchange(link_, nullptr));
    for (const std::unique_ptr<Link>& link : links) {
        if (link != nullptr) link->end(cause);
    }
    for (std::unique_ptr<Link>& link : links) {
        if (link != nullptr) ended_.push_back(std::move(link));
    }
    if (session_ != nullptr) session_->drop(cause.name, context_.events);
    session_ = nullptr;
    outbox_.clear(cause.name == "closed" ? "closed" : "ended", context_.events);
    report(StateChanged{State::closed, before});
    report(Ended{cause});
}

void Engine::become(State state) {
    if (state_ == state) return;
    report(StateChanged{state, state_});
    state_ = state;
}

// -------------------------------------------------------------------------- what its links report

void Engine::link_welcomed(Link& link, Welcomed welcome, const JsonResumption& resumption) {
    std::unique_ptr<Link> old;
    if (&link == next_.get()) {
        old = std::exchange(link_, std::move(next_));
    }
    move_failures_ = 0;
    refused_urls_ = 0;
    renew_token_ = false;
    token_cause_ = "connect";
    stable_at_ = after(context_.now, options_.stable);
    const std::optional<Resumed> resumed = resume(link, resumption);
    become(State::open);
    report(std::move(welcome));
    if (resumed) report(*resumed);
    pump();
    if (old != nullptr) {
        retired_.push_back(std::move(old));
        retired_.back()->retire();
    }
    if (link.identity_version != identity_version_ && link.phase() == Link::Phase::open)
        greet_again(link, HelloFor::login);
}

// Before anything new is sent. Returns what the program is told, where there was a session.
std::optional<Resumed> Engine::resume(Link& link, const JsonResumption& welcome) {
    const std::shared_ptr<ResumeWindow> before = session_;
    if (before != nullptr && welcome.resumed && welcome.token == before->token()) {
        auto resumption = before->resume(welcome, link.endpoint().url, context_.events);
        if (resumption) {
            link.session = before;
            const size_t resent = resumption->again.size();
            link.send_again(std::move(resumption->again));
            return Resumed{.resumed = true, .lost = resumption->lost, .resent = resent};
        }
    }
    const std::string why(welcome.why.empty() ? "new" : welcome.why);
    session_ = nullptr;
    // One that the server goes on with, by counts that cannot be, has no count here: the next
    // connection asks for a new one.
    if (!welcome.token.empty() && !welcome.resumed) {
        session_ = std::make_shared<ResumeWindow>(std::string(welcome.token), link.endpoint().url);
    }
    link.session = session_;
    if (before == nullptr) return std::nullopt;
    return Resumed{.unconfirmed = before->drop(why, context_.events), .why = why};
}

bool Engine::keeps_session(const Link& link) const {
    return state_ != State::closed && &link == link_.get() && link.session == session_ &&
           !link.moves;
}

void Engine::hello_welcomed(Link& link, HelloFor purpose, Welcomed welcome) {
    if (&link != link_.get()) return;
    if (purpose == HelloFor::renewal) {
        renew_token_ = false;
        end_renewal();
    }
    report(std::move(welcome));
}

void Engine::hello_refused(Link& link, HelloFor purpose, std::string why) {
    if (&link != link_.get()) return;
    if (purpose != HelloFor::renewal) return report(Reported{0, std::move(why)});
    rest_from_renewal(why);
}

bool Engine::link_told_goodbye(Link& link, const Cause& cause,
                               const std::optional<Endpoint>& target) {
    if (&link != link_.get()) return false;
    report(GoodbyeHeard{cause.code, cause.name, cause.retry_after, cause.move_to});
    if (!target || !may_move(target->url)) return false;
    link.moves = true;
    moved_to_ = target;
    move_failures_ = 0;
    again(cause, false, false);
    return true;
}

bool Engine::may_move(const std::string& url) {
    if (!options_.allow_move) return true;
    try {
        const Asking asking(*this);
        return options_.allow_move(url);
    } catch (const std::exception& error) {
        report(Reported{0, std::string("allow_move: threw: ") + error.what()});
        return false;
    }
}

void Engine::link_heard(Link& link, Event event) {
    if (&link != link_.get()) return;
    const bool expires = std::holds_alternative<TokenExpires>(event);
    const Nanos in = expires ? std::get<TokenExpires>(event).in : 0;
    report(std::move(event));
    if (!expires || !options_.token_source || renewals_left_ > 0) return;
    renew_token_ = true;
    renewals_left_ = kRenewalTries;
    renewal_pause_ = (in > 0 ? in : kExpiring) / (2 * kRenewalTries);
    renew();
}

void Engine::link_confirmed(Link&) { pump(); }

void Engine::set_aside(Link& link) {
    for (std::unique_ptr<Link>* at : {&link_, &next_}) {
        if (at->get() == &link) ended_.push_back(std::move(*at));
    }
    const auto found = std::ranges::find(retired_, &link, &std::unique_ptr<Link>::get);
    if (found == retired_.end()) return;
    ended_.push_back(std::move(*found));
    retired_.erase(found);
}

void Engine::link_ended(Link& link, const Cause& cause) {
    const bool was_next = &link == next_.get();
    const bool was_link = &link == link_.get();
    set_aside(link);
    if (was_next) return try_failed(cause);
    if (!was_link) return;
    end_renewal();
    const bool was_open = state_ == State::open;
    if (was_open) stable_at_ = kNever;
    if (link.moves) {  // another is to take over already, whatever this ended of
        link_ = std::move(next_);
        return become(link_ != nullptr ? State::connecting : State::waiting);
    }
    if (was_open) report(Lost{cause});
    const auto target =
        cause.move_to.empty() ? std::nullopt : move_target(cause.move_to, link.endpoint());
    if (target && may_move(target->url)) {
        moved_to_ = target;
        move_failures_ = 0;
        return again(cause, false, false);
    }
    if (was_open) return again(cause, false, false);
    try_failed(cause);
}

// ------------------------------------------------------------------------------ tokens, messages

// Where a server wants tokens, a hello without one changes nothing of a login.
void Engine::greet_again(Link& link, HelloFor purpose) {
    const bool renews = purpose == HelloFor::renewal;
    const Result<std::string> token = token_for(renews ? "expiring" : "login");
    if (!token) {
        if (renews) return rest_from_renewal(token.error());
        return report(Reported{0, token.error()});
    }
    link.identity_version = identity_version_;
    link.greet_again(purpose, hello_text(options_.identity, *token, std::nullopt));
}

void Engine::renew() {
    renew_at_ = kNever;
    if (renewals_left_ == 0 || link_ == nullptr || link_->phase() != Link::Phase::open)
        return end_renewal();
    --renewals_left_;
    greet_again(*link_, HelloFor::renewal);
}

void Engine::rest_from_renewal(const std::string& why) {
    report(Reported{0, "no new token: " + why});
    if (renewals_left_ > 0) renew_at_ = after(context_.now, renewal_pause_);
}

void Engine::end_renewal() {
    renew_at_ = kNever;
    renewals_left_ = 0;
}

void Engine::pump() {
    outbox_.expire(context_.now, context_.events);
    while (outbox_.count() > 0 && link_ != nullptr && link_->takes_messages()) {
        if (context_.transport.buffered(link_->id()) >= options_.buffered_max) return;
        if (!link_->has_room(outbox_.front(), outbox_.bounds())) return;
        link_->send(outbox_.take());
    }
}

}  // namespace pulse::client
