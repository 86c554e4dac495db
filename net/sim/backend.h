// A kernel from a seed: the backend contract (io_backend.h) over network.h, in virtual time.
//
// The production loop runs over it unchanged. poll() is the only thing that moves time: it runs the
// network to the next instant at which something is ready for us, or to its deadline. On the way it
// does to the loop what kernels do: stalls the process, before a batch and in the middle of one;
// hands over a few completions of many, in any order, late; runs out of descriptors and buffers;
// wakes for nothing (faults.h).
//
// It also watches the loop. What a kernel would pay back with corruption is written down as a
// breach: bytes of a send that change while they are pinned, a place that is attached twice, an
// accepted peer that was not decided about, an event for a place that has no owner.
//
// Natively: everything. drained_until() is exact (the arrival of the oldest byte that was not
// handed over), or coarse as on epoll, as the plan says. One thread; wake() may be called from any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <span>
#include <vector>

#include "core/connection.h"
#include "core/limits.h"
#include "net/io/io_backend.h"
#include "net/io/limits.h"
#include "net/sim/faults.h"
#include "net/sim/log.h"
#include "net/sim/network.h"

namespace pulse {

// Who wants to know what passes between the kernel and the loop; the judge of a simulation.
class SimWitness {
  public:
    virtual ~SimWitness() = default;
    // A peer got a place. `far` is the peer's own end.
    virtual void on_attached(Index index, SimSocket far) = 0;
    // The loop is about to be given the bytes of the peer's stream before `offset`.
    virtual void on_delivered(Index index, uint64_t offset) = 0;
    // The loop begins to close it: its finish() or close(), the first of them.
    virtual void on_begin_close(Index index) = 0;
    virtual void on_closed(Index index) = 0;
    // All that it was given and had put aside is handled.
    virtual void on_resumed(Index) {}
    // The loop is about to be told that the send in flight is done.
    virtual void on_sent(Index) {}
    // The kernel has taken all of a send at once.
    virtual void on_sent_at_once(Index) {}
};

class SimBackend : private SimProgram {
  public:
    // `network` and `log` outlive the backend; records [0, places) are the table's. Its clock is
    // that of the network.
    SimBackend(SimNetwork& network, SimLog& log, uint64_t seed, const FaultPlan& faults,
               Connection* records, uint32_t places);
    ~SimBackend() override;
    SimBackend(const SimBackend&) = delete;
    SimBackend& operator=(const SimBackend&) = delete;

    // ---- the contract
    Result<void> listen(std::span<const ListenAddress> addresses);
    void close_listener(uint8_t position);
    // Its kernel has no other backend that it could share with.
    bool spread_accepts(std::span<const uint32_t>) { return true; }
    void connect(Index index, const SocketAddress& address, const SocketAddress& source);
    void attach(Index index, const Accepted& accepted);
    void refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message);
    bool send(Index index, std::span<const uint8_t> bytes);
    void hold_off(Index index);
    void resume(Index index);
    bool is_held_off(Index index) const { return places_[index].held_off; }
    void finish(Index index);
    void close(Index index, CloseMode mode);
    void submit();
    bool rest(Nanos until);
    void wake() { woken_.store(true, std::memory_order_release); }
    Nanos now() const { return now_; }
    Nanos drained_until() const { return drained_until_; }
    SendProgress send_progress(Index index) {
        if (faults_.mutant == SimMutant::no_send_progress) return {};
        return network_.send_progress(place(index).socket);
    }
    SocketAddress peer_address(Index index) { return network_.peer_address(place(index).socket); }
    TransportFacts transport_facts(Index index) {
        return network_.transport_facts(place(index).socket);
    }
    // Its kernel gives up by times of its own (network.cc).
    void bound_silence(Index, const SocketOptions&) {}
    Nanos woke_at() const { return woke_at_; }
    Nanos clock() const { return network_.clock(); }
    Nanos cpu_clock() const { return network_.clock(); }
    size_t memory_bytes() const { return arena_.capacity() + places_.size() * sizeof(Place); }
    const IoCounters& counters() const { return counters_; }
    template <IoHandler H>
    void poll(Nanos until, H& handler);

    // ---- for the harness
    // Of the send that was begun and not reported; 0: there is none.
    size_t flight_bytes(Index index) const {
        const Place& at = places_[index];
        return at.send_armed ? at.sending.size() : 0;
    }
    void set_witness(SimWitness* witness) { witness_ = witness; }
    // The process does something else for so long, wherever it is: in a handler, or after poll().
    void pass_time(Nanos span);
    // From now on at most so many sockets at once.
    void set_descriptors_max(uint32_t count) { faults_.descriptors_max = count; }
    uint32_t descriptors_used() const { return descriptors_used_; }
    uint32_t attached() const { return attached_; }
    uint64_t attaches() const { return attaches_; }
    uint64_t closes() const { return closes_; }
    // Closed sockets whose last bytes the kernel is still trying to deliver.
    uint32_t orphans() const { return network_.orphans(*this); }
    // Time during which we were not scheduled, or a peer's bytes waited for us.
    Nanos behind_total() const { return behind_total_; }

  private:
    enum class Phase : uint8_t { unused, connecting, attached, closing };
    struct Place {
        Phase phase = Phase::unused;
        bool listed = false;         // stands in ready_
        bool ended = false;          // on_end was given, or on_connected with an error
        bool receive_armed = false;  // three operations that a close joins
        bool send_armed = false;
        bool send_completed = false;  // its completion is on its way
        bool finish_wanted = false;   // after the send in flight
        bool held_off = false;
        bool close_begun = false;
        CloseMode mode = CloseMode::orderly;
        int32_t descriptor = -1;
        uint32_t tenancy = 0;  // changes with every owner
        SimSocket socket;
        std::span<const uint8_t> sending;
        size_t taken_bytes = 0;
        uint64_t pinned_hash = 0;
        Nanos given_at = 0;  // attached, or given a whole buffer
    };
    enum class Kind : uint8_t {
        connected,
        bytes,
        end,
        sent,
        accept,
        receive_cancelled,
        send_cancelled,
        closed
    };
    struct Completion {
        Nanos at;
        uint64_t order;
        Kind kind;
        Index index;  // of a listener, for accept
        uint32_t tenancy;
        int error;
    };
    struct Listening {
        uint16_t port;
        uint8_t position;
    };
    struct Pending {  // what on_accept is about
        SimSocket socket;
        bool decided = true;
        bool spare = false;
    };
    // The window into the one receive buffer, with its slack.
    static constexpr size_t kArenaBytes =
        kReceiveFrontBytes + kReceiveBufferBytes + kReceivePadBytes;

    void on_socket(uint64_t cookie) override;
    void on_backlog(uint16_t port) override;
    void on_timer(uint64_t cookie) override;

    Place& place(Index index);
    void begin_tenancy(Index index, SimSocket socket, Phase phase, int32_t descriptor);
    void list(Index index);
    int32_t take_descriptor();
    void free_descriptor(int32_t descriptor);
    void complete(Kind kind, Index index, int error, Nanos delay);
    Nanos lateness();
    bool is_ring() const { return faults_.submit_in_poll || faults_.completion_max > 0; }
    bool push_send(Index index, bool at_once = false);
    void check_pinned(Index index, const Place& place);
    void begin_close(Index index, Place& place);
    void join(Index index);

    void harvest(Nanos until);
    void stutter();
    void wait(Nanos until);
    bool has_work() const;
    void collect();
    void collect_ready(size_t& room);
    void collect_accepts(size_t& room);
    void examine(Index index);
    void settle();
    Nanos oldest_undelivered() const;
    // Moves what is there into the arena; empty when the place has no more to give.
    std::span<uint8_t> receive(const Completion& event);
    bool open_accept(const Completion& event, Accepted& accepted);
    void close_accept();
    bool owned(const Completion& event, const char* what);
    void cancelled(const Completion& event);
    template <IoHandler H>
    void dispatch(const Completion& event, H& handler);
    void note(std::string_view event, uint64_t first, uint64_t second = 0) {
        log_.note(network_.clock(), event, first, second);
    }
    void broken(std::string_view rule, std::string what) {
        log_.broken(network_.clock(), rule, std::move(what));
    }

    SimNetwork& network_;
    SimLog& log_;
    Random random_;
    FaultPlan faults_;
    Connection* records_;
    SimWitness* witness_ = nullptr;
    std::vector<Place> places_;
    std::vector<Listening> listeners_;
    std::deque<Index> ready_;         // places for which something changed
    std::vector<Index> unsubmitted_;  // sends that the kernel sees in the next poll
    std::vector<Completion> due_;     // a heap, earliest first
    std::vector<Completion> batch_;
    std::vector<int32_t> free_descriptors_;  // a heap, lowest first
    int32_t next_descriptor_ = 3;
    uint32_t descriptors_used_ = 0;
    Pending pending_;
    std::vector<uint8_t> arena_;
    std::atomic<bool> woken_{false};
    bool in_poll_ = false;
    uint64_t order_ = 0;
    uint32_t attached_ = 0;
    uint64_t attaches_ = 0;
    uint64_t closes_ = 0;
    Nanos now_;
    Nanos woke_at_ = 0;
    Nanos drained_until_;
    Nanos behind_total_ = 0;
    IoCounters counters_;
};

template <IoHandler H>
void SimBackend::poll(Nanos until, H& handler) {
    harvest(until);
    in_poll_ = true;
    for (size_t next = 0; next < batch_.size(); ++next) {
        stutter();
        dispatch(batch_[next], handler);
    }
    in_poll_ = false;
    settle();
}

template <IoHandler H>
void SimBackend::dispatch(const Completion& event, H& handler) {
    const Index index = event.index;
    switch (event.kind) {
        case Kind::accept: {
            Accepted accepted;
            if (!open_accept(event, accepted)) return;
            handler.on_accept(accepted);
            return close_accept();
        }
        case Kind::connected:
            if (owned(event, "on_connected")) handler.on_connected(index, event.error);
            return;
        case Kind::bytes: {
            if (!owned(event, "on_bytes")) return;
            const std::span<uint8_t> bytes = receive(event);
            if (bytes.empty()) return;
            handler.on_bytes(index, bytes);
            // C2: borrowed until now. Who kept the span reads rubbish.
            std::memset(bytes.data(), 0xdd, bytes.size());
            return;
        }
        case Kind::end:
            if (!owned(event, "on_end")) return;
            note("end", index, static_cast<uint64_t>(event.error));
            handler.on_end(index, event.error);
            return;
        case Kind::sent: {
            if (!owned(event, "on_sent")) return;
            Place& at = place(index);
            at.send_armed = false;
            at.sending = {};
            note("sent", index, static_cast<uint64_t>(event.error));
            if (witness_ != nullptr) witness_->on_sent(index);
            handler.on_sent(index, event.error);
            return;
        }
        case Kind::closed:
            if (!owned(event, "on_closed")) return;
            place(index).phase = Phase::unused;
            --attached_;
            ++closes_;
            note("closed", index);
            if (witness_ != nullptr) witness_->on_closed(index);
            handler.on_closed(index);
            return;
        case Kind::receive_cancelled:
        case Kind::send_cancelled:
            return cancelled(event);
    }
}

static_assert(IoBackend<SimBackend>);

}  // namespace pulse
