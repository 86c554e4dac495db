// Everything of the io_uring backend that does not call the handler.
#include "net/io/uring_backend.h"

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ctime>

namespace pulse {
namespace {

static_assert(std::endian::native == std::endian::little, "poll masks are written as they are");

// What a send may carry: the kernel takes no more at once (MAX_RW_COUNT).
constexpr size_t kSendBytesMax = 0x7fff'f000;
// What one refused peer may have sent already without making its refusal a reset.
constexpr size_t kRefusedBytesMax = size_t{256} * 1024;

std::string failed(const std::string& call, int error) {
    std::string text = "io_uring: " + call + ": " + std::strerror(error);
    switch (error) {
        case ENOSYS:
            return text + "; this kernel has none of it: use --backend epoll";
        case EPERM:
        case EACCES:
            return text + "; it is switched off here (kernel.io_uring_disabled, or a container's " +
                   "seccomp profile): allow it, or use --backend epoll";
        case EINVAL:
            return text + "; this kernel is older than 5.19: use --backend epoll";
        case EMFILE:
            return text + "; raise the descriptor limit (ulimit -n, LimitNOFILE=)";
        default:
            return text + "; free memory (ulimit -l, too), or use --backend epoll";
    }
}

}  // namespace

std::string UringFeatures::text() const {
    return defer_taskrun ? "defer_taskrun" : "no-defer_taskrun";
}

// ----------------------------------------------------------------------------------------- start

UringBackend::UringBackend(const UringOptions& options, Connection* records, uint32_t places)
    : options_(options), records_(records), places_(places) {
    PULSE_ASSERT(std::has_single_bit(options.submission_entries));
    PULSE_ASSERT(std::has_single_bit(options.receive_buffers));
    PULSE_ASSERT(options.receive_buffer_bytes > kReceiveFrontBytes + kReceivePadBytes);
    now_ = woke_at_ = proof_.proven_until();
    ready_list_.resize(kUringReadyMax);
    memory_bytes_ += ready_list_.size() * sizeof(ready_list_[0]);
    ready_ = open();
}

UringBackend::~UringBackend() {
    listeners_.close();
    marks_.close(calls_);
    if (ring_open_) io_uring_queue_exit(&ring_);
    const size_t ring_bytes = options_.receive_buffers * sizeof(io_uring_buf);
    if (buffer_ring_ != nullptr) munmap(buffer_ring_, ring_bytes);
    if (buffers_ != nullptr)
        munmap(buffers_, size_t{options_.receive_buffers} * options_.receive_buffer_bytes);
    spare_.close(calls_);
    doorbell_.close(calls_);
    if (watch_set_ >= 0) calls_.close(watch_set_);
}

Result<void> UringBackend::open() {
    if (Result<void> ring = open_ring(); !ring) return ring;
    if (Result<void> buffers = open_buffers(); !buffers) return buffers;
    if (!doorbell_.open(calls_, options_.doorbell)) return Error{failed("eventfd", errno)};
    if (!spare_.open(calls_, doorbell_.number())) return Error{failed("a spare descriptor", errno)};
    return open_watch_set();
}

Result<void> UringBackend::open_watch_set() {
    watch_set_ = calls_([] { return epoll_create1(EPOLL_CLOEXEC); });
    if (watch_set_ < 0) return Error{failed("epoll_create1", errno)};
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = kWakeTag;
    if (calls_([&] { return epoll_ctl(watch_set_, EPOLL_CTL_ADD, doorbell_.number(), &event); }) !=
        0)
        return Error{failed("epoll_ctl", errno)};
    if (!marks_.open(calls_, watch_set_)) return Error{failed("marks", errno)};
    events_.resize(kUringWatchEvents);
    memory_bytes_ += events_.size() * sizeof(events_[0]);
    return {};
}

// DEFER_TASKRUN (6.1): completions are made ready only inside our io_uring_enter, in batches,
// instead of interrupting whatever runs. It needs SINGLE_ISSUER. Without it COOP_TASKRUN (5.19) at
// least spares the interrupts. TASKRUN_FLAG reports work that waits; C8 stands on it.
Result<void> UringBackend::open_ring() {
    constexpr uint32_t kAlways = IORING_SETUP_CQSIZE | IORING_SETUP_TASKRUN_FLAG;
    io_uring_params parameters{};
    const auto set_up = [&](uint32_t flags) {
        parameters = io_uring_params{};
        parameters.flags = kAlways | flags;
        parameters.cq_entries = options_.submission_entries * kUringCompletionsPerSubmission;
        return calls_([&] {
            const int result =
                io_uring_queue_init_params(options_.submission_entries, &ring_, &parameters);
            if (result < 0) errno = -result;
            return result < 0 ? -1 : 0;
        });
    };
    int result = -1;
    errno = EINVAL;
    if (options_.newer_features)
        result = set_up(IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER);
    features_.defer_taskrun = result == 0;
    if (result < 0 && errno == EINVAL) result = set_up(IORING_SETUP_COOP_TASKRUN);
    if (result < 0) return Error{failed("io_uring_setup", errno)};
    ring_open_ = true;
    constexpr uint32_t kNeeded = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
    if ((parameters.features & kNeeded) != kNeeded) return Error{failed("io_uring_setup", EINVAL)};
    for (uint32_t i = 0; i < ring_.sq.ring_entries; ++i) ring_.sq.array[i] = i;
    memory_bytes_ += ring_.sq.ring_sz + ring_.sq.ring_entries * sizeof(io_uring_sqe);
    if (ring_.cq.ring_ptr != ring_.sq.ring_ptr) memory_bytes_ += ring_.cq.ring_sz;
    return {};
}

Result<void> UringBackend::open_buffers() {
    const auto map = [&](size_t bytes) {
        void* place =
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (place == MAP_FAILED) return static_cast<void*>(nullptr);
        memory_bytes_ += bytes;
        return place;
    };
    buffer_ring_ =
        static_cast<io_uring_buf_ring*>(map(options_.receive_buffers * sizeof(io_uring_buf)));
    buffers_ = static_cast<std::byte*>(
        map(size_t{options_.receive_buffers} * options_.receive_buffer_bytes));
    if (buffer_ring_ == nullptr || buffers_ == nullptr) return Error{failed("mmap", ENOMEM)};
    if (!register_buffers()) return Error{failed("a ring of receive buffers", errno)};
    memory_bytes_ += idle_buffers_.capacity() * sizeof(idle_buffers_[0]);
    return {};
}

// None of them is provided afterwards. Fails with errno set.
bool UringBackend::register_buffers() {
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(buffer_ring_);
    registration.ring_entries = options_.receive_buffers;
    registration.bgid = kBufferGroup;
    const long result = calls_([&] {
        return syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_PBUF_RING,
                       &registration, 1);
    });
    if (result < 0) return false;
    __atomic_store_n(&buffer_ring_->tail, buffer_tail_ = 0, __ATOMIC_RELEASE);
    buffers_provided_ = 0;
    idle_buffers_.clear();
    for (uint32_t id = options_.receive_buffers; id > 0; --id)
        idle_buffers_.push_back(static_cast<uint16_t>(id - 1));
    return true;
}

// -------------------------------------------------------------------------------------- the ring

io_uring_sqe& UringBackend::queue(uint8_t opcode, int descriptor, uint64_t user_data) {
    if (queued() == ring_.sq.ring_entries) submit();
    ++in_flight_;
    io_uring_sqe& entry = ring_.sq.sqes[sq_tail_++ & ring_.sq.ring_mask];
    std::memset(&entry, 0, sizeof(entry));
    entry.opcode = opcode;
    entry.fd = descriptor;
    entry.user_data = user_data;
    return entry;
}

io_uring_cqe UringBackend::take_completion() {
    if (stash_head_ == stash_.size()) return take_from_ring();
    const io_uring_cqe completion = stash_[stash_head_++];
    if (stash_head_ == stash_.size()) {
        stash_.clear();
        stash_head_ = 0;
    }
    return completion;
}

// The next entry completes what is queued, and runs task work (kUringTaskWorkMax): if the queue has
// no room for that, what is in it is handed out later.
void UringBackend::make_completion_room() {
    const uint32_t free = ring_.cq.ring_entries - completions_in_ring();
    if (free >= queued() + kUringTaskWorkMax) return;
    while (completions_in_ring() > 0) stash_.push_back(take_from_ring());
}

int UringBackend::enter(uint32_t wait_for, uint32_t flags, const io_uring_getevents_arg* argument) {
    make_completion_room();
    __atomic_store_n(ring_.sq.ktail, sq_tail_, __ATOMIC_RELEASE);
    const size_t size_bytes = argument == nullptr ? 0 : sizeof(*argument);
    const auto result = static_cast<int>(calls_([&] {
        return syscall(__NR_io_uring_enter, ring_.ring_fd, queued(), wait_for, flags, argument,
                       size_bytes);
    }));
    const int error = errno;
    const uint32_t state = __atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE);
    if ((state & IORING_SQ_CQ_OVERFLOW) != 0) ++counters_.completion_overflows;
    look_for_losses();
    errno = error;
    return result;
}

// The kernel counts what it drops, and reports it (EBADR) some entry later.
void UringBackend::look_for_losses() {
    const uint32_t dropped = __atomic_load_n(ring_.cq.koverflow, __ATOMIC_RELAXED);
    uint32_t lost = dropped - dropped_;
    dropped_ = dropped;
    in_flight_ -= lost;
    if (loses_in_ > 0) lost += lose_on_purpose();
    if (lost == 0) return;
    counters_.completions_lost += lost;
    recovering_ = true;
    drained_.suspect();
}

// lose_completions(): how many were dropped.
uint32_t UringBackend::lose_on_purpose() {
    const uint32_t lost = completions_in_ring();
    if (lost == 0 || --loses_in_ > 0) return 0;
    while (completions_in_ring() > 0) take_from_ring();
    return lost;
}

// All that is queued, or so much that there is room for one more. Out of memory the reactor stands
// still and tries on: its connections outlive a shortage of the machine.
void UringBackend::submit() {
    while (queued() > 0) {
        if (enter(0, 0, nullptr) < 0 && errno != EINTR) {
            PULSE_ASSERT(is_shortage(errno));
            note_shortage(errno);
        } else {
            shortages_in_a_row_ = 0;
        }
        if (queued() < ring_.sq.ring_entries) return;
    }
}

// Errors that io_uring_enter may return. EBADR: the kernel had no memory for a completion,
// which is lost.
bool UringBackend::is_shortage(int error) {
    return error == EAGAIN || error == EBUSY || error == ENOMEM || error == EBADR;
}

void UringBackend::note_shortage(int error) {
    ++counters_.enter_shortages;
    if (error == EBADR && !recovering_) {
        ++counters_.completions_lost;
        recovering_ = true;
        drained_.suspect();
    }
    if (++shortages_in_a_row_ <= kUringSubmitYields) {
        sched_yield();
        return;
    }
    const timespec rest{.tv_sec = 0, .tv_nsec = kUringSubmitRestNs};
    nanosleep(&rest, nullptr);
}

void UringBackend::provide_buffer() {
    const uint16_t id = idle_buffers_.back();
    idle_buffers_.pop_back();
    ++buffers_provided_;
    io_uring_buf& place = buffer_ring_->bufs[buffer_tail_ & (options_.receive_buffers - 1)];
    place.addr = reinterpret_cast<uint64_t>(buffer(id));
    place.len = receive_bytes();
    place.bid = id;
    __atomic_store_n(&buffer_ring_->tail, ++buffer_tail_, __ATOMIC_RELEASE);
}

// ------------------------------------------------------------------------------ a round of poll()

// Sleeps until `until` at most, if there is nothing to do.
void UringBackend::wait(Nanos until) {
    if (recovering_) return;
    const bool may_sleep = until > now_ && receives_queued_ == 0 && !more_waits();
    const Nanos began = now_;
    until = std::min({until, listeners_.rest_until(), began + kWaitMax});
    look(may_sleep && !waits_for_ring() ? until : 0);
    if (!may_sleep || !waits_for_ring() || ready_count() > 0 || listeners_ready_ != 0) return;
    if (until <= now_ || was_woken_) return;
    if (!watch_armed_) arm_watch();
    submit_and_reap(until - now_);
}

// At the set, for as many events as the ready list has room for, and not before that is nearly
// empty; once a poll, and again while it has more.
void UringBackend::look(Nanos until) {
    if (ready_count() >= options_.receive_buffers || ready_room() < 2) return;
    if (looked_ && !set_has_more_ && !proof_.backed_up()) return;
    looked_ = true;
    set_has_more_ = false;
    was_woken_ = false;
    marks_.place(calls_, proof_, now_);
    const Nanos began = now_;
    const auto most = std::min(static_cast<uint32_t>(events_.size()), ready_room() - 1);
    int events = 0;
    do {
        events = wait_(calls_, watch_set_, std::span(events_).first(most), until - now_);
        read_clock();
        // A ring that was closed leaves work for this thread, which interrupts it like a signal.
    } while (events < 0 && errno == EINTR && now_ < until);
    // One that ended by its timeout saw nothing arrive until then.
    const Nanos proven = events == 0 ? std::max(began, std::min(until, now_)) : began;
    if (events > 0) ++counters_.completions;
    if (events >= 0) take_events(static_cast<uint32_t>(events), most, proven);
}

// `sleeps_for`: at most, if nothing completes; 0: not at all.
void UringBackend::submit_and_reap(Nanos sleeps_for) {
    io_uring_getevents_arg argument{};
    __kernel_timespec timeout{};
    if (sleeps_for > 0) {
        timeout.tv_sec = sleeps_for / kSecond;
        timeout.tv_nsec = sleeps_for % kSecond;
        argument.ts = reinterpret_cast<uint64_t>(&timeout);
    }
    const int result =
        enter(sleeps_for > 0 ? 1 : 0, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument);
    if (result < 0) {
        // Any other is a mistake of ours: EBADF, EFAULT, EINVAL, EEXIST. That the kernel refuses
        // the call altogether was found when the backend was made (ready()).
        PULSE_ASSERT(errno == ETIME || errno == EINTR || is_shortage(errno));
        if (errno != ETIME && errno != EINTR) note_shortage(errno);
    } else {
        shortages_in_a_row_ = 0;
    }
    if (sleeps_for > 0) read_clock();
}

// What is queued begins before the rest: the answers of the turn.
bool UringBackend::rest(Nanos until) {
    if (recovering_ || ready_count() > 0 || completions_wait() || proof_.backed_up()) return false;
    submit();
    calls_([&] { return sleep_until(until), 0; });
    return true;
}

// A completion of a connection: of this owner of the place, and of something that was asked for.
// False: of something that recover() has given up.
bool UringBackend::check_completion(const Ticket& ticket) {
    static constexpr uint16_t kMarks[] = {kReceiving, kSending | kRecalled, kConnecting | kRecalled,
                                          kFailing,   kSending | kRecalled, kClosing};
    static_assert(std::size(kMarks) == static_cast<size_t>(kLastOfConnection) + 1);
    const uint16_t operation = kMarks[static_cast<size_t>(ticket.op)];
    PULSE_ASSERT(ticket.index < places_);
    const bool asked_for = marked(ticket.index, operation) &&
                           (records_[ticket.index].generation & 15) == ticket.generation;
    if (!asked_for) {
        PULSE_ASSERT(counters_.completions_lost > 0 && ticket.op == Op::send);
        return false;
    }
    unmark(ticket.index, operation);
    return true;
}

// Buffers were provided for receives that were lost, and it cannot be known which are left. False
// where the kernel has no memory for new ones yet.
bool UringBackend::renew_buffers() {
    if (receives_queued_ == 0) return true;
    io_uring_buf_reg registration{};
    registration.bgid = kBufferGroup;
    calls_([&] {
        return syscall(__NR_io_uring_register, ring_.ring_fd, IORING_UNREGISTER_PBUF_RING,
                       &registration, 1);
    });
    if (register_buffers()) return true;
    note_shortage(errno);
    return false;
}

// Nothing of it is in flight but a send or a connect, if anything. A send whose connection was
// closed was ended by that (cut_off), and has completed.
void UringBackend::recover_connection(Index index) {
    const uint16_t ended = marked(index, kClosed) ? kSending : 0;
    const uint16_t lost = kReceiving | kFailing | kClosing | ended;
    if (marked(index, lost)) mark(index, kLost);
    unmark(index, lost | kAgain);
    if (marked(index, kSending | kConnecting)) {
        const Op op = marked(index, kSending) ? Op::send : Op::connect;
        mark(index, kRecalled);
        // By the descriptor: on this one nothing else is in flight.
        io_uring_sqe& recall = queue(IORING_OP_ASYNC_CANCEL, records_[index].descriptor,
                                     ticket(Op::recall, index, static_cast<uint32_t>(op)));
        recall.cancel_flags = IORING_ASYNC_CANCEL_FD;
    }
    if (marked(index, kWatched) && !marked(index, kClosed | kOver | kHeldOff)) put_back(index);
}

void UringBackend::cancel(uint64_t user_data) {
    io_uring_sqe& cancel = queue(IORING_OP_ASYNC_CANCEL, -1, pack({0, Op::none, 0, 0}));
    cancel.addr = user_data;
}

// ----------------------------------------------------------------------------------- the watch set

// So that a thread that sleeps in the ring is woken by the set.
void UringBackend::arm_watch() {
    watch_armed_ = true;
    io_uring_sqe& poll =
        queue(IORING_OP_POLL_ADD, watch_set_, pack({0, Op::watch, 0, ++watch_serial_}));
    poll.poll32_events = POLLIN;
}

// Of a look at or after `began` that asked for `most`.
void UringBackend::take_events(uint32_t events, uint32_t most, Nanos began) {
    bool all_taken = true;
    uint32_t marks = 0;
    for (const epoll_event& event : std::span(events_).first(events)) {
        const uint64_t data = event.data.u64;
        if (WatchMarks::is_mark(data)) {
            marks |= 1u << WatchMarks::number_of(data);
        } else if (Listeners::is_listener(data)) {
            listeners_ready_ |= uint64_t{1} << Listeners::position_of(data);
        } else if (data == kWakeTag) {
            // Edge-triggered: every ring is an event of its own, and the count need not be read.
            ++counters_.wakes_received;
            was_woken_ = true;
        } else {
            all_taken &= take_event(event);
        }
    }
    if (!all_taken) proof_.put_back();
    proof_.took(began, events, events < most && all_taken);
    for (uint32_t mark = 0; marks != 0; marks >>= 1, ++mark)
        if ((marks & 1) != 0) proof_.passed(mark);
}

// False: there is no room for it, and the set has it again.
bool UringBackend::take_event(const epoll_event& event) {
    const auto index = static_cast<Index>(event.data.u64 & kIndexMask);
    // Of an earlier owner, whose close overtook it.
    if (records_[index].generation != event.data.u64 >> 32 || !marked(index, kWatched)) return true;
    if (event.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) mark(index, kUntilEmpty);
    if (readable(index)) return true;
    put_back(index);
    return false;
}

// Edge-triggered, so nothing is to be done after a message. No edge is lost: a receive leaves bytes
// behind only if it says so (NONEMPTY) or has filled its buffer. An end, and urgent data, which
// cuts a read short, are reported by the event and read for (kUntilEmpty). Fails with errno where
// the kernel has no memory, or max_user_watches is reached.
bool UringBackend::watch(Index index) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLET;
    event.data.u64 = index | uint64_t{records_[index].generation} << 32;
    const int descriptor = records_[index].descriptor;
    const int operation = marked(index, kWatched) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (calls_([&] { return epoll_ctl(watch_set_, operation, descriptor, &event); }) != 0)
        return false;
    mark(index, kWatched);
    return true;
}

// To the end of the set's queue, if it is readable.
void UringBackend::put_back(Index index) {
    PULSE_ASSERT(marked(index, kWatched));
    // What the set has can be changed without memory; a second try is for a fault of a test.
    if (!watch(index) && !watch(index)) fail_later(index, errno);
}

// ----------------------------------------------------------------------------------- connections

// Requires: there is room (ready_room).
void UringBackend::make_ready(Index index, uint32_t count) {
    PULSE_ASSERT(ready_count() < ready_list_.size());
    mark(index, kReceiving);
    drained_.add(count);
    ready_list_[ready_tail_++ & (ready_list_.size() - 1)] = index | count << kIndexBits;
}

// There is something to read. False: there is no room for it on the ready list; one place is left
// for the receive that is being handed out.
bool UringBackend::readable(Index index) {
    if (marked(index, kClosed | kOver | kHeldOff)) return true;
    if (marked(index, kReceiving)) {
        mark(index, kAgain);
        return true;
    }
    if (ready_room() < 2) return false;
    make_ready(index);
    return true;
}

// It was given bytes and has more: it goes behind all that wait.
void UringBackend::read_on(Index index) {
    if (proof_.backed_up()) return put_back(index);
    make_ready(index);
}

// Requires: a buffer is there for it (receives_queued_).
void UringBackend::queue_receive(Index index, uint32_t count) {
    if (buffers_provided_ < receives_queued_) provide_buffer();
    io_uring_sqe& receive =
        queue(IORING_OP_RECV, records_[index].descriptor, ticket(Op::receive, index, count));
    receive.flags = IOSQE_BUFFER_SELECT;
    receive.buf_group = kBufferGroup;
    receive.msg_flags = MSG_DONTWAIT;
}

void UringBackend::fail_later(Index index, int error) {
    if (marked(index, kFailing | kOver)) return;
    mark(index, kFailing);
    queue(IORING_OP_NOP, -1, ticket(Op::failure, index, static_cast<uint32_t>(error)));
}

void UringBackend::attach(Index index, const Accepted& accepted) {
    PULSE_ASSERT(undecided_ == &accepted);
    PULSE_ASSERT(index < places_);
    undecided_ = nullptr;
    records_[index].descriptor = accepted.descriptor;
    records_[index].operations = kAttached;
    places_used_ = std::max(places_used_, index + 1);
    if (!watch(index)) fail_later(index, errno);
}

void UringBackend::refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message) {
    PULSE_ASSERT(undecided_ == &accepted);
    undecided_ = nullptr;
    const int descriptor = accepted.descriptor;
    if (!refusal_message.empty()) {
        calls_([&] {
            return ::send(descriptor, refusal_message.data(), refusal_message.size(),
                          MSG_NOSIGNAL | MSG_DONTWAIT);
        });
        calls_([&] { return ::shutdown(descriptor, SHUT_WR); });
    }
    // What has come already is thrown away (MSG_TRUNC), or the close would be a reset and might
    // overtake the message.
    calls_([&] { return ::recv(descriptor, nullptr, kRefusedBytesMax, MSG_TRUNC | MSG_DONTWAIT); });
    calls_.close(descriptor);
}

void UringBackend::connect(Index index, const SocketAddress& to, const SocketAddress& source) {
    PULSE_ASSERT(index < places_);
    const int descriptor = open_client(calls_, to, source, options_.sockets);
    const auto error = static_cast<uint32_t>(descriptor < 0 ? errno : 0);
    records_[index].descriptor = descriptor;
    records_[index].operations = kConnecting | kAttached;
    places_used_ = std::max(places_used_, index + 1);
    if (descriptor < 0) {
        queue(IORING_OP_NOP, -1, ticket(Op::connect, index, error));
        return;
    }
    if (connect_to_.empty()) connect_to_.resize(ring_.sq.ring_entries);
    io_uring_sqe& connect = queue(IORING_OP_CONNECT, descriptor, ticket(Op::connect, index));
    SocketAddress& address = connect_to_[static_cast<size_t>(&connect - ring_.sq.sqes)];
    address = to;
    connect.addr = reinterpret_cast<uint64_t>(&address.base);
    connect.off = to.size_bytes();
}

bool UringBackend::send(Index index, std::span<const uint8_t> bytes) {
    PULSE_ASSERT(!marked(index, kSending | kConnecting | kFinish | kClosed));
    PULSE_ASSERT(!bytes.empty() && bytes.size() <= kSendBytesMax);
    IoError error = 0;
    if (received_ <= kUringAtOnce) {
        const ssize_t sent = calls_([&] {
            return ::send(records_[index].descriptor, bytes.data(), bytes.size(),
                          MSG_DONTWAIT | MSG_NOSIGNAL);
        });
        if (sent > 0) bytes = bytes.subspan(static_cast<size_t>(sent));
        if (bytes.empty()) return true;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) error = errno;
    }
    mark(index, kSending);
    if (error == 0) {
        queue_send(index, bytes);
    } else {
        mark(index, kBroken);
        queue(IORING_OP_NOP, -1, ticket(Op::unsent, index, static_cast<uint32_t>(error)));
    }
    return false;
}

void UringBackend::queue_send(Index index, std::span<const uint8_t> bytes) {
    const auto size_bytes = static_cast<uint32_t>(bytes.size());
    io_uring_sqe& send =
        queue(IORING_OP_SEND, records_[index].descriptor, ticket(Op::send, index, size_bytes));
    send.addr = reinterpret_cast<uint64_t>(bytes.data());
    send.len = size_bytes;
    // WAITALL: the kernel goes on by itself after a short write.
    send.msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

void UringBackend::hold_off(Index index) {
    PULSE_ASSERT(!marked(index, kHeldOff | kReceiving | kClosed));
    mark(index, kHeldOff);
}

void UringBackend::resume(Index index) {
    PULSE_ASSERT(marked(index, kHeldOff) && !marked(index, kClosed));
    unmark(index, kHeldOff);
    if (readable(index)) return;
    put_back(index);
    proof_.put_back();
}

void UringBackend::finish(Index index) {
    PULSE_ASSERT(!marked(index, kConnecting | kClosed));
    if (marked(index, kSending)) return mark(index, kFinish);
    // Refused only where the connection has failed already, which on_end reports.
    calls_([&] { return ::shutdown(records_[index].descriptor, SHUT_WR); });
}

void UringBackend::close(Index index, CloseMode mode) {
    PULSE_ASSERT(!marked(index, kClosed));
    const int descriptor = records_[index].descriptor;
    if (marked(index, kConnecting)) {
        // Before the cancelling, the submission that it names. A NOP has no descriptor.
        if (descriptor >= 0) cancel(ticket(Op::connect, index));
    } else if (descriptor >= 0 && (mode == CloseMode::reset || marked(index, kInFlight))) {
        // What was given to send() before an orderly close is at least submitted to the kernel.
        if (mode == CloseMode::orderly && marked(index, kSending)) submit();
        cut_off(descriptor, mode);
    }
    mark(index, kClosed | kClosing);
    queue(descriptor < 0 ? IORING_OP_NOP : IORING_OP_CLOSE, descriptor, ticket(Op::close, index));
}

// Ends whatever of this socket is in flight, which keeps it alive beyond its close. A connect to no
// address is a disconnect: RST to the peer, and an error to all operations that wait. Neither can
// fail on a connected or listening socket, and one that is not has nothing in flight; should one do
// so nonetheless, the other follows, since without it on_closed would never come.
void UringBackend::cut_off(int descriptor, CloseMode mode) {
    const auto disconnect = [&] {
        sockaddr nowhere{};
        nowhere.sa_family = AF_UNSPEC;
        return calls_([&] { return ::connect(descriptor, &nowhere, sizeof(nowhere)); }) == 0;
    };
    const auto shut_down = [&] {
        return calls_([&] { return ::shutdown(descriptor, SHUT_RDWR); }) == 0;
    };
    if (mode == CloseMode::reset) {
        if (!disconnect()) shut_down();
    } else {
        if (!shut_down()) disconnect();
    }
}

IoError UringBackend::socket_error(Index index) {
    int error = 0;
    socklen_t size_bytes = sizeof(error);
    const int done = calls_([&] {
        return getsockopt(records_[index].descriptor, SOL_SOCKET, SO_ERROR, &error, &size_bytes);
    });
    return done == 0 && error != 0 ? error : EPIPE;
}

}  // namespace pulse
