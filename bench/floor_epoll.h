// The floor that servers over epoll stand on: the least code that takes a peer's bytes and answers
// them. Edge-triggered epoll, one recv and one send a message; no timer, no list, no record of a
// peer. Includes nothing of Pulsewheel.
//
// `Answer` says what becomes of a read: answer(bytes, count) returns what is sent back: nothing if
// it is empty, and without a pointer the peer is closed. A message must lie whole in one read; what
// the kernel does not take of an answer is lost.
#pragma once

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace pulse::bench {

constexpr size_t kFloorReadBytes = 4'096;

// A socket that listens on the loopback address; -1: it cannot.
inline int floor_listener(uint16_t port) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool is_bound =
        bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    return is_bound && listen(listener, SOMAXCONN) == 0 ? listener : -1;
}

template <class Answer>
class EpollFloor {
  public:
    // Takes `listener`.
    EpollFloor(int listener, Answer answer) : listener_(listener), answer_(answer) {
        epoll_event event{EPOLLIN, {.fd = listener_}};
        epoll_ctl(watched_, EPOLL_CTL_ADD, listener_, &event);
    }
    ~EpollFloor() {
        close(listener_);
        close(watched_);
    }
    EpollFloor(const EpollFloor&) = delete;
    EpollFloor& operator=(const EpollFloor&) = delete;

    uint64_t system_calls() const { return system_calls_; }

    // One wait, of at most `timeout_ms`, and what it brings; -1: for ever.
    void turn(int timeout_ms) {
        epoll_event events[512];
        ++system_calls_;
        const int ready = epoll_wait(watched_, events, 512, timeout_ms);
        for (int i = 0; i < ready; ++i) {
            const int peer = events[i].data.fd;
            if (peer == listener_) {
                accept_all();
            } else if (!serve(peer)) {
                close(peer);
            }
        }
    }

  private:
    void accept_all() {
        for (int next; (next = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
            epoll_event event{EPOLLIN | EPOLLRDHUP | EPOLLET, {.fd = next}};
            epoll_ctl(watched_, EPOLL_CTL_ADD, next, &event);
            system_calls_ += 2;
        }
        ++system_calls_;
    }
    // Returns whether the connection stays open.
    bool serve(int peer) {
        uint8_t bytes[kFloorReadBytes];
        ssize_t got = 0;
        do {  // a read that fills the buffer may have left some behind
            ++system_calls_;
            got = recv(peer, bytes, sizeof bytes, MSG_DONTWAIT);
            if (got <= 0) break;
            const std::string_view out = answer_(bytes, static_cast<size_t>(got));
            if (out.data() == nullptr) return false;
            if (out.empty()) continue;
            ++system_calls_;
            send(peer, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (got == static_cast<ssize_t>(sizeof bytes));
        return got != 0;
    }

    const int listener_;
    const int watched_ = epoll_create1(EPOLL_CLOEXEC);
    Answer answer_;
    uint64_t system_calls_ = 0;
};

}  // namespace pulse::bench
