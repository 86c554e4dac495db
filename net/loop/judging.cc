// Whose deadline is over, and what is life besides whole frames: bytes on their way.
#include <algorithm>

#include "core/lifetime.h"
#include "net/loop/connections.h"
#include "net/loop/session.h"
#include "net/loop/usdt.h"

namespace pulse {

// R1. Whatever is due by what was certainly heard, as far as the budget goes; true if some is left.
bool Connections::judge() {
    const Tick reached = config_.clock.down(io_.drained_until());
    uint32_t budget = kJudgeBudgetPerTurn;
    Index index;
    while ((index = wheel_.pop_due(reached, budget)) != kNoIndex) {
        metrics_.add(Metric::looks);
        const uint32_t asked = (at(index).flags & kBulkOut) != 0 ? kProgressCost : 0;
        const uint32_t cost = asked + judge_one(index, reached) - kLookCost;
        budget = budget > cost ? budget - cost : 0;
    }
    return wheel_.next_work() <= reached;
}

uint32_t Connections::judge_one(Index index, Tick reached) {
    Connection& connection = at(index);
    if (connection.stage == Stage::free || connection.stage == Stage::closed) {
        return kLookCost;
    }
    // R1. Bytes of it are here and not decoded yet: it is not silent.
    if (connection.stage != Stage::closing && io_.is_held_off(index))
        connection.heard = heard_progress(connection.heard, kAllTicks, reached);
    if ((connection.flags & kBulkOut) != 0) credit_download(index, reached);
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    if (heartbeat.misses != 0) [[unlikely]]
        excuse_misses(index);
    const AnswerWait wait = answer_wait(index);
    HeartbeatStep step =
        heartbeat_step(connection.heard, HeartbeatEvent::look, index, reached, heartbeat, wait);
    if (step.verdict == Verdict::probe) {
        // What was heard decides that it is due; how late it is, the clock: it leaves now, and its
        // answer needs its time from now on, however far the judged instant trails.
        const Tick leaves = std::max(reached, config_.clock.down(io_.clock()));
        const HeartbeatStep leaving =
            heartbeat_step(connection.heard, HeartbeatEvent::look, index, leaves, heartbeat, wait);
        if (leaving.verdict == Verdict::probe) step = leaving;  // the clock evicts none
        step.next = heartbeat_deadline(step.heard, index, reached, heartbeat, wait);
    }
    if (step.verdict == Verdict::evict) {
        connection.heard = step.heard;  // which says whether misses are why
        evict(index, reached);
        return kEvictCost;
    }
    if (end_lifetime(index, reached)) return kEvictCost;
    connection.heard = step.heard;
    // A credit keeps the probes that were sent and so puts the next one off; a proof that follows
    // asks for it an interval later. The look must not come after that.
    if (heartbeat.probe) {
        const Tick proven = reached + heartbeat.interval_ticks + heartbeat.grace_ticks;
        step.next = std::min(step.next, proven);
    }
    if (is_logged_in(connection)) step.next = std::min(step.next, judge_suspicion(index, reached));
    uint32_t cost = kLookCost;
    if (has_had_idle_) [[unlikely]] {
        const IdleJudged idle = judge_idle(index, reached, step.verdict == Verdict::probe);
        if (idle.closed) return kEvictCost;
        step.next = std::min(step.next, idle.next);
        cost += idle.cost;
    }
    wheel_.arm(index, std::min(step.next, life_ends(index)));
    if (step.verdict == Verdict::probe) {
        Session(*this, index).send_probe();
        probed_.push_back(index);
        note_probe(index);
        cost += kProbeCost - kLookCost + (probes_sent(step.heard) == 2 ? kProgressCost : 0);
    }
    if (announced_.of(index).pends()) [[unlikely]] {
        adopt(index, reached);
        return cost + kProgressCost;
    }
    if (adapts_) [[unlikely]]
        adapt(index, reached, step);
    return cost;
}

// Of a silence that something else than the peer's end explains, or in which it need not answer,
// the misses do not count: its timeout holds, which it was told. The server holds bytes for it that
// its host has not taken, so that a probe may not have left, or waits behind them; a message of its
// own is on its way, and an answer behind that; overload. Only of WebSocket, whose ping frames each
// endpoint answers (RFC 6455 5.5.2), is it known beforehand that the peer answers probes; of others
// once it has.
void Connections::excuse_misses(Index index) {
    Connection& connection = at(index);
    if (probes_sent(connection.heard) == 0) return;
    const bool answers = answer_times_.of(index).known() || Session(*this, index).must_answer();
    const bool on_its_way = (connection.flags & kBulkOut) != 0 || outboxes_.in_flight(connection) ||
                            incoming_bytes(index) > 0;
    if (on_its_way || !answers || overload_step_ >= OverloadStep::stretch)
        connection.heard = heard_excused(connection.heard);
}

// Its probe is on its way. With the second of a silence it is suspect: the first was not answered,
// and the kernel says whether its host has it.
void Connections::note_probe(Index index) {
    const uint32_t sent = probes_sent(at(index).heard);
    if (is_traced(index)) [[unlikely]]
        ++traces_.at(index).probes;
    if (counts_cohorts_) ++cohort_counts_[cohort_of(index)].probes;
    metrics_.add(Metric::probes_sent);
    usdt::probe(config_.number, index, sent);
    if (sent > 1) metrics_.add(Metric::probes_missed);  // the one before it
    if (sent != 2) return;
    metrics_.add(Metric::suspects);
    if (io_.transport_facts(index).awaits_peer()) metrics_.add(Metric::suspects_cut_off);
}

// This turn's probes leave, late where this thread was away since the look. Late ones that carry a
// value go out again, since that is void then.
void Connections::excuse_late_probes() {
    io_.submit();
    const Tick now = config_.clock.down(io_.clock());
    for (const Index index : probed_) {
        Connection& connection = at(index);
        if (!is_live(connection.stage) || probes_sent(connection.heard) == 0) continue;
        const HeartbeatConfig& heartbeat = heartbeat_of(connection);
        const uint32_t heard =
            heartbeat_left_late(connection.heard, index, now, heartbeat, answer_wait(index));
        if (heard == connection.heard) continue;
        const bool is_void = heard_excused(heard) != heard_excused(connection.heard);
        connection.heard = heard;
        if (!is_void) {  // the next probe may be due sooner than its end was
            wheel_.arm(index, heartbeat_deadline(heard, index, now, heartbeat, answer_wait(index)));
        } else if (heartbeat.liveness == Liveness::roundtrip) {
            Session(*this, index).send_probe();
        }
    }
    probed_.clear();
}

// When --max-lifetime is over for it, or its stay after it was sent away; kNoTick: it may live on,
// or is on its way out.
Tick Connections::life_ends(Index index) const {
    const LoopOptions& options = *config_.options;
    const Connection& connection = table_[index];
    if (!is_live(connection.stage)) return kNoTick;
    const Tick stays_until = stays_.of(index).until;
    const Tick stays = stays_until != 0 ? stays_until : kNoTick;
    if (options.max_lifetime == 0) return stays;
    const Lifetime lifetime{options.max_lifetime, options.max_lifetime_jitter};
    const Nanos lives = lifetime.of(index, connection.generation, config_.number);
    return std::min(stays, config_.clock.up(accepted_at(index) + lives));
}

// True if it was over, and the connection is told so.
bool Connections::end_lifetime(Index index, Tick reached) {
    if (life_ends(index) > reached) return false;
    const Tick stays_until = stays_.of(index).until;
    if (stays_until == 0 || stays_until > reached) {
        begin_close(index, CloseReason::max_lifetime);
        return true;
    }
    const CohortPolicy* const policy = policy_of(index);  // it may be over
    const std::string_view to = policy == nullptr ? "" : std::string_view(policy->move_to);
    begin_close(index, {CloseReason::moved, to});
    return true;
}

// A session is suspect while a probe of its connection is unanswered. It is found out here and not
// where a proof comes in, so that a heartbeat stays one store. When to look again for it: while it
// is suspect often, so that it is not for long once the peer has answered.
Tick Connections::judge_suspicion(Index index, Tick reached) {
    const HeartbeatConfig& heartbeat = heartbeat_of(at(index));
    const Tick due =
        heartbeat_suspect_at(at(index).heard, index, reached, heartbeat, answer_wait(index));
    const bool told = logins_.set_suspect(index, due <= reached);
    const bool again = !told || due <= reached;
    return again ? reached + std::max(1u, heartbeat.interval_ticks / kSuspectLooks) : due;
}

void Connections::evict(Index index, Tick reached) {
    Connection& connection = at(index);
    const HeartbeatConfig& heartbeat = heartbeat_of(connection);
    const Tick due =
        heartbeat_ends_at(connection.heard, index, reached, heartbeat, answer_wait(index));
    if (is_greeting(connection)) return begin_close(index, CloseReason::handshake_timeout);
    if (connection.stage == Stage::closing) {
        // Its goodbye waits in this turn's list: this thread was away for the whole linger.
        if ((connection.flags & kDirty) != 0 && !outboxes_.in_flight(connection)) {
            flush_one(index);
            wheel_.arm(index, heartbeat_deadline(connection.heard, index, reached, heartbeat));
            return;
        }
        if (lingers_anew(connection, due)) {
            wheel_.arm(index, heartbeat_deadline(connection.heard, index, reached, heartbeat));
            return;
        }
        // As at the end of the window (end_one): its goodbye has not left.
        if (draining_ && (connection.flags & kFinished) == 0) cut_short_ = true;
        return close_socket(index, connection.close_reason, CloseMode::reset);
    }
    metrics_.add(Metric::evicted);
    if (probes_sent(connection.heard) > 0) metrics_.add(Metric::probes_missed);  // the last one
    const Nanos late = io_.clock() - config_.clock.begins(due);
    metrics_.distributions.eviction_delay.record(late);
    // With a message begun that does not come on, it may not be silent, but it is too slow.
    const bool unfinished = connection.inbox != 0 || incoming_bytes(index) > 0;
    usdt::evict(config_.number, index, late, unfinished);
    if (unfinished) return begin_close(index, CloseReason::slow_upload);
    const bool missed = due < heartbeat_evict_at(connection.heard, reached, heartbeat);
    if (missed) metrics_.add(Metric::evicted_by_misses);
    const CloseCause silent(CloseReason::idle_timeout);
    begin_close(index, missed ? silent.noted("missed probes") : silent);
}

// The linger ended at `due`. True if it begins anew: words are left, and this thread was away. How
// often it did is where the probes of a live connection are counted; a closing one has none.
bool Connections::lingers_anew(Connection& connection, Tick due) {
    const uint32_t lingers = probes_sent(connection.heard);
    const bool late = io_.clock() - config_.clock.begins(due) > kLingerLatenessNs;
    if ((connection.flags & kFinished) != 0 || !late || lingers == kLingersMax) return false;
    linger_from_now(connection);
    connection.heard |= (lingers + 1) << kHeardProbeShift;
    return true;
}

// Ticks of life that so many bytes of a message are worth, counted from its beginning so that no
// byte is lost in rounding.
uint64_t Connections::ticks_for(uint64_t bytes) const {
    const auto tick_ns = static_cast<uint64_t>(config_.clock.tick_ns());
    constexpr uint64_t kBytesMax = UINT64_MAX / kSecond;
    return std::min(bytes, kBytesMax) * kSecond / (kProgressBytesPerSecondMin * tick_ns);
}

// A message that is not whole yet has grown from `before` bytes: its peer is alive, and its own
// heartbeats wait behind what it sends.
void Connections::credit_upload(Index index, size_t before, size_t read_bytes) {
    Connection& connection = at(index);
    // A first message of more than one read: C8 does not wait for the others, so the deadline does.
    if (is_greeting(connection) && read_bytes >= kBulkBytes) {
        connection.heard =
            heard_progress(connection.heard, ticks_for(read_bytes), config_.clock.up(io_.now()));
        return;
    }
    const size_t after = incoming_bytes(index);
    if (!is_live(connection.stage) || is_greeting(connection) || after < kUploadBytesMin) return;
    if (heartbeat_of(connection).liveness == Liveness::none) return;
    const uint64_t credit = ticks_for(after) - (after < before ? 0 : ticks_for(before));
    connection.heard = heard_progress(connection.heard, credit, config_.clock.up(io_.now()));
}

// So many bytes are about to be sent. Small sends pile up in the kernel as a large one does.
void Connections::note_flight(Index index, size_t bytes) {
    Connection& connection = at(index);
    if ((connection.flags & kBulkOut) != 0) {
        // A small one does not wait for this thread: the kernel takes it whole, or has others.
        const bool bulk = bytes >= kBulkBytes;
        SendNote& note = send_notes_[index];
        note.at = bulk ? io_.clock() : kNever;
        if (!bulk) return;
        const SendProgress progress = io_.send_progress(index);
        note.idle = progress.idle;
        note.flight_ends = progress.acked_bytes + progress.waiting_bytes + bytes;
        return;
    }
    const size_t units = connection.unnoted + bytes / kUnnotedUnitBytes;
    if (units >= kBulkBytes / kUnnotedUnitBytes) return note_bulk(index, bytes);
    connection.unnoted = units & 0x7F;  // all of it: units is less
}

// Bulk is on its way from now on: what is acknowledged after this is life. Told again where a phase
// begins, since credits are given within one; with 0 bytes the flight is the one of before.
void Connections::note_bulk(Index index, size_t flight_bytes) {
    at(index).flags |= kBulkOut;
    at(index).unnoted = 0;
    const SendProgress progress = io_.send_progress(index);
    SendNote& note = send_notes_[index];
    note.acked_bytes = progress.acked_bytes;
    note.since = config_.clock.up(io_.clock());
    note.at = io_.clock();
    note.idle = progress.idle;
    if (flight_bytes > 0)
        note.flight_ends = progress.acked_bytes + progress.waiting_bytes + flight_bytes;
}

// A flight is under way. While the kernel had none of it, the peer had taken all that it was given,
// and the rest waited for this thread: that is not the peer's silence. Once the peer has all of it,
// nothing waits but its completion.
void Connections::credit_flight(Index index, const SendProgress& progress) {
    Connection& connection = at(index);
    SendNote& note = send_notes_[index];
    if (note.at == kNever) return;
    const Nanos now = io_.clock();
    const bool taken = progress.acked_bytes >= note.flight_ends;
    const Nanos idle = progress.idle - note.idle - (taken ? progress.since_acked : 0);
    const Tick reached = config_.clock.down(now);
    const Tick last = restore_tick(connection.heard & kStoredTickMask, reached);
    // Heard of since: what counts of this flight is what it did not take then.
    const Nanos heard_since = std::max<Nanos>(0, config_.clock.begins(last) - note.at);
    if (idle > heard_since)
        connection.heard =
            heard_progress(connection.heard, config_.clock.down(idle - heard_since), reached);
    note.at = now;
    note.idle = progress.idle;
}

// The same for what is on its way to the peer: our probe waits behind it, and so does the goodbye
// of a connection that is closing. It was alive when its host acknowledged the newest of it.
void Connections::credit_download(Index index, Tick reached) {
    Connection& connection = at(index);
    const SendProgress progress = io_.send_progress(index);
    const auto place = send_notes_.find(index);
    PULSE_ASSERT(place != send_notes_.end());
    SendNote& note = place->second;
    // Where the kernel could not be asked there is nothing to go by.
    const bool taken = progress.acked_bytes > note.acked_bytes;
    const uint64_t credit = taken ? ticks_for(progress.acked_bytes - note.acked_bytes) : 0;
    const Tick acked_at = config_.clock.up(io_.clock() - progress.since_acked);
    if (taken && connection.clocked != 0)
        idle_rows_.at(index).taken = static_cast<uint32_t>(acked_at);
    const Tick closing_for = reached > note.since ? reached - note.since : 0;
    note.acked_bytes = std::max(note.acked_bytes, progress.acked_bytes);
    if (progress.waiting_bytes == 0 && outboxes_.bytes(connection) == 0) {
        connection.flags &= static_cast<uint8_t>(~kBulkOut);
        send_notes_.erase(place);
    }
    // While draining the window is the bound: drain_step().
    if (connection.stage == Stage::closing && !draining_ &&
        closing_for > config_.clock.ticks(kCloseLingerMaxNs)) {
        return;
    }
    if (outboxes_.in_flight(connection)) credit_flight(index, progress);
    connection.heard = heard_progress(connection.heard, credit, acked_at);
}

}  // namespace pulse
