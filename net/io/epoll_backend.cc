// Everything of the epoll backend that does not call the handler.
#include "net/io/epoll_backend.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint32_t kEnd = EPOLLRDHUP | EPOLLET;
constexpr uint32_t kInput = EPOLLIN | EPOLLPRI | kEnd;

}  // namespace

EpollBackend::EpollBackend(const EpollOptions& options, Connection* records, uint32_t places)
    : options_(options), records_(records), places_(places) {
    now_ = woke_at_ = poll_started_ = proof_.proven_until();
    // Twice: the part of a list that is being reported, and what joins it meanwhile.
    pending_events_.reserve(size_t{2} * places);
    partly_read_.reserve(size_t{2} * places);
    closed_.reserve(size_t{2} * places);
    buffer_ =
        std::make_unique<uint8_t[]>(kReceiveFrontBytes + kReceiveBufferBytes + kReceivePadBytes);
    unsent_ =
        reinterpret_cast<std::span<const uint8_t>*>(pages_.reserve(places * sizeof(*unsent_)));
    const char* step = "address space";
    if (unsent_ != nullptr) {
        step = "epoll_create1";
        epoll_ = calls_([] { return epoll_create1(EPOLL_CLOEXEC); });
    }
    if (epoll_ >= 0) {
        step = "eventfd";
        doorbell_.open(calls_, options_.doorbell);
    }
    bool is_complete = false;
    if (doorbell_.number() >= 0) {
        step = "epoll_ctl";
        if (watch_tag(doorbell_.number(), EPOLL_CTL_ADD, EPOLLIN | EPOLLET, kWakeTag)) {
            step = "marks";
            if (marks_.open(calls_, epoll_)) {
                step = "a spare descriptor";
                is_complete = spare_.open(calls_, epoll_);
            }
        }
    }
    if (!is_complete) {
        ready_ = Error{std::string("epoll: ") + step + ": " + std::strerror(errno) +
                       "; raise the descriptor limit (ulimit -n, LimitNOFILE=) or free memory"};
    }
}

EpollBackend::~EpollBackend() {
    listeners_.close();
    marks_.close(calls_);
    spare_.close(calls_);
    doorbell_.close(calls_);
    if (epoll_ >= 0) calls_.close(epoll_);
    if (unsent_ != nullptr)
        pages_.release(reinterpret_cast<std::byte*>(unsent_), places_ * sizeof(*unsent_));
}

size_t EpollBackend::memory_bytes() const {
    return sizeof(*this) + kReceiveFrontBytes + kReceiveBufferBytes + kReceivePadBytes +
           pending_events_.size() * sizeof(pending_events_[0]) +
           partly_read_.size() * sizeof(partly_read_[0]) + closed_.size() * sizeof(closed_[0]);
}

// ----------------------------------------------------------------------------------- connections

bool EpollBackend::watch_tag(int descriptor, int operation, uint32_t events, uint64_t tag) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = tag;
    return calls_([&] { return epoll_ctl(epoll_, operation, descriptor, &event); }) == 0;
}

// For the events that its marks ask for.
bool EpollBackend::watch(Index index, int operation) {
    const uint32_t input = marked(index, kReadStopped) ? kEnd : kInput;
    const uint32_t output = marked(index, kForRoom) ? uint32_t{EPOLLOUT} : 0;
    return watch_tag(records_[index].descriptor, operation, input | output, index);
}

void EpollBackend::drop_descriptor(Index index) {
    calls_.close(records_[index].descriptor);
    records_[index].descriptor = -1;
}

void EpollBackend::attach(Index index, const Accepted& accepted) {
    PULSE_ASSERT(index < places_);
    records_[index].descriptor = accepted.descriptor;
    records_[index].operations = kReading;
    if (watch(index, EPOLL_CTL_ADD)) return;
    const int error = errno;
    drop_descriptor(index);
    mark(index, kBroken);
    queue_event(index, EventKind::end, error);
}

void EpollBackend::refuse(const Accepted& accepted, std::span<const uint8_t> refusal_message) {
    const int descriptor = accepted.descriptor;
    if (!refusal_message.empty()) {
        calls_([&] {
            return ::send(descriptor, refusal_message.data(), refusal_message.size(), MSG_NOSIGNAL);
        });
        calls_([&] { return shutdown(descriptor, SHUT_WR); });
    }
    // What has come already is read, or the close would be a reset and might overtake the message.
    for (int round = 0; round < 4; ++round)
        if (receive_bytes(descriptor) < static_cast<ssize_t>(kReceiveBufferBytes)) break;
    calls_.close(descriptor);
}

void EpollBackend::connect(Index index, const SocketAddress& to, const SocketAddress& source) {
    PULSE_ASSERT(index < places_);
    records_[index].operations = 0;
    const int descriptor = open_client(calls_, to, source, options_.sockets);
    records_[index].descriptor = descriptor;
    if (descriptor < 0) return queue_event(index, EventKind::connected, errno);
    const int done = calls_([&] { return ::connect(descriptor, &to.base, to.size_bytes()); });
    // Interrupted, it goes on by itself (connect(2)).
    const bool under_way = done == 0 || errno == EINPROGRESS || errno == EINTR;
    mark(index, kForRoom);
    if (under_way && watch(index, EPOLL_CTL_ADD)) {
        mark(index, kConnecting);
        return;
    }
    const int error = errno;
    drop_descriptor(index);
    queue_event(index, EventKind::connected, error);
}

IoError EpollBackend::connect_result(Index index) {
    int error = 0;
    socklen_t size_bytes = sizeof(error);
    const int done = calls_([&] {
        return getsockopt(records_[index].descriptor, SOL_SOCKET, SO_ERROR, &error, &size_bytes);
    });
    return done == 0 ? error : errno;
}

void EpollBackend::queue_event(Index index, EventKind what, IoError error) {
    mark(index, what == EventKind::end ? kEndQueued : kEventQueued);
    pending_events_.push_back({index, what, error});
}

ssize_t EpollBackend::receive_bytes(int descriptor) {
    ssize_t bytes = 0;
    do {
        bytes = calls_([&] { return recv(descriptor, received(), kReceiveBufferBytes, 0); });
    } while (bytes < 0 && errno == EINTR);
    return bytes;
}

bool EpollBackend::send(Index index, std::span<const uint8_t> bytes) {
    PULSE_ASSERT(!marked(index, kSending | kEventQueued | kFinish | kConnecting | kClosed));
    if (records_[index].descriptor >= 0) return send_rest(index, bytes);
    queue_event(index, EventKind::sent, EPIPE);
    return false;
}

// There is room for what a send has left.
void EpollBackend::send_on(Index index) {
    if (send_rest(index, unsent_[index])) queue_event(index, EventKind::sent, 0);
    if (marked(index, kSending) || !marked(index, kFinish)) return;
    unmark(index, kFinish);
    finish(index);
}

// True: the kernel has taken all of it. Otherwise the rest waits for room (kSending), or the send
// has failed, and an event that says so is queued.
bool EpollBackend::send_rest(Index index, std::span<const uint8_t> bytes) {
    const int descriptor = records_[index].descriptor;
    ssize_t sent = 0;
    do {
        sent = calls_([&] { return ::send(descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL); });
    } while (sent < 0 && errno == EINTR);
    int error = sent < 0 && errno != EAGAIN ? errno : 0;
    if (sent > 0) bytes = bytes.subspan(static_cast<size_t>(sent));
    if (error == 0 && !bytes.empty()) {
        unsent_[index] = bytes;
        mark(index, kSending);
        if (marked(index, kForRoom)) return false;
        mark(index, kForRoom);
        // Registering anew also reports room that came in the meantime.
        if (watch(index, EPOLL_CTL_MOD)) return false;
        error = errno;
    }
    unmark(index, kSending);
    if (error == 0) return true;
    mark(index, kBroken);
    queue_event(index, EventKind::sent, error);
    return false;
}

void EpollBackend::finish(Index index) {
    PULSE_ASSERT(!marked(index, kConnecting | kClosed));
    if (marked(index, kSending)) return mark(index, kFinish);
    const int descriptor = records_[index].descriptor;
    if (descriptor < 0 || calls_([&] { return shutdown(descriptor, SHUT_WR); }) == 0) return;
    // Not connected any more: a receive will return the reason. No other event reports it.
    if (errno != ENOTCONN && marked(index, kReading) && !marked(index, kEndQueued))
        queue_event(index, EventKind::end, errno);
}

void EpollBackend::hold_off(Index index) {
    PULSE_ASSERT(!marked(index, kHeldOff | kClosed));
    mark(index, kHeldOff);
}

void EpollBackend::resume(Index index) {
    PULSE_ASSERT(marked(index, kHeldOff) && !marked(index, kClosed));
    unmark(index, kHeldOff);
    if (!marked(index, kReading) || marked(index, kPartlyRead)) return;
    mark(index, kPartlyRead);
    partly_read_.push_back({index, poll_started_});
}

void EpollBackend::stop_reading(Index index) {
    PULSE_ASSERT(marked(index, kReading) && !marked(index, kReadStopped));
    mark(index, kReadStopped);
    if (!watch(index, EPOLL_CTL_MOD)) queue_event(index, EventKind::end, errno);
}

void EpollBackend::close(Index index, CloseMode mode) {
    PULSE_ASSERT(!marked(index, kClosed));
    unmark(index, kReading | kConnecting | kSending);
    mark(index, kClosed);
    closed_.push_back(index);
    if (records_[index].descriptor < 0) return;
    if (mode == CloseMode::reset) reset_on_close(calls_, records_[index].descriptor);
    drop_descriptor(index);
}

// ----------------------------------------------------------------------------------------- polling

std::span<const epoll_event> EpollBackend::reap(Nanos until) {
    ++counters_.polls;
    poll_started_ = clock();
    until = std::min(until, poll_started_ + kWaitMax);
    listeners_.resume_if_due(poll_started_);
    until = std::min(until, listeners_.rest_until());
    if (has_work()) until = poll_started_;
    const int events = wait_(calls_, epoll_, events_, until - poll_started_);
    read_clock();
    woke_at_ = now_;
    account(events, std::min(until, now_));
    return {events_.data(), static_cast<size_t>(std::max(events, 0))};
}

bool EpollBackend::rest(Nanos until) {
    if (has_work() || proof_.backed_up()) return false;
    calls_([&] { return sleep_until(until), 0; });
    return true;
}

// What these events prove about drained_until, once they are handled. See the header.
void EpollBackend::account(int events, Nanos waited_until) {
    if (events > 0) {
        counters_.completions += static_cast<uint64_t>(events);
        ++counters_.batches;
    }
    if (events < 0) return;  // interrupted: nothing new is known
    const auto taken = static_cast<uint32_t>(events);
    const Nanos began = events == 0 ? std::max(poll_started_, waited_until) : poll_started_;
    proof_.took(began, taken, taken < kEventsPerPoll);
    marks_.place(calls_, proof_, now_);
}

}  // namespace pulse
