// A datagram socket that never makes the program wait.
#include "tools/pulsewheel/notify_socket.h"

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "tools/pulsewheel/limits.h"

namespace pulse::serve {

Result<NotifySocket> NotifySocket::open(const std::string& name) {
    NotifySocket opened;
    sockaddr_un& address = opened.address_;
    const bool is_abstract = name.starts_with('@');
    if (!is_abstract && !name.starts_with('/')) {
        return Error{"NOTIFY_SOCKET: '" + name +
                     "' is neither a path nor an abstract name; write /PATH or @NAME"};
    }
    // A path ends with a NUL, an abstract name with its size.
    if (name.size() + (is_abstract ? 0 : 1) > sizeof address.sun_path) {
        return Error{"NOTIFY_SOCKET: '" + name + "' is too long for a Unix socket; write at most " +
                     std::to_string(sizeof address.sun_path - 1) + " bytes"};
    }
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    if (is_abstract) address.sun_path[0] = '\0';
    opened.size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() +
                                          (is_abstract ? 0 : 1));
    opened.descriptor_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (opened.descriptor_ < 0) {
        return Error{"NOTIFY_SOCKET: " + std::string(std::strerror(errno)) +
                     "; allow AF_UNIX (RestrictAddressFamilies=), and descriptors (LimitNOFILE=)"};
    }
    return opened;
}

NotifySocket& NotifySocket::operator=(NotifySocket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    address_ = other.address_;
    size_ = other.size_;
    unsent_ = std::move(other.unsent_);
    trouble_ = std::move(other.trouble_);
    return *this;
}

NotifySocket::~NotifySocket() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool NotifySocket::try_send(const std::string& message) {
    const auto* to = reinterpret_cast<const sockaddr*>(&address_);
    if (::sendto(descriptor_, message.data(), message.size(), MSG_NOSIGNAL, to, size_) >= 0) {
        failed_ = false;
        return true;
    }
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS) return false;
    if (!std::exchange(failed_, true)) {
        trouble_ = "NOTIFY_SOCKET: the service manager does not get messages: " +
                   std::string(std::strerror(errno)) + "; look whether its socket is there";
    }
    return true;
}

void NotifySocket::send(std::string message) {
    if (!present()) return;
    // The oldest goes: the last states are those that count.
    if (unsent_.size() == kNotifyMessagesKept) unsent_.pop_front();
    unsent_.push_back(std::move(message));
    flush();
}

void NotifySocket::send_if_taken(const std::string& message) {
    if (present() && flush()) try_send(message);
}

bool NotifySocket::flush() {
    while (!unsent_.empty()) {
        if (!try_send(unsent_.front())) return false;
        unsent_.pop_front();
    }
    return true;
}

}  // namespace pulse::serve
