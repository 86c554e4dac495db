// The simulated kernel: what poll() waits for, hands over, and holds back.
#include "net/sim/backend.h"

#include <cerrno>
#include <string>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint64_t kNobody = UINT64_MAX;  // cookie of a socket that has no place yet
constexpr int32_t kSpareDescriptor = 2;
constexpr Nanos kStutterShort = 50 * kMillisecond;

struct Later {
    template <class Completion>
    bool operator()(const Completion& left, const Completion& right) const {
        return left.at != right.at ? left.at > right.at : left.order > right.order;
    }
};

uint64_t hash_of(std::span<const uint8_t> bytes) {
    uint64_t hash = bytes.size();
    for (; bytes.size() >= sizeof(uint64_t); bytes = bytes.subspan(sizeof(uint64_t))) {
        uint64_t word;
        std::memcpy(&word, bytes.data(), sizeof word);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 29;
    }
    for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
    return hash;
}

}  // namespace

SimBackend::SimBackend(SimNetwork& network, SimLog& log, uint64_t seed, const FaultPlan& faults,
                       Connection* records, uint32_t places)
    : network_(network),
      log_(log),
      random_(mix64(seed) ^ 0x6b65726e),
      faults_(faults),
      records_(records),
      places_(places),
      arena_(kArenaBytes),
      now_(network.clock()),
      drained_until_(network.clock()) {}

SimBackend::~SimBackend() {
    for (const Listening& listening : listeners_) network_.stop_listening(listening.port);
    for (const Place& each : places_) {
        const bool held = each.phase == Phase::connecting || each.phase == Phase::attached;
        const bool joining = each.phase == Phase::closing && each.descriptor >= 0;
        if (held || joining) network_.close(each.socket, true);
    }
}

// ------------------------------------------------------------------------------------ operations
SimBackend::Place& SimBackend::place(Index index) {
    PULSE_ASSERT(index < places_.size());
    return places_[index];
}

Result<void> SimBackend::listen(std::span<const ListenAddress> addresses) {
    std::vector<Listening> wanted;
    for (const ListenAddress& address : addresses) {
        wanted.push_back({address.address.port(), static_cast<uint8_t>(wanted.size())});
    }
    const auto has = [](const std::vector<Listening>& list, uint16_t port) {
        return std::ranges::find(list, port, &Listening::port) != list.end();
    };
    std::vector<Listening> begun;
    for (size_t position = 0; position < wanted.size(); ++position) {
        const uint16_t port = wanted[position].port;
        if (has(listeners_, port)) continue;
        if (network_.listen(*this, port, faults_.backlog) != 0) {
            begun.push_back(wanted[position]);
            continue;
        }
        for (const Listening& each : begun) network_.stop_listening(each.port);
        for (const Listening& each : listeners_) network_.stop_listening(each.port);
        listeners_.clear();
        return Error{"cannot listen on " + addresses[position].text +
                     ": the address is in use; choose another port"};
    }
    for (const Listening& each : listeners_) {
        if (!has(wanted, each.port)) network_.stop_listening(each.port);
    }
    listeners_ = std::move(wanted);
    return {};
}

void SimBackend::close_listener(uint8_t position) {
    const auto found = std::ranges::find(listeners_, position, &Listening::position);
    if (found == listeners_.end()) return;
    network_.stop_listening(found->port);
    listeners_.erase(found);
}

void SimBackend::begin_tenancy(Index index, SimSocket socket, Phase phase, int32_t descriptor) {
    Place& at = place(index);
    if (at.phase != Phase::unused) {
        broken("C4", "place " + std::to_string(index) + " was given away before its on_closed");
    }
    const bool listed = at.listed;
    const uint32_t tenancy = at.tenancy + 1;
    at = Place{};
    at.listed = listed;
    at.tenancy = tenancy;
    at.phase = phase;
    at.socket = socket;
    at.descriptor = descriptor;
    at.given_at = network_.clock();
    at.receive_armed = true;
    records_[index].descriptor = descriptor;
    ++attached_;
    ++attaches_;
}

void SimBackend::connect(Index index, const SocketAddress& address, const SocketAddress& source) {
    ++counters_.system_calls;
    const SimSocket socket = network_.connect(*this, index, address.port(), source);
    begin_tenancy(index, socket, Phase::connecting, take_descriptor());
    note("connect", index);
}

void SimBackend::attach(Index index, const Accepted& accepted) {
    if (pending_.decided) return broken("attach", "no peer is waiting, or decided twice");
    pending_.decided = true;
    if (pending_.spare) {
        broken("attach", "a peer that came through the spare descriptor can only be refused");
        return network_.close(pending_.socket, true);
    }
    begin_tenancy(index, pending_.socket, Phase::attached, accepted.descriptor);
    network_.set_cookie(pending_.socket, index);
    list(index);
    note("attach", index);
    if (witness_ != nullptr) witness_->on_attached(index, network_.far_end(pending_.socket));
}

void SimBackend::refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message) {
    if (pending_.decided) return broken("refuse", "no peer is waiting, or decided twice");
    pending_.decided = true;
    ++counters_.system_calls;
    // Unread input would turn the close into a reset, and the message would be lost.
    uint8_t spent[512];
    while (network_.read(pending_.socket, spent) > 0) {
    }
    network_.write(pending_.socket, refusal_message);
    network_.close(pending_.socket, false);
    free_descriptor(accepted.descriptor);
    note("refuse", refusal_message.size());
}

bool SimBackend::send(Index index, std::span<const uint8_t> bytes) {
    Place& at = place(index);
    if (at.phase != Phase::attached) {
        broken("C5", "send on place " + std::to_string(index) + ", which is not open");
        return false;
    }
    if (at.send_armed) {
        broken("C3", "a second send in flight on place " + std::to_string(index));
        return false;
    }
    if (at.finish_wanted) {
        broken("finish", "send after finish on place " + std::to_string(index));
        return false;
    }
    PULSE_ASSERT(!bytes.empty());
    at.sending = bytes;
    const bool swallowed =
        faults_.mutant == SimMutant::goodbye_swallowed && records_[index].stage == Stage::closing;
    at.taken_bytes = swallowed ? bytes.size() : 0;
    at.pinned_hash = hash_of(bytes);
    at.send_armed = true;
    at.send_completed = false;
    note("send", index, at.pinned_hash);
    if (faults_.submit_in_poll) {
        unsubmitted_.push_back(index);
        return false;
    }
    return push_send(index, !is_ring());
}

void SimBackend::hold_off(Index index) {
    Place& at = place(index);
    if (at.phase != Phase::attached || at.held_off || !in_poll_) {
        return broken("C9", "hold_off of place " + std::to_string(index) + " outside on_bytes");
    }
    note("hold_off", index);
    at.held_off = true;
}

void SimBackend::resume(Index index) {
    Place& at = place(index);
    if (at.phase != Phase::attached || !at.held_off) {
        return broken("C9", "resume of place " + std::to_string(index) + ", which is not held off");
    }
    note("resume", index);
    at.held_off = false;
    if (witness_ != nullptr) witness_->on_resumed(index);
    at.given_at = now_;
    list(index);
}

void SimBackend::finish(Index index) {
    Place& at = place(index);
    if (at.phase != Phase::attached) {
        return broken("C5", "finish on place " + std::to_string(index) + ", which is not open");
    }
    ++counters_.system_calls;
    note("finish", index);
    begin_close(index, at);
    at.finish_wanted = true;
    if (!at.send_armed || at.send_completed) network_.finish(at.socket);
}

void SimBackend::begin_close(Index index, Place& at) {
    if (at.close_begun) return;
    at.close_begun = true;
    if (witness_ != nullptr) witness_->on_begin_close(index);
}

void SimBackend::close(Index index, CloseMode mode) {
    Place& at = place(index);
    if (at.phase != Phase::attached && at.phase != Phase::connecting) {
        return broken("C4", "close of place " + std::to_string(index) + ", which is not open");
    }
    ++counters_.system_calls;
    note("close", index, mode == CloseMode::reset);
    begin_close(index, at);
    at.phase = Phase::closing;
    at.mode = mode;
    if (faults_.mutant == SimMutant::close_without_join) {
        network_.close(at.socket, mode == CloseMode::reset);
        free_descriptor(std::exchange(at.descriptor, -1));
        complete(Kind::closed, index, 0, 0);
    }
    // A ring cancels what is in flight; an epoll set has nothing in flight.
    if (is_ring())
        complete(Kind::receive_cancelled, index, 0, lateness());
    else
        at.receive_armed = false;
    if (at.send_armed && !at.send_completed) {
        complete(Kind::send_cancelled, index, 0, lateness());
    }
    join(index);
}

// Closing waits for every operation that may still touch our memory. The socket is
// closed only here.
void SimBackend::join(Index index) {
    Place& at = place(index);
    if (at.phase != Phase::closing || at.descriptor < 0) return;
    if (at.receive_armed || at.send_armed) return;
    network_.close(at.socket, at.mode == CloseMode::reset);
    free_descriptor(std::exchange(at.descriptor, -1));
    complete(Kind::closed, index, 0, lateness());
}

// ----------------------------------------------------------------------------------- descriptors
int32_t SimBackend::take_descriptor() {
    if (descriptors_used_ >= faults_.descriptors_max || faults_.strikes(Fault::emfile, random_)) {
        return -1;
    }
    ++descriptors_used_;
    if (free_descriptors_.empty()) return next_descriptor_++;
    std::pop_heap(free_descriptors_.begin(), free_descriptors_.end(), std::greater{});
    const int32_t descriptor = free_descriptors_.back();
    free_descriptors_.pop_back();
    return descriptor;
}

void SimBackend::free_descriptor(int32_t descriptor) {
    if (descriptor < 0 || descriptor == kSpareDescriptor) return;
    PULSE_ASSERT(descriptors_used_ > 0);
    --descriptors_used_;
    free_descriptors_.push_back(descriptor);
    std::push_heap(free_descriptors_.begin(), free_descriptors_.end(), std::greater{});
}

// ----------------------------------------------------------------------------------- completions
Nanos SimBackend::lateness() {
    if (!faults_.strikes(Fault::late_completion, random_)) return 0;
    return static_cast<Nanos>(random_.below(static_cast<uint64_t>(faults_.completion_max)));
}

void SimBackend::complete(Kind kind, Index index, int error, Nanos delay) {
    due_.push_back({network_.clock() + delay, ++order_, kind, index, place(index).tenancy, error});
    std::push_heap(due_.begin(), due_.end(), Later{});
}

// True: it was taken whole, and is over `at_once`; else a completion will say so.
bool SimBackend::push_send(Index index, bool at_once) {
    Place& at = place(index);
    if (at.phase != Phase::attached || !at.send_armed || at.send_completed) return false;
    ++counters_.system_calls;
    if (const int error = network_.error(at.socket); error != 0) {
        at.send_completed = true;
        complete(Kind::sent, index, at.ended ? EPIPE : error, lateness());
        return false;
    }
    at.taken_bytes += network_.write(at.socket, at.sending.subspan(at.taken_bytes));
    if (at.taken_bytes < at.sending.size()) return false;
    check_pinned(index, at);
    if (at_once) {
        at.send_armed = false;
        at.sending = {};
        note("sent", index);
        if (witness_ != nullptr) witness_->on_sent_at_once(index);
        return true;
    }
    at.send_completed = true;
    if (at.finish_wanted) network_.finish(at.socket);
    complete(Kind::sent, index, 0, lateness());
    return false;
}

void SimBackend::check_pinned(Index index, const Place& at) {
    if (hash_of(at.sending) == at.pinned_hash) return;
    broken("C3", "bytes of a send in flight changed, place " + std::to_string(index));
}

void SimBackend::list(Index index) {
    Place& at = place(index);
    if (at.listed) return;
    at.listed = true;
    ready_.push_back(index);
}

void SimBackend::on_socket(uint64_t cookie) {
    if (cookie == kNobody) return;
    const auto index = static_cast<Index>(cookie);
    const Place& at = place(index);
    const bool sends = at.send_armed && !at.send_completed;
    const bool news = network_.readable(at.socket) > 0 ||
                      (!at.ended && network_.oldest_arrival(at.socket) != kNever);
    if (at.phase == Phase::connecting || (at.phase == Phase::attached && (sends || news))) {
        list(index);
    }
}

void SimBackend::on_backlog(uint16_t) {}  // has_work() looks
void SimBackend::on_timer(uint64_t) {}    // sets none

// ------------------------------------------------------------------------------------------ poll
bool SimBackend::has_work() const {
    if (!ready_.empty()) return true;
    if (!due_.empty() && due_.front().at <= network_.clock()) return true;
    return std::ranges::any_of(
        listeners_, [this](const Listening& each) { return network_.backlog(each.port) > 0; });
}

// Virtual time passes until there is something to hand over, or `until`.
void SimBackend::wait(Nanos until) {
    for (;;) {
        if (woken_.exchange(false, std::memory_order_acquire)) {
            ++counters_.wakes_received;
            return;
        }
        if (has_work() || network_.clock() >= until) return;
        const Nanos due = due_.empty() ? kNever : due_.front().at;
        const Nanos next = std::min({network_.next_event_at(), due, until});
        if (next == kNever) return;  // for ever: no event is left
        if (faults_.strikes(Fault::spurious_wake, random_)) {
            const auto gap = static_cast<uint64_t>(next - network_.clock());
            return network_.run_until(network_.clock() + static_cast<Nanos>(random_.below(gap)));
        }
        network_.run_until(std::max(next, network_.clock()));
    }
}

void SimBackend::submit() {
    const std::vector<Index> submitted = std::exchange(unsubmitted_, {});
    for (const Index index : submitted) push_send(index);
}

bool SimBackend::rest(Nanos until) {
    PULSE_ASSERT(!in_poll_);
    if (drained_until_ < now_) return false;  // something was left
    ++counters_.system_calls;
    submit();
    network_.run_until(std::max(until, network_.clock()));
    return true;
}

void SimBackend::harvest(Nanos until) {
    PULSE_ASSERT(!in_poll_);
    ++counters_.polls;
    ++counters_.system_calls;
    const Nanos before = network_.clock();
    const bool was_behind = drained_until_ < now_;
    submit();
    Nanos away = 0;
    if (faults_.strikes(Fault::stall, random_)) {
        away += static_cast<Nanos>(random_.below(static_cast<uint64_t>(faults_.stall_max)));
        note("stall", static_cast<uint64_t>(away));
    }
    if (faults_.strikes(Fault::slow_turn, random_)) {
        away += static_cast<Nanos>(random_.below(static_cast<uint64_t>(faults_.turn_max)));
    }
    if (away > 0) network_.run_until(network_.clock() + away);
    wait(until);
    woke_at_ = now_ = network_.clock();
    behind_total_ += was_behind ? now_ - before : away;
    collect();
}

// Between two completions of a batch. Bytes that arrive meanwhile are read by the completion that
// follows, or belong to one that is already in the batch; so C7 wants the clock read again before
// the handler gets them.
void SimBackend::stutter() {
    if (faults_.strikes(Fault::stutter, random_)) {
        // Every other one is short: as long as another thread's turn on the core.
        const Nanos most = random_.chance(1, 2) ? std::min(kStutterShort, faults_.stutter_max)
                                                : faults_.stutter_max;
        const auto away = static_cast<Nanos>(random_.below(static_cast<uint64_t>(most)));
        note("stutter", static_cast<uint64_t>(away));
        pass_time(away);
    }
    if (faults_.mutant != SimMutant::stamp_before_pause) now_ = network_.clock();
}

void SimBackend::pass_time(Nanos span) {
    network_.run_until(network_.clock() + span);
    behind_total_ += span;
}

void SimBackend::collect() {
    batch_.clear();
    size_t room = faults_.batch_max;
    while (room > 0 && !due_.empty() && due_.front().at <= now_) {
        std::pop_heap(due_.begin(), due_.end(), Later{});
        batch_.push_back(due_.back());
        due_.pop_back();
        --room;
    }
    const bool accepts_first = faults_.has(Fault::shuffle) && random_.chance(1, 2);
    if (accepts_first) collect_accepts(room);
    collect_ready(room);
    if (!accepts_first) collect_accepts(room);
    counters_.completions += batch_.size();
    if (!batch_.empty()) ++counters_.batches;
}

void SimBackend::collect_accepts(size_t& room) {
    room = std::min<size_t>(room, kAcceptsPerTurn);
    for (const Listening& listening : listeners_) {
        for (size_t left = network_.backlog(listening.port); left > 0 && room > 0; --left, --room) {
            batch_.push_back({now_, ++order_, Kind::accept, listening.port, 0, 0});
        }
    }
}

void SimBackend::collect_ready(size_t& room) {
    if (faults_.strikes(Fault::shuffle, random_))
        std::shuffle(ready_.begin(), ready_.end(), random_);
    uint32_t buffers = faults_.receive_buffers;
    for (size_t left = ready_.size(); left > 0 && room > 0; --left) {
        const Index index = ready_.front();
        ready_.pop_front();
        Place& at = place(index);
        at.listed = false;
        const bool reads =
            at.phase == Phase::attached && !at.held_off && network_.readable(at.socket) > 0;
        if (reads && buffers == 0) {
            ++counters_.receive_buffers_short;
            list(index);
            push_send(index);
            continue;
        }
        const size_t before = batch_.size();
        examine(index);
        if (reads) --buffers;
        room -= batch_.size() - before;
    }
}

// What there is to say of a place, at most one thing.
void SimBackend::examine(Index index) {
    Place& at = place(index);
    const auto add = [&](Kind kind, int error) {
        batch_.push_back({now_, ++order_, kind, index, at.tenancy, error});
    };
    if (at.phase == Phase::connecting) {
        if (const int error = network_.error(at.socket); error != 0) {
            at.ended = true;
            at.phase = Phase::attached;
            return add(Kind::connected, error);
        }
        if (!network_.connected(at.socket)) return;
        at.phase = Phase::attached;
        list(index);
        return add(Kind::connected, 0);
    }
    if (at.phase != Phase::attached) return;
    push_send(index);
    if (at.held_off) return;
    if (network_.readable(at.socket) > 0) return add(Kind::bytes, 0);
    const int error = network_.error(at.socket);
    if (at.ended || (error == 0 && !network_.ended(at.socket))) return;
    at.ended = true;
    add(Kind::end, network_.ended(at.socket) ? 0 : error);
}

// Whether an event may be given to the handler. What was overtaken by a close() ends here, and is
// joined; what has no owner is a breach.
bool SimBackend::owned(const Completion& event, const char* what) {
    Place& at = place(event.index);
    if (at.tenancy != event.tenancy || at.phase == Phase::unused) {
        broken("C4", std::string(what) + " after on_closed, place " + std::to_string(event.index));
        return false;
    }
    if (event.kind == Kind::closed) return true;
    if (at.phase != Phase::closing) return true;
    if (event.kind == Kind::sent) {
        at.send_armed = false;
        join(event.index);
    }
    return false;
}

void SimBackend::cancelled(const Completion& event) {
    if (!owned(event, "a cancelled operation")) {
        Place& at = place(event.index);
        if (at.tenancy != event.tenancy || at.phase != Phase::closing) return;
        if (event.kind == Kind::receive_cancelled) at.receive_armed = false;
        if (event.kind == Kind::send_cancelled) {
            check_pinned(event.index, at);
            at.send_armed = false;
        }
        join(event.index);
    }
}

std::span<uint8_t> SimBackend::receive(const Completion& event) {
    Place& at = place(event.index);
    std::span<uint8_t> window(arena_.data() + kReceiveFrontBytes, kReceiveBufferBytes);
    if (faults_.strikes(Fault::short_read, random_)) window = window.first(1 + random_.below(16));
    const size_t bytes = network_.read(at.socket, window);
    ++counters_.system_calls;
    // A short read may be half a heartbeat: only a whole buffer earns the exception of C8.
    if (bytes == kReceiveBufferBytes) at.given_at = now_;
    if (network_.readable(at.socket) > 0 || network_.oldest_arrival(at.socket) != kNever) {
        list(event.index);
    }
    note("bytes", event.index, bytes);
    if (witness_ != nullptr) witness_->on_delivered(event.index, network_.taken(at.socket));
    return window.first(bytes);
}

bool SimBackend::open_accept(const Completion& event, Accepted& accepted) {
    const auto port = static_cast<uint16_t>(event.index);
    const auto listening = std::ranges::find(listeners_, port, &Listening::port);
    if (listening == listeners_.end() || network_.backlog(port) == 0) return false;
    ++counters_.system_calls;
    pending_.socket = network_.accept(port, *this, kNobody);
    if (network_.error(pending_.socket) != 0 && faults_.strikes(Fault::aborted_accept, random_)) {
        ++counters_.accept_failures;
        network_.close(pending_.socket, true);
        return false;
    }
    accepted.descriptor = take_descriptor();
    accepted.listener = listening->position;
    accepted.peer = network_.peer_address(pending_.socket);
    pending_.spare = accepted.descriptor < 0;
    pending_.decided = false;
    if (pending_.spare) {
        accepted.descriptor = kSpareDescriptor;
        accepted.exhausted = true;
        ++counters_.accept_failures;
        ++counters_.spare_used;
    }
    note("accept", accepted.exhausted);
    return true;
}

void SimBackend::close_accept() {
    if (pending_.decided) return;
    pending_.decided = true;
    broken("accept", "on_accept returned without attach or refuse");
    network_.close(pending_.socket, true);
}

// The arrival of the oldest thing that was not handed over; kNever if all was.
Nanos SimBackend::oldest_undelivered() const {
    Nanos oldest = kNever;
    for (const Index index : ready_) {
        const Place& at = places_[index];
        if (at.phase != Phase::attached || at.held_off) continue;
        const bool bytes = network_.readable(at.socket) > 0;
        if (!bytes && at.ended) continue;
        const Nanos arrival = network_.oldest_arrival(at.socket);
        if (arrival == kNever) continue;
        // C8: who fills buffer after buffer does not hold the others up; a FIN or a failure does.
        oldest = std::min(oldest, bytes ? std::max(arrival, at.given_at) : arrival);
    }
    return oldest;
}

void SimBackend::settle() {
    const Nanos oldest = oldest_undelivered();
    if (oldest == kNever || faults_.mutant == SimMutant::drained_until_is_now) {
        drained_until_ = now_;
    } else if (!faults_.coarse_drain) {
        drained_until_ = std::max(drained_until_, std::min(oldest, now_));
    }
}

}  // namespace pulse
