// The connections of one reactor: what they own and borrow, and the life of each from its accept to
// its last event. An ordinary class over IoRequests: no backend is known here.
//
//   connections.cc   beginnings, phases, what other threads ask
//   admitting.cc     who is let in, and who is refused
//   overloading.cc   what is given up under overload
//   judging.cc       deadlines, and what is life besides whole frames
//   adapting.cc      how long intervals are, where they are adaptive
//   announcing.cc    from when on a peer is judged by what it is told
//   idling.cc        idle clocks: nothing read, nothing sent, neither
//   sides.cc         side connections, and what clients find out by them
//   closing.cc       endings, with their states drawn
//   sweeps.cc        what is done to every connection: retunes, draining, stopping, jobs (job.h)
//   sending.cc       one send a connection and turn
//   records.cc       TLS in front of what is read and behind what is sent
//   evidence.cc      what is known of one, and why it ended
//   logging.cc       what is logged of them
//   tracing.cc       what becomes a trace
//   buffers.cc       unfinished messages, parked bytes, who gives way
//   session.cc       what a peer's bytes come to, by its protocol (net/protocols/)
//   cohorts.cc       which of their users are treated otherwise than the rest
//   logins.cc        who they are: users, their sessions, and the shards of the directory
//   resumption.cc    sessions that outlive their connection, for their clients
//   authentication.cc  which of them have given a token, and for how long
//
// Everything here belongs to the reactor's thread. The turn (reactor.h) calls what the first part
// of the class lists, in its order; the second part is for sessions.
#pragma once

#include <array>
#include <bitset>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/address_lists.h"
#include "core/buffer_pool.h"
#include "core/connection_table.h"
#include "core/heartbeat/adaptive.h"
#include "core/heartbeat/idle_clocks.h"
#include "core/heartbeat/nat_reports.h"
#include "core/heartbeat/network_levels.h"
#include "core/heartbeat/round_trip.h"
#include "core/heartbeat_policy.h"
#include "core/message.h"
#include "core/overload.h"
#include "core/rate_limiter.h"
#include "core/sweep.h"
#include "core/timing_wheel.h"
#include "core/turn_budget.h"
#include "core/window_pace.h"
#include "net/io/limits.h"
#include "net/loop/anonymous_cohorts.h"
#include "net/loop/authentication.h"
#include "net/loop/beginnings.h"
#include "net/loop/connection_flags.h"
#include "net/loop/history.h"
#include "net/loop/io_requests.h"
#include "net/loop/jobs.h"
#include "net/loop/limits.h"
#include "net/loop/log_event.h"
#include "net/loop/logins.h"
#include "net/loop/message_rates.h"
#include "net/loop/notices.h"
#include "net/loop/outbox.h"
#include "net/loop/parking.h"
#include "net/loop/population.h"
#include "net/loop/reactor_config.h"
#include "net/loop/reactor_metrics.h"
#include "net/loop/side_rows.h"
#include "net/loop/reactor_stats.h"
#include "net/loop/trace_table.h"
#include "net/protocols/conversation.h"
#include "net/tls/tls_connections.h"

namespace pulse {

class Session;

// Why a peer is not let in, and how long that lasts where it is known.
struct Refusal {
    CloseReason reason;
    Nanos wait = 0;
};

// Why a connection ends, and what is known of that besides.
struct CloseCause {
    constexpr CloseCause(CloseReason why, std::string_view what = {}, uint16_t code = 0,
                         IoError failure = 0)
        : reason(why), detail(what), peer_code(code), error(failure) {}

    // The same with a detail that the ledger keeps and the peer is not sent.
    constexpr CloseCause noted(std::string_view what) const {
        CloseCause cause = *this;
        cause.note = what;
        return cause;
    }

    CloseReason reason;
    // For the length of a call: what was wrong, or why an operator asked; the goodbye has it, too.
    std::string_view detail;
    std::string_view note{};
    uint16_t peer_code;  // of the peer's goodbye
    IoError error;
};

// What an error of a connection says of its cause: the peer's reset, the network, or this machine
// (io_error). Requires: it is one.
CloseReason reason_of(IoError error);
inline CloseCause cause_of(IoError error) { return {reason_of(error), {}, 0, error}; }

class Connections {
  public:
    using Wheel = TimingWheel<Connection>;

    // `table` is empty; it, `pages` and `io` outlive the connections, and `io` knows its records.
    Connections(const ReactorConfig& config, PageSource& pages, ConnectionTable& table,
                IoRequests& io, ReactorMetrics& metrics);
    Connections(const Connections&) = delete;
    Connections& operator=(const Connections&) = delete;

    static uint32_t giving_way_per_turn(size_t message_bytes_max);

    // ---- a turn, in its order
    void begin_turn() {
        fresh_work_.refill(kWorkPerTurn / 2);
        deliveries_ = 0;
        may_give_way_ = giving_way_per_turn(config_.limits.message_bytes_max);
        tls_spent_fresh_ = tls_spent_parked_ = 0;
        authentication_.begin_turn();
    }
    // What the backend calls, inside poll() only (IoHandler).
    void on_accept(const Accepted& accepted);
    void on_connected(Index, IoError) { PULSE_ASSERT(false && "a server does not connect"); }
    void on_bytes(Index index, std::span<uint8_t> bytes);
    void on_end(Index index, IoError error);
    void on_sent(Index index, IoError error);
    void on_closed(Index index);
    // How many on_bytes() this turn had.
    uint32_t deliveries() const { return deliveries_; }
    // R4. A share for each connection of which bytes are parked, in turn.
    void decode_parked();
    bool has_parked() const { return !parking_.empty(); }
    // A message of another thread's, and its acknowledgement.
    void handle(const Message& message);
    // Closes `target`, if that connection still lives.
    void kick(ConnectionId target, CloseReason reason);
    // `job` has its steps in sweep() from now on.
    void begin_job(Job& job, Acknowledgement acknowledgement) { jobs_.begin(job, acknowledgement); }
    // An address has more connections than its share: closes its oldest here, but for `newcomer`,
    // or passes that on to so many other reactors. False: that was to be done and could not.
    bool give_way(uint32_t address, uint32_t others, Index newcomer);
    // No token with this id is right from now on; those that have given it are closed in sweep().
    void revoke(std::string_view token_id);
    // The same of one that a walk has come to. Returns whether it was closed.
    bool close_if_revoked(Index index);
    // These options are in force from now on; of them only what a reload may change
    // (tools/pulsewheel/settings.cc) differs from those before.
    void reload(std::shared_ptr<const LoopOptions> options);
    // R1. Processes what is due by drained_until, up to the budget. Returns true if some are left.
    bool judge();
    // This turn's share of what is done to every connection (sweeps.cc); true if some is left.
    bool sweep();
    // R2.
    void flush();
    // Reports what is held, and gives reactors that hold less more of what comes (balance.h).
    void share_out();
    // Enters and leaves steps of overload, by the judge lag of now. To be called again by
    // overload_due_at(): memory is looked at by another thread.
    void watch_overload(Nanos judge_lag);
    Nanos overload_due_at() const {
        const bool watches = config_.options->overload != OverloadStep::none && !draining_;
        return watches ? overload_looked_at_ + kOverloadLookNs : kNever;
    }
    OverloadStep overload_step() const { return overload_step_; }
    // Application data is not sent. Requires: what is left out for it is counted.
    bool drops_data() const { return overload_step_ >= OverloadStep::drop; }
    // Lines for the operator that are due (net/loop/notices.h); `completions_lost` is IoCounters'.
    void report_notices(uint64_t completions_lost);
    // Sessions: what is due, and messages to other reactors that had to wait. True if some is left.
    bool advance_logins() { return logins_.advance(); }
    // R1. Ends and announces tokens whose time is over. True if some are left.
    bool advance_tokens() { return authentication_.advance(io_.drained_until()); }
    Nanos notices_due_at() const { return notices_.due_at(); }
    Nanos jobs_due_at() const { return jobs_.due_at(io_.now()); }

    // ---- stopping
    // From now on it is not ready. After the config's delay: stop accepting, say goodbye to all
    // peers by the pace of the config or evenly over its window, then reset those that are left.
    // drained() returns true when none is.
    void drain();
    bool ready() const { return drain_at_ == kNever; }
    // Accepts no more on this one; what was accepted there stays.
    void close_listener(uint8_t listener) { io_.close_listener(listener); }
    // The same of one that another program has open, too, so that a close would leave those that
    // come waiting in its queue: they are accepted and refused as going_away, and may go elsewhere.
    void refuse_on(uint8_t listener) { refused_listeners_ |= uint64_t{1} << listener; }
    // Reset all peers, in the turns that follow.
    void stop_hard();
    // It accepts no more, and says goodbyes.
    bool draining() const { return draining_; }
    // When the next step of a drain is due, at the latest; kNever: there is none.
    Nanos drain_due_at() const { return draining_ ? io_.now() + kGoodbyeEveryNs : drain_at_; }
    // The same of those that a policy sends to another server.
    Nanos departures_due_at() const { return draining_ ? kNever : departures_due_at_; }
    // And of a look at those that have heartbeats from before a reload.
    Nanos settle_due_at() const { return settle_look_at_; }
    bool drained() const { return draining_ && table_.live() == 0; }
    bool drain_cut_short() const { return cut_short_; }
    // And no other reactor is asked or told anything any more: it may end once all have come here.
    bool retired() const { return drained() && logins_.settled(); }

    // ---- what a session asks for
    Connection& at(Index index) { return table_[index]; }
    const HeartbeatConfig& heartbeat_of(const Connection& connection) const {
        return config_.profiles[connection.profile];
    }
    // For how long its answers are not late (core/heartbeat_policy.h).
    AnswerWait answer_wait(Index index) const {
        const HeartbeatConfig& heartbeat = heartbeat_of(table_[index]);
        if (heartbeat.quick_ticks == 0) [[likely]]
            return 0;
        const Nanos interval = config_.clock.begins(heartbeat.interval_ticks);
        return config_.clock.ticks(answer_times_.of(index).answer_wait(interval));
    }
    // It answered the first probe of a silence.
    void note_answer(Index index, Nanos took) {
        if (answer_times_.on()) answer_times_.at(index).add(took, config_.options->rtt_alpha);
    }
    RoundTrip round_trip(Index index) const { return answer_times_.of(index); }
    // Where the heartbeats of a profile are now: what Connection::profile is to hold.
    uint8_t place_of(uint8_t profile) const { return profile_place_[profile]; }
    // The same of one that asked for it, or for none: where intervals are adaptive, its level.
    uint8_t place_for(Index index, uint8_t asked);
    // It is to have the heartbeats at `place`, and is told: announcing.cc says when it has them.
    void announce(Index index, uint8_t place);
    // The same of one that a welcome, which follows, tells. `begins_anew`: its silence does, too.
    void announce_by_welcome(Index index, uint8_t place, bool begins_anew);
    // Where the heartbeats are that a welcome names: those that it was told of, or has.
    uint8_t place_told(Index index) const {
        const Announced announced = announced_.of(index);
        return announced.pends() ? announced.place() : table_[index].profile;
    }
    void note_welcome(Index index) {
        if (announced_.of(index).pends()) announced_.at(index).is_untold = false;
    }
    // It is told what it has: what it was told before, and does not have, is void.
    void drop_announced(Index index) {
        if (announced_.of(index).pends()) announced_.at(index) = {};
    }

    // ---- side connections (sides.cc)
    // The network of its peer: a block of addresses, and the number that stands for it in all
    // reactors. None where --nat-probes is off, or its address is not known. A system call.
    struct Network {
        AddressPrefix block;
        uint32_t number;
    };
    std::optional<Network> network_of(Index index) const;
    // It is a side connection from now on: of no user, and it may be silent for kNatSilenceMaxNs.
    enum class SideVerdict : uint8_t { taken, off, too_many };
    SideVerdict begin_side(Index index, bool has_network);
    // What clients of a network have found of it; nothing: NatSilence{}.
    NatSilence nat_of(const Network& network) const {
        return nat_reports_.of(network.number, io_.now());
    }
    // Its client, which is `user` or is none, finds out what its network bears, or has: then its
    // interval, if it is adaptive, stays as it is or follows, and those that come next from its
    // network are told.
    void take_nat(Index index, const Network& network, std::string_view user,
                  const NatSilence& found);
    // The same of another reactor's.
    void note_nat(const Message::NatFound& found);

    // A connection enters a phase: its silence starts now.
    void set_profile(Index index, uint8_t profile);
    // The same phase goes on under another profile: so does the silence.
    void change_profile(Index index, uint8_t profile);
    // Its greeting is over, or it has none: silence is judged by the default profile.
    void begin_heartbeats(Index index);
    // It was heard of: by what proves a round trip, or by any complete frame.
    void proof(Connection& connection) {
        if (connection.stage != Stage::closing &&
            heartbeat_of(connection).liveness != Liveness::none) {
            connection.heard = heard_now_;
        }
    }
    void frame(Connection& connection) {
        if (heartbeat_of(connection).liveness == Liveness::any) proof(connection);
    }
    // Where it is in its life, and what it speaks, change by these, which count it.
    void set_stage(Index index, Stage stage);
    void set_protocol(Index index, uint8_t protocol);
    // Ends it: with a goodbye, or quietly after what there was to say was said.
    void begin_close(Index index, const CloseCause& cause);
    void begin_close_silent(Index index, const CloseCause& cause);
    // Room in its next send. nullptr: it is gone, or closing, or has too much waiting; then it is
    // closed as a slow reader, or for want of memory.
    uint8_t* claim(Index index, size_t bytes);
    // More of a message that is not whole, `most` bytes in all. False: there is no memory for it.
    bool hold(Index index, std::span<const uint8_t> piece, size_t most);
    // A copy for later, with slack in front; 0: there is no memory.
    BufferPool::Handle keep(Index index, std::span<const uint8_t> bytes);
    // Who its peer is: when it is accepted, and again when a PROXY header names another.
    void set_peer_address(Index index, const SocketAddress& peer);
    // It came through a PROXY header and is `peer`: counted by that address, or to be refused.
    std::optional<Refusal> count_address(Index index, const SocketAddress& peer);
    // `user` is logged in there: where users are spared it gives way to none any more, and the rate
    // of its messages is its user's, too.
    void logged_in(Index index, std::string_view user);
    // It is logged in: it has the cohort that its user's shard has said. `tells`: it is sent its
    // interval where that is another; else the welcome, which follows, has it.
    void join_cohort(Index index, Cohort cohort, bool tells);
    // The same of a session that changed policies are about.
    void move_to_cohort(Index index, Cohort cohort);
    // The same of one that is not logged in, where policies may be for such: it has said that it is
    // none of a user.
    void group_anonymous(Index index, bool tells);
    // It is about to be logged in, and is not counted as anonymous any more.
    void leave_anonymous(Index index);
    // It is told the server where its cohort is to be, if that is another, and served until it has
    // gone there or its stay is over; or closed, where it can be told in no other way. At once.
    void send_away(Index index);
    // The same in its time: it lives already, maybe with many others.
    void send_away_paced(Index index);
    // The login that had that cohort is over.
    void leave_cohort(Cohort cohort, CloseReason reason);
    // It has the heartbeats of its cohort now; `tells` as above. Returns whether it had others.
    bool tune_to_cohort(Index index, bool tells);
    // Its hello was refused, and took it out of the heartbeats of its cohort.
    void tune_again(Index index);
    // Where the profile is that the peer asked for, or an operator, whatever its cohort has; and
    // that it was asked for.
    uint8_t own_profile(Index index);
    void keep_profile(Index index, uint8_t profile);
    // It has this profile from now on, and is sent it.
    void retune(Index index, uint8_t profile);
    bool counts_cohorts() const { return counts_cohorts_; }
    void count_heartbeat(Index index) {
        if (counts_cohorts_) [[unlikely]]
            count_cohort_heartbeat(index);
    }
    // By cohort, up to now; of those that no policy has, kRestCohort.
    std::array<CohortCounts, kCohortsMax> cohort_counts() const;
    // A complete message came: the connection is closed where that is one too many for its rate.
    // Of one that is traced it is counted, too.
    void count_message(Index index) {
        if (counts_messages_) [[unlikely]] {
            if (is_traced(index) || message_rates_.on()) look_at_message(index);
        }
    }
    // Where traces are on (tracing.cc): a peer names the trace that it is part of; its handshake is
    // over; its hello was welcomed; a message of it was no heartbeat, and maybe answered a probe.
    void join_trace(Index index, const TraceContext& context);
    void trace_upgraded(Index index);
    void trace_hello(Index index);
    void trace_other(Index index, bool answers_probe) {
        if (is_traced(index)) [[unlikely]]
            count_other(index, answers_probe);
    }
    bool reads_trace() const { return traces_.on(); }
    // What a refusal advises; 0: nothing.
    uint32_t retry_after_ms(const Refusal& refusal) const;
    // A debug line about it.
    void log_debug(Index index, std::string_view what, std::string_view of_what);
    Nanos now() const { return io_.now(); }
    // How long a peer that is sent away is to stay so: from `least` to twice that, each another.
    Nanos draw_time_away(Nanos least);
    Logins& logins() { return logins_; }
    Authentication& authentication() { return authentication_; }
    WorkBudget& fresh_work() { return fresh_work_; }
    WorkBudget& parked_work() { return parked_work_; }
    ConversationShared& shared() { return shared_; }
    BufferPool& buffers() { return buffers_; }
    ReactorMetrics& metrics() { return metrics_; }
    Notices& notices() { return notices_; }

    // ---- TLS (records.cc)
    bool serves_tls() const { return config_.options->tls_context != nullptr; }
    // Handshakes have had their part of this turn: what was read of this one waits for the next.
    bool puts_off_tls(Index index);
    // Its bytes are records from now on. False: it was refused, and is closing.
    // Requires: serves_tls().
    bool begin_tls(Index index);
    // What they hold; at the end of its handshake it is in Stage::detect. What is to be answered
    // is. end_records() follows once `plain` is decoded. Requires: begin_tls().
    TlsConnections::Read read_records(Index index, std::span<uint8_t> records);
    void end_records(Index index, const TlsConnections::Read& read);

    // ---- what is known of connections (evidence.cc)
    // Of one in the table: two system calls while it lives. What the ledger has of one that ends;
    // where that is off, or newer ones have pushed it out, little more than the reason.
    Evidence evidence(Index index) const;
    // To 34 ms; also where no ledger is kept.
    Nanos accepted_at(Index index) const {
        const SessionBook::Entry* const login = logins_.entry_of(table_[index]);
        return history_.accepted_at(login != nullptr ? login->accepted : table_[index].user,
                                    io_.now());
    }
    // The last of those that ended, of this reactor. Empty where it is off.
    const Ledger& ledger() const { return history_.ledger(); }
    // Sentences (core/sessions/explain.h); not `whole`: what is behind "closed as".
    std::string explain(const Evidence& facts, bool whole = true) const;

    // ---- readings
    const ReactorConfig& config() const { return config_; }
    const ConnectionTable& table() const { return table_; }
    const Wheel& wheel() const { return wheel_; }
    const BufferPool& buffers() const { return buffers_; }
    const Logins& logins() const { return logins_; }
    const Authentication& authentication() const { return authentication_; }
    // Of the users whose names hash to this reactor: who is online, and what changed.
    const Directory& directory() const { return logins_.directory(); }
    uint32_t outboxes_taken() const { return outboxes_.taken(); }
    // Of the socket: behind a PROXY header that is the balancer. A system call.
    SocketAddress peer_address(Index index) { return io_.peer_address(index); }
    bool is_held_off(Index index) const { return io_.is_held_off(index); }
    // nullptr if that connection is gone, or never was.
    const Connection* find(ConnectionId id) { return table_.find(id); }
    // To be sent, and not taken by the kernel.
    size_t queued_bytes(Index index) const {
        return table_[index].outbox == 0 ? 0 : outboxes_.bytes(table_[index]);
    }
    // Whether claim() has so much room, and the connection would not be closed for it.
    bool has_room(Index index, size_t bytes) const {
        return queued_bytes(index) + bytes <= config_.options->send_queue_bytes;
    }
    // A copy of everything that the reactor measures.
    void fill(ReactorStats& stats) const;
    // Checks the wheel's invariants against the policy's deadlines. O(limit): for tests only.
    void validate() const;

  private:
    // Beginnings.
    void bound_silence(Index index, uint8_t before, uint8_t now);
    struct Admitted {
        std::optional<Refusal> refusal{};
        bool counted = false;  // by its address: kCounted
    };
    Admitted admit(const Accepted& accepted, uint32_t address);
    Admitted enter_address(uint32_t address, const SocketAddress& peer);
    void limit_messages(Index index);
    void begin_share(Index index);
    void end_share(Index index);
    void forget_share(Index index);
    void uncount(Index index);
    void leave(uint8_t listener);
    void set_handshaking(Connection& connection, bool handshaking);
    void set_limits();
    void set_cohorts();
    bool drains_in(Index index, CohortPolicy::Drains pass) const;
    void restart_counts(Cohort cohort, uint64_t number);
    bool is_known(Cohort cohort) const;
    const CohortPolicy* policy_of(Index index) const;
    Cohort cohort_of(Index index) const;
    Cohort anonymous_cohort(Index index) const;
    uint8_t kept_profile(Index index) const;
    void count_in_cohort(Index index, Cohort cohort);
    void count_cohort_heartbeat(Index index);
    void end_anonymous(Index index, CloseReason reason);
    uint32_t tune_one(Index index);
    void send_some_away(uint32_t& budget);
    void count_stay(Index index);
    bool end_stay(Index index);
    // What is logged (logging.cc).
    void set_logging();
    bool samples() const { return logged_hashes_ != 0; }
    bool in_sample(ConnectionId id) const;
    void log_accept(Index index, const Accepted& accepted);
    void log_refusal(const Accepted& accepted, CloseReason reason);
    void log_open(Index index);
    void log_close(Index index);
    void log_event(std::string_view event, const FixedText<64>& name, std::string words,
                   std::vector<LogEvent::Fact> facts) const;
    bool is_untrusted_proxy(const Accepted& accepted) const;
    void refuse(const Accepted& accepted, const Refusal& refusal);
    // Sweeps.
    void apply_some_settings(uint32_t& budget);
    void begin_retune();
    bool begin_retune_of(size_t profile, const ReactorConfig& fresh);
    void retune_some(uint32_t& budget);
    uint32_t retune_one(Index index);
    void end_retune();
    void revoke_some(uint32_t& budget);
    void begin_goodbyes();
    void drain_step(uint32_t& budget);
    void say_goodbyes(Nanos elapsed, Nanos spread, uint32_t& budget);
    uint32_t end_one(Index index);

    // Overload.
    void enter_overload(OverloadStep step);
    void report_reusable();
    void begin_close_idle();
    void close_idle_some(uint32_t& budget);
    uint32_t consider_idle(Index index);
    bool is_bulky(Index index) const;
    Tick last_heard(Index index) const;

    // Judging. Bytes on their way are life (heartbeat_policy.h: heard_progress).
    uint32_t judge_one(Index index, Tick reached);
    Tick judge_suspicion(Index index, Tick reached);
    void excuse_misses(Index index);
    void note_probe(Index index);
    void excuse_late_probes();
    void flush_dirty();
    // Side connections.
    void end_side(Index index);
    uint32_t client_of(Index index, std::string_view user) const;
    void bound_interval(Index index, const NatSilence& found);
    // Adaptive intervals (adapting.cc).
    void adapt(Index index, Tick reached, const HeartbeatStep& step);
    void note_lost(Index index, CloseReason reason);
    bool ends_silence(Index index, Tick reached, const HeartbeatStep& step);
    uint8_t first_level(Index index);
    void change_level(Index index, uint8_t level);
    // Announcing.
    // What it is told of and does not have yet.
    struct Announced {
        uint32_t until : 24 = 0;   // the tick from which on it has that, whatever it knows
        uint32_t place_1 : 8 = 0;  // where that is, and 1; 0: there is none
        bool is_untold = false;    // the message is still to come
        bool pends() const { return place_1 != 0; }
        uint8_t place() const { return static_cast<uint8_t>(place_1 - 1); }
    };
    static_assert(kStoredTickBits == 24 && kHeartbeatProfilesMax < 256);
    bool is_shorter(Index index, uint8_t place) const;
    bool note_announced(Index index, uint8_t place);
    void tell_announced(Index index);
    void adopt(Index index, Tick reached);
    bool has_taken_all(Index index) const;
    // Idle clocks.
    void set_idle();
    bool may_idle(const Connection& connection) const;
    Tick begin_idle(Index index);
    void note_idle_read(Index index);
    void note_idle_write(Index index);
    IdleLook idle_look(Index index, Tick now) const;
    struct IdleJudged {
        Tick next = kNoTick;  // when to look again
        uint32_t cost = 0;
        bool closed = false;
    };
    IdleJudged judge_idle(Index index, Tick reached, bool probed);
    void note_asked_left();
    void note_idle(Index index, IdleClock clock, const IdleStep& step);
    void close_idle(Index index, IdleClock clock, const IdleStep& step);
    void fill_idle(Evidence& facts, Index index) const;
    Tick life_ends(Index index) const;
    bool end_lifetime(Index index, Tick reached);
    void evict(Index index, Tick reached);
    bool lingers_anew(Connection& connection, Tick due);
    uint64_t ticks_for(uint64_t bytes) const;
    size_t unfinished_bytes(Index index) const {
        const uint32_t inbox = table_[index].inbox;
        return inbox == 0 ? 0 : buffers_.size(inbox);
    }
    // And of a record that is not whole, behind TLS.
    size_t incoming_bytes(Index index) const {
        const size_t of_record = table_[index].tls != 0 ? tls_.unread_bytes(index) : 0;
        return unfinished_bytes(index) + of_record;
    }
    void credit_upload(Index index, size_t before, size_t read_bytes);
    void note_flight(Index index, size_t bytes);
    void note_bulk(Index index, size_t flight_bytes);
    void credit_download(Index index, Tick reached);
    void credit_flight(Index index, const SendProgress& progress);

    // TLS.
    void deliver(Index index, std::span<uint8_t> bytes);
    void on_records(Index index, std::span<uint8_t> records);
    bool hold_records(Index index, std::span<uint8_t>& records);
    bool hold_record(Index index, std::span<const uint8_t> piece);
    void on_tls_opened(Index index);
    Nanos& tls_spent(Index index) {
        return index == decoding_ ? tls_spent_parked_ : tls_spent_fresh_;
    }
    void refuse_tls(Index index, const CloseCause& cause);
    bool append_records(Index index);
    bool seal(Index index);
    void release_tls(Index index);

    // Endings.
    void set_cause(Index index, const CloseCause& cause);
    void close_socket(Index index, const CloseCause& cause, CloseMode mode);

    // What is remembered of it (evidence.cc).
    void fill_silence(Evidence& facts, Index index) const;
    void note_cause(Index index, const CloseCause& cause);
    void note_goodbye(Index index) {
        if (Evidence* facts = history_.ending(table_.id(index))) facts->said_goodbye = true;
    }
    void note_end(Index index, CloseMode mode);

    // Traces (tracing.cc).
    bool is_traced(Index index) const { return (table_[index].flags & kTraced) != 0; }
    void trace_accepted(Index index);
    TraceTable::Entry* begin_trace(Index index, const SpanIds& ids, Nanos accepted_at);
    void end_trace(Index index);
    void count_other(Index index, bool answers_probe);
    void look_at_message(Index index);
    bool allows_anomaly();
    void push_trace(const TraceRecord& record);
    void trace_closed(Index index);
    void trace_refused(const Accepted& accepted, CloseReason reason);

    // Sending.
    void mark_dirty(Index index) {
        Connection& connection = at(index);
        if ((connection.flags & kDirty) != 0) return;
        connection.flags |= kDirty;
        dirty_.push_back(index);
    }
    void flush_one(Index index);
    bool flush_records(Index index);
    // A close waits for its peer from its last step on: this thread may have been away since the
    // step before. The steps are the send that has the goodbye, and FIN, so that it ends.
    void linger_from_now(Connection& connection) {
        connection.heard = heard_at(config_.clock.up(io_.clock()));
    }

    // Memory.
    void drop_unfinished(Index index);
    bool make_room(Index asker);
    void take_memory_from(Index index);
    void park(Index index, const Session& session);
    void resume(Index index);
    Parking::Entry what_is_left(Parking::Entry entry, const Session& session);

    ReactorConfig config_;
    ConnectionTable& table_;
    IoRequests& io_;
    ReactorMetrics& metrics_;
    Wheel wheel_;
    BufferPool buffers_{config_.options->buffer_bytes, config_.buffer_reserve_bytes};
    Outboxes outboxes_{buffers_};
    Parking parking_{buffers_};
    // Of this turn: what was read just now and what was parked do not take each other's.
    WorkBudget fresh_work_, parked_work_;
    uint32_t deliveries_ = 0;
    Index decoding_ = kNoIndex;  // whose parked bytes are decoded
    bool giving_way_ = false;    // memory is taken from a connection
    uint32_t may_give_way_ = 0;  // in this turn, to large buffers
    ConversationShared shared_{.limits = config_.limits, .buffers = buffers_};

    // One for each connection with kBulkOut, and for no other.
    struct SendNote {
        uint64_t acked_bytes;
        Tick since;
        // When its flight began or was last looked at, kNever for a small one, and for how long the
        // kernel had been idle by then.
        Nanos at;
        Nanos idle;
        uint64_t flight_ends;  // what is acknowledged once the peer has all of it
    };
    std::unordered_map<Index, SendNote> send_notes_;

    Population population_{all_protocols().size()};
    std::vector<Index> dirty_;
    std::vector<Index> probed_;  // in this turn
    uint64_t came_ = 0;       // connections that were accepted or refused
    uint32_t heard_now_ = 0;  // what a proof of life in this poll is worth
    BucketRate accept_rate_;
    AddressRules address_rules_;
    MessageRates message_rates_;
    Beginnings beginnings_;
    AddressLists sharing_;  // those with kSharing

    // By cohort: what its policy wants.
    std::array<CohortCounts, kCohortsMax> cohort_counts_{};
    std::array<BucketRate, kCohortsMax> cohort_rates_{};
    std::array<uint8_t, kCohortsMax> cohort_profiles_{};  // 0: none
    bool counts_cohorts_ = false;                         // there are policies
    bool groups_anonymous_ = false;                       // that may be for anonymous connections
    AnonymousCohorts anonymous_;
    SideRows<RoundTrip> answer_times_;
    SideRows<AdaptiveState> adaptive_;
    SideRows<Announced> announced_;
    SideRows<IdleState> idle_rows_;  // of those that are `clocked`
    IdleConfig idle_;
    bool has_had_idle_ = false;  // they are on, or were
    std::vector<Index> asked_;   // whose answers they wait for from this turn on
    NetworkLevels networks_;
    NatReports nat_reports_;
    bool adapts_ = false;         // --heartbeat-adaptive
    uint8_t adaptive_top_ = 0;    // the highest level
    uint8_t adaptive_first_ = 0;  // where nothing is known of a network
    TlsConnections tls_;
    // By handshakes, in this turn: of bytes that were read just now, and of parked ones.
    Nanos tls_spent_fresh_ = 0, tls_spent_parked_ = 0;
    // Of policies that this reactor has just learnt of: of their sessions it may have been told.
    uint32_t fresh_cohorts_ = 0;
    Sweep tuning_;
    std::array<WindowPace, kCohortsMax> departures_{};  // by cohort, of those that are sent away
    Nanos departures_due_at_ = kNever;
    // Of those that were sent away and have not gone yet: until when they are served, and the
    // cohort in whose `staying_` each is counted. Of all others `until` is 0.
    struct Stay {
        Tick until = 0;
        Cohort cohort = kNoCohort;
    };
    SideRows<Stay> stays_;
    std::array<uint64_t, kCohortsMax> staying_{};
    Index departing_ = 0;         // where the search for the next one goes on
    Index departing_passed_ = 0;  // places since the last that was found

    Jobs jobs_{config_.number};
    Logins logins_{config_, *this, metrics_, table_.limit()};
    Authentication authentication_{config_, *this, metrics_, table_.limit()};
    Notices notices_{config_.number, config_.warn};
    History history_;
    bool logs_peers_ = false;       // config_.debug gets a line for each
    uint64_t logged_hashes_ = 0;    // config_.event gets those of names whose hash is below this
    bool counts_messages_ = false;  // of some connections at least
    TraceTable traces_;

    Overload lag_overload_;
    OverloadStep overload_step_ = OverloadStep::none;  // by lag or by memory
    Nanos overload_looked_at_ = 0;
    Nanos reusable_due_at_ = 0;
    int64_t reusable_told_ = 0;  // bytes
    struct Idle {
        Tick heard;
        ConnectionId id;
    };
    std::vector<Idle> idlest_;  // a heap, the one that was heard of last on top
    size_t idlest_max_ = 0;
    Sweep idling_;
    Nanos close_idle_at_ = 0;

    Nanos drain_at_ = kNever;         // when accepting ends
    uint64_t refused_listeners_ = 0;  // by their bits
    static_assert(kListenersMax <= 64);
    bool draining_ = false;
    bool cut_short_ = false;
    bool window_over_ = false;  // of the drain
    bool stopping_hard_ = false;
    Nanos drain_began_ = 0;
    std::optional<Nanos> goodbyes_took_;  // known once the last was said
    uint32_t turns_after_window_ = 0;
    uint32_t drain_total_ = 0;  // who was inside when it began
    uint32_t goodbyes_said_ = 0;
    uint64_t retries_told_ = 0;
    Sweep goodbyes_, ending_;
    CohortPolicy::Drains goodbyes_pass_ = CohortPolicy::Drains::last;
    Sweep revoking_;
    bool revoke_again_ = false;  // more ids came while it walked

    const uint32_t listener_timeout_ms_;  // what the kernel's bounds of listeners were made from
    // Of connections that have heartbeats from before a reload. Profiles that some may have left
    // there, those that were found there by this walk, and the longest that one waits for the new.
    Sweep retuning_;
    std::bitset<kRetunedProfiles> settling_, unsettled_;
    std::array<Nanos, kRetunedProfiles> settles_at_{};
    Nanos settle_look_at_ = kNever;
    std::array<uint8_t, kRetunedProfiles> profile_place_;
};

}  // namespace pulse
