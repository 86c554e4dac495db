// Socket options, once for all backends.
#include "net/io/sockets.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "net/io/limits.h"

namespace pulse {
namespace {

bool set(SystemCalls& calls, int descriptor, int level, int name, int value) {
    return calls([&] { return setsockopt(descriptor, level, name, &value, sizeof(value)); }) == 0;
}

int whole(Nanos duration, Nanos unit) {
    return static_cast<int>(std::min<Nanos>((duration + unit - 1) / unit, INT32_MAX));
}

int seconds(Nanos keepalive) {
    return std::min(whole(keepalive, kSecond), kKeepaliveSecondsMax);
}

bool tune(SystemCalls& calls, int descriptor, const SocketOptions& options) {
    // A heartbeat's answer must not wait for the acknowledgement of the one before.
    if (!set(calls, descriptor, IPPROTO_TCP, TCP_NODELAY, 1)) return false;
    if (options.tcp_keepalive > 0 && !set(calls, descriptor, SOL_SOCKET, SO_KEEPALIVE, 1))
        return false;
    return bound_silence(calls, descriptor, options);
}

const char* remedy(int error) {
    switch (error) {
        case EADDRINUSE:
            return "stop the program that has this port, choose another, or share it with "
                   "--share-port";
        case EACCES:
            return "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one";
        case EADDRNOTAVAIL:
            return "no interface of this machine has this address; * is any";
        case EAFNOSUPPORT:
            return "this machine has no IPv6; write an IPv4 address";
        case EMFILE:
            return "raise the descriptor limit (ulimit -n, LimitNOFILE=)";
        case ENFILE:
            return "raise fs.file-max";
        default:
            return "see socket(7) and tcp(7)";
    }
}

bool bind_and_listen(SystemCalls& calls, int descriptor, const SocketAddress& address,
                     const SocketOptions& options) {
    return set(calls, descriptor, SOL_SOCKET, SO_REUSEADDR, 1) &&
           set(calls, descriptor, SOL_SOCKET, SO_REUSEPORT, 1) &&
           (address.base.sa_family != AF_INET6 ||
            set(calls, descriptor, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
           tune(calls, descriptor, options) &&
           calls([&] { return bind(descriptor, &address.base, address.size_bytes()); }) == 0 &&
           calls([&] { return listen(descriptor, kListenBacklog); }) == 0;
}

int open_socket(SystemCalls& calls, int family) {
    return calls([&] { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
}

// A socket of the address's family. Any address, on a kernel without IPv6, becomes any IPv4
// address, which is all that can be had.
int open_socket_for(SystemCalls& calls, SocketAddress& address) {
    const int descriptor = open_socket(calls, address.base.sa_family);
    if (descriptor >= 0 || errno != EAFNOSUPPORT || address.base.sa_family != AF_INET6 ||
        !IN6_IS_ADDR_UNSPECIFIED(&address.v6.sin6_addr)) {
        return descriptor;
    }
    SocketAddress any;
    any.v4.sin_family = AF_INET;
    any.set_port(address.port());
    address = any;
    return open_socket(calls, AF_INET);
}

Error cannot_listen(const ListenAddress& listener, int error) {
    return Error{"cannot listen on '" + listener.text + "': " + std::strerror(error) + "; " +
                 remedy(error)};
}

// What was set on a socket counts for all of its duplicates.
Result<int> duplicate_listener(SystemCalls& calls, const ListenAddress& listener,
                               const SocketOptions& options) {
    const int descriptor = calls([&] { return fcntl(listener.descriptor, F_DUPFD_CLOEXEC, 0); });
    if (descriptor < 0) return cannot_listen(listener, errno);
    const int flags = calls([&] { return fcntl(descriptor, F_GETFL); });
    const bool is_tcp = listener.address.present();
    if (flags >= 0 && calls([&] { return fcntl(descriptor, F_SETFL, flags | O_NONBLOCK); }) == 0 &&
        (!is_tcp || tune(calls, descriptor, options))) {
        return descriptor;
    }
    const int error = errno;
    calls.close(descriptor);
    return cannot_listen(listener, error);
}

}  // namespace

Result<int> open_listener(SystemCalls& calls, const ListenAddress& listener,
                          const SocketOptions& options) {
    if (listener.descriptor >= 0) return duplicate_listener(calls, listener, options);
    SocketAddress address = listener.address;
    const int descriptor = open_socket_for(calls, address);
    if (descriptor >= 0 && bind_and_listen(calls, descriptor, address, options)) return descriptor;
    const int error = errno;
    if (descriptor >= 0) calls.close(descriptor);
    return cannot_listen(listener, error);
}

// A classic program, which needs no privilege: a random word, and for each listener but the last
// that has a share the bound below which it is that one's.
bool spread_accepts(SystemCalls& calls, int listener, std::span<const uint32_t> shares) {
    uint64_t whole = 0;
    for (const uint32_t share : shares) whole += share;
    PULSE_ASSERT(whole > 0 && whole <= UINT32_MAX);
    std::vector<sock_filter> program;
    program.reserve(2 * shares.size() + 1);
    program.push_back(
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)));
    uint64_t upto = 0;
    for (uint32_t position = 0; position < shares.size(); ++position) {
        if (shares[position] == 0) continue;
        upto += shares[position];
        if (upto < whole) {
            const auto bound = static_cast<uint32_t>((upto << 32) / whole);
            program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, bound, 1, 0));
        }
        program.push_back(BPF_STMT(BPF_RET | BPF_K, position));
        if (upto == whole) break;
    }
    const sock_fprog given{.len = static_cast<unsigned short>(program.size()),
                           .filter = program.data()};
    return calls([&] {
               return setsockopt(listener, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &given,
                                 sizeof given);
           }) == 0;
}

// Takes no memory. Where it fails there was no program, or the kernel is older than 5.3.
void stop_spreading(SystemCalls& calls, int listener) {
    const int error = errno;
    const int ignored = 0;
    calls([&] {
        return setsockopt(listener, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &ignored, sizeof ignored);
    });
    errno = error;
}

PortHolder::~PortHolder() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

Result<void> PortHolder::hold(ListenAddress& listener, bool shared) {
    if (listener.descriptor >= 0) return {};
    uint64_t made = 0;
    SystemCalls calls(made);
    SocketAddress address = listener.address;
    descriptor_ = open_socket_for(calls, address);
    bool held = descriptor_ >= 0 &&
                (address.base.sa_family != AF_INET6 ||
                 set(calls, descriptor_, IPPROTO_IPV6, IPV6_V6ONLY, 0)) &&
                (!shared || set(calls, descriptor_, SOL_SOCKET, SO_REUSEPORT, 1));
    const auto bound = [&] { return bind(descriptor_, &address.base, address.size_bytes()) == 0; };
    // Without SO_REUSEADDR nothing else may have the port, not even a server that starts in this
    // instant. With it, connections of an earlier server do not count, and a listener still does.
    held = held && (bound() || (errno == EADDRINUSE &&
                                set(calls, descriptor_, SOL_SOCKET, SO_REUSEADDR, 1) && bound()));
    socklen_t size = address.size_bytes();
    held = held && set(calls, descriptor_, SOL_SOCKET, SO_REUSEADDR, 0) &&
           set(calls, descriptor_, SOL_SOCKET, SO_REUSEPORT, 1) &&  // our own listeners may join
           getsockname(descriptor_, &address.base, &size) == 0;
    if (!held) return cannot_listen(listener, errno);
    if (listener.address.port() != 0) return {};
    listener.address.set_port(address.port());
    const size_t zero = listener.text.rfind(":0");
    if (zero != std::string::npos)
        listener.text.replace(zero, 2, ":" + std::to_string(address.port()));
    return {};
}

Result<void> can_listen(const ListenAddress& listener, std::vector<std::string>& doubts) {
    if (listener.descriptor >= 0 || !listener.passed_name.empty()) return {};
    uint64_t made = 0;
    SystemCalls calls(made);
    SocketAddress address = listener.address;
    const int descriptor = open_socket_for(calls, address);
    const bool bound =
        descriptor >= 0 && bind(descriptor, &address.base, address.size_bytes()) == 0;
    const int error = errno;
    if (descriptor >= 0) ::close(descriptor);
    if (bound || error == EADDRINUSE) return {};
    Error cannot = cannot_listen(listener, error);
    if (error != EACCES) return cannot;
    doubts.push_back(std::move(cannot.message) + ", or let the service manager pass the socket");
    return {};
}

int open_client(SystemCalls& calls, const SocketAddress& to, const SocketAddress& source,
                const SocketOptions& options) {
    const int descriptor = open_socket(calls, to.base.sa_family);
    if (descriptor < 0) return -1;
    bool done = tune(calls, descriptor, options);
    if (done && source.present()) {
        // A port chosen at bind() must be free for every destination; at connect() only for one.
        done = source.port() == 0 ? set(calls, descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                                  : set(calls, descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
        done =
            done && calls([&] { return bind(descriptor, &source.base, source.size_bytes()); }) == 0;
    }
    if (done) return descriptor;
    const int error = errno;
    calls.close(descriptor);
    errno = error;
    return -1;
}

bool bound_silence(SystemCalls& calls, int descriptor, const SocketOptions& options) {
    const int silence = seconds(options.tcp_keepalive);
    return (options.tcp_keepalive <= 0 ||
            (set(calls, descriptor, IPPROTO_TCP, TCP_KEEPINTVL,
                 std::max(1, silence / kKeepaliveProbes)) &&
             set(calls, descriptor, IPPROTO_TCP, TCP_KEEPIDLE, silence))) &&
           (options.tcp_user_timeout <= 0 || set(calls, descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT,
                                                 whole(options.tcp_user_timeout, kMillisecond)));
}

void reset_on_close(SystemCalls& calls, int descriptor) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    // Refused only for a descriptor that is not a socket: then there is nothing to reset.
    calls([&] { return setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)); });
}

}  // namespace pulse
