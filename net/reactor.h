// The loop: everything that one thread owns, and the order in which a turn does things.
//
//   turn(sleep_until)
//     1  poll       accepts; bytes -> codec -> heartbeat; sends done; closes done (io_backend.h)
//                   and then what earlier turns have parked, up to a budget (turn_budget.h)
//     2  mailbox    control messages of other threads, up to a budget
//     3  judge      looks that are due, up to a budget: rearm, probe, evict (heartbeat_policy.h)
//     4  drain      while stopping: this turn's share of goodbyes
//     5  flush      one send for each connection that has something to say
//
// The rules
//   R1  A deadline is judged only once every byte that arrived before it was delivered: the wheel
//       is driven by io.drained_until(), never by the clock. After a stall the kernel holds
//       heartbeats that nobody has read; a server that judges by its clock evicts healthy peers.
//   R2  Replies are coalesced: whatever a turn has to say to a peer goes out in one send at its
//       end.
//   R3  A connection ends by let_go() (with a goodbye) or close_now() (without), its record is
//       freed in on_closed() and nowhere else, and what the kernel may still read is not touched
//       before that.
//   R4  Every budget that runs out makes the next turn start at once, and nobody starves: poll,
//       mailbox and judge each get their share of every turn.
//
// A reactor owns no thread: whoever calls turn() is its thread, and everything here belongs to it.
// Others post to the mailbox and read the metrics' counters.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/buffer_pool.h"
#include "core/connection_table.h"
#include "core/heartbeat_policy.h"
#include "core/histogram.h"
#include "core/mailbox.h"
#include "core/message.h"
#include "core/rate_limiter.h"
#include "core/timing_wheel.h"
#include "core/turn_budget.h"
#include "net/io_backend.h"
#include "net/notices.h"
#include "net/outbox.h"
#include "net/parking.h"
#include "net/reactor_config.h"
#include "net/reactor_metrics.h"
#include "net/server_stats.h"
#include "net/session.h"
#include "net/traffic_notes.h"

namespace pulse {

// Whose failure an error of a connection is: the peer's and the network's, or that of this machine,
// which has no memory or lost the socket.
inline CloseReason reason_of(IoError error) {
    switch (error) {
        case ECONNRESET:
        case EPIPE:
        case ETIMEDOUT:  // keepalive, or --tcp-user-timeout
        case ECONNABORTED:
        case EHOSTUNREACH:
        case ENETUNREACH:
            return CloseReason::peer_reset;
        default:
            return CloseReason::io_error;
    }
}

// The wheel's geometry is a parameter for tests alone: a shrunk one is quick to make and to prove.
template <IoBackend Io, WheelGeometry kGeometry = WheelGeometry{}>
class Reactor {
  public:
    using Wheel = TimingWheel<Connection, kGeometry>;

    // `table` is empty and, like `io` and `pages`, outlives the reactor. `io` knows the table's
    // records.
    Reactor(const ReactorConfig& config, PageSource& pages, ConnectionTable& table, Io& io,
            Mailbox& mailbox, ReactorMetrics& metrics);

    // Where to listen. Before the first turn, or again at any time on the reactor's thread.
    Result<void> listen() { return io_.listen(config_.listeners); }

    // One pass; returns after `sleep_until` at the latest (but for the time that work takes), at
    // once when there is something left to do.
    void turn(Nanos sleep_until);

    // Stop accepting, say goodbye to everybody evenly over the config's drain window, then reset
    // whoever is left. drained() tells when nobody is.
    void drain();
    // Reset everybody now.
    void stop_hard();
    bool drained() const { return draining_ && table_.live() == 0; }
    bool drain_cut_short() const { return cut_short_; }

    const ConnectionTable& table() const { return table_; }
    const Wheel& wheel() const { return wheel_; }
    const BufferPool& buffers() const { return buffers_; }
    uint32_t outboxes_taken() const { return outboxes_.taken(); }
    const ReactorConfig& config() const { return config_; }
    // A copy of everything it measures.
    void fill(ReactorStats& stats) const;
    // Proves the wheel's invariants against the policy's deadlines. O(limit); for tests and the
    // simulator.
    void validate() const;

    // ---- what the backend calls, inside poll() only
    void on_accept(const Accepted& accepted);
    void on_connected(Index, IoError) { PULSE_ASSERT(false && "a server does not connect"); }
    void on_bytes(Index index, std::span<uint8_t> bytes);
    void on_end(Index index, IoError error);
    void on_sent(Index index, IoError error);
    void on_closed(Index index);

  private:
    friend class Session<Reactor>;
    friend struct SessionOut<Reactor>;

    Connection& at(Index index) { return table_[index]; }
    const HeartbeatConfig& heartbeat_of(const Connection& connection) const {
        return config_.profiles[connection.profile];
    }

    // Phases of a connection.
    void set_profile(Index index, uint8_t profile);
    void change_profile(Index index, uint8_t profile);
    void open(Index index);
    void proof(Connection& connection) {
        if (connection.state != ConnectionState::closing &&
            heartbeat_of(connection).liveness != Liveness::none) {
            connection.heard = heard_now_;
        }
    }
    void frame(Connection& connection) {
        if (heartbeat_of(connection).liveness == Liveness::any) proof(connection);
    }
    void let_go(Index index, CloseReason reason, std::string_view detail = {});
    void let_go_quietly(Index index, CloseReason reason);
    void close_now(Index index, CloseReason reason, CloseMode mode);

    // Sending.
    uint8_t* claim(Index index, size_t bytes);
    void mark_dirty(Index index);
    void flush();
    void flush_one(Index index);

    // Memory: of a message that is not whole, of bytes for later; and who has to give way.
    bool hold(Index index, std::span<const uint8_t> piece, size_t most);
    BufferPool::Handle keep(Index index, std::span<const uint8_t> bytes);
    void drop_unfinished(Index index);

    // Bytes on their way are life (heartbeat_policy.h: heard_progress).
    uint64_t ticks_for(uint64_t bytes) const;
    size_t unfinished_bytes(Index index) const;
    void credit_upload(Index index, size_t before, size_t read_bytes);
    void note_bulk(Index index);
    void credit_download(Index index, Tick reached);
    bool make_room(Index asker);
    void take_memory_from(Index index);

    // What a turn's share did not reach.
    void park(Index index, const Session<Reactor>& session);
    void decode_parked();
    void resume(Index index);
    Parking::Entry what_is_left(Parking::Entry entry, const Session<Reactor>& session);

    // Peers.
    std::optional<CloseReason> reason_to_refuse(const Accepted& accepted);
    bool is_stranger(const Accepted& accepted) const;
    void refuse(const Accepted& accepted, CloseReason reason);
    void meet(Index index, const SocketAddress& peer);
    void tell(Index index, std::string_view what, std::string_view of_what);
    void handle(const Message& message);
    void retune(const Message& message);
    bool judge();
    void judge_measured();
    uint32_t judge_one(Index index, Tick reached);
    void evict(Index index, Tick reached);
    void say_goodbyes();
    void end_drain();
    Nanos next_deadline(Nanos sleep_until);
    struct TurnTimes {
        Nanos began_at, woke_at, judged_from, judged_to;
    };
    void measure(const TurnTimes& times);
    void measure_judge_lag();

    ReactorConfig config_;
    ConnectionTable& table_;
    Io& io_;
    Mailbox& mailbox_;
    ReactorMetrics& metrics_;
    Wheel wheel_;
    BufferPool buffers_{config_.buffered_bytes_max, config_.buffer_reserve_bytes};
    Outboxes outboxes_{buffers_};
    Parking parking_{buffers_};
    // Of this turn: what was read just now and what was parked do not take each other's.
    WorkBudget fresh_work_, parked_work_;
    Index decoding_ = kNoIndex;  // whose parked bytes are decoded
    bool giving_way_ = false;    // memory is taken from a connection
    SessionShared shared_;

    // One for each connection with kBulkOut, and for no other.
    struct SendNote {
        uint64_t acked_bytes;
        Tick since;
    };
    std::unordered_map<Index, SendNote> send_notes_;

    Notices notices_{config_.number, config_.warn};
    TrafficNotes traffic_;

    std::vector<Index> dirty_;
    uint32_t heard_now_ = 0;  // what a proof of life in this poll is worth
    bool work_left_ = false;  // a budget ran out
    RateLimiter accept_rate_;

    bool draining_ = false;
    bool cut_short_ = false;
    Nanos drain_began_ = 0;
    Index drain_cursor_ = 0;
    uint32_t drain_total_ = 0;  // who was inside when it began
    uint32_t goodbyes_ = 0;
};

// ---------------------------------------------------------------------------------------- the turn

template <IoBackend Io, WheelGeometry kGeometry>
Reactor<Io, kGeometry>::Reactor(const ReactorConfig& config, PageSource& pages,
                                ConnectionTable& table, Io& io, Mailbox& mailbox,
                                ReactorMetrics& metrics)
    : config_(config),
      table_(table),
      io_(io),
      mailbox_(mailbox),
      metrics_(metrics),
      wheel_(pages, table.records(), table.limit(), config.clock.down(io.now())),
      accept_rate_(config.accepts_per_second) {}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::turn(Nanos sleep_until) {
    const Nanos began_at = io_.clock();
    fresh_work_.refill(kWorkPerTurn / 2);
    io_.poll(next_deadline(sleep_until), *this);
    mailbox_.awake();
    decode_parked();
    work_left_ = !parking_.empty();
    work_left_ |= mailbox_.drain(kMailboxBudgetPerTurn, [&](const Message& m) { handle(m); });
    measure_judge_lag();
    const Nanos judged_from = io_.clock();
    judge_measured();
    const Nanos judged_to = io_.clock();
    if (draining_) say_goodbyes();
    flush();
    notices_.completions_lost(io_.counters().completions_lost);
    if (notices_.due_at() <= io_.now())
        notices_.report(io_.now(), buffers_.held_bytes(), config_.buffered_bytes_max);
    measure({began_at, io_.woke_at(), judged_from, judged_to});
}

// The CPU clock is a system call, and read only where there is something to judge.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::judge_measured() {
    const bool due = wheel_.next_work() <= config_.clock.down(io_.drained_until());
    const Nanos spent_before = due ? io_.cpu_clock() : 0;
    work_left_ |= judge();
    if (due) metrics_.wheel_slice_cpu.record(io_.cpu_clock() - spent_before);
}

// When poll must be back: at once if something was left over or a message is there, else for the
// wheel.
template <IoBackend Io, WheelGeometry kGeometry>
Nanos Reactor<Io, kGeometry>::next_deadline(Nanos sleep_until) {
    if (work_left_ || !mailbox_.may_sleep()) return 0;
    if (draining_) sleep_until = std::min(sleep_until, io_.now() + kGoodbyeEveryNs);
    sleep_until = std::min(sleep_until, notices_.due_at());
    const Tick work = wheel_.next_work();
    if (work == kNoTick) return sleep_until;
    return std::min(sleep_until, config_.clock.begins(work));
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::measure(const TurnTimes& times) {
    metrics_.add(Metric::turns);
    metrics_.wait_total += std::max<Nanos>(0, times.woke_at - times.began_at);
    metrics_.turn_time.record(io_.clock() - times.woke_at);
    metrics_.wheel_slice.record(times.judged_to - times.judged_from);
}

// How late the judge comes: the clock against the oldest look that is due by it and not judged yet,
// because it was not heard out, a budget ran out, or the thread was not scheduled.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::measure_judge_lag() {
    const Tick work = wheel_.next_work();
    const Nanos now = io_.clock();
    const bool late = work != kNoTick && config_.clock.begins(work) < now;
    metrics_.judge_lag = late ? now - config_.clock.begins(work) : 0;
    metrics_.judge_lag_max = std::max(metrics_.judge_lag_max, metrics_.judge_lag);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::handle(const Message& message) {
    metrics_.add(Metric::control_messages);
    switch (message.kind) {
        case Message::Kind::kick:
            if (table_.find(message.target) != nullptr)
                let_go(message.target.index, message.reason);
            return;
        case Message::Kind::retune:
            return retune(message);
        case Message::Kind::debug:
            config_.debug = message.on ? config_.debug_log : nullptr;
            if (!message.on) traffic_.forget_all();
            return;
        case Message::Kind::drain:
            return drain();
        case Message::Kind::stop:
            drain();
            return stop_hard();
        case Message::Kind::snapshot:
            return message.respond(message.context, config_.number);
    }
}

// A profile changes under those who have it: they are told, and their silence begins anew, so that
// nobody is judged by a promise that he did not know, and probes are counted in new intervals.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::retune(const Message& message) {
    config_.profiles[message.profile] = message.heartbeat;
    config_.interval_ms[message.profile] = message.interval_ms;
    config_.timeout_ms[message.profile] = message.timeout_ms;
    for (Index index = 0; index < table_.limit(); ++index) {
        const Connection& connection = at(index);
        if (connection.state != ConnectionState::open || connection.profile != message.profile)
            continue;
        set_profile(index, message.profile);
        Session<Reactor>(*this, index).send_interval();
    }
}

// --------------------------------------------------------------------------------------- judging

// R1. Whatever is due by what was certainly heard, as far as the budget goes; true if some is left.
template <IoBackend Io, WheelGeometry kGeometry>
bool Reactor<Io, kGeometry>::judge() {
    const Tick reached = config_.clock.down(io_.drained_until());
    uint32_t budget = kJudgeBudgetPerTurn;
    Index index;
    while ((index = wheel_.pop_due(reached, budget)) != kNoIndex) {
        metrics_.add(Metric::looks);
        const uint32_t cost = judge_one(index, reached) - kLookCost;
        budget = budget > cost ? budget - cost : 0;
    }
    return wheel_.next_work() <= reached;
}

template <IoBackend Io, WheelGeometry kGeometry>
uint32_t Reactor<Io, kGeometry>::judge_one(Index index, Tick reached) {
    Connection& connection = at(index);
    if (connection.state == ConnectionState::free || connection.state == ConnectionState::closed) {
        return kLookCost;
    }
    // R1. Bytes of it are here and not decoded yet: it is not silent.
    if (connection.state != ConnectionState::closing && io_.is_held_off(index))
        connection.heard = heard_progress(connection.heard, kAllTicks, reached);
    if ((connection.flags & kBulkOut) != 0) credit_download(index, reached);
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    HeartbeatStep step =
        heartbeat_step(connection.heard, HeartbeatEvent::look, index, reached, heartbeat);
    if (step.verdict == Verdict::probe) {
        // What was heard decides that it is due; how late it is, the clock: it leaves now, and its
        // answer needs its time from now on, however far the judged instant trails.
        const Tick leaves = std::max(reached, config_.clock.down(io_.clock()));
        step = heartbeat_step(connection.heard, HeartbeatEvent::look, index, leaves, heartbeat);
        step.next = heartbeat_deadline(step.heard, index, reached, heartbeat);
    }
    if (step.verdict == Verdict::evict) {
        evict(index, reached);
        return kEvictCost;
    }
    connection.heard = step.heard;
    // A credit keeps the probes that were sent and so puts the next one off; a proof that follows
    // asks for it an interval later. The look must not come after that.
    if (heartbeat.probe) {
        const Tick proven = reached + heartbeat.interval_ticks + heartbeat.grace_ticks;
        step.next = std::min(step.next, proven);
    }
    wheel_.arm(index, step.next);
    if (step.verdict == Verdict::rearm) return kLookCost;
    Session<Reactor>(*this, index).send_probe();
    metrics_.add(Metric::probes_sent);
    return kProbeCost;
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::evict(Index index, Tick reached) {
    Connection& connection = at(index);
    const Tick due = heartbeat_evict_at(connection.heard, reached, heartbeat_of(connection));
    switch (connection.state) {
        case ConnectionState::greeting:
            return let_go(index, CloseReason::handshake_timeout);
        case ConnectionState::closing:
            // Its goodbye waits in this turn's list: this thread was away for the whole linger.
            if ((connection.flags & kDirty) != 0 && !outboxes_.in_flight(connection)) {
                flush_one(index);
                return set_profile(index, kProfileClosing);
            }
            return close_now(index, connection.close_reason, CloseMode::reset);
        default:
            break;
    }
    metrics_.add(Metric::evicted);
    metrics_.eviction_delay.record(io_.clock() - config_.clock.begins(due));
    // With a message begun that does not come on, it may not be silent, but it is too slow.
    const bool unfinished = connection.inbox != 0;
    let_go(index, unfinished ? CloseReason::slow_upload : CloseReason::idle_timeout);
}

// A connection enters a phase: its silence starts now, and the wheel is told if that is sooner.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::set_profile(Index index, uint8_t profile) {
    Connection& connection = at(index);
    connection.profile = profile;
    // Outside poll now() is of before whatever paused this thread since; a phase is not to begin in
    // the past.
    const Tick now = config_.clock.up(io_.clock());
    // Nor is what follows in the same bytes older than the phase: the wheel knows its deadline.
    heard_now_ = heard_at(now);
    const HeartbeatStep step =
        heartbeat_step(0, HeartbeatEvent::connected, index, now, heartbeat_of(connection));
    connection.heard = step.heard;
    wheel_.arm(index, step.next);
}

// The same phase goes on under another profile: so does the silence.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::change_profile(Index index, uint8_t profile) {
    Connection& connection = at(index);
    if (connection.profile == profile) return;
    connection.profile = profile;
    const Tick now = config_.clock.up(io_.now());
    // Probes that were sent are counted in the new intervals from now on; a proof that follows may
    // want the next look sooner.
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    wheel_.arm(index, std::min(heartbeat_deadline(connection.heard, index, now, heartbeat),
                               heartbeat_deadline(heard_at(now), index, now, heartbeat)));
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::open(Index index) {
    at(index).state = ConnectionState::open;
    set_profile(index, kProfileDefault);
}

// -------------------------------------------------------------------------- what the backend calls

template <IoBackend Io, WheelGeometry kGeometry>
std::optional<CloseReason> Reactor<Io, kGeometry>::reason_to_refuse(const Accepted& accepted) {
    if (accepted.exhausted) return CloseReason::out_of_descriptors;
    // It was reset before it was accepted, and has no address any more.
    const bool names_peer = config_.listeners[accepted.listener].expects_proxy_header;
    if (names_peer && !accepted.peer.present()) return CloseReason::peer_reset;
    if (is_stranger(accepted)) return CloseReason::untrusted_source;
    if (draining_) return CloseReason::going_away;
    if (table_.live() == table_.limit()) return CloseReason::server_full;
    if (!accept_rate_.allow(io_.now())) return CloseReason::accept_rate;
    if (!config_.admission->enter()) return CloseReason::server_full;
    return std::nullopt;
}

// A PROXY header says who somebody is, so only those who may say that may come to where one is
// read.
template <IoBackend Io, WheelGeometry kGeometry>
bool Reactor<Io, kGeometry>::is_stranger(const Accepted& accepted) const {
    if (!config_.listeners[accepted.listener].expects_proxy_header) return false;
    return std::ranges::none_of(config_.proxy_trusted, [&](const AddressPrefix& prefix) {
        return prefix.contains(accepted.peer);
    });
}

// Who the peer of a connection is: known when it is accepted, and again when a PROXY header names
// another. Without an address (LOCAL, UNKNOWN) it is the proxy itself.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::meet(Index index, const SocketAddress& peer) {
    if (peer.present()) at(index).address = number_of(peer, config_.probe_key);
    if (config_.debug) tell(index, "speaks for ", peer.present() ? peer.text() : "its proxy");
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::tell(Index index, std::string_view what, std::string_view of_what) {
    if (!config_.debug) return;
    std::string line(Session<Reactor>(*this, index).name().view());
    config_.debug(line.append(" ").append(what).append(of_what));
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::refuse(const Accepted& accepted, CloseReason reason) {
    const ListenAddress& listener = config_.listeners[accepted.listener];
    metrics_.refused(reason);
    if (config_.debug) {
        config_.debug(accepted.peer.text() + " refused on " + listener.text + ": " +
                      std::string(describe(reason).name));
    }
    const bool come_back = reason != CloseReason::untrusted_source;
    const RefusalMessage words = refusal_message(protocol_of(listener.scheme), reason,
                                                 come_back ? config_.retry_after_ms : 0);
    io_.refuse(accepted, words.bytes());
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::on_accept(const Accepted& accepted) {
    const std::optional<CloseReason> reason = reason_to_refuse(accepted);
    if (reason) return refuse(accepted, *reason);
    const Index index = table_.take();
    Connection& connection = at(index);
    connection.listener = accepted.listener;
    connection.address = number_of(accepted.peer, config_.probe_key);
    io_.attach(index, accepted);
    metrics_.add(Metric::accepted);
    const ListenAddress& listener = config_.listeners[accepted.listener];
    connection.protocol = protocol_of(listener.scheme);
    if (config_.debug) {
        traffic_.accepted(index, io_.now());
        tell(index, "accepted from ", accepted.peer.text() + " on " + listener.text);
    }
    if (listener.expects_proxy_header) connection.flags |= kAwaitsProxyHeader;
    Session<Reactor>(*this, index).begin();
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::on_bytes(Index index, std::span<uint8_t> bytes) {
    metrics_.add(Metric::bytes_received, bytes.size());
    traffic_.received(index, bytes.size());
    heard_now_ = heard_at(config_.clock.up(io_.now()));
    // What arrives after our goodbye is drained and dropped, so that no reset destroys the goodbye.
    const size_t unfinished = unfinished_bytes(index);
    Session<Reactor> session(*this, index);
    session.receive(bytes);
    credit_upload(index, unfinished, bytes.size());
    if (session.left_something()) return park(index, session);
    if (session.kept_message() != 0) buffers_.release(session.kept_message());
    drop_unfinished(index);
}

// Ticks of life that so many bytes of a message are worth, counted from its beginning so that no
// byte is lost in rounding.
template <IoBackend Io, WheelGeometry kGeometry>
uint64_t Reactor<Io, kGeometry>::ticks_for(uint64_t bytes) const {
    const auto tick_ns = static_cast<uint64_t>(config_.clock.tick_ns());
    constexpr uint64_t kBytesMax = UINT64_MAX / kSecond;
    return std::min(bytes, kBytesMax) * kSecond / (kProgressBytesPerSecondMin * tick_ns);
}

template <IoBackend Io, WheelGeometry kGeometry>
size_t Reactor<Io, kGeometry>::unfinished_bytes(Index index) const {
    const uint32_t inbox = table_[index].inbox;
    return inbox == 0 ? 0 : buffers_.size(inbox);
}

// A message that is not whole yet has grown from `before` bytes: its peer is alive, and its own
// heartbeats wait behind what it sends.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::credit_upload(Index index, size_t before, size_t read_bytes) {
    Connection& connection = at(index);
    // A first message of more than one read: C8 does not wait for the others, so the deadline does.
    if (connection.state == ConnectionState::greeting && read_bytes >= kBulkBytes) {
        connection.heard = heard_progress(connection.heard, ticks_for(read_bytes),
                                          config_.clock.up(io_.now()));
        return;
    }
    const size_t after = unfinished_bytes(index);
    if (connection.state != ConnectionState::open || after < kUploadBytesMin) return;
    if (heartbeat_of(connection).liveness == Liveness::none) return;
    const uint64_t credit = ticks_for(after) - (after < before ? 0 : ticks_for(before));
    connection.heard =
        heard_progress(connection.heard, credit, config_.clock.up(io_.now()));
}

// Bulk is on its way from now on: what is acknowledged after this is life. Told again where a phase
// begins, since credits are given within one.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::note_bulk(Index index) {
    at(index).flags |= kBulkOut;
    send_notes_[index] = {.acked_bytes = io_.send_progress(index).acked_bytes,
                          .since = config_.clock.up(io_.clock())};
}

// The same for what is on its way to the peer: our probe waits behind it, and so does the goodbye
// of a connection that is closing. It was alive when its host acknowledged the newest of it.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::credit_download(Index index, Tick reached) {
    Connection& connection = at(index);
    const SendProgress progress = io_.send_progress(index);
    const auto place = send_notes_.find(index);
    PULSE_ASSERT(place != send_notes_.end());
    SendNote& note = place->second;
    // Where the kernel could not be asked there is nothing to go by.
    const bool taken = progress.acked_bytes > note.acked_bytes;
    const uint64_t credit = taken ? ticks_for(progress.acked_bytes - note.acked_bytes) : 0;
    const Tick acked_at = config_.clock.up(io_.clock() - progress.since_acked);
    const Tick closing_for = reached > note.since ? reached - note.since : 0;
    note.acked_bytes = std::max(note.acked_bytes, progress.acked_bytes);
    if (progress.waiting_bytes == 0 && outboxes_.bytes(connection) == 0) {
        connection.flags &= static_cast<uint8_t>(~kBulkOut);
        send_notes_.erase(place);
    }
    // While draining the window is the bound: say_goodbyes().
    if (connection.state == ConnectionState::closing && !draining_ &&
        closing_for > config_.clock.ticks(kCloseLingerMaxNs)) {
        return;
    }
    connection.heard = heard_progress(connection.heard, credit, acked_at);
}

// Nothing more is decoded of a connection that is closing.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::drop_unfinished(Index index) {
    Connection& connection = at(index);
    if (connection.state < ConnectionState::closing || connection.inbox == 0) return;
    buffers_.release(connection.inbox);
    connection.inbox = 0;
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::park(Index index, const Session<Reactor>& session) {
    Parking::Entry entry{.index = index, .message = session.kept_message()};
    entry.message_at = entry.bytes_at = kReceiveFrontBytes;
    if (!session.rest().empty()) {
        entry.bytes = keep(index, session.rest());
        if (entry.bytes == 0) {
            parking_.release(entry);
            return let_go(index, CloseReason::out_of_memory);
        }
    }
    parking_.push(entry);
    io_.hold_off(index);
}

// R4. A share for each in turn; who is not done goes behind the others.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::decode_parked() {
    if (parking_.empty()) return;
    parked_work_.refill(kWorkPerTurn / 2);
    heard_now_ = heard_at(config_.clock.up(io_.now()));
    size_t left = parking_.size();
    for (; left > 0 && !parking_.empty() && !parked_work_.empty(); --left) {
        Parking::Entry entry = parking_.pop();
        decoding_ = entry.index;
        Session<Reactor> session(*this, entry.index, false);
        session.resume(parking_.rest(entry.message, entry.message_at),
                       parking_.rest(entry.bytes, entry.bytes_at));
        if (session.left_something()) {
            parking_.push(what_is_left(entry, session));
        } else {
            if (session.kept_message() != 0) buffers_.release(session.kept_message());
            drop_unfinished(entry.index);
            parking_.release(entry);
            resume(entry.index);
        }
    }
    decoding_ = kNoIndex;
}

// Reads on. What arrived while it was held off was not waited for (C8, C9): the silence of a
// connection that is not closing begins now.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::resume(Index index) {
    Connection& connection = at(index);
    if (connection.state == ConnectionState::closed || !io_.is_held_off(index)) return;
    if (connection.state != ConnectionState::closing) {
        connection.heard =
            heard_progress(connection.heard, kAllTicks, config_.clock.up(io_.now()));
    }
    io_.resume(index);
}

template <IoBackend Io, WheelGeometry kGeometry>
Parking::Entry Reactor<Io, kGeometry>::what_is_left(Parking::Entry entry,
                                                    const Session<Reactor>& session) {
    const bool same_message = session.kept_message() == 0 && !session.message_rest().empty();
    if (same_message) {
        entry.message_at = parking_.position(entry.message, session.message_rest());
    } else {
        if (entry.message != 0) buffers_.release(entry.message);
        entry.message = session.kept_message();
        entry.message_at = kReceiveFrontBytes;
    }
    if (!session.rest().empty()) {
        entry.bytes_at = parking_.position(entry.bytes, session.rest());
    } else if (entry.bytes != 0) {
        buffers_.release(entry.bytes);
        entry.bytes = 0;
    }
    return entry;
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::on_end(Index index, IoError error) {
    Connection& connection = at(index);
    if (error != 0) return close_now(index, reason_of(error), CloseMode::reset);
    connection.flags |= kPeerEnded;
    let_go(index, CloseReason::peer_closed);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::on_sent(Index index, IoError error) {
    Connection& connection = at(index);
    if (error != 0) return close_now(index, reason_of(error), CloseMode::reset);
    metrics_.add(Metric::bytes_sent, outboxes_.flight_bytes(connection));
    traffic_.sent(index, outboxes_.flight_bytes(connection));
    outboxes_.end_flight(connection);
    mark_dirty(index);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::on_closed(Index index) {
    Connection& connection = at(index);
    PULSE_ASSERT(connection.state == ConnectionState::closed);
    if (!parking_.empty()) parking_.drop(index);
    if ((connection.flags & kBulkOut) != 0) send_notes_.erase(index);
    outboxes_.release(connection);
    if (connection.inbox != 0) buffers_.release(connection.inbox);
    metrics_.closed(connection.close_reason);
    if (config_.debug) {
        const std::string_view reason = describe(connection.close_reason).name;
        tell(index, "closed: ", std::string(reason) + traffic_.summary(index, io_.now()));
        traffic_.forget(index);
    }
    table_.release(index);
    config_.admission->leave();
}

// ---------------------------------------------------------------------------------------- endings

// Says why, sends FIN behind it, and gives the peer a moment to do the same: a close with unread
// input, or a reset, would destroy the goodbye on its way. A peer that stays silent is reset by the
// deadline.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::let_go(Index index, CloseReason reason, std::string_view detail) {
    Connection& connection = at(index);
    if (connection.state == ConnectionState::closed) return;
    if (connection.state != ConnectionState::closing) {
        connection.close_reason = reason;
        if (reason == CloseReason::slow_reader) outboxes_.drop_queue(connection);
        Session<Reactor>(*this, index).send_goodbye(reason, detail);
    }
    let_go_quietly(index, reason);
}

// The same without a word of ours: what there was to say was said.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::let_go_quietly(Index index, CloseReason reason) {
    Connection& connection = at(index);
    if (connection.state == ConnectionState::closed) return;
    if (connection.state != ConnectionState::closing) {
        connection.close_reason = reason;
        connection.state = ConnectionState::closing;
        if ((connection.flags & kBulkOut) != 0) note_bulk(index);
        if (index != decoding_ && io_.is_held_off(index)) {
            parking_.drop(index);
            resume(index);
        }
        set_profile(index, kProfileClosing);
    }
    mark_dirty(index);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::close_now(Index index, CloseReason reason, CloseMode mode) {
    Connection& connection = at(index);
    if (connection.state == ConnectionState::closed) return;
    if (connection.state != ConnectionState::closing) connection.close_reason = reason;
    connection.state = ConnectionState::closed;
    io_.close(index, mode);
}

// ---------------------------------------------------------------------------------------- sending

// Room in the connection's next send. nullptr: it is gone, or going, or has too much waiting; then
// it is let go as a slow reader, or for want of memory.
template <IoBackend Io, WheelGeometry kGeometry>
uint8_t* Reactor<Io, kGeometry>::claim(Index index, size_t bytes) {
    Connection& connection = at(index);
    if (connection.state >= ConnectionState::closing) return nullptr;
    uint8_t* place = nullptr;
    do {
        place = outboxes_.claim(connection, index, bytes, config_.send_queue_bytes);
    } while (place == nullptr && buffers_.was_short() && make_room(index));
    if (place == nullptr) {
        // Unless this is the goodbye itself, which then goes unsaid.
        if (connection.close_reason != CloseReason::none) return nullptr;
        let_go(index, buffers_.was_short() ? CloseReason::out_of_memory : CloseReason::slow_reader);
        return nullptr;
    }
    mark_dirty(index);
    return place;
}

// ---------------------------------------------------------------------------------------- memory

// More of a message that is not whole. False: there is no memory for it. A peer that does not read
// what it is sent may not have us hold what it sends, too.
template <IoBackend Io, WheelGeometry kGeometry>
bool Reactor<Io, kGeometry>::hold(Index index, std::span<const uint8_t> piece, size_t most) {
    Connection& connection = at(index);
    if (connection.inbox == 0) connection.inbox = buffers_.take(index, connection.address);
    const size_t waiting = outboxes_.bytes(connection);
    const size_t all = config_.send_queue_bytes + kConnectionSlackBytes;
    if (waiting > 0 && buffers_.size(connection.inbox) + piece.size() + waiting > all) {
        let_go(index, CloseReason::slow_reader);
        return false;  // a fault of a session that has stopped is not reported
    }
    while (!buffers_.append(connection.inbox, piece, most)) {
        if (!buffers_.was_short() || !make_room(index)) return false;
    }
    return true;
}

template <IoBackend Io, WheelGeometry kGeometry>
BufferPool::Handle Reactor<Io, kGeometry>::keep(Index index, std::span<const uint8_t> bytes) {
    for (;;) {
        const BufferPool::Handle handle = parking_.keep(index, at(index).address, bytes);
        if (handle != 0 || !buffers_.was_short() || !make_room(index)) return handle;
    }
}

// The pool is short of what `asker` wants: the largest holder of the address that holds most gives
// way, what the asker wants counted as its address's. False where that is the asker itself, or one
// of its own address which is smaller than what it wants.
template <IoBackend Io, WheelGeometry kGeometry>
bool Reactor<Io, kGeometry>::make_room(Index asker) {
    // The goodbye of one that gives way must not make another do so: that may be who asked.
    if (giving_way_) return false;
    const uint32_t address = at(asker).address;
    BufferPool::Handle largest = buffers_.largest();
    const bool asks_for_most =
        largest == 0 || buffers_.held_by(address) + buffers_.wanted_more_bytes() >
                            buffers_.held_by(buffers_.address(largest));
    if (asks_for_most) largest = buffers_.largest_of(address);
    metrics_.add(Metric::memory_shortages);
    notices_.gave_way();  // whoever it will be
    if (largest == 0) return false;
    if (asks_for_most && buffers_.capacity(largest) < buffers_.wanted_bytes()) return false;
    const Index owner = buffers_.owner(largest);
    if (owner == asker) return false;
    giving_way_ = true;
    take_memory_from(owner);
    giving_way_ = false;
    return true;
}

// What it holds is given back at once, but for what is in flight: the kernel may still read that,
// and a peer that does not take it would not see a goodbye behind it.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::take_memory_from(Index index) {
    Connection& connection = at(index);
    tell(index, "gives way, being the largest holder of buffers: ", "out_of_memory");
    if (connection.inbox != 0) {
        buffers_.release(connection.inbox);
        connection.inbox = 0;
    }
    parking_.drop(index);
    outboxes_.drop_queue(connection);
    if (outboxes_.in_flight(connection)) {
        outboxes_.write_off(connection);
        return close_now(index, CloseReason::out_of_memory, CloseMode::reset);
    }
    let_go(index, CloseReason::out_of_memory);
    resume(index);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::mark_dirty(Index index) {
    Connection& connection = at(index);
    if ((connection.flags & kDirty) != 0) return;
    connection.flags |= kDirty;
    dirty_.push_back(index);
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::flush() {
    for (size_t position = 0; position < dirty_.size(); ++position) flush_one(dirty_[position]);
    dirty_.clear();
}

// R2. A place may stand here for an owner that is gone; then its flag is clear.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::flush_one(Index index) {
    Connection& connection = at(index);
    if ((connection.flags & kDirty) == 0) return;
    connection.flags &= static_cast<uint8_t>(~kDirty);
    if (connection.state == ConnectionState::free || connection.state == ConnectionState::closed ||
        outboxes_.in_flight(connection)) {
        return;  // on_sent comes back here
    }
    if (outboxes_.queued(connection)) {
        const std::span<const uint8_t> flight = outboxes_.begin_flight(connection);
        const bool noted = (connection.flags & kBulkOut) != 0;
        if (flight.size() >= kBulkBytes && !noted) note_bulk(index);
        return io_.send(index, flight);
    }
    if (connection.state != ConnectionState::closing) return;
    if ((connection.flags & kPeerEnded) != 0) {
        return close_now(index, connection.close_reason, CloseMode::orderly);
    }
    if ((connection.flags & kFinished) != 0) return;
    connection.flags |= kFinished;
    io_.finish(index);
}

// --------------------------------------------------------------------------------------- stopping

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::drain() {
    if (draining_) return;
    draining_ = true;
    drain_began_ = io_.now();
    drain_total_ = table_.live();
    const Result<void> stopped = io_.listen({});
    PULSE_ASSERT(stopped);
}

// Goodbyes are spread evenly over the first three quarters of the window, so that the peers do not
// all come back in one instant, and the last of them has a quarter to take it.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::say_goodbyes() {
    if (table_.live() == 0) return;
    const Nanos elapsed = io_.now() - drain_began_;
    if (elapsed >= config_.drain_window) return end_drain();
    const Nanos spread = std::max<Nanos>(1, config_.drain_window / 4 * 3);
    const double share = std::min(1.0, static_cast<double>(elapsed) / static_cast<double>(spread));
    const auto due = static_cast<uint32_t>(std::ceil(share * drain_total_));
    for (; drain_cursor_ < table_.limit() && goodbyes_ < due; ++drain_cursor_) {
        const ConnectionState state = at(drain_cursor_).state;
        if (state != ConnectionState::greeting && state != ConnectionState::open) continue;
        let_go(drain_cursor_, CloseReason::going_away);
        ++goodbyes_;
    }
}

// The window is over. A connection whose goodbye and FIN the kernel has taken is closed in order,
// however long its peer lingers: a reset could destroy the goodbye. Any other makes this a drain
// that was cut short.
template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::end_drain() {
    for (Index index = 0; index < table_.limit(); ++index) {
        const Connection& connection = at(index);
        if (connection.state == ConnectionState::free ||
            connection.state == ConnectionState::closed) {
            continue;
        }
        const bool told = connection.state == ConnectionState::closing &&
                          (connection.flags & kFinished) != 0;
        cut_short_ |= !told;
        close_now(index, CloseReason::hard_stop, told ? CloseMode::orderly : CloseMode::reset);
    }
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::stop_hard() {
    for (Index index = 0; index < table_.limit(); ++index) {
        if (at(index).state != ConnectionState::free) {
            close_now(index, CloseReason::hard_stop, CloseMode::reset);
        }
    }
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::fill(ReactorStats& stats) const {
    stats.live = table_.live();
    stats.wheel_entries = wheel_.entries();
    stats.metrics = metrics_.snapshot();
    stats.io = io_.counters();
    stats.eviction_delay = metrics_.eviction_delay;
    stats.turn_time = metrics_.turn_time;
    stats.wheel_slice = metrics_.wheel_slice;
    stats.wheel_slice_cpu = metrics_.wheel_slice_cpu;
    stats.wait_total = metrics_.wait_total;
    stats.judge_lag = metrics_.judge_lag;
    stats.judge_lag_max = metrics_.judge_lag_max;
    stats.memory = {.records_bytes = table_.backed_bytes(),
                    .wheel_bytes = wheel_.memory_bytes(),
                    .buffers_bytes = buffers_.held_bytes(),
                    .backend_bytes = io_.memory_bytes()};
}

template <IoBackend Io, WheelGeometry kGeometry>
void Reactor<Io, kGeometry>::validate() const {
    table_.validate();
    wheel_.validate([&](Index index) -> Tick {
        const Connection& connection = table_[index];
        if (connection.state == ConnectionState::free ||
            connection.state == ConnectionState::closed) {
            return kNoTick;
        }
        return heartbeat_deadline(connection.heard, index, wheel_.cursor(),
                                  heartbeat_of(connection));
    });
}

}  // namespace pulse
