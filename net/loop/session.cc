// What comes before frames, and what the protocols' frames come to.
#include "net/loop/session.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "core/metrics.h"
#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/public_name.h"
#include "net/loop/usdt.h"
#include "net/protocols/probe_value.h"
#include "net/protocols/refusal.h"
#include "proto/limits.h"
#include "proto/proxy.h"
#include "proto/traceparent.h"

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
    const bool comes_before = stage() == Stage::proxy || stage() == Stage::tls;
    if (comes_before || protocol().greets_at_once) return greet();
    connections_.begin_heartbeats(index_);
}

void Session::receive(std::span<uint8_t> bytes) {
    if (connections_.authentication().puts_off(index_)) {
        share_.pause();
        rest_ = bytes;
        return;
    }
    switch (stage()) {
        case Stage::open:
            return protocol().receive(*this, bytes);
        case Stage::proxy:
            if (!take_proxy_header(bytes)) return;
            if (stage() == Stage::tls) return continue_handshake(bytes);
            [[fallthrough]];
        case Stage::detect:
            return detect(bytes);
        case Stage::http:
            return protocol().handshake(*this, bytes);
        case Stage::tls:
            return continue_handshake(bytes);
        case Stage::free:
        case Stage::closing:
        case Stage::closed:
            return;
    }
}

void Session::resume(std::span<uint8_t> message, std::span<uint8_t> bytes) {
    resumed_ = true;
    if (!message.empty() && !stopped()) protocol().resume(*this, message);
    resumed_ = false;
    if (bytes.empty() || stopped()) return;
    if (share_.paused()) {
        rest_ = bytes;
    } else {
        receive(bytes);
    }
}

// ------------------------------------------------------------------------- what a protocol calls

bool Session::hold(std::span<const uint8_t> piece) {
    // The codec bounds messages; a control frame may lie behind an unfinished one.
    const size_t most = std::max(shared_.limits.message_bytes_max, kHandshakeBytesMax);
    return connections_.hold(index_, piece, most + kControlPayloadBytesMax);
}

void Session::finish(const Decoded& decoded, std::span<uint8_t> input) {
    if (decoded.rest_bytes > 0) {
        rest_ = {input.data() + input.size() - decoded.rest_bytes, decoded.rest_bytes};
    }
    if (!decoded.ok()) fail(decoded);
}

void Session::on_ping() { answered(); }

// Of those that a peer asked to have one in k answered, the k-th is.
bool Session::on_heartbeat() {
    if (connection_.unanswered == connection_.one_way) [[likely]] {
        connection_.unanswered = 0;
        answered();
        return true;
    }
    ++connection_.unanswered;
    proof();
    connections_.metrics().add(Metric::heartbeats_received);
    trace_frame();
    return false;
}

// Where a round trip is wanted a pong proves life only if a probe is out and this is its value.
void Session::on_pong(const ProbeAnswer& answer) {
    const bool proves = !wants_roundtrip() ||
                        answers_probe(connections_.config().probe_key,
                                      connections_.table().id(index_), connection_.heard, answer);
    if (!proves) return on_frame();
    measure_round_trip();
    proof();
    connections_.metrics().add(Metric::probe_answers);
    connections_.trace_other(index_, true);
    trace_frame();
}

// Nothing is remembered of a probe but that it is out: it left when it was due, or its silence
// begins later for it (heartbeat_policy.h). To a tick, and with what the judge lagged.
void Session::measure_round_trip() {
    const TickClock& clock = connections_.config().clock;
    const Nanos now = connections_.now();
    const HeartbeatConfig& heartbeat = connections_.heartbeat_of(connection_);
    const Tick due =
        heartbeat_first_probe_due(connection_.heard, index_, clock.down(now), heartbeat);
    if (due == kNoTick || clock.begins(due) > now) return;
    const Nanos took = now - clock.begins(due);
    if (heartbeat.quick_ticks != 0) connections_.note_answer(index_, took);
    if (probes_sent(connection_.heard) == 1)
        connections_.metrics().distributions.probe_round_trip.record(took);
}

void Session::on_frame() {
    complete_message();
    connections_.trace_other(index_, false);
    connections_.frame(connection_);
    trace_frame();
}

// Takes the profile that a hello names, or keeps the one it has; false if it is none of ours.
// The first probe is spread anew: a storm of hellos must not become a storm of probes. Where a
// round trip is wanted a hello proves none, and the silence goes on. One that names a user is
// answered once its login is; heartbeats go on meanwhile.
bool Session::on_hello(const JsonMessage& hello, uint32_t sequence) {
    if (stopped()) return false;  // it was one message too many
    if (hello.probe || is_side(connection_)) return begin_side(hello);
    NatSilence found;
    if (!read_nat(hello, found)) return false;
    uint8_t profile = connections_.own_profile(index_);
    if (!hello.profile.empty()) {
        const std::optional<uint8_t> named = profile_named(hello.profile);
        if (!named) {
            report_error({"is not a profile of this server", "profile"});
            return false;
        }
        profile = *named;
    }
    UserHello named{.user = hello.user,
                    .device = hello.device,
                    .labels = hello.labels_text,
                    .sequence = sequence,
                    .asks_answer_every = hello.answer_every > 0,
                    .seen = hello.resume_last_seq};
    named.resume.wanted = hello.resume;
    if (hello.resume_token.data() != nullptr) read_resume_token(hello.resume_token, named.resume);
    const std::optional<Authentication::Bearer> bearer = bearer_of(named, hello.token);
    if (!bearer) return false;
    const UserHello& login = bearer->login;
    if (!login.user.empty()) {
        const std::string_view wait = connections_.logins().reason_to_wait(index_, login);
        if (!wait.empty()) {
            connections_.metrics().add(Metric::logins_put_off);
            send_error(CloseReason::server_full, wait);
            return false;
        }
    }
    const bool asks = !hello.profile.empty() && asked_profile(profile) != kProfileDefault &&
                      profile_at(profile) != profile_at(connections_.place_told(index_));
    if (!asks) {
        connections_.announce_by_welcome(index_, profile, !wants_roundtrip());
    } else if (wants_roundtrip()) {
        connections_.change_profile(index_, profile);
    } else {
        connections_.set_profile(index_, profile);
    }
    connections_.keep_profile(index_, profile);
    if (hello.nat && network()) connections_.take_nat(index_, *network(), login.user, found);
    if (hello.answer_every > 0) set_answer_every(hello.answer_every);
    if (!hello.traceparent.empty() && connections_.reads_trace())
        connections_.join_trace(index_,
                                parse_traceparent(hello.traceparent).value_or(TraceContext{}));
    if (!login.user.empty()) {
        connections_.authentication().log_in(index_, *bearer);
        return false;
    }
    connections_.metrics().add(Metric::hellos);
    connections_.trace_hello(index_);
    connections_.group_anonymous(index_, false);
    return !stopped();
}

// Its heartbeats are counted anew from this hello on.
void Session::set_answer_every(uint32_t answer_every) {
    connection_.one_way = (answer_every - 1) & 7;  // all of it: the parser lets no more pass
    connection_.unanswered = 0;
    names_answer_every_ = true;
}

// Who the hello is, by its token; none where it was refused.
std::optional<Authentication::Bearer> Session::bearer_of(const UserHello& hello,
                                                         std::string_view token) {
    Authentication& authentication = connections_.authentication();
    const Authentication::Bearer bearer = authentication.judge_hello(index_, hello, token);
    if (bearer.failure == AuthFailure::none) return bearer;
    authentication.refused(index_, bearer.failure);
    refuse_token(bearer.failure);
    return std::nullopt;
}

AuthFailure Session::judge(std::string_view token, uint32_t count) {
    return connections_.authentication().judge_upgrade(index_, token, count);
}

void Session::refuse_token(AuthFailure failure) {
    const AuthFailureInfo& info = describe(failure);
    FixedText<256> words;
    words << info.word << ": " << info.sentence;
    send_error(CloseReason::unauthorized, words.view());
    connections_.begin_close(index_, {CloseReason::unauthorized, words.view()});
}

void Session::send_expiring(uint32_t in_ms) {
    if (protocol().expiring != nullptr) protocol().expiring(*this, in_ms);
}

// One that is logged in is sent away behind the welcome of its login, or in its time.
void Session::on_welcomed() {
    if (!is_logged_in(connection_) && !is_side(connection_)) connections_.send_away(index_);
}

// {"type":"welcome","conn":"r3-000123-9","interval_ms":60000,"timeout_ms":120000}, and what holds
// of answer_every where the hello asked for it or it is not 1.
WelcomeText Session::welcome() const {
    WelcomeText text = begin_welcome();
    add_nat(text);
    return text << "}";
}

WelcomeText Session::begin_welcome() const {
    connections_.note_welcome(index_);
    const uint8_t told = connections_.place_told(index_);
    WelcomeText text;
    text << R"({"type":"welcome","conn":")" << name().view() << R"(","interval_ms":)"
         << uint64_t{connections_.config().interval_ms[told]} << R"(,"timeout_ms":)"
         << uint64_t{connections_.config().timeout_ms[told]};
    if (names_answer_every_ || answer_every() != 1)
        text << R"(,"answer_every":)" << uint64_t{answer_every()};
    return text;
}

// ,"resume":{"token":"...","hold_ms":30000,"resumed":true,"received":7,"from":12,"lost":0}; where a
// session was named and is not resumed, with "why" in the place of the last three.
void Session::add_resumable(WelcomeText& text, const ResumeWelcome& resumable) const {
    const Nanos hold = connections_.config().options->resume_hold;
    text << R"(,"resume":{"token":")" << resumable.token.view() << R"(","hold_ms":)"
         << static_cast<uint64_t>(hold / kMillisecond);
    if (resumable.resumed) {
        text << R"(,"resumed":true,"received":)" << resumable.received << R"(,"from":)"
             << resumable.from << R"(,"lost":)" << resumable.lost << "}";
        return;
    }
    constexpr std::string_view kWhy[] = {"", "unknown", "ended", "protocol", "ahead"};
    text << R"(,"resumed":false)";
    if (resumable.miss != ResumeParcel::Miss::none)
        text << R"(,"why":")" << kWhy[static_cast<size_t>(resumable.miss)] << "\"";
    text << "}";
}

// The same with ,"user":"u1","device":"ios","session":"new" behind it.
void Session::welcome_user(const UserHello& hello, const LoginAnswer& answer,
                           const ResumeWelcome* resumable) {
    connections_.metrics().add(Metric::hellos);
    connections_.trace_hello(index_);
    connections_.logged_in(index_, hello.user);
    names_answer_every_ = hello.asks_answer_every;
    WelcomeText text = begin_welcome();
    const auto add = [&text](std::string_view key, std::string_view value) {
        text << ",\"" << key << "\":\"";
        json::write_escaped(text.claim(json::escaped_bytes(value)), value);
        text << "\"";
    };
    add("user", hello.user);
    if (!hello.device.empty()) add("device", hello.device);
    const bool refreshes = answer.verdict == LoginAnswer::Verdict::refreshed;
    const bool resumes = resumable != nullptr && resumable->resumed;
    add("session", refreshes         ? "refreshed"
                   : resumes         ? "resumed"
                   : answer.replaces ? "took_over"
                                     : "new");
    if (resumable != nullptr) add_resumable(text, *resumable);
    add_nat(text);
    text << "}";
    protocol().welcome(*this, hello.sequence, text.view());
}

void Session::refuse_login(CloseReason reason, std::string_view words, bool closes) {
    send_error(reason, words);
    if (closes) connections_.begin_close(index_, CloseCause(reason).noted(words));
}

// What is sent is kept before: it may be what ends the connection.
bool Session::wants_echo(MessageForm form, uint32_t sequence, std::span<const uint8_t> bytes) {
    Resumption& resumption = connections_.logins().resumption();
    if (resumption.any()) resumption.count_received(index_);
    const bool echo = connections_.config().options->on_message == OnMessage::echo;
    if (echo && connections_.drops_data()) [[unlikely]] {
        connections_.metrics().add(Metric::messages_dropped);
        return false;
    }
    connections_.metrics().add(echo ? Metric::messages_echoed : Metric::messages_discarded);
    if (echo && resumption.any())
        resumption.keep(index_, connections_.now(), static_cast<uint8_t>(form), sequence, bytes);
    return echo;
}

void Session::on_ack(uint64_t received) {
    if (!stopped() && !connections_.logins().resumption().acknowledge(index_, received))
        report_error({"is more than was sent", "received"});
}

void Session::send_data(std::string_view text) {
    Resumption& resumption = connections_.logins().resumption();
    if (resumption.any())
        resumption.keep(index_, connections_.now(), static_cast<uint8_t>(MessageForm::words), 0,
                        {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
    protocol().data(*this, text);
}

// One that ends the connection goes home with all that is kept.
void Session::send_again() {
    uint64_t sent = 0;
    connections_.logins().resumption().each(index_, [&](const ResumeWindow::Kept& kept) {
        const auto form = static_cast<MessageForm>(kept.kind);
        if (stopped()) return false;
        ++sent;
        if (form == MessageForm::words)
            protocol().data(*this, {reinterpret_cast<const char*>(kept.bytes.data()),
                                    kept.bytes.size()});
        else
            protocol().again(*this, form, kept.sequence, kept.bytes);
        return !stopped();
    });
    connections_.logins().resumption().count_resent(sent);
}

// The message goes with the codec's next step, or lies in the parking already.
void Session::keep_message(std::span<uint8_t> rest) {
    message_rest_ = rest;
    if (resumed_) return;
    kept_message_ = connections_.keep(index_, rest);
    if (kept_message_ == 0) fail({CloseReason::out_of_memory, "no memory for the message"});
}

HandshakePolicy Session::handshake_policy() {
    const LoopOptions& options = *connections_.config().options;
    return {.origins = options.ws_origins,
            .deflate = options.ws_deflate,
            .ready = connections_.ready(),
            .tokens = connections_.authentication().on() ? this : nullptr,
            .reads_trace = connections_.reads_trace()};
}

void Session::open(const TraceContext& trace) {
    connections_.set_stage(index_, Stage::open);
    connections_.join_trace(index_, trace);
    connections_.trace_upgraded(index_);
    connections_.begin_heartbeats(index_);
    connections_.authentication().upgraded(index_);
}

void Session::report_error(const JsonFault& wrong) {
    connections_.metrics().add(Metric::offences);
    FixedText<512> words;
    if (!wrong.key.empty()) words << "'" << wrong.key << "' ";
    words << wrong.what << " (at byte " << uint64_t{wrong.offset} << ")";
    set_dialect(Dialect::json);
    send_error(CloseReason::invalid_data, words.view());
    if (stopped()) return;
    if (connection_.offences == kOffencesMax - 1)
        return connections_.begin_close(index_, CloseReason::too_many_offences);
    ++connection_.offences;
}

void Session::fail(const Decoded& decoded) {
    if (stopped()) return;
    connections_.metrics().add(Metric::faults);
    if (!protocol().goodbye_says_all) send_error(decoded.fault, decoded.detail);
    connections_.begin_close(index_, {decoded.fault, decoded.detail});
}

// ------------------------------------------------------------------------------------- bytes out

FixedText<512> Session::name() const {
    FixedText<512> text;
    return text
           << public_name(connections_.config().number, connections_.table().id(index_)).view();
}

void Session::send_probe() {
    if (protocol().ping == nullptr) return;
    if (!wants_roundtrip()) return protocol().ping(*this, nullptr);
    const ProbeValue value = probe_value(connections_.config().probe_key,
                                         connections_.table().id(index_), connection_.heard);
    protocol().ping(*this, &value);
}

void Session::send_goodbye(CloseReason reason, std::string_view detail) {
    if (describe(reason).code == 1000 || protocol().goodbye == nullptr) return;
    // To a balancer that has not said whose connection this is: it would pass the words on. Nor
    // before the end of a handshake, which they would break.
    if (stage() == Stage::proxy || stage() == Stage::tls) return;
    FixedText<512> words;
    protocol().goodbye(*this, goodbye_of(reason, detail, words));
}

bool Session::send_move(std::string_view to) {
    if (stage() != Stage::open || protocol().move == nullptr) return false;
    FixedText<512> words;
    protocol().move(*this, goodbye_of(CloseReason::moved, to, words));
    return true;
}

// With its words in `words`.
Goodbye Session::goodbye_of(CloseReason reason, std::string_view detail, FixedText<512>& words) {
    const bool come_back =
        reason == CloseReason::going_away || reason == CloseReason::max_lifetime ||
        reason == CloseReason::address_share || reason == CloseReason::overloaded ||
        reason == CloseReason::moved ||
        reason == CloseReason::message_rate || reason == CloseReason::user_message_rate;
    Goodbye goodbye{.reason = reason};
    const auto draw_ms = [this](Nanos least) {
        return static_cast<uint32_t>(connections_.draw_time_away(least) / kMillisecond);
    };
    if (reason == CloseReason::moved) goodbye.move_to = detail;
    if (reason == CloseReason::going_away || reason == CloseReason::moved ||
        reason == CloseReason::max_lifetime)
        goodbye.retry_after_ms = draw_ms(connections_.config().options->drain_retry_after);
    else if (reason == CloseReason::overloaded)
        goodbye.retry_after_ms = draw_ms(kOverloadAwayNs);
    else if (come_back)
        goodbye.retry_after_ms = connections_.config().retry_after_ms;
    words << describe(reason).text;
    if (!detail.empty()) words << ": " << detail;
    if (come_back && goodbye.retry_after_ms > 0) {
        words << "; retry_after_ms=" << uint64_t{goodbye.retry_after_ms};
    }
    goodbye.words = words.view();
    return goodbye;
}

void Session::send_error(CloseReason reason, std::string_view words) {
    if (protocol().error != nullptr) protocol().error(*this, describe(reason).code, words);
}

void Session::send_interval(uint8_t profile) {
    if (!hears_of_intervals()) return;
    protocol().interval(*this, connections_.config().interval_ms[profile],
                        connections_.config().timeout_ms[profile], answer_every());
}

// Its handshake, or its first complete message, has this long.
void Session::greet() { connections_.set_profile(index_, kProfileGreeting); }

const ListenAddress& Session::listener() const {
    return connections_.config().options->listen[connection_.listener];
}

// What each heartbeat comes to is inlined by force: g++ 12 takes each line of a probe's note for an
// instruction, and would call it. The probe is last: nothing has to be loaded again behind it.
[[gnu::always_inline]] inline void Session::answered() {
    proof();
    const Connections& connections = connections_;  // loaded once
    ReactorMetrics& metrics = connections_.metrics();
    metrics.add(Metric::heartbeats_received);
    metrics.add(Metric::heartbeats_answered);
    usdt::frame(connections.config().number, index_);
}

[[gnu::always_inline]] inline void Session::proof() {
    complete_message();
    connections_.count_heartbeat(index_);
    connections_.proof(connection_);
}

[[gnu::always_inline]] inline void Session::trace_frame() const {
    usdt::frame(connections_.config().number, index_);
}

bool Session::wants_roundtrip() const {
    return connections_.heartbeat_of(connection_).liveness == Liveness::roundtrip;
}

// The first one ends the greeting.
[[gnu::always_inline]] inline void Session::complete_message() {
    connections_.metrics().add(Metric::frames_received);
    if (is_greeting(connection_)) [[unlikely]]
        connections_.begin_heartbeats(index_);
    connections_.count_message(index_);
}

std::optional<uint8_t> Session::profile_named(std::string_view name) const {
    const std::vector<std::string>& names = connections_.config().profile_names;
    for (size_t i = kProfileDefault; i < names.size(); ++i) {
        if (names[i] == name) return connections_.place_for(index_, static_cast<uint8_t>(i));
    }
    return std::nullopt;
}

// ---------------------------------------------------------------------- what comes before frames

// Takes the header, or as much of it as has come; true if there is something behind it. The
// handshake deadline goes on: a peer has one, whichever way it comes.
bool Session::take_proxy_header(std::span<uint8_t>& bytes) {
    HeadSink sink{{*this}};
    const ProxyHeader header = read_proxy_header(bytes, sink);
    if (!header.fault.ok()) {
        connections_.metrics().add(Metric::faults);
        connections_.log_debug(index_, "refused: ", header.fault.detail);
        const bool no_memory = header.fault.fault == CloseReason::out_of_memory;
        connections_.begin_close_silent(
            index_, {no_memory ? CloseReason::out_of_memory : CloseReason::bad_proxy_header,
                     header.fault.detail});
        return false;
    }
    if (header.bytes == 0) return false;
    connections_.set_stage(index_, listener().tls ? Stage::tls : Stage::detect);
    connections_.metrics().add(Metric::proxy_headers);
    const SocketAddress source = address_of(header.source);
    connections_.set_peer_address(index_, source);
    if (const std::optional<Refusal> refusal = connections_.count_address(index_, source)) {
        refuse(*refusal);
        return false;
    }
    if (!is_live(connection_.stage)) return false;  // it gave way to others of its address
    if (stage() == Stage::detect && !protocol().greets_at_once)
        connections_.begin_heartbeats(index_);
    return !bytes.empty();
}

// As at the accept, where its address was not known: in the words of its listener's protocol.
void Session::refuse(const Refusal& refusal) {
    const RefusalMessage words =
        listener().tls ? tls_refusal()
                       : kProtocols[listener().protocol]->refuse(
                             refusal.reason, connections_.retry_after_ms(refusal));
    append(words.bytes());
    connections_.begin_close_silent(index_, refusal.reason);
}

// A part of a handshake; what comes behind its end is plaintext for the next stages. Where
// handshakes have had what they may of this turn, it waits for another as parked bytes do.
void Session::continue_handshake(std::span<uint8_t> records) {
    if (puts_off_tls(records)) return;
    if (connection_.tls == 0) {
        if (began_without_tls(records) || !connections_.begin_tls(index_)) return;
    }
    const TlsConnections::Read read = connections_.read_records(index_, records);
    if (!read.plain.empty()) receive(read.plain);
    // What it sent before its end is to be decoded first: Connections::resume() goes on.
    if (read.ended && share_.paused()) return;
    connections_.end_records(index_, read);
}

// True: they wait. To look at one that waits is work, too, of which a turn does so much.
bool Session::puts_off_tls(std::span<uint8_t> records) {
    if (!connections_.puts_off_tls(index_)) return false;
    share_.spend(kFrameWork);
    share_.pause();
    rest_ = records;
    return true;
}

bool Session::may_turn_to_tls() const {
    return connection_.protocol == kUndetected && connection_.tls == 0 && connections_.serves_tls();
}

// It began with a handshake of TLS, of which `held` came before.
void Session::turn_to_tls(std::span<uint8_t> held, std::span<uint8_t> records) {
    if (puts_off_tls(records)) return;
    keep_held(0);
    connections_.set_stage(index_, Stage::tls);
    if (!connections_.begin_tls(index_)) return;
    if (!held.empty()) connections_.read_records(index_, held);  // not yet a record's header
    continue_handshake(records);
}

// True where it begins with what is spoken here without TLS, and is told so in those words.
bool Session::began_without_tls(std::span<const uint8_t> first_bytes) {
    const FirstBytes first =
        classify(first_bytes.first(std::min(first_bytes.size(), kDetectBytesMax)));
    if (first.kind != WireKind::spoken) return false;
    constexpr std::string_view kWords =
        "this listener speaks TLS only: connect by wss://, or by TLS below your protocol";
    const Protocol& began = *kProtocols[first.protocol];
    connections_.metrics().add(Metric::faults);
    connections_.log_debug(index_, "began without TLS: ", began.prefix_name);
    connections_.notices().foreign(began.prefix_name, name().view(), listener().text);
    append(began.reject(describe(CloseReason::wrong_protocol).code, kWords).bytes());
    connections_.begin_close_silent(index_, {CloseReason::wrong_protocol, kWords});
    return true;
}

// Once for each connection, before its first byte is decoded: a line that begins with `GET ` in
// mid-conversation is a line. The first bytes may come one by one; those before them are held,
// and are few.
void Session::detect(std::span<uint8_t> bytes) {
    if (!is_greeting(connection_)) greet();
    uint8_t start[kReceiveFrontBytes + kDetectBytesMax + kReceivePadBytes] = {};
    const std::span<uint8_t> before = held();
    const size_t held_bytes = before.size();
    PULSE_ASSERT(held_bytes < kDetectBytesMax);  // as many bytes would have left one protocol
    const size_t more = std::min(bytes.size(), kDetectBytesMax - held_bytes);
    const std::span<uint8_t> all{start + kReceiveFrontBytes, held_bytes + more};
    std::copy(before.begin(), before.end(), all.begin());
    std::copy_n(bytes.begin(), more, all.begin() + static_cast<std::ptrdiff_t>(held_bytes));
    const FirstBytes first = classify(all, connection_.protocol);
    if (first.kind == WireKind::undecided) {
        if (!hold(bytes)) fail({CloseReason::out_of_memory, "no memory to listen with"});
        return;
    }
    if (first.kind == WireKind::tls && may_turn_to_tls())
        return turn_to_tls(all.first(held_bytes), bytes);
    if (!first.fault.ok() && speaks_other_protocol(all, first)) {
        connections_.metrics().add(Metric::faults);
        const RefusalMessage words = reject(first);
        if (!words.view().empty()) append(words.bytes());
        return connections_.begin_close_silent(index_, {first.fault.fault, first.fault.detail});
    }
    keep_held(0);
    if (connection_.protocol == kUndetected) becomes(first.protocol);
    connections_.set_stage(index_, protocol().handshake != nullptr ? Stage::http : Stage::open);
    if (held_bytes > 0) receive(all.first(held_bytes));
    receive(bytes);
}

// It does not speak what its listener does, and is logged. True if it is to be told so; what is not
// a protocol at all is for the codec of a listener of one protocol to judge.
bool Session::speaks_other_protocol(std::span<const uint8_t> first_bytes, const FirstBytes& first) {
    const std::string_view name = name_of_what_began(first_bytes, first);
    connections_.log_debug(index_, "began with what is not spoken here",
                           name.empty() ? "" : std::string(": ").append(name));
    if (!name.empty()) connections_.notices().foreign(name, this->name().view(), listener().text);
    return first.kind != WireKind::unknown || connection_.protocol == kUndetected;
}

}  // namespace pulse
