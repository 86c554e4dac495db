// A network in virtual time: TCP as the two programs at its ends see it, from a seed.
//
// Two programs hold a socket each. What one writes travels in segments, in order and after a delay,
// and is there for the other to read; nothing is ever lost but with its whole link. Nothing happens
// by itself: the owner of the clock calls run_until().
//
// One direction is a queue of bytes, and four offsets into it:
//
//      write ->  [ read | arrived | in flight | waiting ]  -> read
//                ^in_read ^in_arrived ^in_sent   ^in_written
//                <- receive buffer ->             <- send buffer ->
//
// What it does as Linux does: a full receive buffer stops the sender; closing with unread input
// sends a RST, otherwise FIN after what was written; an orderly close of a socket whose peer is
// silent leaves an orphan; bytes for a closed socket are answered by a RST; a SYN to a full accept
// queue is dropped and sent again after 1, 2, 4 s; a host that came back without memory answers
// with a RST; bytes that are not acknowledged fail the socket in the end (ETIMEDOUT).
//
// Deterministic: the same seed and the same calls give the same run. One thread. Programs are
// called back from run_until() only, and may call anything but run_until() from there.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "core/random.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/io/io_backend.h"
#include "net/sim/faults.h"

namespace pulse {

// One end of a connection; stale after close() once the network has forgotten it.
struct SimSocket {
    uint32_t slot = UINT32_MAX;
    uint32_t generation = 0;
    friend bool operator==(const SimSocket&, const SimSocket&) = default;
};

// What owns sockets: the simulated kernel of a server, a client, a test.
class SimProgram {
  public:
    virtual ~SimProgram() = default;
    // Something changed for a socket of ours: bytes, FIN, failure, connected, or room to write.
    virtual void on_socket(uint64_t cookie) = 0;
    // A peer waits in the accept queue of a port of ours.
    virtual void on_backlog(uint16_t port) = 0;
    virtual void on_timer(uint64_t cookie) = 0;
};

class SimNetwork {
  public:
    // Virtual time starts at `start`. `faults` shapes the links; copied.
    SimNetwork(uint64_t seed, const FaultPlan& faults, Nanos start);

    Nanos clock() const { return clock_; }
    Nanos next_event_at() const { return events_.empty() ? kNever : events_.front().at; }
    // Runs everything that happens up to and at `at`, in order; then it is `at`. Never back.
    void run_until(Nanos at);
    // Calls program.on_timer(cookie) at `at` (or now, if that is over).
    void set_timer(SimProgram& program, uint64_t cookie, Nanos at);

    // ---- ports. False: the port is taken. Port 0 asks for any; the answer is the port, or 0.
    uint16_t listen(SimProgram& program, uint16_t port, uint32_t backlog);
    // What waits in the accept queue is reset.
    void stop_listening(uint16_t port);
    // Peers in the accept queue; 0 without a listener.
    size_t backlog(uint16_t port) const;
    // The oldest of the accept queue, which must not be empty; events go to `cookie` from now on.
    SimSocket accept(uint16_t port, SimProgram& program, uint64_t cookie);

    // ---- sockets
    SimSocket connect(SimProgram& program, uint64_t cookie, uint16_t port,
                      const SocketAddress& source);
    void set_cookie(SimSocket socket, uint64_t cookie);
    // Takes what the send buffer has room for; 0 when it is full or the socket has failed.
    size_t write(SimSocket socket, std::span<const uint8_t> bytes);
    // Copies what is there, at most bytes.size(); 0 when nothing is.
    size_t read(SimSocket socket, std::span<uint8_t> bytes);
    // FIN after what was written.
    void finish(SimSocket socket);
    // The program closes its end: FIN after what was written, or a RST (unread input, or `reset`).
    void close(SimSocket socket, bool reset);
    // The host of this end is gone: nothing from it or to it passes, and the program forgets it.
    void vanish(SimSocket socket);
    // The host is back and has forgotten its connections: what reaches it is answered by a RST.
    void reboot(SimSocket socket);
    // The link is silent, or passes again what was held up.
    void set_cut(SimSocket socket, bool cut);

    // ---- readings
    bool connected(SimSocket socket) const;
    size_t readable(SimSocket socket) const;
    // FIN arrived and everything before it was read.
    bool ended(SimSocket socket) const;
    // What failed the socket (an errno), 0 while nothing has. Unread bytes may still be there.
    int error(SimSocket socket) const;
    size_t write_room(SimSocket socket) const;
    // What was written and has reached the far host, which acknowledges at once, and what has not.
    SendProgress send_progress(SimSocket socket) const;
    // The same in a kernel's words. Segments are not counted here, and none is sent again.
    TransportFacts transport_facts(SimSocket socket) const;
    // When the oldest unread byte, or the FIN or failure behind the last, got here; kNever if none.
    Nanos oldest_arrival(SimSocket socket) const;
    // When the last thing got here.
    Nanos newest_arrival(SimSocket socket) const { return at(socket).newest_at; }
    // When everything that was sent to here (FIN and RST too) had got here; kNever: some has not.
    Nanos all_arrived_at(SimSocket socket) const;
    // When the byte before `offset` of the stream got here; kNever if it has not, 0 if it was read.
    Nanos arrival_of_offset(SimSocket socket, uint64_t offset) const;
    // Offsets in the stream to here: bytes that got here, and that were read.
    uint64_t arrived(SimSocket socket) const;
    uint64_t taken(SimSocket socket) const;
    SocketAddress address(SimSocket socket) const;
    SocketAddress peer_address(SimSocket socket) const;
    // The socket at the other end.
    SimSocket far_end(SimSocket socket) const;
    bool valid(SimSocket socket) const;

    // Sockets of a program that it has closed and the kernel still serves; all links.
    uint32_t orphans(const SimProgram& program) const;
    uint32_t links() const { return links_; }

  private:
    enum class State : uint8_t { free, connecting, queued, open, refused };
    struct Arrival {
        uint64_t offset;  // bytes before it got here
        Nanos at;         // then
    };
    struct Socket {
        State state = State::free;
        bool held = false;        // a program owns it
        bool gone = false;        // its host has vanished
        bool amnesic = false;     // its host came back without it
        bool cut = false;         // the link passes nothing, either way (kept at both ends)
        bool fin_queued = false;  // the far end has finished; these four are of the incoming side
        bool fin_sent = false;
        bool fin_arrived = false;
        bool reset_sent = false;  // a RST is on its way to here
        bool giving_up = false;   // the far end has a timer for unacknowledged bytes
        int error = 0;
        SimProgram* program = nullptr;
        uint64_t cookie = 0;
        uint32_t generation = 0;
        uint32_t other = UINT32_MAX;
        uint16_t port = 0;      // a listener's, while it waits there
        uint16_t attempts = 0;  // of the SYN
        uint32_t buffer_bytes = 0;
        Nanos delay = 0;
        Nanos last_arrival = 0;      // of what is in flight to here
        Nanos fin_at = kNever;       // FIN or failure got here
        Nanos newest_at = 0;         // the last thing that got here
        Nanos all_here_since = 0;    // nothing was on its way to here from then to the next write
        Nanos all_here_total = 0;    // and before that, for so long
        Nanos byte_at = 0;           // the last byte of them
        Nanos written_at = 0;        // when this end last wrote
        SocketAddress address;       // of this end
        std::vector<uint8_t> bytes;  // from in_read on, after `head` spent ones
        size_t head = 0;
        uint64_t in_read = 0, in_arrived = 0, in_sent = 0, in_written = 0;
        std::vector<Arrival> arrivals;
        size_t arrivals_head = 0;
    };
    enum class EventKind : uint8_t { syn, answer, refusal, segment, fin, reset, give_up, timer };
    struct Event {
        Nanos at;
        uint64_t order;
        uint32_t slot;  // of the socket that it happens to
        uint32_t generation;
        EventKind kind;
        uint64_t value;       // offset of a segment's end; cookie of a timer
        SimProgram* program;  // of a timer
    };
    struct Listener {
        uint16_t port;
        uint32_t backlog;
        SimProgram* program;
        std::deque<uint32_t> queue;
    };

    Socket& at(SimSocket socket);
    const Socket& at(SimSocket socket) const;
    Socket* find(SimSocket socket);
    SimSocket name_of(uint32_t slot) const { return {slot, sockets_[slot].generation}; }
    uint32_t take_slot();
    void push(Nanos at, EventKind kind, uint32_t slot, uint64_t value, SimProgram* program);
    void run(const Event& event);
    void notify(uint32_t slot);
    Listener* listener_at(uint16_t port);
    const Listener* listener_at(uint16_t port) const;

    void pump(uint32_t receiver);
    Nanos arrival_of(Socket& receiver);
    bool dead_route(const Socket& receiver) const { return receiver.cut || receiver.gone; }
    void syn_arrives(uint32_t client);
    void send_again(uint32_t receiver);
    void segment_arrives(uint32_t receiver, uint64_t end);
    void fin_arrives(uint32_t receiver);
    void reset_arrives(uint32_t receiver, int error);
    void give_up(uint32_t receiver);
    void send_reset(uint32_t receiver);
    void fail(uint32_t slot, int error);
    void free_slot(uint32_t slot);
    void forget_if_done(uint32_t slot);
    bool outgoing_done(const Socket& socket) const;

    Random random_;
    FaultPlan faults_;
    Nanos clock_;
    uint64_t order_ = 0;
    uint32_t links_ = 0;
    uint16_t next_port_ = 40'000;
    std::vector<Event> events_;   // a heap, earliest first
    std::deque<Socket> sockets_;  // never shrinks: references stay
    std::vector<uint32_t> free_slots_;
    std::vector<Listener> listeners_;
};

}  // namespace pulse
