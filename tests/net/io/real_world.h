// The far end of a real backend: non-blocking loopback sockets for the contract suite's Worlds.
#pragma once

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/types.h"
#include "net/io/address.h"

namespace pulse::test {

inline Nanos monotonic_now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return Nanos{now.tv_sec} * kSecond + now.tv_nsec;
}

// Owns one descriptor.
class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() { reset(); }
    void reset() {
        if (number_ >= 0) ::close(std::exchange(number_, -1));
    }
    int number() const { return number_; }

  private:
    int number_ = -1;
};

inline SocketAddress name_of(int descriptor) {
    SocketAddress address;
    socklen_t size = sizeof(address);
    PULSE_ASSERT(getsockname(descriptor, &address.base, &size) == 0);
    return address;
}

class RealPeer {
  public:
    explicit RealPeer(Descriptor socket) : socket_(std::move(socket)) {}

    size_t write(std::span<const uint8_t> bytes) {
        if (error_ != 0 || bytes.empty()) return 0;
        const ssize_t sent =
            ::send(socket_.number(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) return note(errno), 0;
        arrived_ = kNever;
        return static_cast<size_t>(sent);
    }
    void read(std::string& into, size_t most = SIZE_MAX) {
        char buffer[64 * 1024];
        while (most > 0 && !ended_ && error_ == 0) {
            const ssize_t got =
                ::recv(socket_.number(), buffer, std::min(most, sizeof(buffer)), MSG_DONTWAIT);
            // A reset that comes behind a FIN is EPIPE to the reader.
            if (got < 0) return note(errno == EPIPE ? ECONNRESET : errno);
            if (got == 0) {
                ended_ = true;
                // A reset behind the FIN is invisible to reads; not every system keeps the bytes.
                int error = 0;
                socklen_t size_bytes = sizeof(error);
                getsockopt(socket_.number(), SOL_SOCKET, SO_ERROR, &error, &size_bytes);
                if (error != 0) error_ = ECONNRESET;
            }
            into.append(buffer, static_cast<size_t>(got));
            most -= static_cast<size_t>(got);
        }
    }
    bool ended() const { return ended_; }
    int error() const { return error_; }
    void finish() {
        ::shutdown(socket_.number(), SHUT_WR);
        arrived_ = kNever;
    }
    void reset() {
        const linger at_once{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(socket_.number(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        socket_.reset();
        error_ = ECONNRESET;
        arrived_ = kNever;
    }
    // The kernel reports what is not acknowledged yet; a reset arrives at once, unreported.
    Nanos arrived_at() {
        if (arrived_ != kNever) return arrived_;
        int waiting = 0;
        if (socket_.number() >= 0) PULSE_ASSERT(ioctl(socket_.number(), SIOCOUTQ, &waiting) == 0);
        if (waiting == 0) arrived_ = monotonic_now();
        return arrived_;
    }
    SocketAddress local() const { return name_of(socket_.number()); }
    int descriptor() const { return socket_.number(); }
    // What connect() itself may have answered.
    void note(int error) {
        if (error == EAGAIN || error == EINTR || error == EINPROGRESS || error == EPIPE) return;
        error_ = error;
    }

  private:
    Descriptor socket_;
    bool ended_ = false;
    int error_ = 0;
    Nanos arrived_ = kNever;
};

class RealListener {
  public:
    RealListener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
        SocketAddress any = *parse_address("127.0.0.1:0");
        PULSE_ASSERT(bind(socket_.number(), &any.base, any.size_bytes()) == 0);
        PULSE_ASSERT(::listen(socket_.number(), 64) == 0);
    }
    SocketAddress address() const { return name_of(socket_.number()); }
    std::optional<RealPeer> accept() {
        const int accepted = ::accept4(socket_.number(), nullptr, nullptr, SOCK_CLOEXEC);
        if (accepted < 0) return std::nullopt;
        return RealPeer(Descriptor(accepted));
    }

  private:
    Descriptor socket_;
};

// All of a World but the backend.
class RealWorld {
  public:
    using Peer = RealPeer;
    using PeerListener = RealListener;
    static constexpr bool kThreads = true;

    RealWorld() {
        rlimit limit{};
        PULSE_ASSERT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        limit.rlim_cur = limit.rlim_max;
        PULSE_ASSERT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    ~RealWorld() { relieve(); }
    RealWorld(const RealWorld&) = delete;
    RealWorld& operator=(const RealWorld&) = delete;

    static Nanos stall(Nanos duration) {
        std::this_thread::sleep_for(std::chrono::nanoseconds(duration));
        return monotonic_now();
    }
    ListenAddress free_address() { return hold(true, false); }
    ListenAddress taken_address() { return hold(false, true); }
    SocketAddress dead_address() { return hold(false, false).address; }
    static SocketAddress source_address() { return *parse_address("127.0.0.9:0"); }

    RealPeer connect(const SocketAddress& to) {
        Descriptor socket(
            ::socket(to.base.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        PULSE_ASSERT(socket.number() >= 0);
        // Fixed, so that no kernel's idea of a good buffer decides what fits.
        const int bytes = 256 * 1024;
        setsockopt(socket.number(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        const int done = ::connect(socket.number(), &to.base, to.size_bytes());
        const int error = done == 0 ? 0 : errno;
        RealPeer peer(std::move(socket));
        if (error != 0) peer.note(error);
        return peer;
    }
    RealListener open_listener() { return {}; }

    // The next descriptor would be the lowest free number: not below the limit, there is none.
    void exhaust() {
        const int next = ::dup(0);
        PULSE_ASSERT(next >= 0);
        ::close(next);
        set_soft_limit(static_cast<rlim_t>(next));
    }
    void relieve() { set_soft_limit(RLIM_INFINITY); }

  private:
    static void set_soft_limit(rlim_t soft) {
        rlimit limit{};
        PULSE_ASSERT(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        limit.rlim_cur = std::min(soft, limit.rlim_max);
        PULSE_ASSERT(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    // A port that no other process gets while we hold it; shared with a backend, or in use.
    ListenAddress hold(bool shared, bool in_use) {
        Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int yes = 1;
        if (shared) setsockopt(socket.number(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof(yes));
        if (shared) setsockopt(socket.number(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        SocketAddress any = *parse_address("127.0.0.1:0");
        PULSE_ASSERT(bind(socket.number(), &any.base, any.size_bytes()) == 0);
        if (in_use) PULSE_ASSERT(::listen(socket.number(), 1) == 0);
        ListenAddress listener;
        listener.address = name_of(socket.number());
        listener.text = "tcp://" + listener.address.text();
        held_.push_back(std::move(socket));
        return listener;
    }

    std::vector<Descriptor> held_;
};

}  // namespace pulse::test
