// The schedule: what a thread does when, and how it is read from outside.
#include "tools/pulseload/run/crowd.h"

#include <algorithm>
#include <cmath>
#include <ctime>

#include "net/loop/limits.h"

namespace pulse::load {
namespace {

// What one pass begins at most, so that answers are read in between and not timed late.
constexpr uint32_t kConnectsPerTurn = 128;
constexpr Nanos kTurnMax = 100 * kMillisecond;
// What is remembered of unanswered pings and messages, on each thread: 128 MiB and 32 MiB.
constexpr size_t kPingsOutstandingMax = size_t{4} << 20;
constexpr size_t kMessagesOutstandingMax = size_t{1} << 20;
// Of one client; what it has not got rid of by then is the server's slowness.
constexpr size_t kOutboxBytesMax = size_t{4} << 20;

// Of a thread's connects; a handshake of TLS takes 44 KB on each side, and is bounded in all.
uint32_t connects_at_once(const CrowdPlan& plan) {
    const LoadOptions& options = *plan.options;
    if (!options.speaks_tls()) return options.connecting_max;
    const uint32_t all = options.tls_handshakes_max;
    const uint32_t share = all / plan.workers + (plan.worker < all % plan.workers);
    return std::min(options.connecting_max, std::max(1u, share));
}

Nanos thread_cpu() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return Nanos{time.tv_sec} * kSecond + time.tv_nsec;
}

}  // namespace

void Readings::merge(const Readings& other) {
    for (size_t timed = 0; timed < kTimed; ++timed) latency[timed].merge(other.latency[timed]);
    lateness.merge(other.lateness);
    made += other.made;
    skipped += other.skipped;
    backlog += other.backlog;
    cpu += other.cpu;
    untimed += other.untimed;
    if (other.gap_max > gap_max) {
        gap_max = other.gap_max;
        gap_ended = other.gap_ended;
    }
}

void Readings::reset() {
    for (Histogram& histogram : latency) histogram.reset();
    lateness.reset();
    made = skipped = untimed = 0;
    backlog = 0;
    cpu = gap_max = gap_ended = 0;
}

Crowd::Crowd(const CrowdPlan& plan, PageSource& pages, ConnectionTable& table)
    : plan_(plan),
      options_(*plan.options),
      conductor_(*plan.conductor),
      table_(table),
      io_({}, table.records(), table.limit()),
      wheel_(pages, table.records(), table.limit(), clock_.down(io_.now())),
      buffers_(kBufferedBytesDefault),
      outboxes_(buffers_),
      tls_(pages, buffers_, table.limit()),
      random_(mix64(plan.options->seed) + plan.worker),
      clients_(plan.clients),
      mix_(options_.effective_mix()),
      behaviours_(options_.effective_behaviours()),
      connects_(options_.connect_rate, plan.worker, plan.workers, options_.seed),
      messages_(options_.message_rate.value_or(PaceSpec{}), plan.worker, plan.workers,
                options_.seed + 1),
      pings_(kPingsOutstandingMax),
      awaited_messages_(kMessagesOutstandingMax),
      began_(io_.now()),
      connecting_max_(connects_at_once(plan)),
      storms_(options_.storms.size()) {
    // No more are ever in use at once.
    for (size_t i = 0; i < options_.targets.size(); ++i)
        tls_sessions_.emplace_back(connecting_max_);
}

uint8_t* Crowd::Out::claim(size_t bytes) {
    return crowd.outboxes_.claim(crowd.table_[index], index, bytes, kOutboxBytesMax);
}

bool Crowd::beats(const Client& client) const {
    if (options_.tcp_only || options_.heartbeat_interval == 0 || (client.flags & kSilenced) != 0)
        return false;
    switch (client.behaviour) {
        case Behaviour::beat:
        case Behaviour::slow_reader:
        case Behaviour::flapper:
        case Behaviour::chatty:
        case Behaviour::duplicate_login:
            return true;
        case Behaviour::idle:
        case Behaviour::mute:
        case Behaviour::vanish:
        case Behaviour::slowloris:
        case Behaviour::garbage:
            break;
    }
    return false;
}

bool Crowd::answers(const Client& client) const { return (client.flags & kSilenced) == 0; }

// ------------------------------------------------------------------------------ what happens when

void Crowd::turn() {
    notice_gap();
    hand_over_readings();
    start_waiting();
    start_connects();
    start_messages();
    break_storms();
    io_.poll(std::min(io_.clock() + kTurnMax, next_due()), *this);
    serve_due();
    if (draining()) quiet_ = pings_.count() == 0 && awaited_messages_.empty();
}

// A turn ends within kTurnMax where this thread has a core; a longer one is time in which it saw
// nothing of what came.
void Crowd::notice_gap() {
    const Nanos now = io_.clock();
    const Nanos gap = last_turn_ == 0 ? 0 : now - last_turn_ - kTurnMax;
    last_turn_ = now;
    Readings& readings = now_recording();
    if (gap <= readings.gap_max) return;
    readings.gap_max = gap;
    readings.gap_ended = now;
}

void Crowd::hand_over_readings() {
    const uint32_t asked = asked_.load(std::memory_order_acquire);
    if (asked == answered_.load(std::memory_order_relaxed)) return;
    complete(now_recording());
    answered_.store(asked, std::memory_order_release);
}

// What has come due and was not begun, because we did not get round to it.
void Crowd::complete(Readings& readings) {
    const Nanos now = io_.clock();
    int64_t backlog = 0;
    if (connecting_ < connecting_max_ && !options_.connect_rate.at_once()) {
        const uint64_t due = std::min<uint64_t>(connects_.due(now - began_), plan_.clients);
        backlog += static_cast<int64_t>(due - std::min<uint64_t>(due, started_));
    }
    if (options_.message_rate && messages_began_ != kNever) {
        const uint64_t due = messages_.due(now - messages_began_);
        backlog += static_cast<int64_t>(due - std::min(due, messages_begun_));
    }
    readings.backlog += backlog - backlog_;
    readings.cpu = thread_cpu();
    backlog_ = backlog;
}

Nanos Crowd::next_due() const {
    const Tick work = wheel_.next_work();
    Nanos due = work == kNoTick ? kNever : clock_.begins(work);
    if (!waiting_.empty() && connecting_ < connecting_max_) return io_.now();
    if (started_ < plan_.clients && connecting_ < connecting_max_) {
        due = std::min(due, began_ + connects_.next());
    }
    if (messages_began_ != kNever) due = std::min(due, messages_began_ + messages_.next());
    const Nanos hold = conductor_.hold_began.load(std::memory_order_relaxed);
    for (size_t i = 0; hold != kNever && i < storms_.size(); ++i) {
        if (storms_[i].at == 0) due = std::min(due, hold + options_.storms[i].at);
    }
    return due;
}

// Behind the schedule by our own doing.
void Crowd::record_lateness(Nanos intended_at, Nanos at) {
    Readings& readings = now_recording();
    ++readings.made;
    readings.lateness.record(at - intended_at);
}

void Crowd::start_waiting() {
    if (waiting_.empty()) return;
    held_back_ = true;
    while (!waiting_.empty() && connecting_ < connecting_max_) {
        const Waiting next = waiting_.front();
        waiting_.pop_front();
        connect(next.index, next.intended_at);
        clients_[next.index].began = next.intended_at;  // to wait was not the generator's doing
    }
}

void Crowd::start_connects() {
    const Nanos now = io_.clock();
    for (uint32_t budget = kConnectsPerTurn; budget > 0 && started_ < plan_.clients; --budget) {
        if (connecting_ >= connecting_max_) {
            held_back_ = true;  // by the server: it is to be seen in the latency, and no fault here
            return;
        }
        const bool at_once = options_.connect_rate.at_once();
        const Nanos intended_at = at_once ? now : began_ + connects_.next();
        if (intended_at > now) break;
        connects_.advance();
        const Index index = table_.take();
        PULSE_ASSERT(index == started_);
        ++started_;
        Client& client = clients_[index];
        const ClientKind kind = kind_of(global(index), mix_, behaviours_);
        client.wire = kind.wire;
        client.behaviour = kind.behaviour;
        // The first of all asks what the server promises.
        const bool scout = global(index) == 0;
        if (scout) client.behaviour = Behaviour::beat;
        const bool asks = scout && !options_.no_hello && options_.expect_timeout == 0;
        const bool all_say = options_.hello || options_.users > 0;
        if (asks || all_say || client.behaviour == Behaviour::duplicate_login ||
            asks_answer_every(client)) {
            client.flags |= kSaysHello;
        }
        if (asks && !all_say && !target_of(index).is_ours()) client.flags |= kIdentifies;
        connect(index, intended_at);
    }
    held_back_ = false;
}

// Exactly so many of those that may be struck, each as likely as the next (selection sampling).
void Crowd::break_storms() {
    const Nanos hold = conductor_.hold_began.load(std::memory_order_relaxed);
    if (hold == kNever) return;
    for (size_t i = 0; i < storms_.size(); ++i) {
        const StormPlan& plan = options_.storms[i];
        if (storms_[i].at != 0 || io_.clock() < hold + plan.at) continue;
        storms_[i].at = io_.clock();
        const auto may_be_struck = [&](Index index) {
            const Client& client = clients_[index];
            const bool ordinary = client.behaviour == Behaviour::beat ||
                                  client.behaviour == Behaviour::idle ||
                                  client.behaviour == Behaviour::chatty;
            return client.stage == Stage::open && ordinary && answers(client) && global(index) != 0;
        };
        uint64_t candidates = 0;
        for (Index index = 0; index < started_; ++index) candidates += may_be_struck(index);
        uint64_t wanted = plan.count / plan_.workers + (plan_.worker < plan.count % plan_.workers);
        if (plan.fraction > 0) {
            wanted = static_cast<uint64_t>(
                std::llround(plan.fraction * static_cast<double>(candidates)));
        }
        wanted = std::min(wanted, candidates);
        storms_[i].killed = wanted;
        for (Index index = 0; index < started_ && wanted > 0; ++index) {
            if (!may_be_struck(index)) continue;
            if (random_.chance(wanted, candidates--)) {
                strike(index, plan, static_cast<uint8_t>(i));
                --wanted;
            }
        }
    }
}

void Crowd::strike(Index index, const StormPlan& plan, uint8_t number) {
    switch (plan.kind) {
        case StormPlan::Kind::silence:
            return silence(index, Behaviour::mute);
        case StormPlan::Kind::vanish:
            return silence(index, Behaviour::vanish);
        case StormPlan::Kind::kill:
            break;
    }
    Client& client = clients_[index];
    client.storm = number;
    client.reconnect = plan.reconnect;
    client.flags |= kVictim;
    if (plan.reconnect != Reconnect::never) client.flags |= kComesBack;
    leave_open(index, counts_.pings_abandoned);
    bump(counts_.client_closes);
    close(index, CloseMode::orderly);
}

void Crowd::serve_due() {
    const Tick reached = clock_.down(io_.now());
    uint32_t budget = UINT32_MAX;
    Index index;
    while ((index = wheel_.pop_due(reached, budget)) != kNoIndex) serve(index, reached);
}

void Crowd::serve(Index index, Tick reached) {
    Client& client = clients_[index];
    if (client.beat <= reached) beat(index, reached);
    if (client.other <= reached) {
        const Nanos intended_at = clock_.begins(client.other);
        client.other = kNoTick;
        serve_other(index, intended_at);
    }
    rearm(index);
}

void Crowd::serve_other(Index index, Nanos intended_at) {
    Client& client = clients_[index];
    switch (client.stage) {
        case Stage::waiting:
            return connect(index, intended_at);
        case Stage::connecting:
        case Stage::greeting:
            if (client.stage == Stage::greeting && asks_answer_every(client) &&
                !tls_.is_handshaking(index)) {
                return failed(index,
                              "no welcome came within --connect-timeout; leave "
                              "--answer-every out for a target that knows no hello");
            }
            return failed(index, "a connect took longer than --connect-timeout");
        case Stage::misbehaving:
            return misbehave(index);
        case Stage::open:  // a flapper
            client.reconnect = Reconnect::none;
            client.flags |= kComesBack;
            leave_open(index, counts_.pings_abandoned);
            bump(counts_.client_closes);
            return close(index, CloseMode::orderly);
        case Stage::ending:
        case Stage::gone:
            return;
    }
}

void Crowd::rearm(Index index) {
    const Tick next = std::min(clients_[index].beat, clients_[index].other);
    if (next != kNoTick) wheel_.arm(index, next);
}

void Crowd::after(Index index, Nanos delay) {
    clients_[index].other = clock_.up(io_.now() + delay);
    rearm(index);
}

}  // namespace pulse::load
