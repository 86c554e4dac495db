// The contract of io_backend.h over io_uring: Linux 5.19 or later, better from 6.1 on
// (UringFeatures), and only where it is not switched off (ready()).
//
// One ring a reactor, made on the reactor's thread and used by it alone. Plain descriptors, no
// direct ones; net/README.md says why, and has the measurements behind the choices below.
//
//   attach --> [watch set] -- epoll_pwait2 --> [ready list] -- recv or RECV --> bytes --> handler
//                   ^                                                |
//                   +---------- has more, and others wait -----------+
//
//   a round of poll():  look at the set, if the ready list has room; this may sleep
//                       few are ready: recv() each; many: RECVs
//                       io_uring_enter submits all and reaps all, if there is anything
//                       completions -> handler
//
// Few or many. A system call for one receive or one send costs less than a submission and its
// completion, io_uring_enter for many less than a system call each. So a poll that finds few ready
// receives and answers by system calls, and does what the epoll backend does; one that finds more
// than kUringAtOnce leaves both to the ring. What a send leaves over waits in the ring for room.
//
// Every connection is in the watch set, an edge-triggered epoll set, from attach() to its close:
// about 200 B of kernel memory a silent one, nothing to do again after a message. The doorbell and
// the listeners are in it, too. It is where the thread sleeps while nothing is in flight in the
// ring. Otherwise it sleeps in the ring, with a poll of the set among what is in flight.
//
// Backpressure. The set is asked for no more events than the ready list has room for, and not
// before the list is nearly empty; what is ready beyond that waits in the kernel, in order, at no
// cost. A connection that was read and has more goes to the end of the list, or, while the set
// holds others that wait, to the end of the set's queue (put_back). No more submissions and task
// work are let into the ring than its completion queue has room for: before, completions are moved
// to stash_ (make_completion_room), so that the queue does not overflow by our doing.
//
// A connection has at most one send in flight and is asked for bytes at most once at a time. RECVs
// carry MSG_DONTWAIT, so each is answered within the io_uring_enter() that submits it, and no more
// are submitted than there are buffers, so that none finds the pool empty. Should one do so
// nonetheless, it is asked again.
//
// drained_until (C8), and why it does not lie. Bytes, FIN and RST that reach a socket make it ready
// in the set, each time (edge-triggered). A look at the set that took less than it asked for took
// all that was ready before it; of others net/io/watch_proof.h says what they prove, by marks. So
// when t is proven, every connection that holds something from before t was taken from the set, and
// each that was taken is
//   - asked for (on the ready list, or its RECV queued or not handed out): counted (drained_);
//   - put back into the set: after it was given bytes, which C8 allows, or before that, and then
//     proofs that it was part of are void (WatchProof::put_back);
//   - over: nothing follows FIN or RST.
// A receive takes all that came before it, or gives bytes to its connection. What arrives behind
// its back makes the connection ready again; if that is reported before the receive is handed out,
// it is read again (kAgain). When those counted have been handed out, drained_until is t. What
// becomes ready later is counted apart, so that a connection which is always ready delays nothing.
//
// Lost completions. A completion queue that is full keeps what comes in a list of its own; without
// memory for that the kernel drops it (EBADR, and a counter in the ring). Nothing of it is known
// but the number, so after it the backend asks for everything anew (recover): nothing new is begun
// until what can come has come; then the poll of the set is cancelled, and the set announces all
// connections again, behind its marks (WatchProof::put_back). Further,
//   - a receive that is missing took bytes with it: its connection has failed (on_end, ENOBUFS);
//   - a send or connect that is missing is cancelled: if it is still in flight its completion
//     follows, and otherwise it has failed, too;
//   - a close that is missing was done.
// drained_until stands still meanwhile, which is some milliseconds.
//
// Closing is a join: close() ends what is in flight (it would keep the socket alive), queues a
// CLOSE, and on_closed comes when the last completion has (join). So no completion can meet a new
// owner of its place, which check_completion() asserts.
#pragma once

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/connection.h"
#include "core/limits.h"
#include "core/result.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/io/clocks.h"
#include "net/io/doorbell.h"
#include "net/io/drained_until.h"
#include "net/io/io_backend.h"
#include "net/io/limits.h"
#include "net/io/listeners.h"
#include "net/io/peer_address.h"
#include "net/io/send_progress.h"
#include "net/io/sockets.h"
#include "net/io/spare_descriptor.h"
#include "net/io/system_calls.h"
#include "net/io/transport_facts.h"
#include "net/io/watch_marks.h"
#include "net/io/watch_proof.h"
#include "net/io/watch_wait.h"

namespace pulse {

// What the running kernel was found to know. The ring of receive buffers (5.19) is not among them:
// without it there is no backend.
struct UringFeatures {
    bool defer_taskrun = false;  // 6.1, with SINGLE_ISSUER; otherwise COOP_TASKRUN

    // For people: "no-defer_taskrun".
    std::string text() const;
};

struct UringOptions {
    SocketOptions sockets{};
    uint32_t submission_entries = kUringSubmissionEntries;     // a power of two
    uint32_t receive_buffers = kUringReceiveBuffers;           // a power of two
    uint32_t receive_buffer_bytes = kUringReceiveBufferBytes;  // the slack of C2 included
    bool newer_features = true;  // false: as on the oldest kernel that will do
    // An eventfd (EFD_NONBLOCK) for wake(), which stays the caller's. -1: the backend makes its
    // own; threads whose descriptor table is another one (descriptors.h) cannot ring that.
    int doorbell = -1;
};

class UringBackend {
  public:
    // On the thread that will call everything else. `records` has `places` of them
    // (ConnectionTable) and outlives the backend. ready() says whether it worked.
    UringBackend(const UringOptions& options, Connection* records, uint32_t places);
    // Leaves connections alone: close them first.
    ~UringBackend();
    UringBackend(const UringBackend&) = delete;
    UringBackend& operator=(const UringBackend&) = delete;

    // An error names the call, the cause and the way out, which is epoll where a kernel or a
    // container has io_uring switched off (ENOSYS, EPERM, EACCES). After it only the destructor
    // may be called.
    const Result<void>& ready() const { return ready_; }

    Result<void> listen(std::span<const ListenAddress> addresses) {
        return listeners_.open(watch_set_, addresses, options_.sockets);
    }
    void close_listener(uint8_t position) { listeners_.close(position); }
    bool spread_accepts(std::span<const uint32_t> shares) {
        return listeners_.spread_accepts(shares);
    }
    void connect(Index index, const SocketAddress& to, const SocketAddress& source);
    void attach(Index index, const Accepted& accepted);
    void refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message);
    bool send(Index index, std::span<const uint8_t> bytes);
    void hold_off(Index index);
    void resume(Index index);
    bool is_held_off(Index index) const { return marked(index, kHeldOff); }
    void finish(Index index);
    void close(Index index, CloseMode mode);
    void submit();
    bool rest(Nanos until);
    void wake() { doorbell_.ring(); }
    Nanos now() const { return now_; }
    Nanos drained_until() const { return drained_.value(); }
    SendProgress send_progress(Index index) {
        return pulse::send_progress(calls_, records_[index].descriptor);
    }
    SocketAddress peer_address(Index index) {
        return pulse::peer_address(calls_, records_[index].descriptor);
    }
    TransportFacts transport_facts(Index index) {
        return pulse::transport_facts(calls_, records_[index].descriptor);
    }
    void bound_silence(Index index, const SocketOptions& bounds) {
        pulse::bound_silence(calls_, records_[index].descriptor, bounds);
    }
    Nanos woke_at() const { return woke_at_; }
    Nanos clock() const { return monotonic_clock(); }
    Nanos cpu_clock() const { return thread_cpu_clock(); }
    const IoCounters& counters() const { return counters_; }

    // Until `until` on now()'s clock (CLOCK_MONOTONIC); kNever is for ever.
    template <IoHandler H>
    void poll(Nanos until, H& handler);

    const UringFeatures& features() const { return features_; }
    // What rings, buffers and lists occupy in user space once all of it was touched.
    size_t memory_bytes() const { return memory_bytes_ + stash_.capacity() * sizeof(stash_[0]); }
    // For tests: makes a system call fail (system_calls.h).
    SystemCalls& system_calls() { return calls_; }
    // For tests: all completions of an entry are dropped, as by a kernel without memory: of the
    // next that has some, or of the one that is so many behind it.
    void lose_completions(uint32_t behind = 0) { loses_in_ = behind + 1; }
    void lose_none() { loses_in_ = 0; }

  private:
    // What a completion is about. Up to `close` it is about a connection.
    enum class Op : uint8_t {
        receive,
        send,
        connect,
        failure,  // a NOP that reports that a connection could not be watched
        unsent,   // a NOP that reports the error of a send
        close,
        recall,  // the cancelling of a send or connect whose completion may be lost
        watch,   // the set has something
        none,    // of no interest
    };
    static constexpr Op kLastOfConnection = Op::close;
    static constexpr uint16_t kBufferGroup = 0;
    // Connection::operations
    enum Mark : uint16_t {
        kFailing = 1 << 0,     // the report of a failure is on its way
        kReceiving = 1 << 1,   // on the ready list, or its receive is queued
        kSending = 1 << 2,     // a send is in flight, or queued
        kConnecting = 1 << 3,  // a connect likewise
        kClosing = 1 << 4,     // a CLOSE likewise
        kInFlight = kFailing | kReceiving | kSending | kConnecting | kClosing,
        kClosed = 1 << 5,   // close() was called
        kFinish = 1 << 6,   // FIN is wanted behind the send in flight
        kOver = 1 << 7,     // on_end was reported, or the connect failed
        kBroken = 1 << 8,   // a send met an error: what follows is not an orderly end
        kWatched = 1 << 9,  // in the watch set
        kUntilEmpty =
            1 << 10,  // an event reported its end or urgent data: a short read proves nothing
        kHeldOff = 1 << 11,   // no receive until resume()
        kAgain = 1 << 12,     // became ready while its receive was queued: it is read again
        kRecalled = 1 << 13,  // its send or connect is cancelled (recover)
        kAttached = 1 << 14,  // from attach() or connect() to on_closed
        kLost = 1 << 15,      // bytes or a report of it are gone (recover)
    };

    // user_data of a submission: place 24 bits | op 4 | generation 4 | value 32. The value is what
    // only this completion needs: the bytes of a send, the errno of a connect that never began, the
    // count that a receive is in, the serial of what is armed, the operation that is recalled.
    struct Ticket {
        Index index;
        Op op;
        uint8_t generation;
        uint32_t value;
    };
    static constexpr uint32_t kIndexBits = 24;
    static constexpr uint32_t kIndexMask = (uint32_t{1} << kIndexBits) - 1;
    static_assert(kConnectionsPerReactorMax <= kIndexMask + 1);
    static uint64_t pack(Ticket ticket) {
        return ticket.index | uint64_t{static_cast<uint8_t>(ticket.op)} << 24 |
               uint64_t{ticket.generation & 15u} << 28 | uint64_t{ticket.value} << 32;
    }
    static Ticket unpack(uint64_t data) {
        return {static_cast<Index>(data & kIndexMask), static_cast<Op>(data >> 24 & 15),
                static_cast<uint8_t>(data >> 28 & 15), static_cast<uint32_t>(data >> 32)};
    }
    uint64_t ticket(Op op, Index index, uint32_t value = 0) const {
        return pack({index, op, static_cast<uint8_t>(records_[index].generation & 15), value});
    }

    // What epoll_event::data holds: a connection's index and above it its generation, or this, or
    // what listeners and marks have.
    static constexpr uint64_t kWakeTag = uint64_t{1} << 29;
    static_assert(kConnectionsPerReactorMax < kWakeTag);

    bool marked(Index index, uint16_t any) const { return (records_[index].operations & any) != 0; }
    void mark(Index index, uint16_t marks) { records_[index].operations |= marks; }
    void unmark(Index index, uint16_t marks) {
        records_[index].operations &= static_cast<uint16_t>(~marks);
    }

    // Start.
    Result<void> open();
    Result<void> open_ring();
    Result<void> open_buffers();
    Result<void> open_watch_set();
    bool register_buffers();

    // The ring. Submissions are written at sq_tail_ and shown to the kernel by enter().
    io_uring_sqe& queue(uint8_t opcode, int descriptor, uint64_t user_data);
    uint32_t queued() const { return sq_tail_ - __atomic_load_n(ring_.sq.khead, __ATOMIC_ACQUIRE); }
    bool work_waits() const {
        const uint32_t flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE);
        return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    }
    uint32_t completions_in_ring() const {
        return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE) - cq_head_;
    }
    bool completions_wait() const {
        return stash_head_ < stash_.size() || completions_in_ring() > 0;
    }
    bool more_waits() const {
        return queued() > 0 || ready_count() > 0 || completions_wait() || work_waits() ||
               set_has_more_ || recovering_;
    }
    // Something completes by itself, later.
    bool waits_for_ring() const { return in_flight_ > (watch_armed_ ? 1u : 0u); }
    io_uring_cqe take_from_ring() {
        const io_uring_cqe completion = ring_.cq.cqes[cq_head_ & ring_.cq.ring_mask];
        __atomic_store_n(ring_.cq.khead, ++cq_head_, __ATOMIC_RELEASE);
        --in_flight_;
        return completion;
    }
    io_uring_cqe take_completion();
    void make_completion_room();
    int enter(uint32_t wait_for, uint32_t flags, const io_uring_getevents_arg* argument);
    void look_for_losses();
    uint32_t lose_on_purpose();
    static bool is_shortage(int error);
    void note_shortage(int error);

    // A round of poll().
    void wait(Nanos until);
    void look(Nanos until);
    void submit_and_reap(Nanos sleeps_for);
    bool is_quiet() const { return queued() == 0 && !completions_wait() && !work_waits(); }
    template <class H>
    void recover(H& handler);
    void recover_connection(Index index);
    bool renew_buffers();
    void cancel(uint64_t user_data);
    void read_clock() { now_ = std::max(now_, clock()); }  // C7: before each event
    template <class H>
    void accept_waiting(H& handler);
    template <class H>
    void receive_ready(H& handler, uint32_t& budget);
    template <class H>
    void receive_at_once(H& handler, Index index, uint32_t count);
    void queue_receive(Index index, uint32_t count);
    template <class H>
    void hand_out(H& handler, uint32_t& budget);
    template <class H>
    void complete(H& handler, const Ticket& ticket, const io_uring_cqe& completion);
    bool check_completion(const Ticket& ticket);
    template <class H>
    void complete_receive(H& handler, Index index, uint32_t count, const io_uring_cqe& completion);
    template <class H>
    void complete_send(H& handler, Index index, uint32_t bytes, int result);
    template <class H>
    void complete_connect(H& handler, Index index, uint32_t error, int result);
    template <class H>
    void complete_recall(H& handler, const Ticket& ticket, int result);
    template <class H>
    void deliver_accept(H& handler, const Accepted& accepted);
    template <class H>
    void report_end(H& handler, Index index, IoError error);
    template <class H>
    void join(H& handler, Index index);

    // The watch set.
    void arm_watch();
    void take_events(uint32_t events, uint32_t most, Nanos began);
    bool take_event(const epoll_event& event);

    // Connections.
    void make_ready(Index index) { make_ready(index, drained_.count()); }
    void make_ready(Index index, uint32_t count);
    bool readable(Index index);
    bool watch(Index index);
    void put_back(Index index);
    void read_on(Index index);
    void fail_later(Index index, int error);
    uint32_t ready_count() const { return ready_tail_ - ready_head_; }
    // For newcomers: what has a receive in flight may come back and keeps its room.
    uint32_t ready_room() const {
        return static_cast<uint32_t>(ready_list_.size()) - ready_count() - receives_queued_;
    }
    void cut_off(int descriptor, CloseMode mode);
    IoError socket_error(Index index);
    std::span<uint8_t> received(const io_uring_cqe& completion) {
        const uint32_t id = completion.flags >> IORING_CQE_BUFFER_SHIFT;
        return {reinterpret_cast<uint8_t*>(buffer(id)), static_cast<size_t>(completion.res)};
    }
    std::byte* buffer(uint32_t id) {
        return buffers_ + size_t{id} * options_.receive_buffer_bytes + kReceiveFrontBytes;
    }
    uint32_t receive_bytes() const {
        return options_.receive_buffer_bytes -
               static_cast<uint32_t>(kReceiveFrontBytes + kReceivePadBytes);
    }
    void provide_buffer();

    void queue_send(Index index, std::span<const uint8_t> bytes);

    const UringOptions options_;
    Connection* const records_;
    const uint32_t places_;
    IoCounters counters_;
    SystemCalls calls_{counters_.system_calls};
    UringFeatures features_;
    Result<void> ready_;
    size_t memory_bytes_ = 0;

    io_uring ring_{};
    bool ring_open_ = false;
    uint32_t shortages_in_a_row_ = 0;
    uint32_t sq_tail_ = 0;
    uint32_t cq_head_ = 0;
    std::vector<io_uring_cqe> stash_;  // taken from the ring before their time, in order
    size_t stash_head_ = 0;
    uint32_t in_flight_ = 0;   // queued, and its completion was not taken
    uint32_t dropped_ = 0;     // completions that the kernel has dropped, as far as we know
    bool recovering_ = false;  // completions are missing
    uint32_t loses_in_ = 0;    // lose_completions(); 0: never
    io_uring_buf_ring* buffer_ring_ = nullptr;
    std::byte* buffers_ = nullptr;
    uint16_t buffer_tail_ = 0;
    std::vector<uint16_t> idle_buffers_;  // not provided; the last one was used last
    uint32_t buffers_provided_ = 0;       // a receive that brings nothing leaves its own there
    Index places_used_ = 0;               // above the highest that was ever attached

    // Connections to be asked for bytes: places, and above each which count it is in.
    std::vector<uint32_t> ready_list_;
    uint32_t ready_head_ = 0;
    uint32_t ready_tail_ = 0;
    uint32_t receives_queued_ = 0;  // and not handed out: each may hold a buffer

    // C8; the essay above says why.
    Nanos now_ = 0;
    Nanos woke_at_ = 0;
    WatchProof proof_{clock()};
    DrainedUntil drained_{proof_.proven_until()};  // unread: on the ready list or in a receive

    Listeners listeners_{calls_, counters_, SOCK_CLOEXEC};
    uint64_t listeners_ready_ = 0;  // a bit each
    static_assert(kListenersMax <= 64);
    uint32_t accepts_left_ = 0;  // of this poll
    SpareDescriptor spare_;
    const Accepted* undecided_ = nullptr;  // what the handler is deciding about
    WakeDescriptor doorbell_;
    int watch_set_ = -1;
    WatchWait wait_;
    WatchMarks marks_;
    bool looked_ = false;        // in this poll
    bool was_woken_ = false;     // the last look found the doorbell
    bool set_has_more_ = false;  // a poll of it said so
    bool watch_armed_ = false;   // a poll of it is in flight
    uint32_t watch_serial_ = 0;
    uint32_t received_ = 0;  // receives of this poll
    std::vector<epoll_event> events_;
    std::vector<SocketAddress> connect_to_;  // by submission: read when the kernel takes it
};

template <IoHandler H>
void UringBackend::poll(Nanos until, H& handler) {
    ++counters_.polls;
    const uint64_t completions_before = counters_.completions;
    uint32_t budget = kUringCompletionsPerPoll - kUringRoundsPerPoll;  // looks count, too
    uint32_t rounds = kUringRoundsPerPoll;
    accepts_left_ = kAcceptsPerTurn;
    received_ = 0;
    looked_ = false;
    read_clock();
    listeners_.resume_if_due(now_);
    wait(until);
    woke_at_ = now_;
    for (;;) {
        if (!recovering_) {
            accept_waiting(handler);
            receive_ready(handler, budget);
        }
        if (queued() > 0 || work_waits() || recovering_) submit_and_reap(0);
        hand_out(handler, budget);
        if (recovering_ && is_quiet()) recover(handler);
        if (!recovering_) drained_.advance(proof_.proven_until());
        if (budget == 0 || --rounds == 0 || !more_waits()) break;
        read_clock();
        wait(0);
    }
    read_clock();
    if (counters_.completions != completions_before) ++counters_.batches;
}

// A share each, so that a storm on one listener does not keep the others waiting.
template <class H>
void UringBackend::accept_waiting(H& handler) {
    for (; listeners_ready_ != 0; listeners_ready_ &= listeners_ready_ - 1) {
        const auto position = static_cast<uint32_t>(std::countr_zero(listeners_ready_));
        const auto share =
            kAcceptsPerTurn / static_cast<uint32_t>(std::max<size_t>(listeners_.count(), 1));
        // The handler may call listen() from inside on_accept: look again each time.
        for (uint32_t left = std::min(share, accepts_left_);
             left > 0 && position < listeners_.count(); --left) {
            Accepted accepted;
            const auto result = listeners_.accept(position, spare_, now_, accepted);
            if (result == Listeners::Accept::none) break;
            if (result == Listeners::Accept::lost) continue;
            --accepts_left_;
            deliver_accept(handler, accepted);
        }
    }
}

// Of those that are ready as many as there are buffers.
template <class H>
void UringBackend::receive_ready(H& handler, uint32_t& budget) {
    const bool at_once = ready_count() <= kUringAtOnce && receives_queued_ == 0;
    // What is ready again meanwhile is for the next round.
    uint32_t left = std::min(ready_count(), options_.receive_buffers - receives_queued_);
    for (; left > 0 && budget > 0; --left) {
        const uint32_t entry = ready_list_[ready_head_++ & (ready_list_.size() - 1)];
        const Index index = entry & kIndexMask;
        const uint32_t count = entry >> kIndexBits;
        PULSE_ASSERT(marked(index, kReceiving));
        if (marked(index, kClosed)) {
            unmark(index, kReceiving);
            drained_.remove(count);
            join(handler, index);
            continue;
        }
        unmark(index, kAgain);
        ++receives_queued_;
        ++received_;
        // Behind a send in the ring: what has failed says so once, and to the send if that came
        // first. And where all buffers are provided, by receives that brought nothing.
        if (!at_once || marked(index, kSending) || idle_buffers_.empty()) {
            queue_receive(index, count);
            continue;
        }
        --budget;
        receive_at_once(handler, index, count);
    }
}

// Requires: a buffer is idle.
template <class H>
void UringBackend::receive_at_once(H& handler, Index index, uint32_t count) {
    const uint16_t id = idle_buffers_.back();
    const ssize_t bytes = calls_([&] {
        return ::recv(records_[index].descriptor, buffer(id), receive_bytes(), MSG_DONTWAIT);
    });
    io_uring_cqe completion{};
    completion.res = static_cast<int>(bytes < 0 ? -errno : bytes);
    if (bytes > 0) {
        idle_buffers_.pop_back();
        ++buffers_provided_;
        completion.flags = uint32_t{id} << IORING_CQE_BUFFER_SHIFT;
        // One that filled its buffer may have left something behind.
        if (static_cast<size_t>(bytes) == receive_bytes())
            completion.flags |= IORING_CQE_F_SOCK_NONEMPTY;
    }
    ++counters_.completions;
    unmark(index, kReceiving);
    complete_receive(handler, index, count, completion);
}

template <class H>
void UringBackend::hand_out(H& handler, uint32_t& budget) {
    for (; budget > 0 && completions_wait(); --budget) {
        const io_uring_cqe completion = take_completion();
        ++counters_.completions;
        complete(handler, unpack(completion.user_data), completion);
    }
}

template <class H>
void UringBackend::complete(H& handler, const Ticket& ticket, const io_uring_cqe& completion) {
    const Index index = ticket.index;
    if (ticket.op <= kLastOfConnection && !check_completion(ticket)) return;
    switch (ticket.op) {
        case Op::receive:
            return complete_receive(handler, index, ticket.value, completion);
        case Op::send:
            return complete_send(handler, index, ticket.value, completion.res);
        case Op::connect:
            return complete_connect(handler, index, ticket.value, completion.res);
        case Op::failure:
            if (marked(index, kClosed)) return join(handler, index);
            return report_end(handler, index, static_cast<IoError>(ticket.value));
        case Op::unsent:
            return complete_send(handler, index, 0, -static_cast<int>(ticket.value));
        case Op::close:
            return join(handler, index);
        case Op::recall:
            return complete_recall(handler, ticket, completion.res);
        case Op::watch:
            if (ticket.value != watch_serial_) return;
            watch_armed_ = false;
            set_has_more_ = true;
            return;
        case Op::none:
            return;
    }
}

template <class H>
void UringBackend::complete_receive(H& handler, Index index, uint32_t count,
                                    const io_uring_cqe& completion) {
    --receives_queued_;
    drained_.remove(count);
    const int result = completion.res;
    if (result > 0) {
        if (!marked(index, kClosed)) {
            read_clock();
            handler.on_bytes(index, received(completion));
        }
        idle_buffers_.push_back(static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT));
        --buffers_provided_;
    }
    if (marked(index, kClosed)) return join(handler, index);
    if (marked(index, kHeldOff)) return;  // resume() asks
    // The kernel says whether there is more, FIN included, but not an RST.
    const bool more = (completion.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (result > 0 && marked(index, kUntilEmpty)) return make_ready(index, count);
    if (result > 0 && more) return read_on(index);
    if (result > 0 || result == -EAGAIN) {
        unmark(index, kUntilEmpty);
        if (marked(index, kAgain)) make_ready(index, count);
        return;
    }
    if (result == -ENOBUFS) ++counters_.receive_buffers_short;
    if (result == -ENOBUFS || result == -EINTR) return make_ready(index, count);
    report_end(handler, index, -result);
}

template <class H>
void UringBackend::report_end(H& handler, Index index, IoError error) {
    mark(index, kOver);
    // The socket reports its failure once, and a send has taken the report already.
    if (error == 0 && marked(index, kBroken)) error = ECONNRESET;
    read_clock();
    handler.on_end(index, error);
}

template <class H>
void UringBackend::complete_send(H& handler, Index index, uint32_t bytes, int result) {
    if (marked(index, kClosed)) return join(handler, index);
    IoError error = 0;
    if (result < 0) error = -result;
    // MSG_WAITALL: less than all means that it failed half-way. The cause waits in the socket.
    else if (static_cast<uint32_t>(result) < bytes)
        error = socket_error(index);
    if (error != 0) mark(index, kBroken);
    if (marked(index, kFinish)) {
        unmark(index, kFinish);
        finish(index);
    }
    read_clock();
    handler.on_sent(index, error);
}

template <class H>
void UringBackend::complete_connect(H& handler, Index index, uint32_t error, int result) {
    if (marked(index, kClosed)) return join(handler, index);
    if (result < 0) error = static_cast<uint32_t>(-result);
    if (error != 0) mark(index, kOver);
    read_clock();
    handler.on_connected(index, static_cast<IoError>(error));
    if (!marked(index, kOver | kClosed) && !watch(index)) fail_later(index, errno);
}

// The one place where a connection is given up: when nothing of it is left in the kernel.
template <class H>
void UringBackend::join(H& handler, Index index) {
    PULSE_ASSERT(marked(index, kClosed));
    if (marked(index, kInFlight)) return;
    records_[index].operations = 0;
    records_[index].descriptor = -1;
    handler.on_closed(index);
}

// A send or a connect that was cancelled. -ENOENT: it is not in flight, so its completion was lost
// (and what has no descriptor never was, -EBADF); otherwise that is still to come.
template <class H>
void UringBackend::complete_recall(H& handler, const Ticket& ticket, int result) {
    const Index index = ticket.index;
    const bool same_owner = (records_[index].generation & 15) == ticket.generation;
    if (!same_owner || !marked(index, kRecalled)) return;
    if (result != -ENOENT && result != -EBADF) return;
    unmark(index, kRecalled | kSending | kConnecting);
    if (static_cast<Op>(ticket.value) == Op::connect)
        complete_connect(handler, index, ENOBUFS, 0);
    else
        complete_send(handler, index, 0, -ENOBUFS);
}

// Completions were lost, and no more will come by themselves. What was under way is asked for anew.
template <class H>
void UringBackend::recover(H& handler) {
    if (!renew_buffers()) return;
    if (watch_armed_) cancel(pack({0, Op::watch, 0, watch_serial_}));
    watch_armed_ = false;
    set_has_more_ = true;
    for (; ready_count() > 0; ++ready_head_) {
        const uint32_t entry = ready_list_[ready_head_ & (ready_list_.size() - 1)];
        unmark(entry & kIndexMask, kReceiving);
    }
    drained_.forget(proof_.proven_until());
    receives_queued_ = 0;
    proof_.put_back();
    for (Index index = 0; index < places_used_; ++index)
        if (marked(index, kAttached)) recover_connection(index);
    recovering_ = false;
    // The handler may close any of them.
    for (Index index = 0; index < places_used_; ++index) {
        if (!marked(index, kLost)) continue;
        unmark(index, kLost);
        if (marked(index, kClosed))
            join(handler, index);
        else if (!marked(index, kOver))
            report_end(handler, index, ENOBUFS);
    }
}

template <class H>
void UringBackend::deliver_accept(H& handler, const Accepted& accepted) {
    undecided_ = &accepted;
    read_clock();
    handler.on_accept(accepted);
    PULSE_ASSERT(undecided_ == nullptr);  // the handler has attached or refused it
    if (accepted.exhausted) spare_.restore(calls_);
}

static_assert(IoBackend<UringBackend>);

}  // namespace pulse
