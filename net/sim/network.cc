// The network in virtual time: segments, resets and timers, one event after the other.
#include "net/sim/network.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace pulse {
namespace {

constexpr size_t kSegmentBytes = 16 * 1024;        // loopback's order of magnitude
constexpr uint16_t kSynAttemptsMax = 6;            // tcp_syn_retries
constexpr Nanos kRetransmit = 200 * kMillisecond;  // TCP_RTO_MIN; doubles
constexpr Nanos kGiveUpMin = 20 * kSecond;         // TCP_USER_TIMEOUT's order
constexpr Nanos kGiveUpMax = 924 * kSecond;        // tcp_retries2
constexpr size_t kSpentBytesMax = 16 * 1024;       // of a queue, before it is moved together

struct Later {
    template <class Event>
    bool operator()(const Event& left, const Event& right) const {
        return left.at != right.at ? left.at > right.at : left.order > right.order;
    }
};

}  // namespace

SimNetwork::SimNetwork(uint64_t seed, const FaultPlan& faults, Nanos start)
    : random_(mix64(seed) ^ 0x6e6574), faults_(faults), clock_(start) {}

// ------------------------------------------------------------------------------------------ time
void SimNetwork::push(Nanos when, EventKind kind, uint32_t slot, uint64_t value,
                      SimProgram* program) {
    const uint32_t generation = slot == UINT32_MAX ? 0 : sockets_[slot].generation;
    events_.push_back({std::max(when, clock_), ++order_, slot, generation, kind, value, program});
    std::push_heap(events_.begin(), events_.end(), Later{});
}

void SimNetwork::set_timer(SimProgram& program, uint64_t cookie, Nanos when) {
    push(when, EventKind::timer, UINT32_MAX, cookie, &program);
}

void SimNetwork::run_until(Nanos when) {
    PULSE_ASSERT(when >= clock_);
    while (!events_.empty() && events_.front().at <= when) {
        std::pop_heap(events_.begin(), events_.end(), Later{});
        const Event event = events_.back();
        events_.pop_back();
        clock_ = event.at;
        run(event);
    }
    clock_ = when;
}

void SimNetwork::run(const Event& event) {
    if (event.kind == EventKind::timer) {
        event.program->on_timer(event.value);
        return;
    }
    if (sockets_[event.slot].generation != event.generation) return;
    switch (event.kind) {
        case EventKind::syn:
            return syn_arrives(event.slot);
        case EventKind::segment:
            return segment_arrives(event.slot, event.value);
        case EventKind::fin:
            return fin_arrives(event.slot);
        case EventKind::reset:
            return reset_arrives(event.slot, ECONNRESET);
        case EventKind::give_up:
            return give_up(event.slot);
        case EventKind::answer:
            // A cut link keeps the answer; its retransmission is folded into the segment rules.
            sockets_[event.slot].state = State::open;
            return notify(event.slot);
        case EventKind::refusal:
            sockets_[event.slot].state = State::refused;
            return fail(event.slot, static_cast<int>(event.value));
        case EventKind::timer:
            break;
    }
}

void SimNetwork::notify(uint32_t slot) {
    const Socket& socket = sockets_[slot];
    if (socket.held && socket.state != State::queued) socket.program->on_socket(socket.cookie);
}

// ----------------------------------------------------------------------------------------- slots
SimNetwork::Socket& SimNetwork::at(SimSocket socket) {
    PULSE_ASSERT(valid(socket));
    return sockets_[socket.slot];
}
const SimNetwork::Socket& SimNetwork::at(SimSocket socket) const {
    PULSE_ASSERT(valid(socket));
    return sockets_[socket.slot];
}
bool SimNetwork::valid(SimSocket socket) const {
    return socket.slot < sockets_.size() && sockets_[socket.slot].state != State::free &&
           sockets_[socket.slot].generation == socket.generation;
}

uint32_t SimNetwork::take_slot() {
    if (free_slots_.empty()) {
        sockets_.emplace_back();
        sockets_.back().generation = 1;
        return static_cast<uint32_t>(sockets_.size() - 1);
    }
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
}

void SimNetwork::free_slot(uint32_t slot) {
    Socket& socket = sockets_[slot];
    const uint32_t generation = socket.generation + 1;
    std::vector<uint8_t> bytes = std::move(socket.bytes);  // capacity is used again
    std::vector<Arrival> arrivals = std::move(socket.arrivals);
    bytes.clear();
    arrivals.clear();
    socket = Socket{};
    socket.generation = generation;
    socket.bytes = std::move(bytes);
    socket.arrivals = std::move(arrivals);
    free_slots_.push_back(slot);
}

// Whether the kernel of this end has nothing more to do for it.
bool SimNetwork::outgoing_done(const Socket& socket) const {
    if (socket.error != 0 || socket.gone || socket.amnesic) return true;
    return sockets_[socket.other].fin_arrived;
}

void SimNetwork::forget_if_done(uint32_t slot) {
    const Socket& socket = sockets_[slot];
    if (socket.state == State::free || socket.held) return;
    if (socket.other == UINT32_MAX) {
        --links_;
        return free_slot(slot);
    }
    const Socket& other = sockets_[socket.other];
    if (other.held || !outgoing_done(socket) || !outgoing_done(other)) return;
    --links_;
    const uint32_t far = socket.other;
    free_slot(slot);
    free_slot(far);
}

uint32_t SimNetwork::orphans(const SimProgram& program) const {
    uint32_t count = 0;
    for (const Socket& socket : sockets_) {
        if (socket.state == State::free || socket.held || socket.program != &program) continue;
        if (socket.other != UINT32_MAX && !outgoing_done(socket)) ++count;
    }
    return count;
}

// ----------------------------------------------------------------------------------------- ports
SimNetwork::Listener* SimNetwork::listener_at(uint16_t port) {
    const auto found = std::ranges::find(listeners_, port, &Listener::port);
    return found == listeners_.end() ? nullptr : &*found;
}
const SimNetwork::Listener* SimNetwork::listener_at(uint16_t port) const {
    return const_cast<SimNetwork*>(this)->listener_at(port);
}

uint16_t SimNetwork::listen(SimProgram& program, uint16_t port, uint32_t backlog) {
    if (port == 0) {
        while (listener_at(next_port_) != nullptr) ++next_port_;
        port = next_port_++;
    }
    if (listener_at(port) != nullptr) return 0;
    listeners_.push_back({port, backlog, &program, {}});
    return port;
}

void SimNetwork::stop_listening(uint16_t port) {
    Listener* listener = listener_at(port);
    PULSE_ASSERT(listener != nullptr);
    const std::deque<uint32_t> queue = std::move(listener->queue);
    listeners_.erase(listeners_.begin() + (listener - listeners_.data()));
    for (const uint32_t slot : queue) {
        sockets_[slot].state = State::open;
        close(name_of(slot), true);
    }
}

size_t SimNetwork::backlog(uint16_t port) const {
    const Listener* listener = listener_at(port);
    return listener == nullptr ? 0 : listener->queue.size();
}

SimSocket SimNetwork::accept(uint16_t port, SimProgram& program, uint64_t cookie) {
    Listener* listener = listener_at(port);
    PULSE_ASSERT(listener != nullptr && !listener->queue.empty());
    const uint32_t slot = listener->queue.front();
    listener->queue.pop_front();
    Socket& socket = sockets_[slot];
    socket.state = State::open;
    socket.program = &program;
    socket.cookie = cookie;
    return name_of(slot);
}

SimSocket SimNetwork::connect(SimProgram& program, uint64_t cookie, uint16_t port,
                              const SocketAddress& source) {
    const uint32_t slot = take_slot();
    Socket& socket = sockets_[slot];
    ++links_;
    socket.state = State::connecting;
    socket.held = true;
    socket.program = &program;
    socket.cookie = cookie;
    socket.port = port;
    socket.buffer_bytes = faults_.socket_buffer_bytes;
    socket.delay =
        faults_.delay_min + static_cast<Nanos>(random_.below(
                                static_cast<uint64_t>(faults_.delay_max - faults_.delay_min) + 1));
    socket.address = source;
    if (!source.present()) {
        socket.address.v4.sin_family = AF_INET;
        socket.address.v4.sin_addr.s_addr = htonl(0x0a000000u + slot);
    }
    if (socket.address.port() == 0) {
        socket.address.set_port(static_cast<uint16_t>(1'024 + socket.generation % 60'000));
    }
    push(arrival_of(socket), EventKind::syn, slot, 0, nullptr);
    return name_of(slot);
}

void SimNetwork::syn_arrives(uint32_t client) {
    Socket& from = sockets_[client];
    Listener* listener = listener_at(from.port);
    if (listener == nullptr) {
        return push(arrival_of(from), EventKind::refusal, client, ECONNREFUSED, nullptr);
    }
    if (from.cut || listener->queue.size() >= listener->backlog) {
        if (++from.attempts > kSynAttemptsMax) {
            return push(clock_, EventKind::refusal, client, ETIMEDOUT, nullptr);
        }
        return push(clock_ + (kSecond << (from.attempts - 1)), EventKind::syn, client, 0, nullptr);
    }
    const uint32_t slot = take_slot();
    Socket& socket = sockets_[slot];
    socket.state = State::queued;
    socket.held = true;
    socket.program = listener->program;
    socket.buffer_bytes = faults_.socket_buffer_bytes;
    socket.delay = from.delay;
    socket.other = client;
    from.other = slot;
    listener->queue.push_back(slot);
    push(arrival_of(from), EventKind::answer, client, 0, nullptr);
    listener->program->on_backlog(listener->port);
}

// -------------------------------------------------------------------------------------- segments
// When what is sent to this end now gets there: never before what was sent earlier.
Nanos SimNetwork::arrival_of(Socket& receiver) {
    Nanos travel = receiver.delay +
                   static_cast<Nanos>(random_.below(static_cast<uint64_t>(faults_.jitter) + 1));
    for (Nanos wait = kRetransmit; faults_.strikes(Fault::loss, random_); wait *= 2) {
        travel += wait;
        if (wait > kSecond) break;
    }
    receiver.last_arrival = std::max(receiver.last_arrival, clock_ + travel);
    return receiver.last_arrival;
}

// Sends what the window of the receiver allows.
void SimNetwork::pump(uint32_t slot) {
    Socket& receiver = sockets_[slot];
    const Socket& sender = sockets_[receiver.other];
    const bool fin_waits = receiver.fin_queued && !receiver.fin_sent;
    if (sender.gone || sender.error != 0) return;
    if (receiver.in_sent == receiver.in_written && !fin_waits) return;
    // Behind a cut link even a host that forgot us is only silent.
    if (receiver.amnesic && !receiver.cut) {
        return push(arrival_of(sockets_[receiver.other]), EventKind::reset, receiver.other, 0,
                    nullptr);
    }
    if (dead_route(receiver)) {
        if (receiver.giving_up) return;
        receiver.giving_up = true;
        const auto patience = static_cast<Nanos>(
            random_.between(kGiveUpMin, sender.held ? kGiveUpMax : 3 * kGiveUpMin));
        return push(clock_ + patience, EventKind::give_up, slot, 0, nullptr);
    }
    while (receiver.in_sent < receiver.in_written &&
           receiver.in_sent - receiver.in_read < receiver.buffer_bytes) {
        uint64_t bytes = std::min({receiver.in_written - receiver.in_sent,
                                   receiver.buffer_bytes - (receiver.in_sent - receiver.in_read),
                                   uint64_t{kSegmentBytes}});
        if (bytes > 1 && faults_.strikes(Fault::split, random_)) bytes = 1 + random_.below(bytes);
        receiver.in_sent += bytes;
        push(arrival_of(receiver), EventKind::segment, slot, receiver.in_sent, nullptr);
    }
    if (fin_waits && receiver.in_sent == receiver.in_written) {
        receiver.fin_sent = true;
        push(arrival_of(receiver), EventKind::fin, slot, 0, nullptr);
    }
}

// What is lost on a dead route is sent again when the route is back.
void SimNetwork::send_again(uint32_t slot) {
    Socket& receiver = sockets_[slot];
    receiver.in_sent = receiver.in_arrived;
    if (!receiver.fin_arrived) receiver.fin_sent = false;
    pump(slot);
}

void SimNetwork::segment_arrives(uint32_t slot, uint64_t end) {
    Socket& receiver = sockets_[slot];
    if (dead_route(receiver)) return send_again(slot);
    if (!receiver.held || receiver.error != 0) return send_reset(slot);
    if (end <= receiver.in_arrived) return;
    receiver.in_arrived = end;
    receiver.byte_at = clock_;
    receiver.in_sent = std::max(receiver.in_sent, end);
    receiver.newest_at = clock_;
    if (receiver.in_arrived == receiver.in_written) receiver.all_here_since = clock_;
    receiver.arrivals.push_back({end, clock_});
    const uint32_t sender = receiver.other;
    notify(slot);
    if (sockets_[sender].held) notify(sender);
}

void SimNetwork::fin_arrives(uint32_t slot) {
    Socket& receiver = sockets_[slot];
    if (receiver.fin_arrived) return;
    if (receiver.error != 0 && !dead_route(receiver)) return send_reset(slot);
    if (dead_route(receiver) || receiver.in_arrived != receiver.in_written) {
        return send_again(slot);
    }
    receiver.fin_arrived = true;
    receiver.fin_at = receiver.newest_at = clock_;
    notify(slot);
    forget_if_done(slot);
}

void SimNetwork::reset_arrives(uint32_t slot, int error) {
    const Socket& receiver = sockets_[slot];
    if (!dead_route(receiver)) return fail(slot, error);
    // A lost RST is not sent again; what it answered is, since that was not acknowledged.
    send_again(receiver.other);
}

void SimNetwork::give_up(uint32_t slot) {
    Socket& receiver = sockets_[slot];
    receiver.giving_up = false;
    const bool waits =
        receiver.in_sent < receiver.in_written || (receiver.fin_queued && !receiver.fin_arrived);
    if (dead_route(receiver) && waits) fail(receiver.other, ETIMEDOUT);
}

// This end is dead: what it still had to say is forgotten, what it has not read stays readable.
void SimNetwork::fail(uint32_t slot, int error) {
    Socket& socket = sockets_[slot];
    if (socket.error != 0) return;
    socket.error = error;
    socket.newest_at = clock_;
    if (!socket.fin_arrived) socket.fin_at = clock_;
    notify(slot);
    forget_if_done(slot);
}

// From this end to the other; where it is lost, see reset_arrives().
void SimNetwork::send_reset(uint32_t slot) {
    Socket& socket = sockets_[slot];
    if (socket.error == 0) socket.error = ECONNRESET;
    const uint32_t far = socket.other;
    Socket& other = sockets_[far];
    if (!dead_route(other)) {
        other.reset_sent = true;
        push(arrival_of(other), EventKind::reset, far, 0, nullptr);
    }
    forget_if_done(slot);
}

// --------------------------------------------------------------------------------------- sockets
size_t SimNetwork::write_room(SimSocket name) const {
    const Socket& socket = at(name);
    if (socket.state != State::open || socket.error != 0) return 0;
    const Socket& receiver = sockets_[socket.other];
    const uint64_t waiting = receiver.in_written - receiver.in_arrived;
    return waiting >= socket.buffer_bytes ? 0 : socket.buffer_bytes - waiting;
}

SendProgress SimNetwork::send_progress(SimSocket name) const {
    const Socket& receiver = sockets_[at(name).other];
    const uint64_t waiting = receiver.in_written - receiver.in_arrived;
    const Nanos idle_now = waiting == 0 ? clock_ - receiver.all_here_since : 0;
    return {receiver.in_arrived, waiting, clock_ - receiver.newest_at,
            receiver.all_here_total + idle_now};
}

TransportFacts SimNetwork::transport_facts(SimSocket name) const {
    const Socket& socket = at(name);
    const Socket& receiver = sockets_[socket.other];
    TransportFacts facts;
    facts.known = true;
    facts.peer = plain_address(receiver.address);
    facts.received_bytes = socket.in_arrived;
    facts.acked_bytes = receiver.in_arrived;
    facts.unacked_bytes = receiver.in_sent - receiver.in_arrived;
    facts.unsent_bytes = receiver.in_written - receiver.in_sent;
    facts.since_received = clock_ - socket.byte_at;
    facts.since_sent = clock_ - socket.written_at;
    facts.since_acked = clock_ - receiver.newest_at;
    facts.round_trip = socket.delay + receiver.delay;
    return facts;
}

size_t SimNetwork::write(SimSocket name, std::span<const uint8_t> bytes) {
    const size_t count = std::min(write_room(name), bytes.size());
    if (count == 0) return 0;
    const uint32_t far = at(name).other;
    Socket& receiver = sockets_[far];
    PULSE_ASSERT(!receiver.fin_queued);
    receiver.bytes.insert(receiver.bytes.end(), bytes.begin(), bytes.begin() + count);
    if (receiver.in_written == receiver.in_arrived)
        receiver.all_here_total += clock_ - receiver.all_here_since;
    receiver.in_written += count;
    at(name).written_at = clock_;
    pump(far);
    return count;
}

size_t SimNetwork::read(SimSocket name, std::span<uint8_t> bytes) {
    Socket& socket = at(name);
    const size_t count = std::min(readable(name), bytes.size());
    if (count == 0) return 0;
    std::memcpy(bytes.data(), socket.bytes.data() + socket.head, count);
    socket.head += count;
    socket.in_read += count;
    if (socket.head == socket.bytes.size()) {
        socket.bytes.clear();
        socket.head = 0;
    } else if (socket.head > kSpentBytesMax) {
        socket.bytes.erase(socket.bytes.begin(), socket.bytes.begin() + socket.head);
        socket.head = 0;
    }
    while (socket.arrivals_head < socket.arrivals.size() &&
           socket.arrivals[socket.arrivals_head].offset <= socket.in_read) {
        ++socket.arrivals_head;
    }
    if (socket.arrivals_head == socket.arrivals.size()) {
        socket.arrivals.clear();
        socket.arrivals_head = 0;
    }
    pump(name.slot);
    return count;
}

void SimNetwork::finish(SimSocket name) {
    Socket& socket = at(name);
    if (socket.state != State::open || socket.error != 0) return;
    sockets_[socket.other].fin_queued = true;
    pump(socket.other);
}

void SimNetwork::close(SimSocket name, bool reset) {
    Socket& socket = at(name);
    PULSE_ASSERT(socket.held);
    socket.held = false;
    if (socket.other == UINT32_MAX || socket.error != 0) return forget_if_done(name.slot);
    if (reset || socket.in_arrived > socket.in_read) return send_reset(name.slot);
    const uint32_t far = socket.other;
    sockets_[far].fin_queued = true;
    pump(far);
    // An orphan is not tried for as long as a socket that is held.
    if (dead_route(sockets_[far]))
        push(clock_ + 2 * kGiveUpMin, EventKind::give_up, far, 0, nullptr);
    forget_if_done(name.slot);
}

void SimNetwork::vanish(SimSocket name) {
    Socket& socket = at(name);
    PULSE_ASSERT(socket.held);
    socket.held = false;
    socket.gone = true;
    forget_if_done(name.slot);
}

void SimNetwork::reboot(SimSocket name) {
    if (!valid(name)) return;
    Socket& socket = at(name);
    socket.gone = false;
    socket.amnesic = true;
    if (socket.other != UINT32_MAX) pump(name.slot);
}

void SimNetwork::set_cut(SimSocket name, bool cut) {
    if (!valid(name)) return;
    Socket& socket = at(name);
    socket.cut = cut;
    if (socket.other == UINT32_MAX) return;
    sockets_[socket.other].cut = cut;
    if (cut) return;
    const uint32_t far = socket.other;
    pump(name.slot);
    pump(far);
}

// -------------------------------------------------------------------------------------- readings
bool SimNetwork::connected(SimSocket name) const { return at(name).state == State::open; }
size_t SimNetwork::readable(SimSocket name) const {
    const Socket& socket = at(name);
    return socket.in_arrived - socket.in_read;
}
bool SimNetwork::ended(SimSocket name) const {
    const Socket& socket = at(name);
    return socket.fin_arrived && socket.in_arrived == socket.in_read;
}
int SimNetwork::error(SimSocket name) const { return at(name).error; }
Nanos SimNetwork::oldest_arrival(SimSocket name) const {
    const Socket& socket = at(name);
    if (socket.arrivals_head < socket.arrivals.size()) {
        return socket.arrivals[socket.arrivals_head].at;
    }
    return socket.fin_at;
}
Nanos SimNetwork::all_arrived_at(SimSocket name) const {
    const Socket& socket = at(name);
    if (socket.error != 0) return socket.newest_at;
    if (socket.reset_sent || socket.in_arrived != socket.in_written) return kNever;
    if (socket.fin_queued && !socket.fin_arrived) return kNever;
    return socket.newest_at;
}
Nanos SimNetwork::arrival_of_offset(SimSocket name, uint64_t offset) const {
    const Socket& socket = at(name);
    if (offset <= socket.in_read) return 0;
    for (size_t next = socket.arrivals_head; next < socket.arrivals.size(); ++next) {
        if (socket.arrivals[next].offset >= offset) return socket.arrivals[next].at;
    }
    return kNever;
}
uint64_t SimNetwork::arrived(SimSocket name) const { return at(name).in_arrived; }
uint64_t SimNetwork::taken(SimSocket name) const { return at(name).in_read; }
SocketAddress SimNetwork::address(SimSocket name) const { return at(name).address; }
SocketAddress SimNetwork::peer_address(SimSocket name) const {
    const Socket& socket = at(name);
    return socket.other == UINT32_MAX ? SocketAddress{} : sockets_[socket.other].address;
}
void SimNetwork::set_cookie(SimSocket name, uint64_t cookie) { at(name).cookie = cookie; }
SimSocket SimNetwork::far_end(SimSocket name) const {
    const Socket& socket = at(name);
    return socket.other == UINT32_MAX ? SimSocket{} : name_of(socket.other);
}

}  // namespace pulse
