// The schedule, and the lives of clients.
#include "tools/pulseload/crowd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>

namespace pulse::load {
namespace {

// What one pass begins at most, so that answers are read in between and not timed late.
constexpr uint32_t kConnectsPerTurn = 128;
constexpr uint32_t kMessagesPerTurn = 512;
constexpr uint32_t kLeavesPerTurn = 2'000;
constexpr Nanos kTurnMax = 100 * kMillisecond;
// Of one client; what it has not got rid of by then is the server's slowness.
constexpr size_t kOutboxBytesMax = size_t{4} << 20;
constexpr Nanos kDripInterval = kSecond;         // of a slowloris
constexpr Nanos kMisbehaveAgainAfter = kSecond;  // when the server has thrown it out
constexpr size_t kGarbageBytes = 64;
constexpr size_t kDemandBytes = 16'384;  // that a slow reader asks for with each beat
constexpr uint32_t kDemandsPerBeat = 16;
constexpr size_t kErrorKindsMax = 64;

Nanos thread_cpu() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return Nanos{time.tv_sec} * kSecond + time.tv_nsec;
}

}  // namespace

void Readings::take_in(const Readings& other) {
    for (size_t timed = 0; timed < kTimed; ++timed) latency[timed].merge(other.latency[timed]);
    lateness.merge(other.lateness);
    made += other.made;
    skipped += other.skipped;
    backlog += other.backlog;
    cpu += other.cpu;
}

void Readings::reset() {
    for (Histogram& histogram : latency) histogram.reset();
    lateness.reset();
    made = skipped = 0;
    backlog = 0;
    cpu = 0;
}

Crowd::Crowd(const CrowdPlan& plan, PageSource& pages, ConnectionTable& table)
    : plan_(plan),
      options_(*plan.options),
      conductor_(*plan.conductor),
      table_(table),
      io_({}, table.records(), table.limit()),
      wheel_(pages, table.records(), table.limit(), clock_.down(io_.now())),
      buffers_(kBufferedBytesPerReactorMax),
      outboxes_(buffers_),
      random_(mix64(plan.options->seed) + plan.worker),
      clients_(plan.clients),
      mix_(options_.effective_mix()),
      behaviours_(options_.effective_behaviours()),
      connects_(options_.connect_rate, plan.worker, plan.workers, options_.seed),
      messages_(options_.message_rate.value_or(PaceSpec{}), plan.worker, plan.workers,
                options_.seed + 1),
      began_(io_.now()),
      storms_(options_.storms.size()) {}

uint8_t* Crowd::Out::claim(size_t bytes) {
    return crowd.outboxes_.claim(crowd.table_[index], bytes, kOutboxBytesMax);
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
    hand_over_readings();
    start_connects();
    start_messages();
    break_storms();
    io_.poll(std::min(io_.clock() + kTurnMax, next_due()), *this);
    serve_due();
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
    if (connecting_ < options_.connecting_max && !options_.connect_rate.at_once()) {
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
    if (started_ < plan_.clients && connecting_ < options_.connecting_max) {
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
void Crowd::made(Nanos meant, Nanos at) {
    Readings& readings = now_recording();
    ++readings.made;
    readings.lateness.record(at - meant);
}

void Crowd::start_connects() {
    const Nanos now = io_.clock();
    for (uint32_t budget = kConnectsPerTurn; budget > 0 && started_ < plan_.clients; --budget) {
        if (connecting_ >= options_.connecting_max) {
            held_back_ = true;  // by the server: it is to be seen in the latency, and no fault here
            return;
        }
        const bool at_once = options_.connect_rate.at_once();
        const Nanos meant = at_once ? now : began_ + connects_.next();
        if (meant > now) break;
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
        if (scout || options_.hello || client.behaviour == Behaviour::duplicate_login) {
            client.flags |= kSaysHello;
        }
        connect(index, meant);
    }
    held_back_ = false;
}

// At its instant each message goes to the next talker that is open, in turn.
void Crowd::start_messages() {
    if (!options_.message_rate) return;
    if (messages_began_ == kNever) {
        const Nanos hold = conductor_.hold_began.load(std::memory_order_relaxed);
        if (hold == kNever) return;
        messages_began_ = hold;
    }
    const Nanos now = io_.clock();
    const bool all_talk = behaviours_.of[static_cast<size_t>(Behaviour::chatty)] == 0;
    for (uint32_t budget = kMessagesPerTurn; budget > 0; --budget) {
        const Nanos meant = messages_began_ + messages_.next();
        if (meant > now) return;
        messages_.advance();
        ++messages_begun_;
        Index talker = kNoIndex;
        for (uint32_t looked = 0; looked < started_ && talker == kNoIndex; ++looked) {
            const Index index = next_talker_++ % started_;
            const Client& client = clients_[index];
            const bool talks = client.behaviour == Behaviour::chatty ||
                               (all_talk && client.behaviour == Behaviour::beat);
            if (client.stage == Stage::open && talks && answers(client)) talker = index;
        }
        if (talker == kNoIndex) continue;
        const Nanos began = io_.clock();
        made(meant, began);
        if (!speech(talker).data({meant, began}, options_.message_bytes)) {
            bump(counts_.messages_skipped);
            continue;
        }
        bump(counts_.messages);
        flush(talker);
    }
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
    leave_open(index);
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
    if (client.beat <= reached) {
        const Nanos meant = clock_.begins(client.beat);
        const uint32_t interval = clock_.ticks(options_.heartbeat_interval);
        for (client.beat += interval; client.beat <= reached; client.beat += interval) {
            ++now_recording().skipped;  // a whole interval behind: it will not be made up for
        }
        ping(index, meant);
    }
    if (client.other <= reached) {
        const Nanos meant = clock_.begins(client.other);
        client.other = kNoTick;
        serve_other(index, meant);
    }
    rearm(index);
}

void Crowd::serve_other(Index index, Nanos meant) {
    Client& client = clients_[index];
    switch (client.stage) {
        case Stage::waiting:
            return connect(index, meant);
        case Stage::connecting:
        case Stage::greeting:
            return failed(index, "a connect took longer than --connect-timeout");
        case Stage::misbehaving:
            return misbehave(index);
        case Stage::open:  // a flapper
            client.reconnect = Reconnect::none;
            client.flags |= kComesBack;
            leave_open(index);
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

// -------------------------------------------------------------------------------- the way to open

void Crowd::connect(Index index, Nanos meant) {
    Client& client = clients_[index];
    Connection& connection = table_[index];
    client.stage = Stage::connecting;
    client.meant = meant;
    client.began = io_.clock();
    client.flags &= static_cast<uint16_t>(kSettled | kVictim | kSaysHello);
    ++client.tries;
    if ((client.flags & kVictim) != 0) ++storms_[client.storm].tries;
    if (!held_back_) made(meant, client.began);
    connection.codec = {};
    connection.state = ConnectionState::greeting;
    ++connecting_;
    ++taken_;
    bump(counts_.connects);
    bump(counts_.connecting);
    const uint64_t number = global(index);
    const SocketAddress source =
        plan_.sources.empty() ? SocketAddress() : plan_.sources[index % plan_.sources.size()];
    io_.connect(index, options_.targets[number % options_.targets.size()].address, source);
    after(index, options_.connect_timeout);
}

void Crowd::on_connected(Index index, IoError error) {
    if (error != 0) return failed(index, std::string("connect: ") + std::strerror(error));
    Client& client = clients_[index];
    client.stage = Stage::greeting;
    if (client.behaviour == Behaviour::slowloris || client.behaviour == Behaviour::garbage) {
        leave_connecting(index);
        settle(index);
        client.stage = Stage::misbehaving;
        client.sequence = 0;
        return misbehave(index);
    }
    if (options_.tcp_only) return open(index);
    if (client.wire == Wire::ws || client.wire == Wire::ws_json) {
        Out out{*this, index};
        write_upgrade_request(upgrade_request(index), out);
        return flush(index);
    }
    if (has(index, kSaysHello)) {
        say_hello(index);
    } else {
        client.awaited = ++client.sequence;
        speech(index).ping(client.sequence);
    }
    flush(index);
}

UpgradeRequest Crowd::upgrade_request(Index index) const {
    const uint64_t number = global(index);
    UpgradeRequest request;
    request.host = options_.targets[number % options_.targets.size()].host;
    // Not kept between sending it and checking the answer: it can be had again.
    const uint64_t words[2] = {mix64(options_.seed ^ number),
                               mix64(number + clients_[index].tries)};
    std::memcpy(request.nonce.data(), words, sizeof words);
    return request;
}

void Crowd::say_hello(Index index) {
    const uint64_t number = global(index);
    std::string user = "u" + std::to_string(number);
    if (clients_[index].behaviour == Behaviour::duplicate_login) {
        user = "twin" + std::to_string(number % std::max<uint64_t>(1, options_.connections / 2));
    }
    speech(index).hello(user, options_.profile);
}

void Crowd::open(Index index) {
    Client& client = clients_[index];
    leave_connecting(index);
    client.stage = Stage::open;
    client.other = kNoTick;
    bump(counts_.connected);
    bump(counts_.open);
    record(Timed::connect, io_.now() - client.meant);
    record(Timed::connect_service, io_.now() - client.began);
    settle(index);
    if (has(index, kVictim)) recovered(index);
    client.tries = 0;
    client.retry_after_ms = 0;
    if (has(index, kUpgraded) && has(index, kSaysHello)) {
        say_hello(index);
        flush(index);
    }
    if (beats(client)) {
        // Spread evenly over the interval by Fibonacci hashing of the number.
        const auto share = static_cast<uint32_t>(global(index) * 2'654'435'769u);
        const double phase = static_cast<double>(share) / 4'294'967'296.0;
        client.beat =
            clock_.up(io_.now() +
                      static_cast<Nanos>(phase * static_cast<double>(options_.heartbeat_interval)));
        rearm(index);
    }
    switch (client.behaviour) {
        case Behaviour::mute:
        case Behaviour::vanish:
            return silence(index, client.behaviour);
        case Behaviour::flapper: {
            const double wait =
                -std::log1p(-random_.unit()) * static_cast<double>(options_.flap_interval);
            return after(index, static_cast<Nanos>(wait));
        }
        case Behaviour::slow_reader:
            return io_.stop_reading(index);
        default:
            return;
    }
}

void Crowd::recovered(Index index) {
    Client& client = clients_[index];
    StormCount& storm = storms_[client.storm];
    ++storm.recovered;
    storm.recoveries.push_back(io_.now() - storm.at);
    storm.tries_max = std::max(storm.tries_max, client.tries);
    client.flags &= static_cast<uint16_t>(~kVictim);
}

void Crowd::settle(Index index) {
    if (has(index, kSettled)) return;
    clients_[index].flags |= kSettled;
    settled_.store(settled_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Crowd::leave_connecting(Index index) {
    const Stage stage = clients_[index].stage;
    if (stage != Stage::connecting && stage != Stage::greeting) return;
    --connecting_;
    bump(counts_.connecting, ~uint64_t{0});
}

void Crowd::leave_open(Index index) {
    if (clients_[index].stage == Stage::open) bump(counts_.open, ~uint64_t{0});
}

// -------------------------------------------------------------------------------------- being open

void Crowd::ping(Index index, Nanos meant) {
    Client& client = clients_[index];
    if (client.stage != Stage::open || !beats(client)) return;
    const Nanos now = io_.clock();
    const uint32_t sequence = ++client.sequence;
    if (client.awaited != 0) {
        bump(counts_.pings_skipped);
    } else {
        client.awaited = sequence;
        client.meant = meant;
        client.began = now;
    }
    made(meant, now);
    bump(counts_.pings);
    speech(index).ping(sequence);
    if (client.behaviour == Behaviour::slow_reader) {
        for (uint32_t i = 0; i < kDemandsPerBeat; ++i) {
            if (!speech(index).data({now, now}, kDemandBytes)) break;
            bump(counts_.messages);
        }
    }
    flush(index);
}

void Crowd::pong(Index index, uint32_t sequence) {
    Client& client = clients_[index];
    if (client.awaited == 0 || sequence != client.awaited) return;
    client.awaited = 0;
    if (client.stage == Stage::greeting) return open(index);
    bump(counts_.pongs);
    record(Timed::heartbeat, io_.now() - client.meant);
    record(Timed::heartbeat_service, io_.now() - client.began);
}

void Crowd::flush(Index index) {
    Connection& connection = table_[index];
    if (connection.state == ConnectionState::closed) return;
    if (outboxes_.in_flight(connection) || !outboxes_.queued(connection)) return;
    const std::span<const uint8_t> bytes = outboxes_.begin_flight(connection);
    bump(counts_.bytes_sent, bytes.size());
    clients_[index].last_sent = io_.clock();
    io_.send(index, bytes);
}

void Crowd::on_sent(Index index, IoError error) {
    outboxes_.end_flight(table_[index]);
    if (error != 0) return ended_by_server(index, error);
    flush(index);
}

void Crowd::silence(Index index, Behaviour as) {
    Client& client = clients_[index];
    client.flags |= kSilenced;
    client.behaviour = as;
    client.beat = client.other = kNoTick;
    ++detection_.rows[static_cast<size_t>(as)].silenced;
    if (as == Behaviour::vanish) io_.stop_reading(index);
}

// An octet more of a greeting that never ends, or a mouthful of nothing; not before the last went.
void Crowd::misbehave(Index index) {
    Client& client = clients_[index];
    uint8_t octets[kGarbageBytes];
    size_t count = 1;
    if (client.behaviour == Behaviour::slowloris) {
        constexpr std::string_view kGreeting = "GET / HTTP/1.1\r\nX: ";
        const uint8_t frame[] = {binary::kMagic, 5, 0xFF, 0xFF, 0, 0, 0, 0};
        const size_t at = client.sequence++;
        octets[0] = 'x';
        if (client.wire == Wire::tcp && at < sizeof frame) octets[0] = frame[at];
        if (client.wire == Wire::jsonl && at == 0) octets[0] = '{';
        if (client.wire <= Wire::ws_json && at < kGreeting.size()) {
            octets[0] = static_cast<uint8_t>(kGreeting[at]);
        }
        after(index, kDripInterval);
    } else {
        if (client.sequence++ > 0) return;
        count = kGarbageBytes;
        for (uint8_t& octet : octets) octet = static_cast<uint8_t>(random_.next());
    }
    if (uint8_t* to = Out{*this, index}.claim(count)) std::memcpy(to, octets, count);
    flush(index);
}

// ---------------------------------------------------------------------------------- being let go

// The server said that it ends this, or did so without a word (code 0).
void Crowd::let_go(Index index, uint16_t code, std::string_view reason) {
    Client& client = clients_[index];
    if (client.stage == Stage::connecting || client.stage == Stage::greeting) {
        return refused(index, "refused: " + std::string(reason));
    }
    if (client.stage != Stage::open) return;
    leave_open(index);
    bump(counts_.server_closes);
    judge(index, code);
    client.stage = Stage::ending;
    client.beat = client.other = kNoTick;
    if (options_.reconnect != Reconnect::never && !has(index, kSilenced)) {
        client.reconnect = options_.reconnect;
        client.flags |= kComesBack;
    }
}

void Crowd::judge(Index index, uint16_t code) {
    Client& client = clients_[index];
    client.flags |= kJudged;
    ++codes_[code];
    const Nanos timeout = conductor_.timeout.load(std::memory_order_relaxed);
    if (timeout == 0) return;
    const Nanos late = io_.now() - (client.last_sent + timeout);
    if (has(index, kSilenced)) {
        Detection::Row& row = detection_.rows[static_cast<size_t>(client.behaviour)];
        if (late < 0) {
            ++row.early;
            row.early_by.record(-late);
        } else {
            ++row.evicted;
            row.late_by.record(late);
        }
        return;
    }
    const bool blamed_silence = code == 0 || code == describe(CloseReason::idle_timeout).code;
    const bool blameless = client.behaviour != Behaviour::slow_reader;
    if (blamed_silence && blameless && late < 0) ++detection_.false_evictions;
}

// Before it was open, by the server's word.
void Crowd::refused(Index index, std::string why) {
    Client& client = clients_[index];
    bump(counts_.refusals);
    complain(std::move(why));
    give_up_try(index);
    client.stage = Stage::ending;
}

void Crowd::failed(Index index, std::string why) {
    bump(counts_.connect_failures);
    complain(std::move(why));
    give_up_try(index);
    close(index, CloseMode::reset);
}

void Crowd::give_up_try(Index index) {
    Client& client = clients_[index];
    leave_connecting(index);
    settle(index);
    client.other = kNoTick;
    if (has(index, kVictim)) {
        ++storms_[client.storm].refusals;
        client.flags |= kComesBack;
    } else if (options_.reconnect != Reconnect::never) {
        client.reconnect = options_.reconnect;
        client.flags |= kComesBack;
    }
}

void Crowd::on_end(Index index, IoError error) { ended_by_server(index, error); }

void Crowd::ended_by_server(Index index, IoError error) {
    Client& client = clients_[index];
    switch (client.stage) {
        case Stage::misbehaving:
            bump(counts_.refusals);
            client.reconnect = Reconnect::fixed;
            client.flags |= kComesBack;
            break;
        case Stage::connecting:
        case Stage::greeting:
            return failed(index, error == 0
                                     ? "ended by the server before it was open"
                                     : std::string("before it was open: ") + std::strerror(error));
        case Stage::open:
            let_go(index, 0, {});
            break;
        default:
            break;
    }
    // Who has vanished does not even answer the end.
    if (client.behaviour == Behaviour::vanish && has(index, kSilenced)) return;
    close(index, error == 0 ? CloseMode::orderly : CloseMode::reset);
}

void Crowd::close(Index index, CloseMode mode) {
    if (table_[index].state == ConnectionState::closed) return;
    clients_[index].stage = Stage::ending;
    clients_[index].beat = clients_[index].other = kNoTick;
    table_[index].state = ConnectionState::closed;
    io_.close(index, mode);
}

void Crowd::on_closed(Index index) {
    Client& client = clients_[index];
    Connection& connection = table_[index];
    outboxes_.release(connection);
    if (connection.inbox != 0) buffers_.release(connection.inbox);
    connection.inbox = 0;
    --taken_;
    client.awaited = 0;
    client.stage = Stage::gone;
    if (!has(index, kComesBack)) return;
    client.stage = Stage::waiting;
    client.flags &= static_cast<uint16_t>(~kComesBack);
    after(index, reconnect_delay(client));
}

Nanos Crowd::reconnect_delay(const Client& client) {
    const bool misbehaves =
        client.behaviour == Behaviour::slowloris || client.behaviour == Behaviour::garbage;
    if (misbehaves) return kMisbehaveAgainAfter;
    const uint32_t doublings = std::min(client.tries, 20u);
    const Nanos exponential =
        std::min(options_.reconnect_cap, options_.reconnect_base << doublings);
    const auto jittered = static_cast<Nanos>(random_.below(static_cast<uint64_t>(exponential) + 1));
    switch (client.reconnect) {
        case Reconnect::fixed:
            return options_.reconnect_base;
        case Reconnect::exponential:
            return exponential;
        case Reconnect::full_jitter:
            return jittered;
        case Reconnect::hint:
            return client.retry_after_ms > 0 ? client.retry_after_ms * kMillisecond : jittered;
        case Reconnect::never:
        case Reconnect::none:
            break;
    }
    return 0;
}

void Crowd::complain(std::string what) {
    if (errors_.size() >= kErrorKindsMax && !errors_.contains(what)) what = "other errors";
    ++errors_[std::move(what)];
}

// ----------------------------------------------------------------------------------------- the end

void Crowd::close_the_books() {
    complete(now_recording());
    const Nanos timeout = conductor_.timeout.load(std::memory_order_relaxed);
    if (timeout == 0) return;
    for (Index index = 0; index < started_; ++index) {
        if (!has(index, kSilenced) || has(index, kJudged)) continue;
        const Client& client = clients_[index];
        Detection::Row& row = detection_.rows[static_cast<size_t>(client.behaviour)];
        const bool overdue = io_.now() > client.last_sent + timeout + options_.tolerance;
        ++(overdue ? row.missed : row.waiting);
    }
}

bool Crowd::leave() {
    for (uint32_t budget = kLeavesPerTurn; budget > 0 && leaving_ < started_; --budget) {
        const Index index = leaving_++;
        Client& client = clients_[index];
        client.flags &= static_cast<uint16_t>(~kComesBack);
        client.beat = client.other = kNoTick;
        const bool connected = client.stage != Stage::waiting && client.stage != Stage::gone;
        if (connected) close(index, CloseMode::orderly);
    }
    io_.poll(io_.clock() + (leaving_ < started_ ? 0 : kTurnMax), *this);
    return leaving_ == started_ && taken_ == 0;
}

}  // namespace pulse::load
