// Sockets of a client, level-triggered.
#include "net/client/sockets.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "net/io/clocks.h"
#include "net/io/sockets.h"

namespace pulse::client {
namespace {

constexpr size_t kReadBytes = 65'536;
constexpr size_t kReadBytesPerStep = size_t{1} << 20;
// What the kernel takes beyond what it has sent: the rest stays here, where it is seen to wait.
constexpr int kUnsentBytesMax = 65'536;
// How long what was sent before an orderly close has to leave, and the server to close.
constexpr Nanos kLinger = 2 * kSecond;

}  // namespace

Sockets::~Sockets() {
    for (const auto& [link, socket] : sockets_) ::close(socket.descriptor);
    if (set_ >= 0) ::close(set_);
}

Result<void> Sockets::open() {
    buffer_.resize(kReadBytes);
    set_ = epoll_create1(EPOLL_CLOEXEC);
    if (set_ >= 0) return {};
    return Error{std::string("epoll_create1: ") + std::strerror(errno) +
                 "; raise the limit of open files (ulimit -n)"};
}

Result<void> Sockets::read_tls_files() {
    if (tls_ != nullptr) return {};
    auto made = TlsClientContext::make(tls_files_);
    if (!made) return Error{made.error()};
    tls_ = std::move(*made);
    return {};
}

Nanos Sockets::due_at() const {
    Nanos due = failed_.empty() ? kNever : 0;
    for (const auto& [link, socket] : sockets_) due = std::min(due, socket.lingers_until);
    return due;
}

void Sockets::step(Engine& engine, Nanos now) {
    for (const auto& [link, why] : std::exchange(failed_, {})) engine.on_end(link, why, now);
    std::vector<epoll_event> events(sockets_.size() + 1);
    int count = 0;
    do {
        count = epoll_wait(set_, events.data(), static_cast<int>(events.size()), 0);
    } while (count < 0 && errno == EINTR);
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = events[static_cast<size_t>(i)];
        serve(event.data.u32, event.events, engine, now);
    }
    for (auto at = sockets_.begin(); at != sockets_.end();) {
        const auto over = at++;
        if (now >= over->second.lingers_until) drop(over->first);
    }
}

// ------------------------------------------------------------------------------------- connecting

Result<Addresses> look_up(const Endpoint& endpoint) {
    const std::string port = std::to_string(endpoint.port);
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int failed = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, [](addrinfo* list) {
        if (list != nullptr) freeaddrinfo(list);
    });
    if (failed != 0)
        return Error{quoted(endpoint.host) + " cannot be looked up: " + gai_strerror(failed)};
    Addresses addresses;
    for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
        if (each->ai_addrlen > sizeof(sockaddr_in6)) continue;
        SocketAddress address;
        std::memcpy(&address.base, each->ai_addr, each->ai_addrlen);
        addresses.push_back(address);
    }
    if (addresses.empty()) return Error{quoted(endpoint.host) + " has no address"};
    return addresses;
}

// The socket, on its way to `to`; -1 with errno.
int Sockets::start(const SocketAddress& to) {
    const int descriptor = open_client(calls_, to, {}, {});
    if (descriptor < 0) return -1;
    // A kernel without it only shows less of what waits.
    setsockopt(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kUnsentBytesMax,
               sizeof kUnsentBytesMax);
    if (::connect(descriptor, &to.base, to.size_bytes()) == 0 || errno == EINPROGRESS)
        return descriptor;
    const int error = errno;
    ::close(descriptor);
    errno = error;
    return -1;
}

// Begins with the next address that takes a connect. Returns why there is none, or nothing.
std::string Sockets::start_next(LinkId link, Socket& socket) {
    std::string why;
    while (!socket.others.empty()) {
        const SocketAddress to = socket.others.back();
        socket.others.pop_back();
        const int descriptor = start(to);
        epoll_event event{.events = EPOLLIN | EPOLLOUT, .data = {.u32 = link}};
        if (descriptor >= 0 && epoll_ctl(set_, EPOLL_CTL_ADD, descriptor, &event) == 0) {
            socket.descriptor = descriptor;
            return {};
        }
        const int error = errno;
        why = to.text() + ": " + std::strerror(error);
        if (descriptor >= 0) ::close(descriptor);
    }
    return why;
}

void Sockets::connect(LinkId link, const Endpoint& endpoint) {
    if (endpoint.tls) {
        if (const Result<void> files = read_tls_files(); !files)
            return void(failed_.emplace_back(link, files.error()));
    }
    Result<Addresses> addresses = look_up_(endpoint);
    if (!addresses) return void(failed_.emplace_back(link, addresses.error()));
    const auto first = static_cast<ptrdiff_t>(connects_++ % addresses->size());
    std::rotate(addresses->begin(), addresses->begin() + first, addresses->end());
    std::reverse(addresses->begin(), addresses->end());
    Socket& socket = sockets_[link];
    socket.others = std::move(*addresses);
    if (endpoint.tls) socket.tls_server = endpoint.host;
    const std::string why = start_next(link, socket);
    if (why.empty()) return;
    sockets_.erase(link);
    failed_.emplace_back(link, why);
}

bool Sockets::finish_connect(LinkId link, Engine& engine, Nanos now) {
    Socket& socket = sockets_.at(link);
    int error = 0;
    socklen_t bytes = sizeof error;
    getsockopt(socket.descriptor, SOL_SOCKET, SO_ERROR, &error, &bytes);
    if (error != 0) {
        ::close(std::exchange(socket.descriptor, -1));
        std::string why = socket.others.empty() ? std::strerror(error) : start_next(link, socket);
        if (why.empty()) return false;
        sockets_.erase(link);
        engine.on_end(link, why, now);
        return false;
    }
    socket.others = {};
    wait_to_write(link, socket, false);
    if (!socket.tls_server.empty()) return begin_tls(link, engine, now);
    socket.stage = Socket::Stage::open;
    engine.on_connected(link, now);
    return sockets_.contains(link);
}

// -------------------------------------------------------------------------------------------- TLS

bool Sockets::begin_tls(LinkId link, Engine& engine, Nanos now) {
    Socket& socket = sockets_.at(link);
    socket.stage = Socket::Stage::handshaking;
    socket.tls = TlsStream::make(*tls_, socket.tls_server);
    if (socket.tls == nullptr) return end(link, "TLS: no memory", engine, now), false;
    queue(link, socket, socket.tls->take_output());
    return true;
}

// Returns whether there is more to be done: it is open, and its link lives.
bool Sockets::continue_handshake(LinkId link, Socket& socket, Engine& engine, Nanos now) {
    const TlsStream::Step step = socket.tls->handshake();
    queue(link, socket, socket.tls->take_output());  // an alert, too
    if (step == TlsStream::Step::failed) end(link, "TLS: " + socket.tls->failure(), engine, now);
    if (step != TlsStream::Step::opened) return false;
    socket.stage = Socket::Stage::open;
    engine.on_connected(link, now);
    return sockets_.contains(link);
}

// Returns whether its socket is still there.
bool Sockets::take_records(LinkId link, std::span<const uint8_t> records, Engine& engine,
                           Nanos now) {
    Socket& come = sockets_.at(link);
    if (!come.tls->take(records)) return end(link, "TLS: no memory", engine, now), false;
    if (come.stage == Socket::Stage::handshaking && !continue_handshake(link, come, engine, now))
        return sockets_.contains(link);
    for (;;) {
        const auto found = sockets_.find(link);
        if (found == sockets_.end()) return false;
        Socket& socket = found->second;
        const TlsStream::Read read = socket.tls->read(buffer_);
        queue(link, socket, socket.tls->take_output());
        if (read.ended) {
            const std::string& failure = socket.tls->failure();
            return end(link, failure.empty() ? "" : "TLS: " + failure, engine, now), false;
        }
        if (read.bytes == 0) return true;
        if (socket.stage == Socket::Stage::open)
            engine.on_bytes(link, std::span(buffer_).first(read.bytes), now);
    }
}

// -------------------------------------------------------------------------------------- bytes in

void Sockets::serve(LinkId link, uint32_t events, Engine& engine, Nanos now) {
    const auto found = sockets_.find(link);
    if (found == sockets_.end()) return;  // closed by what an event before this one has caused
    if (found->second.stage == Socket::Stage::connecting) {
        if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
        if (!finish_connect(link, engine, now)) return;
    } else if ((events & EPOLLOUT) != 0) {
        flush(found->second);
        wait_to_write(link, found->second, found->second.out_begin < found->second.out.size());
        if (found->second.stage == Socket::Stage::open) engine.on_sent(link, now);
    }
    if ((events & ~uint32_t{EPOLLOUT}) != 0) read(link, engine, now);
}

void Sockets::read(LinkId link, Engine& engine, Nanos now) {
    for (size_t left = kReadBytesPerStep; left > 0;) {
        const auto found = sockets_.find(link);
        if (found == sockets_.end()) return;
        const bool lingers = found->second.stage == Socket::Stage::lingering;
        const size_t room = std::min(buffer_.size(), left);
        const ssize_t count = recv(found->second.descriptor, buffer_.data(), room, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) return end(link, count == 0 ? "" : std::strerror(errno), engine, now);
        const auto bytes = static_cast<size_t>(count);
        left -= bytes;
        if (found->second.tls != nullptr) {
            if (!take_records(link, std::span(buffer_).first(bytes), engine, now)) return;
            continue;
        }
        if (!lingers) engine.on_bytes(link, std::span(buffer_).first(bytes), now);
    }
}

// ------------------------------------------------------------------------------- bytes out, ends

void Sockets::end(LinkId link, std::string why, Engine& engine, Nanos now) {
    const bool lingers = sockets_.at(link).stage == Socket::Stage::lingering;
    drop(link);
    if (!lingers) engine.on_end(link, why, now);
}

void Sockets::send(LinkId link, std::string bytes) {
    const auto found = sockets_.find(link);
    if (found == sockets_.end() || found->second.broken) return;
    Socket& socket = found->second;
    if (socket.tls == nullptr) return queue(link, socket, bytes);
    // Where that fails, reading says why.
    if (!socket.tls->write(bytes)) socket.broken = true;
    queue(link, socket, socket.tls->take_output());
}

void Sockets::queue(LinkId link, Socket& socket, std::string_view bytes) {
    if (bytes.empty() || socket.broken) return;
    socket.out += bytes;
    if (socket.stage == Socket::Stage::connecting || socket.waits_to_write) return;
    flush(socket);
    wait_to_write(link, socket, socket.out_begin < socket.out.size());
}

void Sockets::flush(Socket& socket) {
    while (socket.out_begin < socket.out.size()) {
        const ssize_t count = ::send(socket.descriptor, socket.out.data() + socket.out_begin,
                                     socket.out.size() - socket.out_begin, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) {  // reading says why
            socket.broken = true;
            socket.out_begin = socket.out.size();
            break;
        }
        socket.out_begin += static_cast<size_t>(count);
    }
    if (socket.out_begin < socket.out.size() && socket.out_begin < socket.out.size() / 2) return;
    socket.out.erase(0, socket.out_begin);
    socket.out_begin = 0;
    if (socket.out.empty() && socket.stage == Socket::Stage::lingering)
        shutdown(socket.descriptor, SHUT_WR);
}

void Sockets::wait_to_write(LinkId link, Socket& socket, bool wanted) {
    if (socket.waits_to_write == wanted) return;
    socket.waits_to_write = wanted;
    const uint32_t events = EPOLLIN | (wanted ? uint32_t{EPOLLOUT} : 0u);
    epoll_event event{.events = events, .data = {.u32 = link}};
    epoll_ctl(set_, EPOLL_CTL_MOD, socket.descriptor, &event);
}

size_t Sockets::buffered(LinkId link) const {
    const auto found = sockets_.find(link);
    if (found == sockets_.end()) return 0;
    return found->second.out.size() - found->second.out_begin;
}

void Sockets::close(LinkId link, Ending ending) {
    std::erase_if(failed_, [link](const auto& failed) { return failed.first == link; });
    const auto found = sockets_.find(link);
    if (found == sockets_.end()) return;
    Socket& socket = found->second;
    if (ending == Ending::reset || socket.stage == Socket::Stage::connecting ||
        socket.stage == Socket::Stage::handshaking) {
        reset_on_close(calls_, socket.descriptor);
        return drop(link);
    }
    // What was sent leaves first, and what comes is read: with bytes unread a close would reset.
    if (socket.tls != nullptr) {
        socket.tls->say_end();
        queue(link, socket, socket.tls->take_output());
    }
    socket.stage = Socket::Stage::lingering;
    socket.lingers_until = monotonic_clock() + kLinger;
    flush(socket);
    wait_to_write(link, socket, socket.out_begin < socket.out.size());
}

Nanos Sockets::wall_clock() const { return read_kernel_clock(CLOCK_REALTIME); }

void Sockets::drop(LinkId link) {
    const auto found = sockets_.find(link);
    if (found == sockets_.end()) return;
    ::close(found->second.descriptor);
    sockets_.erase(found);
}

}  // namespace pulse::client
