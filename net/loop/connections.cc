// Beginnings, phases, what other threads ask, and what can be read.
#include "net/loop/connections.h"

#include <cerrno>
#include <memory>
#include <numeric>
#include <utility>
#include <variant>

#include "net/loop/kernel_bounds.h"
#include "net/loop/session.h"
#include "net/loop/usdt.h"

namespace pulse {
namespace {

// What each kind of message does. A kind that is missing here does not compile.
struct Handle {
    Connections& connections;
    const Payload& payload;
    const Acknowledgement& acknowledgement;

    void operator()(const Message::Snapshot&) const {}
    void operator()(const Message::Kick& kick) const { connections.kick(kick.target, kick.reason); }
    void operator()(const Message::Reload&) const {
        connections.reload(payload.as<std::shared_ptr<const LoopOptions>>());
    }
    void operator()(const Message::GiveWay& m) const {
        connections.give_way(m.address, m.left, kNoIndex);
    }
    void operator()(const Message::Login& login) const {
        connections.logins().handle(login, payload.as<LoginTexts>());
    }
    void operator()(const Message::LoginAnswered& m) const {
        connections.logins().handle(m, payload);
    }
    void operator()(const Message::SessionEnded& m) const {
        connections.logins().handle(m, payload);
    }
    void operator()(const Message::SessionSuspect& m) const { connections.logins().handle(m); }
    void operator()(const Message::SessionTaken& m) const { connections.logins().handle(m); }
    void operator()(const Message::Regroup& m) const { connections.logins().handle(m); }
    void operator()(const Message::NatFound& m) const { connections.note_nat(m); }
    void operator()(const Message::Revoke&) const {
        for (const std::string& token_id : payload.as<std::vector<std::string>>())
            connections.revoke(token_id);
    }
    void operator()(const Message::Drain&) const { connections.drain(); }
    void operator()(const Message::Stop&) const {
        connections.drain();
        connections.stop_hard();
    }
    void operator()(const Message::Run&) const {
        connections.begin_job(*payload.as<Job*>(), acknowledgement);
    }
};

}  // namespace

Connections::Connections(const ReactorConfig& config, PageSource& pages, ConnectionTable& table,
                         IoRequests& io, ReactorMetrics& metrics)
    : config_(config),
      table_(table),
      io_(io),
      metrics_(metrics),
      wheel_(pages, table.records(), table.limit(), config.clock.down(io.now())),
      message_rates_(pages, table.limit(), config.users),
      beginnings_(pages, table.limit()),
      sharing_(pages, table.limit()),
      anonymous_(pages, table.limit()),
      answer_times_(pages, table.limit()),
      adaptive_(pages, table.limit()),
      announced_(pages, table.limit()),
      idle_rows_(pages, table.limit()),
      tls_(pages, buffers_, table.limit()),
      stays_(pages, table.limit()),
      history_(pages, table.limit(), io.now()),
      traces_(pages, config.traces),
      listener_timeout_ms_(config.timeout_ms[kProfileDefault]) {
    std::iota(profile_place_.begin(), profile_place_.end(), uint8_t{0});
    set_logging();
    set_cohorts();
    set_limits();
    set_idle();
    if (config_.traces != nullptr && !traces_.on() && config_.warn)
        config_.warn("no address space for traces: none is made (--otlp-endpoint)");
}

void Connections::on_accept(const Accepted& accepted) {
    ++came_;
    const uint32_t address = number_of(accepted.peer, config_.probe_key);
    const Admitted admitted = admit(accepted, address);
    if (admitted.refusal) return refuse(accepted, *admitted.refusal);
    const Index index = table_.take();
    Connection& connection = at(index);
    connection.listener = accepted.listener & (kListenersMax - 1);
    connection.address = address;
    if (admitted.counted) connection.flags |= kCounted;
    io_.attach(index, accepted);
    metrics_.add(Metric::accepted);
    authentication_.accepted(index);
    const ListenAddress& listener = config_.options->listen[accepted.listener];
    connection.protocol = listener.protocol;
    if (listener.tls) connection.stage = Stage::tls;
    if (listener.expects_proxy_header) connection.stage = Stage::proxy;
    population_.enters(connection);
    message_rates_.begin(index);
    beginnings_.begin(index, io_.now());
    anonymous_.begin(index);
    answer_times_.begin(index);
    adaptive_.begin(index);
    announced_.begin(index);
    stays_.begin(index);
    connection.user = history_.accepted(index, listener.expects_proxy_header, io_.now());
    if (traces_.on()) [[unlikely]]
        trace_accepted(index);
    if (logs_peers_) {
        log_debug(index, "accepted from ", accepted.peer.text() + " on " + listener.text);
    }
    if (samples()) log_accept(index, accepted);
    usdt::accept(config_.number, index, connection.generation, accepted.listener);
    Session(*this, index).begin();
    begin_share(index);
}

// Who the peer of a connection is: known when it is accepted, and again when a PROXY header names
// another. Without an address (LOCAL, UNKNOWN) it is the proxy itself.
void Connections::set_peer_address(Index index, const SocketAddress& peer) {
    if (peer.present()) {
        at(index).address = number_of(peer, config_.probe_key);
        history_.named(index, plain_address(peer));
    }
    if (logs_peers_) log_debug(index, "speaks for ", peer.present() ? peer.text() : "its proxy");
}

// A connection enters a phase: its silence starts now, and the wheel is told if that is sooner.
void Connections::set_profile(Index index, uint8_t profile) {
    Connection& connection = at(index);
    drop_announced(index);
    bound_silence(index, connection.profile, profile);
    connection.profile = profile;
    set_handshaking(connection, profile == kProfileGreeting);
    // Outside poll, now() may be from before a pause of this thread; a phase must not begin
    // in the past.
    const Tick now = config_.clock.up(io_.clock());
    // Nor is what follows in the same bytes older than the phase: the wheel knows its deadline.
    heard_now_ = heard_at(now);
    const HeartbeatStep step =
        heartbeat_step(0, HeartbeatEvent::connected, index, now, heartbeat_of(connection));
    connection.heard = step.heard;
    const Tick idle_look = idle_.on() ? begin_idle(index) : kNoTick;
    wheel_.arm(index, std::min({step.next, life_ends(index), idle_look}));
}

// The kernel's bounds follow the heartbeats. While it greets, it has those of its listener, and
// when it closes those of before.
void Connections::bound_silence(Index index, uint8_t before, uint8_t now) {
    if (now < kProfileDefault) return;
    const auto timeout = [this](uint8_t profile) {
        return (profile < kProfileDefault ? listener_timeout_ms_ : config_.timeout_ms[profile]) *
               kMillisecond;
    };
    const SocketOptions bounds = changed_bounds(*config_.options, timeout(before), timeout(now));
    if (bounds.tcp_keepalive > 0 || bounds.tcp_user_timeout > 0) io_.bound_silence(index, bounds);
}

// The same phase goes on under another profile: so does the silence.
void Connections::change_profile(Index index, uint8_t profile) {
    Connection& connection = at(index);
    drop_announced(index);
    if (connection.profile == profile) return;
    bound_silence(index, connection.profile, profile);
    connection.profile = profile;
    // Its probes left by other times.
    if (probes_sent(connection.heard) > 0) connection.heard = heard_excused(connection.heard);
    const Tick now = config_.clock.up(io_.now());
    // Probes that were sent are counted in the new intervals from now on; a proof that follows may
    // want the next look sooner.
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    const AnswerWait wait = answer_wait(index);
    wheel_.arm(index, std::min({heartbeat_deadline(connection.heard, index, now, heartbeat, wait),
                                heartbeat_deadline(heard_at(now), index, now, heartbeat),
                                life_ends(index), idle_.on() ? begin_idle(index) : kNoTick}));
}

// Of those that it has no message for yet: it is judged by what the flags say.
void Connections::begin_heartbeats(Index index) { set_profile(index, place_of(kProfileDefault)); }

void Connections::on_bytes(Index index, std::span<uint8_t> bytes) {
    ++deliveries_;
    metrics_.add(Metric::bytes_received, bytes.size());
    heard_now_ = heard_at(config_.clock.up(io_.now()));
    const Connection& connection = at(index);
    if ((connection.tls | connection.clocked) != 0) [[unlikely]] {
        if (connection.clocked != 0) note_idle_read(index);
        if (connection.tls != 0 && connection.stage != Stage::tls) return on_records(index, bytes);
    }
    const size_t unfinished = unfinished_bytes(index);
    deliver(index, bytes);
    if (connection.inbox != 0 || is_greeting(connection))
        credit_upload(index, unfinished, bytes.size());
}

[[gnu::always_inline]] inline void Connections::deliver(Index index, std::span<uint8_t> bytes) {
    // What arrives after our goodbye is drained and dropped, so that no reset destroys the goodbye.
    Session session(*this, index);
    session.receive(bytes);
    if (session.left_something()) return park(index, session);
    if (session.kept_message() != 0) buffers_.release(session.kept_message());
    if (at(index).stage >= Stage::closing) drop_unfinished(index);
}

// Of one whose handshake is over. What has come of a record is on its way as what has come of a
// message is: a peer behind a slow link may need longer for one than its timeout.
void Connections::on_records(Index index, std::span<uint8_t> records) {
    if (at(index).stage >= Stage::closing || !tls_.has(index)) return;
    const size_t before = incoming_bytes(index);
    const TlsConnections::Read read = read_records(index, records);
    if (!read.plain.empty()) deliver(index, read.plain);
    credit_upload(index, before, records.size());
    end_records(index, read);
}

void Connections::handle(const Message& message) {
    metrics_.add(Metric::control_messages);
    usdt::mailbox(config_.number, static_cast<uint32_t>(message.body.index()));
    const Acknowledgement& acknowledgement = message.acknowledgement;
    std::visit(Handle{*this, message.payload, acknowledgement}, message.body);
    if (std::holds_alternative<Message::Run>(message.body)) return;  // when its job has ended
    if (acknowledgement.call != nullptr)
        acknowledgement.call(acknowledgement.context, config_.number);
}

void Connections::share_out() {
    Balance* const balance = config_.balance;
    if (balance == nullptr || draining_) return;
    balance->report(config_.number, table_.live(), came_);
    if (!balance->is_due(config_.number)) return;
    const auto apply = [this](std::span<const uint32_t> shares) {
        return io_.spread_accepts(shares);
    };
    if (!balance->look(config_.number, apply)) notices_.cannot_spread(errno);
}

void Connections::kick(ConnectionId target, CloseReason reason) {
    if (table_.find(target) != nullptr) begin_close(target.index, reason);
}

void Connections::report_notices(uint64_t completions_lost) {
    notices_.completions_lost(completions_lost);
    if (notices_.due_at() > io_.now()) return;
    notices_.report(io_.now(), buffers_.held_bytes(), config_.options->buffer_bytes);
}

void Connections::fill(ReactorStats& stats) const {
    stats.metrics = metrics_.snapshot();
    stats.distributions = metrics_.distributions;
    stats.io = io_.counters();
    stats.gauges = metrics_.gauges;
    stats.population = population_.counts();
    stats.gauges.live = table_.live();
    stats.gauges.reactor_connections_max = table_.limit();
    logins_.fill(stats.gauges);
    stats.gauges.tokens_bytes = authentication_.bytes();
    stats.gauges.tls_connections = tls_.count();
    stats.gauges.tls_handshaking = tls_.handshaking();
    stats.gauges.tls_frozen = tls_.frozen();
    stats.gauges.tls_frozen_bytes = tls_.frozen_bytes();
    stats.gauges.wheel_entries = wheel_.entries();
    stats.gauges.wheel_entries_upper = wheel_.upper_entries();
    stats.gauges.buffers = buffers_.taken();
    stats.gauges.send_queue = outboxes_.waiting_bytes();
    stats.rings = wheel_.rings();
    stats.rings.tick = config_.clock.tick_ns();
    stats.gauges.records_bytes = table_.backed_bytes();
    stats.gauges.wheel_bytes = wheel_.memory_bytes();
    stats.gauges.buffers_bytes = buffers_.held_bytes();
    stats.gauges.ledger_bytes = history_.memory_bytes() + traces_.memory_bytes();
    stats.gauges.backend_bytes = io_.memory_bytes();
    // Tables of all reactors: of the first.
    const auto shared = [this](const AddressTable* all) {
        return all != nullptr && config_.number == 0 ? all->memory_bytes() : 0;
    };
    stats.gauges.limits_bytes = shared(config_.addresses) + shared(config_.users);
    stats.gauges.limits_bytes += beginnings_.memory_bytes() + sharing_.memory_bytes() +
                                 message_rates_.memory_bytes() + anonymous_.memory_bytes() +
                                 stays_.memory_bytes();
    stats.gauges.tls_bytes = tls_.memory_bytes();
    stats.gauges.heartbeats_bytes =
        answer_times_.memory_bytes() + adaptive_.memory_bytes() + announced_.memory_bytes();
    stats.gauges.heartbeats_bytes += networks_.memory_bytes() + nat_reports_.memory_bytes();
    stats.gauges.heartbeats_bytes += idle_rows_.memory_bytes();
}

void Connections::set_stage(Index index, Stage stage) {
    Connection& connection = at(index);
    population_.leaves(connection);
    connection.stage = stage;
    population_.enters(connection);
    if (stage == Stage::open && samples()) log_open(index);
}

void Connections::set_protocol(Index index, uint8_t protocol) {
    Connection& connection = at(index);
    population_.leaves(connection);
    connection.protocol = protocol;
    population_.enters(connection);
}

void Connections::validate() const {
    table_.validate();
    Population population(all_protocols().size());
    size_t waiting_bytes = 0;
    for (Index index = 0; index < table_.limit(); ++index) {
        if (table_[index].stage == Stage::free) continue;
        population.enters(table_[index]);
        waiting_bytes += queued_bytes(index);
    }
    PULSE_ASSERT(population.counts() == population_.counts());
    PULSE_ASSERT(waiting_bytes == outboxes_.waiting_bytes());
    wheel_.validate([&](Index index) -> Tick {
        const Connection& connection = table_[index];
        if (connection.stage == Stage::free || connection.stage == Stage::closed) {
            return kNoTick;
        }
        return heartbeat_deadline(connection.heard, index, wheel_.cursor(),
                                  heartbeat_of(connection), answer_wait(index));
    });
}

}  // namespace pulse
