// Messages to a service manager such as systemd, as sd_notify(3) defines them: lines of NAME=VALUE
// in one datagram to the Unix socket that NOTIFY_SOCKET names.
//
// Not libsystemd: the protocol is documented as stable, and these lines cost no library.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "core/result.h"

namespace pulse::serve {

class NotifySocket {
  public:
    // Sends to no service manager.
    NotifySocket() = default;
    // `name` is a path, or an abstract name behind an '@'. The error quotes it and says what to do.
    static Result<NotifySocket> open(const std::string& name);
    NotifySocket(NotifySocket&& other) noexcept
        : descriptor_(std::exchange(other.descriptor_, -1)),
          address_(other.address_),
          size_(other.size_),
          unsent_(std::move(other.unsent_)),
          trouble_(std::move(other.trouble_)) {}
    NotifySocket& operator=(NotifySocket&& other) noexcept;
    ~NotifySocket();

    bool present() const { return descriptor_ >= 0; }
    // A change of state. Never waits: what the socket does not take is kept, and sent in order.
    void send(std::string message);
    // What the next one replaces: it is dropped where messages wait.
    void send_if_taken(const std::string& message);
    // Sends what had to wait, as far as the socket takes it. Returns true if nothing is left.
    bool flush();
    // Why a message was lost, once.
    std::optional<std::string> take_trouble() { return std::exchange(trouble_, std::nullopt); }

  private:
    // Returns false if the socket is full now; what fails otherwise is lost, and trouble.
    bool try_send(const std::string& message);

    int descriptor_ = -1;
    sockaddr_un address_{};
    socklen_t size_ = 0;
    std::deque<std::string> unsent_;
    std::optional<std::string> trouble_;
    bool failed_ = false;  // trouble was reported
};

}  // namespace pulse::serve
