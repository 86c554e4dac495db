// The life of a client: the way to open, and how it ends.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "net/client/backoff.h"
#include "proto/printable.h"
#include "tools/pulseload/run/crowd.h"

namespace pulse::load {
namespace {

constexpr Nanos kUnixRetry = 5 * kMillisecond;  // where the backlog is full
constexpr uint32_t kLeavesPerTurn = 2'000;
constexpr Nanos kLeaveWait = 100 * kMillisecond;
constexpr Nanos kMisbehaveAgainAfter = kSecond;  // when the server has thrown it out
constexpr size_t kErrorKindsMax = 64;

}  // namespace

// -------------------------------------------------------------------------------- the way to open

void Crowd::connect(Index index, Nanos intended_at) {
    if (connecting_ >= connecting_max_ && speaks_tls(index))
        return waiting_.push_back({index, intended_at});
    Client& client = clients_[index];
    Connection& connection = table_[index];
    const bool same_try = has(index, kUnanswered);
    client.stage = Stage::connecting;
    client.flags &= static_cast<uint16_t>(kSettled | kVictim | kSaysHello | kIdentifies);
    client.last_sent = client.silent_since = 0;
    client.counted_from = client.sequence;
    ++client.life;
    if (!same_try) {
        client.intended_at = intended_at;
        client.began = io_.clock();
        ++client.tries;
        if ((client.flags & kVictim) != 0) ++storms_[client.storm].tries;
        if (!held_back_) record_lateness(intended_at, client.began);
        bump(counts_.connects);
    }
    connection.codec = {};
    connection.stage = pulse::Stage::detect;
    ++connecting_;
    ++taken_;
    bump(counts_.connecting);
    after(index, options_.connect_timeout);
    const Target& target = target_of(index);
    if (!target.unix_path.empty()) return connect_unix(index);
    SocketAddress source;
    const bool v4 = target.address.base.sa_family == AF_INET;
    if (v4 && !plan_.sources.empty()) source = plan_.sources[index % plan_.sources.size()];
    io_.connect(index, target.address, source);
}

// A Unix connect is over at once: done, refused, or the target's backlog is full.
void Crowd::connect_unix(Index index) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& path = target_of(index).unix_path;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    Accepted connected;
    connected.descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int done = ::connect(connected.descriptor, reinterpret_cast<const sockaddr*>(&address),
                               sizeof address);
    const int error = done == 0 ? 0 : errno;
    io_.attach(index, connected);
    if (error == 0) return on_connected(index, 0);
    if (error != EAGAIN) return failed(index, std::string("connect: ") + std::strerror(error));
    if (io_.clock() - clients_[index].intended_at > options_.connect_timeout)
        return failed(index, "a connect took longer than --connect-timeout");
    clients_[index].flags |= kUnanswered | kComesBack;
    leave_connecting(index);
    close(index, CloseMode::reset);
}

void Crowd::on_connected(Index index, IoError error) {
    if (error != 0) return failed(index, std::string("connect: ") + std::strerror(error));
    clients_[index].stage = Stage::greeting;
    if (speaks_tls(index)) return begin_tls(index);
    greet(index);
}

void Crowd::greet(Index index) {
    Client& client = clients_[index];
    if (client.behaviour == Behaviour::slowloris || client.behaviour == Behaviour::garbage) {
        leave_connecting(index);
        settle(index);
        client.stage = Stage::misbehaving;
        client.sequence = 0;
        return misbehave(index);
    }
    if (options_.tcp_only) return open(index);
    if (client.wire == Wire::ws || client.wire == Wire::ws_json) return send_upgrade(index);
    if (has(index, kSaysHello)) {
        send_hello(index);
    } else {
        client.awaited = ++client.sequence;
        speech(index).ping(client.sequence);
    }
    flush(index);
}

void Crowd::send_upgrade(Index index) {
    const std::string request = upgrade_text(upgrade_plan(index));
    if (uint8_t* to = Out{*this, index}.claim(request.size()))
        std::memcpy(to, request.data(), request.size());
    flush(index);
}

UpgradePlan Crowd::upgrade_plan(Index index) const {
    const Target& target = target_of(index);
    UpgradePlan plan;
    plan.host = target.host;
    plan.path = target.path;
    plan.headers = &options_.headers;
    if (!options_.subprotocol.empty()) plan.subprotocols.emplace_back(options_.subprotocol);
    if (has(index, kIdentifies)) {
        for (const std::string_view offer : kIdentifyingOffers) plan.subprotocols.push_back(offer);
    }
    // Not kept between sending it and checking the answer: it can be had again.
    const uint64_t number = global(index);
    const uint64_t words[2] = {mix64(options_.seed ^ number), mix64(number + clients_[index].life)};
    std::memcpy(plan.nonce.data(), words, sizeof words);
    return plan;
}

// A server may refuse offers that it does not know: then it is asked without them, and no hello.
void Crowd::refused_upgrade(Index index, const UpgradeOutcome& outcome) {
    Client& client = clients_[index];
    if (has(index, kIdentifies) && outcome.status != 0) {
        client.flags &= static_cast<uint16_t>(~(kIdentifies | kSaysHello));
        client.flags |= kComesBack;
        client.reconnect = Reconnect::none;
        conductor_.foreign = true;
        leave_connecting(index);
        return close(index, CloseMode::orderly);
    }
    std::string why = outcome.why_not;
    if (outcome.status != 0 && outcome.status != 101)
        why = "refused with HTTP " + std::to_string(outcome.status);
    refused(index, std::move(why));
    close(index, CloseMode::orderly);
}

void Crowd::send_hello(Index index) {
    const Client& client = clients_[index];
    const uint32_t answer_every = asks_answer_every(client) ? options_.answer_every : 1;
    const uint64_t number = global(index);
    if (options_.users > 0) return send_login(index, number, answer_every);
    // Anonymous: another generator at the same target must not take over from this one.
    std::string user;
    if (client.behaviour == Behaviour::duplicate_login) {
        user = "twin" + std::to_string(number % std::max<uint64_t>(1, options_.connections / 2));
    }
    speech(index).hello(user, options_.profile, answer_every);
}

// As one of --users. A tenth of the users is a canary, so that labels are shared as they are.
void Crowd::send_login(Index index, uint64_t number, uint32_t answer_every) {
    const uint64_t user = number % options_.users;
    const uint64_t device = number / options_.users % options_.devices;
    const std::string_view labels = user % 10 == 0 ? R"({"region":"eu","ring":"canary"})"
                                                   : R"({"region":"eu","ring":"stable"})";
    speech(index).hello(fmt::format("user-{:011}", user), options_.profile, answer_every,
                        fmt::format("device-{}", device), labels);
}

void Crowd::open(Index index) {
    Client& client = clients_[index];
    leave_connecting(index);
    client.stage = Stage::open;
    client.other = kNoTick;
    bump(counts_.connected);
    bump(counts_.open);
    record(Timed::connect, io_.now() - client.intended_at);
    record(Timed::connect_service, io_.now() - client.began);
    settle(index);
    if (has(index, kVictim)) recovered(index);
    client.tries = 0;
    client.retry_after_ms = 0;
    if (has(index, kUpgraded) && has(index, kSaysHello) && !asks_answer_every(client)) {
        send_hello(index);
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

void Crowd::leave_open(Index index, std::atomic<uint64_t>& unanswered) {
    if (clients_[index].stage != Stage::open) return;
    bump(counts_.open, ~uint64_t{0});
    forget_pings(index, unanswered);
}

// ------------------------------------------------------------------------- closed by the server

// The server announced that it closes this, or did so without a goodbye (code 0).
void Crowd::closed_by_server(Index index, uint16_t code, std::string_view reason) {
    Client& client = clients_[index];
    if (client.stage == Stage::connecting || client.stage == Stage::greeting) {
        return refused(index, "refused: " + std::string(reason));
    }
    if (client.stage != Stage::open) return;
    leave_open(index, counts_.pings_lost);
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
    if (code == describe(CloseReason::taken_over).code) {
        client.flags |= kTakenOver;
        bump(counts_.taken_over);
        return;
    }
    const Nanos timeout = conductor_.timeout.load(std::memory_order_relaxed);
    const Nanos spoke = client.silent_since != 0 ? client.silent_since : client.last_sent;
    // A fresh clock: this thread may have been stopped since the poll that delivered the end.
    const Nanos late = io_.clock() - (spoke + timeout);
    if (has(index, kSilenced)) {
        if (timeout == 0) return;
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
    if (client.behaviour == Behaviour::slow_reader) return;
    const bool blames_silence = code == describe(CloseReason::idle_timeout).code;
    if (timeout == 0 || late < 0) {
        // Whether an end without a goodbye was an eviction or a crash is known at the end.
        if (code == 0) bump(counts_.cut_off);
        if (blames_silence && timeout != 0) ++detection_.false_evictions;
        return;
    }
    const bool beats_in_time = beats(client) && options_.heartbeat_interval < timeout;
    const bool unsent = outboxes_.in_flight(table_[index]) && client.silent_since == 0;
    if ((code == 0 || blames_silence) && beats_in_time && !unsent) ++detection_.own_silences;
}

// Before it was open, by a message of the server.
void Crowd::refused(Index index, std::string why) {
    Client& client = clients_[index];
    bump(counts_.refusals);
    note_error(std::move(why));
    give_up_try(index);
    client.stage = Stage::ending;
}

void Crowd::failed(Index index, std::string why, CloseMode mode) {
    if (tls_.is_handshaking(index)) note_tls_failure(why);
    bump(counts_.connect_failures);
    note_error(std::move(why));
    give_up_try(index);
    close(index, mode);
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
                                     ? "ended by the target before it was open"
                                     : std::string("before it was open: ") + std::strerror(error));
        case Stage::open:
            closed_by_server(index, 0, {});
            break;
        default:
            break;
    }
    // One that has vanished does not even answer the end.
    if (client.behaviour == Behaviour::vanish && has(index, kSilenced)) return;
    close(index, error == 0 ? CloseMode::orderly : CloseMode::reset);
}

void Crowd::close(Index index, CloseMode mode) {
    if (table_[index].stage == pulse::Stage::closed) return;
    clients_[index].stage = Stage::ending;
    clients_[index].beat = clients_[index].other = kNoTick;
    if (mode == CloseMode::orderly) say_end_of_tls(index);
    table_[index].stage = pulse::Stage::closed;
    io_.close(index, mode);
}

void Crowd::on_closed(Index index) {
    Client& client = clients_[index];
    Connection& connection = table_[index];
    outboxes_.release(connection);
    tls_.release(index);
    if (connection.inbox != 0) buffers_.release(connection.inbox);
    connection.inbox = 0;
    --taken_;
    client.awaited = 0;
    client.stage = Stage::gone;
    if (!has(index, kComesBack)) return;
    client.stage = Stage::waiting;
    client.flags &= static_cast<uint16_t>(~kComesBack);
    if (has(index, kUnanswered)) return after(index, kUnixRetry);
    after(index, reconnect_delay(client));
}

Nanos Crowd::reconnect_delay(const Client& client) {
    const bool misbehaves =
        client.behaviour == Behaviour::slowloris || client.behaviour == Behaviour::garbage;
    if (misbehaves) return kMisbehaveAgainAfter;
    const client::Delay delay{client::Shape::exponential, options_.reconnect_base,
                              options_.reconnect_cap, client::Jitter::none};
    const Nanos exponential = client::plain_delay(delay, client.tries + 1);
    const Nanos jittered = client::jittered(exponential, client::Jitter::full, random_);
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

void Crowd::note_error(std::string what) {
    what = printable(what);
    if (errors_.size() >= kErrorKindsMax && !errors_.contains(what)) what = "other errors";
    ++errors_[std::move(what)];
}

// ----------------------------------------------------------------------------------------- the end

void Crowd::finish_detection() {
    complete(now_recording());
    finish_outstanding();
    finish_silenced();
    count_ends();
}

void Crowd::finish_outstanding() {
    const Nanos now = io_.clock();
    for (Index index = 0; index < started_; ++index) {
        pings_.clear(clients_[index].pings, [&](const Due& due) {
            record(Timed::heartbeat, now - due.intended_at);
            record(Timed::heartbeat_service, now - due.began);
            unanswered_max_ = std::max(unanswered_max_, now - due.intended_at);
        });
    }
    awaited_messages_.clear([&](const auto& message) { finish_message(message); });
}

// It did not come back. One whose connection ended has no waiting time.
void Crowd::finish_message(const OutstandingMessages::Message& message) {
    bump(counts_.messages_lost);
    const Client& client = clients_[message.client];
    if (client.stage != Stage::open || client.life != message.life) return;
    record(Timed::message, io_.clock() - message.intended_at);
    record(Timed::message_service, io_.clock() - message.began);
}

void Crowd::finish_silenced() {
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

void Crowd::count_ends() {
    const auto goes_by_kind = [](Behaviour behaviour) {
        return behaviour == Behaviour::flapper || behaviour == Behaviour::garbage ||
               behaviour == Behaviour::slowloris || behaviour == Behaviour::slow_reader ||
               behaviour == Behaviour::duplicate_login;
    };
    ends_.lost = plan_.clients - started_;
    for (Index index = 0; index < started_; ++index) {
        const Client& client = clients_[index];
        const bool stays_away = has(index, kVictim) && client.reconnect == Reconnect::never;
        const bool returns = client.stage == Stage::waiting || client.stage == Stage::connecting ||
                             client.stage == Stage::greeting || has(index, kComesBack);
        if (client.stage == Stage::open) {
            ++ends_.there;
        } else if (has(index, kSilenced) && has(index, kJudged) && !has(index, kTakenOver)) {
            ++ends_.evicted;
        } else if (goes_by_kind(client.behaviour) || stays_away || has(index, kTakenOver)) {
            ++ends_.by_kind;
        } else {
            ++(returns ? ends_.there : ends_.lost);
        }
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
    io_.poll(io_.clock() + (leaving_ < started_ ? 0 : kLeaveWait), *this);
    return leaving_ == started_ && taken_ == 0;
}

}  // namespace pulse::load
