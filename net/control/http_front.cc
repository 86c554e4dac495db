// epoll over a few dozen clients, a queue, and workers.
#include "net/control/http_front.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <utility>

#include "net/control/limits.h"
#include "net/io/clocks.h"

namespace pulse {
namespace {

constexpr uint64_t kListener = UINT64_MAX;
constexpr uint64_t kDoorbell = UINT64_MAX - 1;
constexpr int kEventsAtOnce = 64;
// Without descriptors and without a client to close for one, accepting pauses.
constexpr Nanos kAcceptPauseNs = 200 * kMillisecond;

}  // namespace

HttpCall::HttpCall(std::string head_text, std::string body_text)
    : text(std::move(head_text)), head(*parse_http_head(text)), body(std::move(body_text)) {}

HttpFront::HttpFront(int listener, Answerer answerer)
    : answerer_(std::move(answerer)), listener_(listener) {}

Result<std::unique_ptr<HttpFront>> HttpFront::start(int listener, Answerer answerer) {
    std::unique_ptr<HttpFront> front(new HttpFront(listener, std::move(answerer)));
    if (Result<void> opened = front->open(); !opened) return Error{opened.error()};
    return front;
}

Result<void> HttpFront::open() {
    set_ = epoll_create1(EPOLL_CLOEXEC);
    doorbell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (set_ < 0 || doorbell_ < 0) {
        return Error{std::string("the admin endpoint: ") + std::strerror(errno) +
                     "; raise the descriptor limit (ulimit -n, LimitNOFILE=)"};
    }
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
    epoll_ctl(set_, EPOLL_CTL_ADD, listener_, &event);
    event.data.u64 = kDoorbell;
    epoll_ctl(set_, EPOLL_CTL_ADD, doorbell_, &event);
    Result<void> started = start_thread([](void* self) -> void* {
        static_cast<HttpFront*>(self)->front_thread();
        return nullptr;
    });
    for (uint32_t i = 0; i < kAdminWorkers && started; ++i) {
        started = start_thread([](void* self) -> void* {
            static_cast<HttpFront*>(self)->worker_thread();
            return nullptr;
        });
    }
    return started;
}

Result<void> HttpFront::start_thread(void* (*body)(void* self)) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kAdminStackBytes);
    pthread_t thread{};
    const int error = pthread_create(&thread, &attributes, body, this);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
        return Error{std::string("a thread of the admin endpoint cannot be started: ") +
                     std::strerror(error) +
                     "; raise the limit on threads (pids.max of the cgroup, TasksMax=, ulimit -u)"};
    }
    threads_.push_back(thread);
    return {};
}

HttpFront::~HttpFront() {
    {
        const std::lock_guard guard(lock_);
        stopping_ = true;
    }
    more_.notify_all();
    if (doorbell_ >= 0) ring();
    for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
    for (const int descriptor : {listener_, set_, doorbell_})
        if (descriptor >= 0) ::close(descriptor);
}

void HttpFront::ring() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t rung = ::write(doorbell_, &one, sizeof one);
}

// --------------------------------------------------------------------------------------- workers

void HttpFront::worker_thread() {
    pthread_setname_np(pthread_self(), "admin worker");
    for (;;) {
        Task task;
        {
            std::unique_lock guard(lock_);
            more_.wait(guard, [this] { return stopping_ || !tasks_.empty(); });
            if (stopping_) return;
            task = std::move(tasks_.front());
            tasks_.pop_front();
        }
        HttpAnswer made;
        if (!task.call->gone) made = answer(*task.call);
        deliver({task.client, std::move(made)});
        ring();
    }
}

// What is thrown, where memory is short as a rule, ends one client and not the process.
HttpAnswer HttpFront::answer(HttpCall& call) {
    try {
        return answerer_.answer(call);
    } catch (const std::exception& error) {
        report(error.what());
        return {.bytes = {}, .close = true};
    }
}

// Until there is memory for it: its client waits for nothing else.
void HttpFront::deliver(Done done) {
    for (;;) {
        try {
            const std::lock_guard guard(lock_);
            done_.push_back(std::move(done));
            return;
        } catch (const std::bad_alloc&) {
            std::this_thread::sleep_for(std::chrono::milliseconds(kAdminRetryMs));
        }
    }
}

void HttpFront::report(std::string_view why) const {
    try {
        if (answerer_.failed) answerer_.failed(why);
    } catch (const std::exception&) {  // there is no memory for a line either
    }
}

template <class What>
void HttpFront::guard_client(uint64_t number, What&& what) {
    try {
        what();
    } catch (const std::exception& error) {
        if (clients_.contains(number)) close_client(number);
        report(error.what());
    }
}

// ------------------------------------------------------------------------------------- the front

void HttpFront::front_thread() {
    pthread_setname_np(pthread_self(), "admin");
    epoll_event events[kEventsAtOnce];
    for (;;) {
        const Nanos wait = next_deadline() - monotonic_clock();
        const int milliseconds =
            static_cast<int>(std::clamp<Nanos>((wait + kMillisecond - 1) / kMillisecond, 0, 1'000));
        const int count = epoll_wait(set_, events, kEventsAtOnce, milliseconds);
        for (int i = 0; i < count; ++i) {
            const epoll_event& event = events[i];
            guard_client(event.data.u64, [&] { on_event(event.data.u64, event.events); });
        }
        take_done();
        read_streams();
        close_late(monotonic_clock());
        const std::lock_guard guard(lock_);
        if (stopping_) break;
    }
    while (!clients_.empty()) close_client(clients_.begin()->first);
}

Nanos HttpFront::next_deadline() const {
    Nanos next = accepting_ ? kNever : accept_again_at_;
    for (const auto& [number, client] : clients_) next = std::min(next, client.deadline);
    return next == kNever ? monotonic_clock() + kSecond : next;
}

void HttpFront::on_event(uint64_t number, uint32_t events) {
    if (number == kListener) return accept_some();
    if (number == kDoorbell) {
        uint64_t rung = 0;
        [[maybe_unused]] const ssize_t read = ::read(doorbell_, &rung, sizeof rung);
        return;
    }
    const auto found = clients_.find(number);
    if (found == clients_.end()) return;  // closed earlier in this batch
    Client& client = found->second;
    if ((events & (EPOLLHUP | EPOLLERR)) != 0) return close_client(number);
    switch (client.phase) {
        case Phase::reading:
            return read_some(number, client);
        case Phase::answering:  // only EPOLLRDHUP is watched for: what it asked is not wanted
            return close_client(number);
        case Phase::streaming:
            if ((events & EPOLLRDHUP) != 0) return close_client(number);
            return write_some(number, client);
        case Phase::writing:
            return write_some(number, client);
        case Phase::closing:
            return drop_some(number, client);
    }
}

// ------------------------------------------------------------------------------------- accepting

// Closes the client that has been idle longest, or else the one that has sent nothing whole for
// longest. False: all are being answered.
bool HttpFront::make_place() {
    auto oldest = clients_.end();
    for (auto client = clients_.begin(); client != clients_.end(); ++client) {
        const Phase phase = client->second.phase;
        if (phase != Phase::reading && phase != Phase::closing) continue;
        if (oldest == clients_.end() || client->second.idle_since < oldest->second.idle_since)
            oldest = client;
    }
    if (oldest == clients_.end()) return false;
    close_client(oldest->first);
    return true;
}

void HttpFront::accept_some() {
    for (uint32_t left = kEventsAtOnce; left > 0; --left) {
        const int descriptor = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (descriptor < 0) {
            if (errno != EMFILE && errno != ENFILE) return;
            if (make_place()) continue;
            accepting_ = false;
            accept_again_at_ = monotonic_clock() + kAcceptPauseNs;
            epoll_event event{.events = 0, .data = {.u64 = kListener}};
            epoll_ctl(set_, EPOLL_CTL_MOD, listener_, &event);
            return;
        }
        if (clients_.size() >= kAdminConnectionsMax && !make_place()) {
            ::close(descriptor);
            continue;
        }
        const Nanos now = monotonic_clock();
        const uint64_t number = next_client_++;
        try {
            clients_[number];
        } catch (const std::bad_alloc& error) {
            ::close(descriptor);
            return report(error.what());
        }
        Client& client = clients_[number];
        client.descriptor = descriptor;
        client.deadline = now + kAdminRequestNs;
        client.idle_since = now;
        watch(number, client, EPOLLIN | EPOLLRDHUP, true);
    }
}

void HttpFront::watch(uint64_t number, const Client& client, uint32_t events, bool added) {
    epoll_event event{.events = events, .data = {.u64 = number}};
    epoll_ctl(set_, added ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, client.descriptor, &event);
}

void HttpFront::close_client(uint64_t number) {
    const auto found = clients_.find(number);
    if (found->second.call != nullptr) found->second.call->gone = true;
    if (found->second.stream != nullptr) found->second.stream->end();
    ::close(found->second.descriptor);
    clients_.erase(found);
}

void HttpFront::close_late(Nanos now) {
    for (auto client = clients_.begin(); client != clients_.end();) {
        const auto [number, deadline] = std::pair(client->first, client->second.deadline);
        ++client;
        if (deadline <= now) close_client(number);
    }
    if (accepting_ || now < accept_again_at_) return;
    accepting_ = true;
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
    epoll_ctl(set_, EPOLL_CTL_MOD, listener_, &event);
}

// --------------------------------------------------------------------------------------- reading

void HttpFront::read_some(uint64_t number, Client& client) {
    char bytes[kAdminReadBytes];
    const ssize_t got = recv(client.descriptor, bytes, sizeof bytes, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return close_client(number);
    if (got < 0) return;
    if (client.in.empty()) begin_request(client);
    client.in.append(bytes, static_cast<size_t>(got));
    consider(number, client);
}

// Some of it has come: it has a deadline from now on.
void HttpFront::begin_request(Client& client) {
    client.deadline = monotonic_clock() + kAdminRequestNs;
    client.told_to_continue = false;
}

// The client waits for this before it sends the body (RFC 9110 10.1.1).
void HttpFront::tell_to_continue(uint64_t number, Client& client) {
    constexpr std::string_view kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    client.told_to_continue = true;
    const ssize_t taken = send(client.descriptor, kGoOn.data(), kGoOn.size(), MSG_NOSIGNAL);
    // Of a client that has not read the answers before, nothing more is to be had.
    if (taken != static_cast<ssize_t>(kGoOn.size())) close_client(number);
}

// Whether what has come is a whole request.
void HttpFront::consider(uint64_t number, Client& client) {
    // Empty lines before a request are nothing (RFC 9112 2.2).
    while (client.in.starts_with("\r\n")) client.in.erase(0, 2);
    const size_t end = client.in.find("\r\n\r\n");
    const size_t head_bytes = end == std::string::npos ? client.in.size() : end + 4;
    if (head_bytes > kAdminHeadBytesMax) {
        return refuse(number, client, 431,
                      "the head is longer than " + std::to_string(kAdminHeadBytesMax) + " bytes",
                      "send fewer and shorter headers");
    }
    if (end == std::string::npos) return;
    const Result<HttpHead> head = parse_http_head(std::string_view(client.in).substr(0, end + 2));
    if (!head) return refuse(number, client, 400, head.error());
    if (head->path().size() > kAdminPathBytesMax) {
        return refuse(number, client, 414,
                      "the path is longer than " + std::to_string(kAdminPathBytesMax) + " bytes",
                      "GET /api/v1 lists all paths");
    }
    if (head->header("transfer-encoding")) {
        return refuse(number, client, 411, "the body comes in chunks",
                      "send it whole, with Content-Length");
    }
    const auto expected = head->header("expect");
    const bool expects_more = expected && head->version == "HTTP/1.1";
    if (expects_more && !is_same_word(*expected, "100-continue")) {
        return refuse(number, client, 417, "Expect is not 100-continue",
                      "send the request without it");
    }
    size_t body_bytes = 0;
    if (const auto length = head->header("content-length")) {
        const auto [last, error] =
            std::from_chars(length->data(), length->data() + length->size(), body_bytes);
        if (error != std::errc{} || last != length->data() + length->size()) {
            return refuse(number, client, 400, "Content-Length is not a number",
                          "send the length of the body in bytes");
        }
    }
    if (body_bytes > kAdminBodyBytesMax) {
        return refuse(number, client, 413,
                      "the body is longer than " + std::to_string(kAdminBodyBytesMax) + " bytes",
                      "send less at once");
    }
    if (client.in.size() >= head_bytes + body_bytes)
        return begin_answer(number, client, head_bytes, body_bytes);
    if (expects_more && client.in.size() == head_bytes && !client.told_to_continue) {
        tell_to_continue(number, client);
    }
}

void HttpFront::begin_answer(uint64_t number, Client& client, size_t head_bytes,
                             size_t body_bytes) {
    client.call = std::make_shared<HttpCall>(client.in.substr(0, head_bytes),
                                             client.in.substr(head_bytes, body_bytes));
    client.in.erase(0, head_bytes + body_bytes);
    if (answerer_.is_quick(client.call->head)) return respond(number, client, answer(*client.call));
    {
        const std::lock_guard guard(lock_);
        if (tasks_.size() < kAdminQueueMax) {
            tasks_.push_back({number, client.call});
            client.phase = Phase::answering;
        }
    }
    if (client.phase != Phase::answering) {
        return refuse(number, client, 503,
                      std::to_string(kAdminQueueMax) + " requests wait already",
                      "try again in a moment");
    }
    more_.notify_one();
    client.deadline = kNever;
    watch(number, client, EPOLLRDHUP);
}

void HttpFront::refuse(uint64_t number, Client& client, int status, std::string_view reason,
                       std::string_view remedy) {
    respond(number, client, {answerer_.refusal(status, reason, remedy), true});
}

// An error is "REASON; REMEDY".
void HttpFront::refuse(uint64_t number, Client& client, int status, std::string_view error) {
    const size_t last = error.rfind("; ");
    refuse(number, client, status, error.substr(0, last), error.substr(last + 2));
}

// --------------------------------------------------------------------------------------- writing

void HttpFront::take_done() {
    std::vector<Done> done;
    {
        const std::lock_guard guard(lock_);
        done.swap(done_);
    }
    for (Done& each : done) {
        const auto found = clients_.find(each.client);
        if (found != clients_.end()) {
            guard_client(each.client,
                         [&] { respond(each.client, found->second, std::move(each.answer)); });
        } else if (each.answer.stream != nullptr) {
            each.answer.stream->end();
        }
    }
}

void HttpFront::respond(uint64_t number, Client& client, HttpAnswer answer) {
    client.call.reset();
    client.phase = Phase::writing;
    client.out = std::move(answer.bytes);
    client.sent = 0;
    client.close_after = answer.close;
    client.stream = std::move(answer.stream);
    if (client.stream != nullptr) client.stream->begin([this] { ring(); });
    client.deadline = monotonic_clock() + kAdminStallNs;
    write_some(number, client);
}

void HttpFront::write_some(uint64_t number, Client& client) {
    const size_t left = client.out.size() - client.sent;
    const ssize_t taken =
        send(client.descriptor, client.out.data() + client.sent, left, MSG_NOSIGNAL);
    if (taken < 0 && errno != EAGAIN && errno != EINTR) return close_client(number);
    if (taken > 0) {
        client.sent += static_cast<size_t>(taken);
        const Nanos stall = client.stream != nullptr ? kAdminStreamStallNs : kAdminStallNs;
        client.deadline = monotonic_clock() + stall;
    }
    const bool streams = client.stream != nullptr;
    if (client.sent < client.out.size())
        return watch(number, client, streams ? EPOLLOUT | EPOLLRDHUP : EPOLLOUT);
    if (streams) {  // read_streams() goes on
        client.phase = Phase::streaming;
        client.out.clear();
        client.sent = 0;
        client.deadline = kNever;
        return watch(number, client, EPOLLRDHUP);
    }
    if (client.close_after) {
        // What the client still sends is not read: FIN first, so that no reset takes the answer.
        shutdown(client.descriptor, SHUT_WR);
        client.close_after = false;
        client.out.clear();
        client.sent = 0;
        client.deadline = monotonic_clock() + kSecond;
        client.phase = Phase::closing;
        return watch(number, client, EPOLLIN | EPOLLRDHUP);
    }
    const Nanos now = monotonic_clock();
    client.out = {};
    client.sent = 0;
    client.phase = Phase::reading;
    client.idle_since = now;
    client.deadline = now + kAdminIdleNs;
    watch(number, client, EPOLLIN | EPOLLRDHUP);
    if (client.in.empty()) return;
    begin_request(client);  // the next one, or a part of it, came along
    consider(number, client);
}

// Requires: what was there before is sent.
void HttpFront::read_stream(uint64_t number, Client& client) {
    if (!client.stream->read(client.out)) {
        std::exchange(client.stream, nullptr)->end();
        client.phase = Phase::writing;
        client.close_after = true;
    } else if (client.out.empty()) {
        return;
    }
    client.deadline = monotonic_clock() + kAdminStreamStallNs;
    write_some(number, client);
}

// One may end, and no other, while it is read.
void HttpFront::read_streams() {
    for (auto next = clients_.begin(); next != clients_.end();) {
        const uint64_t number = next->first;
        Client& client = next->second;
        ++next;
        if (client.phase == Phase::streaming && client.out.empty())
            guard_client(number, [&] { read_stream(number, client); });
    }
}

// Until the client has closed too, or its deadline.
void HttpFront::drop_some(uint64_t number, Client& client) {
    char bytes[kAdminReadBytes];
    const ssize_t got = recv(client.descriptor, bytes, sizeof bytes, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) close_client(number);
}

}  // namespace pulse
