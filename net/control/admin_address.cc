// Sockets of two families.
#include "net/control/admin_address.h"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace pulse {
namespace {

constexpr std::string_view kUnix = "unix:";
constexpr int kBacklog = 128;

Error cannot(const std::string& text, int error, std::string_view remedy) {
    return Error{"the admin endpoint cannot listen on '" + text + "': " + std::strerror(error) +
                 "; " + std::string(remedy)};
}

std::string_view remedy_of(int error) {
    switch (error) {
        case EADDRINUSE:
            return "stop the program that has this address, or choose another";
        case EACCES:
            return "choose a port above 1023, or a directory that this user may write to";
        case EADDRNOTAVAIL:
            return "name an address of this machine";
        case ENOENT:
        case ENOTDIR:
            return "make its directory first";
        default:
            return "see socket(7)";
    }
}

// Whether a process listens on a socket of the file system.
bool is_served(const sockaddr_un& name) {
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) return true;
    const int done = connect(probe, reinterpret_cast<const sockaddr*>(&name), sizeof name);
    const bool served = done == 0 || errno != ECONNREFUSED;
    ::close(probe);
    return served;
}

Result<int> open_unix(const AdminAddress& address) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.path.data(), address.path.size());
    const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return cannot(address.text, errno, remedy_of(errno));
    // What the file is made with (unix(7)); before bind, so that it never is another's to open.
    fchmod(descriptor, S_IRUSR | S_IWUSR);
    const auto bound = [&] {
        return bind(descriptor, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0;
    };
    bool done = bound();
    int error = done ? 0 : errno;
    struct stat status{};
    const bool is_there = !done && error == EADDRINUSE && lstat(name.sun_path, &status) == 0;
    if (is_there && S_ISSOCK(status.st_mode) && !is_served(name)) {
        unlink(name.sun_path);
        done = bound();
        error = done ? 0 : errno;
    }
    if (done && listen(descriptor, kBacklog) == 0) return descriptor;
    if (done) error = errno;
    ::close(descriptor);
    if (is_there && !S_ISSOCK(status.st_mode))
        return cannot(address.text, error,
                      "a file that is not a socket is there; choose another name");
    return cannot(address.text, error, remedy_of(error));
}

Result<int> open_tcp(const AdminAddress& admin) {
    const SocketAddress& address = admin.address;
    const int descriptor =
        socket(address.base.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    const bool done = descriptor >= 0 &&
                      setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                      setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
                      bind(descriptor, &address.base, address.size_bytes()) == 0 &&
                      listen(descriptor, kBacklog) == 0;
    if (done) return descriptor;
    const int error = errno;
    if (descriptor >= 0) ::close(descriptor);
    return cannot(admin.text, error, remedy_of(error));
}

}  // namespace

bool AdminAddress::is_local() const {
    if (is_unix()) return true;
    const auto prefixes = loopback_prefixes();
    return std::ranges::any_of(
        prefixes, [&](const AddressPrefix& prefix) { return prefix.contains(address); });
}

Result<AdminAddress> parse_admin_address(std::string_view text) {
    AdminAddress admin;
    admin.text = text;
    if (text.starts_with(kUnix)) {
        admin.path = text.substr(kUnix.size());
        if (admin.path.empty() || admin.path.size() >= sizeof(sockaddr_un::sun_path)) {
            return wrong_text(text,
                              "the path must have 1 to " +
                                  std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes",
                              "write unix:/run/pulsewheel/admin.sock");
        }
        return admin;
    }
    Result<SocketAddress> address = parse_address(text);
    if (!address) return Error{address.error() + ", or unix:PATH"};
    admin.address = *address;
    return admin;
}

AdminListener::AdminListener(AdminListener&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::exchange(other.path_, {})),
      text_(std::move(other.text_)) {}

AdminListener::~AdminListener() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!path_.empty()) unlink(path_.c_str());
}

Result<AdminListener> AdminListener::open(const AdminAddress& address) {
    Result<int> opened = address.is_unix() ? open_unix(address) : open_tcp(address);
    if (!opened) return Error{opened.error()};
    AdminListener listener;
    listener.descriptor_ = *opened;
    listener.path_ = address.path;
    listener.text_ = address.text;
    SocketAddress bound;
    socklen_t size_bytes = sizeof bound.v6;
    if (!address.is_unix() && getsockname(*opened, &bound.base, &size_bytes) == 0)
        listener.text_ = bound.text();
    return listener;
}

int AdminListener::take() { return std::exchange(descriptor_, -1); }

}  // namespace pulse
