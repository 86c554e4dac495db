// Listening, accepting, and resting where there is nothing to accept with.
#include "net/io/listeners.h"

#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "net/io/limits.h"

namespace pulse {

Result<void> Listeners::open(int set, std::span<const ListenAddress> addresses,
                             const SocketOptions& options) {
    close();
    set_ = set;
    if (addresses.size() > kListenersMax) {
        return Error{std::to_string(addresses.size()) + " listeners; at most " +
                     std::to_string(kListenersMax) + " are possible"};
    }
    for (const ListenAddress& address : addresses) {
        const Result<int> opened = open_listener(calls_, address, options);
        if (!opened) {
            close();
            return Error{opened.error()};
        }
        sockets_.push_back(*opened);
        if (!watch(sockets_.size() - 1, EPOLL_CTL_ADD, EPOLLIN)) {
            const int error = errno;
            close();
            return Error{"cannot watch '" + address.text + "': " + std::strerror(error) +
                         "; free memory or raise fs.epoll.max_user_watches"};
        }
    }
    return {};
}

void Listeners::close() {
    for (uint32_t position = 0; position < sockets_.size(); ++position) close(position);
    sockets_.clear();
    rest_until_ = kNever;
}

void Listeners::close(uint32_t position) {
    if (position >= sockets_.size() || sockets_[position] < 0) return;
    // A duplicate of a passed socket stays in the set beyond its close.
    watch(position, EPOLL_CTL_DEL, 0);
    calls_.close(std::exchange(sockets_[position], -1));
}

bool Listeners::spread_accepts(std::span<const uint32_t> shares) {
    const bool all = std::ranges::all_of(sockets_, [&](int listener) {
        return listener < 0 || pulse::spread_accepts(calls_, listener, shares);
    });
    if (all) return true;
    // The caller will not correct the shares any more: none may go on with those of now.
    for (const int listener : sockets_)
        if (listener >= 0) stop_spreading(calls_, listener);
    return false;
}

Listeners::Accept Listeners::accept(uint32_t position, SpareDescriptor& spare, Nanos now,
                                    Accepted& accepted) {
    if (sockets_[position] < 0) return Accept::none;  // an event from before its close
    accepted.listener = static_cast<uint8_t>(position);
    if (spare.accept(calls_, sockets_[position], accept_flags_, accepted)) {
        if (accepted.exhausted) ++counters_.spare_used;
        return Accept::done;
    }
    if (errno == EAGAIN) return Accept::none;
    ++counters_.accept_failures;
    if (!SpareDescriptor::is_shortage(errno)) return Accept::lost;
    // A listener that stays readable would keep the thread awake.
    rest_until_ = now + kAcceptRestNs;
    for (size_t i = 0; i < sockets_.size(); ++i) watch(i, EPOLL_CTL_MOD, 0);
    return Accept::none;
}

void Listeners::resume_if_due(Nanos now) {
    if (now < rest_until_) return;
    rest_until_ = kNever;
    for (size_t i = 0; i < sockets_.size(); ++i)
        if (!watch(i, EPOLL_CTL_MOD, EPOLLIN)) rest_until_ = now + kAcceptRestNs;
}

bool Listeners::watch(size_t position, int operation, uint32_t events) {
    if (sockets_[position] < 0) return true;
    epoll_event event{};
    event.events = events;
    event.data.u64 = kTag | position;
    return calls_([&] { return epoll_ctl(set_, operation, sockets_[position], &event); }) == 0;
}

}  // namespace pulse
