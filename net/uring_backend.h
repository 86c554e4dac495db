// The contract of net/io_backend.h over io_uring: Linux 5.19 or later, better from 6.1, 6.12
// and 6.15 on (UringFeatures), and only where nobody has switched it off (ready()).
//
// One ring a reactor, made on the reactor's thread and used by it alone. Plain descriptors, no
// direct ones; net/README.md says why, and has the measurements behind the choices below.
//
//   attach --> [ready list] -- RECV --> bytes --> handler     a round of poll():
//                   ^                     |                     ready list -> RECVs
//                   |                     v                     io_uring_enter: submits all,
//                   +--- readable --- [waiting: silent]           harvests all, may sleep
//                                                               completions -> handler
//
// Waiting is done in one of two ways. WatchSet: an epoll set whose ready events are a completion of
// the ring (EPOLL_WAIT, 6.15): about 200 B of kernel memory a silent connection, nothing to do
// again after a message. Poll: a one-shot POLL_ADD each: 256 B, queued again after each message;
// for older kernels, and where completions are to be gathered, which a set (one completion for all)
// is no good for.
//
// A connection has at most one send in flight and is asked for bytes at most once at a time. RECVs
// carry MSG_DONTWAIT, so each is answered within the io_uring_enter() that submits it, and no more
// are submitted than there are buffers, so that none finds the pool empty. Should one do so
// nonetheless, it is asked again.
//
// drained_until (C8), and why it does not lie. Bytes, FIN and RST reach a socket when the kernel
// announces them there. That queues task work of the ring (a poll that completes; the set's
// EPOLL_WAIT), and io_uring_enter() runs task work until IORING_SQ_TASKRUN is clear: at most
// max(20, wait_nr) items a call, with the flag set if some are left (io_uring/tw.c). A round takes
// the time t, then submits everything that is queued, and is whole if the flags TASKRUN and
// CQ_OVERFLOW are clear afterwards and every completion is handed out. Take a connection and what
// reached it before t. At t it was
//   - polled: the poll has completed, and the completion was handed out;
//   - about to be polled (queued): io_uring_enter() found it readable, and so on as above;
//   - in the set: EPOLL_WAIT was executed after t (else nothing is ready in the set), took all that
//     was ready (fewer events than fit, or the round is not whole), and that was handed out;
//   - asked for (on the ready list, or its RECV queued): counted in unread_;
//   - over: nothing follows FIN or RST.
// A receive that was executed before t but not handed out would be none of these: such a round is
// not whole (begin_round). So after a whole round every connection that holds something from before
// t is counted in unread_. A receive executed after t takes all that came before t, or gives bytes
// to its connection after t, which is what C8 asks. When those counted have been executed,
// drained_until is t. Whoever becomes ready later is counted apart, so that a connection which is
// always ready holds nothing back. And when nothing is queued, counted or waiting after a look at
// the clock, the same argument gives t = that time without a system call.
//
// Closing is a join: close() ends what is in flight (it would keep the socket alive), queues a
// CLOSE, and on_closed comes when the last completion has (join). So no completion can meet a new
// owner of its place, which finished() asserts.
#pragma once

#include <liburing.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
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
#include "net/address.h"
#include "net/io_backend.h"
#include "net/send_progress.h"
#include "net/sockets.h"
#include "net/system_calls.h"
#include "net/uring_compat.h"

namespace pulse {

enum class UringWaiting : uint8_t {
    watch_set,  // falls back to poll where the kernel has no EPOLL_WAIT
    poll,
};

// What the running kernel was found to know. The ring of receive buffers (5.19) is not among them:
// without it there is no backend.
struct UringFeatures {
    bool defer_taskrun = false;     // 6.1, with SINGLE_ISSUER; otherwise COOP_TASKRUN
    bool multishot_accept = false;  // 5.19; otherwise poll and accept4()
    bool min_wait = false;          // 6.12
    bool epoll_wait = false;        // 6.15

    // For people: "defer_taskrun multishot_accept min_wait no-epoll_wait".
    std::string text() const;
};

struct UringOptions {
    SocketOptions sockets{};
    uint32_t submission_entries = kUringSubmissionEntries;     // a power of two
    uint32_t receive_buffers = kUringReceiveBuffers;           // a power of two
    uint32_t receive_buffer_bytes = kUringReceiveBufferBytes;  // the slack of C2 included
    UringWaiting waiting = UringWaiting::watch_set;
    // A poll that sleeps goes on collecting for so long before it returns with little: fewer
    // wake-ups for later answers, wake() among them. Needs min_wait and UringWaiting::poll; at most
    // kUringGatherMaxNs.
    Nanos gather = 0;
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
    // container has io_uring switched off (ENOSYS, EPERM, EACCES). Then only the destructor may
    // follow.
    const Result<void>& ready() const { return ready_; }

    Result<void> listen(std::span<const ListenAddress> addresses);
    void connect(Index index, const SocketAddress& to, const SocketAddress& source);
    void attach(Index index, const Accepted& accepted);
    void refuse(const Accepted& accepted, std::span<const uint8_t> farewell);
    void send(Index index, std::span<const uint8_t> bytes);
    void hold_off(Index index);
    void resume(Index index);
    bool is_held_off(Index index) const { return marked(index, kHeldOff); }
    void finish(Index index);
    void close(Index index, CloseMode mode);
    void wake();
    Nanos now() const { return now_; }
    Nanos drained_until() const { return drained_until_; }
    SendProgress send_progress(Index index) {
        return pulse::send_progress(calls_, records_[index].descriptor);
    }
    Nanos woke_at() const { return woke_at_; }
    Nanos clock() const;
    Nanos cpu_clock() const;
    const IoCounters& counters() const { return counters_; }

    // Until `until` on now()'s clock (CLOCK_MONOTONIC); kNever is for ever.
    template <IoHandler H>
    void poll(Nanos until, H& handler);

    const UringFeatures& features() const { return features_; }
    UringWaiting waiting() const { return waiting_; }
    // What rings, buffers and lists occupy in user space once all of it was touched.
    size_t memory_bytes() const { return memory_bytes_; }
    // For tests: makes a system call fail (system_calls.h).
    SystemCalls& system_calls() { return calls_; }

  private:
    // What a completion is about. Up to `close` it is about a connection.
    enum class Op : uint8_t {
        poll,
        receive,
        send,
        connect,
        close,
        watch,
        accept,
        door,  // a listener is readable
        doorbell,
        none,  // nobody waits for it
    };
    static constexpr Op kLastOfConnection = Op::close;
    static constexpr uint16_t kBufferGroup = 0;
    // Connection::operations
    enum Mark : uint16_t {
        kPolling = 1 << 0,     // a poll is armed, or queued to be
        kReceiving = 1 << 1,   // on the ready list, or its receive is queued
        kSending = 1 << 2,     // a send is in flight, or queued
        kConnecting = 1 << 3,  // a connect likewise
        kClosing = 1 << 4,     // a CLOSE likewise
        kInFlight = kPolling | kReceiving | kSending | kConnecting | kClosing,
        kClosed = 1 << 5,       // close() was called
        kFinish = 1 << 6,       // FIN is wanted behind the send in flight
        kOver = 1 << 7,         // on_end was told, or the connect failed
        kBroken = 1 << 8,       // a send met an error: what follows is no orderly end
        kWatched = 1 << 9,      // in the watch set
        kUntilEmpty = 1 << 10,  // an event told of its end: it is read until that comes
        kHeldOff = 1 << 11,     // no receive until resume()
    };

    // user_data of a submission: place 24 bits | op 4 | generation 4 | value 32. The value is what
    // only this completion needs: the bytes of a send, the errno of a connect that never began, the
    // count that a receive is in, the serial of a listener.
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

    struct Listener {
        int descriptor = -1;
        uint32_t serial = 0;
        bool multishot = false;  // otherwise polled, then accept4()
        Nanos rest_until = 0;    // 0: it is armed
    };

    bool marked(Index index, uint16_t any) const { return (records_[index].operations & any) != 0; }
    void mark(Index index, uint16_t marks) { records_[index].operations |= marks; }
    void unmark(Index index, uint16_t marks) {
        records_[index].operations &= static_cast<uint16_t>(~marks);
    }

    // Start.
    Result<void> open();
    Result<void> open_ring();
    Result<void> open_buffers();
    bool knows_multishot_accept();
    bool knows(uint8_t opcode);

    // The ring. Submissions are written at sq_tail_ and shown to the kernel by enter().
    io_uring_sqe& queue(uint8_t opcode, int descriptor, uint64_t user_data);
    uint32_t queued() const { return sq_tail_ - __atomic_load_n(ring_.sq.khead, __ATOMIC_ACQUIRE); }
    bool work_waits() const {
        const uint32_t flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE);
        return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    }
    bool completions_wait() const {
        return __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE) != cq_head_;
    }
    bool more_waits() const {
        return queued() > 0 || ready_count() > 0 || completions_wait() || work_waits();
    }
    io_uring_cqe take_completion() {
        const io_uring_cqe completion = ring_.cq.cqes[cq_head_ & ring_.cq.ring_mask];
        __atomic_store_n(ring_.cq.khead, ++cq_head_, __ATOMIC_RELEASE);
        return completion;
    }
    int enter(uint32_t wait_for, uint32_t flags, const UringGetEventsArg* argument);
    void submit();
    static bool is_shortage(int error);
    void note_shortage(int error);

    // A round of poll().
    void begin_round();
    void submit_and_harvest(Nanos until);
    void settle(bool handed_out);
    void read_clock() { now_ = std::max(now_, clock()); }  // C7: before each event
    template <class H>
    void queue_receives(H& handler);
    template <class H>
    void hand_out(H& handler, uint32_t& budget);
    template <class H>
    void complete(H& handler, const Ticket& ticket, const io_uring_cqe& completion);
    void finished(const Ticket& ticket);
    template <class H>
    void complete_receive(H& handler, Index index, uint32_t count, const io_uring_cqe& completion);
    template <class H>
    void complete_send(H& handler, Index index, uint32_t bytes, int result);
    template <class H>
    void complete_connect(H& handler, Index index, uint32_t error, int result);
    template <class H>
    void complete_accept(H& handler, const Ticket& ticket, const io_uring_cqe& completion);
    template <class H>
    void complete_door(H& handler, const Ticket& ticket);
    template <class H>
    void offer(H& handler, uint8_t position, int descriptor, bool exhausted);
    template <class H>
    void end(H& handler, Index index, IoError error);
    template <class H>
    void join(H& handler, Index index);
    void complete_doorbell();
    void complete_watch(int events);
    void arm_watch();

    // Connections.
    void make_ready(Index index);
    void make_ready(Index index, uint32_t count);
    void readable(Index index) {
        if (!marked(index, kReceiving | kClosed | kOver | kHeldOff)) make_ready(index);
    }
    void wait_readable(Index index);
    bool watch(Index index);
    void arm_poll(Index index);
    uint32_t ready_count() const { return ready_tail_ - ready_head_; }
    // For newcomers: what has a receive in flight may come back (ENOBUFS) and keeps its room.
    bool ready_full() const {
        return ready_count() + receives_queued_ + 1 >= ready_list_.size();
    }
    uint32_t unread() const { return unread_[0] + unread_[1]; }
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
    void lend_buffer();

    // Listeners.
    void arm_listener(uint8_t position);
    void accept_failed(uint8_t position, int error);
    void resume_listeners();
    void close_listeners();
    bool is_current(uint8_t position, uint32_t serial) const {
        return position < listeners_.size() && listeners_[position].serial == serial;
    }
    int accept_one(uint8_t position, bool& exhausted);
    SocketAddress peer_name(int descriptor);
    void restore_spare();
    void arm_doorbell();

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
    io_uring_buf_ring* buffer_ring_ = nullptr;
    std::byte* buffers_ = nullptr;
    uint16_t buffer_tail_ = 0;
    std::vector<uint16_t> idle_buffers_;  // not lent; the last one was used last
    uint32_t buffers_lent_ = 0;  // to the kernel: a receive that brings nothing leaves its there

    // Who is to be asked for bytes: places, and above each which count it is in.
    std::vector<uint32_t> ready_list_;
    uint32_t ready_head_ = 0;
    uint32_t ready_tail_ = 0;
    uint32_t receives_queued_ = 0;  // and not handed out: each may hold a buffer

    // C8; the essay above says why.
    Nanos now_ = 0;
    Nanos drained_until_ = 0;
    Nanos woke_at_ = 0;
    Nanos round_began_ = 0;
    bool round_whole_ = false;          // all that was announced before round_began_ was harvested
    Nanos candidate_ = -1;              // is drained_until_ once unread_[count_ ^ 1] is 0; -1: none
    std::array<uint32_t, 2> unread_{};  // on the ready list, or their receive not handed out
    uint32_t count_ = 0;                // the one that is counted in now

    std::vector<Listener> listeners_;
    uint32_t next_serial_ = 0;
    int spare_ = -1;  // given up when no other descriptor is left, to refuse with
    const Accepted* offered_ = nullptr;  // what the handler is deciding about
    int doorbell_ = -1;
    UringWaiting waiting_ = UringWaiting::poll;
    int watch_set_ = -1;  // an epoll set of connections
    std::vector<epoll_event> events_;
    std::vector<SocketAddress> connect_to_;  // by submission: read when the kernel takes it
};

template <IoHandler H>
void UringBackend::poll(Nanos until, H& handler) {
    ++counters_.polls;
    const uint64_t completions_before = counters_.completions;
    uint32_t budget = kUringCompletionsPerPoll;
    uint32_t rounds = kUringRoundsPerPoll;
    resume_listeners();
    do {
        begin_round();
        queue_receives(handler);
        submit_and_harvest(until);
        if (rounds == kUringRoundsPerPoll) woke_at_ = now_;
        hand_out(handler, budget);
        settle(budget > 0 && !completions_wait());
        until = 0;  // only the first round may sleep
    } while (budget > 0 && --rounds > 0 && more_waits());
    read_clock();
    if (!more_waits() && unread() == 0 && counters_.completions_lost == 0) {
        candidate_ = -1;
        drained_until_ = now_;
    }
    if (counters_.completions != completions_before) ++counters_.batches;
}

// As many of those that are ready as there are buffers.
template <class H>
void UringBackend::queue_receives(H& handler) {
    while (ready_count() > 0 && receives_queued_ < options_.receive_buffers) {
        const uint32_t entry = ready_list_[ready_head_++ & (ready_list_.size() - 1)];
        const Index index = entry & kIndexMask;
        const uint32_t count = entry >> kIndexBits;
        PULSE_ASSERT(marked(index, kReceiving));
        if (marked(index, kClosed)) {
            unmark(index, kReceiving);
            --unread_[count];
            join(handler, index);
            continue;
        }
        ++receives_queued_;
        if (buffers_lent_ < receives_queued_) lend_buffer();
        io_uring_sqe& receive =
            queue(IORING_OP_RECV, records_[index].descriptor, ticket(Op::receive, index, count));
        receive.flags = IOSQE_BUFFER_SELECT;
        receive.buf_group = kBufferGroup;
        receive.msg_flags = MSG_DONTWAIT;
    }
}

template <class H>
void UringBackend::hand_out(H& handler, uint32_t& budget) {
    // A full ready list stops this, but not while a receive that would empty it is among the rest.
    while (budget > 0 && completions_wait() && (!ready_full() || receives_queued_ > 0)) {
        const io_uring_cqe completion = take_completion();
        ++counters_.completions;
        const Ticket ticket = unpack(completion.user_data);
        const uint32_t cost = ticket.op == Op::accept ? kUringAcceptCost : 1;
        budget -= std::min(budget, cost);
        complete(handler, ticket, completion);
    }
}

template <class H>
void UringBackend::complete(H& handler, const Ticket& ticket, const io_uring_cqe& completion) {
    const Index index = ticket.index;
    if (ticket.op <= kLastOfConnection) finished(ticket);
    switch (ticket.op) {
        case Op::poll:
            if (marked(index, kClosed)) return join(handler, index);
            return readable(index);
        case Op::receive:
            return complete_receive(handler, index, ticket.value, completion);
        case Op::send:
            return complete_send(handler, index, ticket.value, completion.res);
        case Op::connect:
            return complete_connect(handler, index, ticket.value, completion.res);
        case Op::close:
            return join(handler, index);
        case Op::accept:
            return complete_accept(handler, ticket, completion);
        case Op::door:
            return complete_door(handler, ticket);
        case Op::doorbell:
            return complete_doorbell();
        case Op::watch:
            return complete_watch(completion.res);
        case Op::none:
            return;
    }
}

template <class H>
void UringBackend::complete_receive(H& handler, Index index, uint32_t count,
                                    const io_uring_cqe& completion) {
    --receives_queued_;
    --unread_[count];
    const int result = completion.res;
    if (result > 0) {
        if (!marked(index, kClosed)) {
            read_clock();
            handler.on_bytes(index, received(completion));
        }
        idle_buffers_.push_back(static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT));
        --buffers_lent_;
    }
    if (marked(index, kClosed)) return join(handler, index);
    if (marked(index, kHeldOff)) return;  // resume() asks
    // The kernel says whether there is more, FIN included, but not an RST.
    const bool more = (completion.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (result > 0 && marked(index, kUntilEmpty)) return make_ready(index, count);
    if (result > 0 && more) return make_ready(index);
    if (result > 0 || result == -EAGAIN) return wait_readable(index);
    if (result == -ENOBUFS) {
        ++counters_.receive_buffers_short;
        return make_ready(index, count);
    }
    if (result == -EINTR) return make_ready(index, count);
    end(handler, index, -result);
}

template <class H>
void UringBackend::end(H& handler, Index index, IoError error) {
    mark(index, kOver);
    // The socket tells of its failure once, and a send was told already.
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
    if (!marked(index, kOver | kClosed)) make_ready(index);
}

// The one place where a connection is let go: when nothing of it is left in the kernel.
template <class H>
void UringBackend::join(H& handler, Index index) {
    PULSE_ASSERT(marked(index, kClosed));
    if (marked(index, kInFlight)) return;
    records_[index].operations = 0;
    records_[index].descriptor = -1;
    handler.on_closed(index);
}

template <class H>
void UringBackend::complete_accept(H& handler, const Ticket& ticket,
                                   const io_uring_cqe& completion) {
    const auto position = static_cast<uint8_t>(ticket.index);
    if (!is_current(position, ticket.value)) {  // accepted for a listener that is no more
        if (completion.res >= 0) calls_.close(completion.res);
        return;
    }
    const bool armed = (completion.flags & IORING_CQE_F_MORE) != 0;
    if (completion.res >= 0) offer(handler, position, completion.res, false);
    if (!is_current(position, ticket.value) || armed) return;
    if (completion.res < 0) return accept_failed(position, -completion.res);
    arm_listener(position);
}

// A listener that is polled has somebody, or may have.
template <class H>
void UringBackend::complete_door(H& handler, const Ticket& ticket) {
    const auto position = static_cast<uint8_t>(ticket.index);
    for (uint32_t left = kAcceptsPerTurn; left > 0; --left) {
        if (!is_current(position, ticket.value)) return;
        if (ready_full()) break;
        bool exhausted = false;
        const int descriptor = accept_one(position, exhausted);
        if (descriptor == -EAGAIN) break;
        if (descriptor < 0) return accept_failed(position, -descriptor);
        if (!exhausted && features_.multishot_accept) {
            listeners_[position].multishot = true;  // there are descriptors again
            left = 1;
        }
        offer(handler, position, descriptor, exhausted);
    }
    if (is_current(position, ticket.value)) arm_listener(position);
}

template <class H>
void UringBackend::offer(H& handler, uint8_t position, int descriptor, bool exhausted) {
    Accepted accepted;
    accepted.descriptor = descriptor;
    accepted.listener = position;
    accepted.exhausted = exhausted;
    accepted.peer = peer_name(descriptor);
    offered_ = &accepted;
    read_clock();
    handler.on_accept(accepted);
    PULSE_ASSERT(offered_ == nullptr);  // the handler has attached or refused it
    if (exhausted) restore_spare();
}

static_assert(IoBackend<UringBackend>);

}  // namespace pulse
