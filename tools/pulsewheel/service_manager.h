// What a service manager (systemd) is told of the server, and when: ready, reloading, stopping, how
// many connections there are, and that every reactor makes progress.
//
//     started      READY=1, after all reactors listen
//     SIGHUP       RELOADING=1 ... READY=1, once every reactor has acknowledged the new settings
//     watchdog     a check to every reactor twice in WATCHDOG_USEC; WATCHDOG=1 when all have
//                  acknowledged it: one that is stuck, and the manager's timeout runs out
//     drain        STOPPING=1, and EXTEND_TIMEOUT_USEC again and again until it has ended
//
// Without a manager nothing of it costs anything. All of it is the main thread's, and never waits.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "core/types.h"
#include "net/server/server.h"
#include "tools/pulsewheel/notify_socket.h"

namespace pulse::serve {

class ServiceManager {
  public:
    // As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID have it, which are removed from the
    // environment. Requires: no other thread runs yet.
    static ServiceManager take_from_environment();

    // All reactors of `server`, which outlives this, listen.
    void started(Server& server);
    // A reload begins. It was refused unless reload_applied() follows.
    void reload_began();
    void reload_applied() { reload_refused_ = false; }
    // A drain begins; or an end without one.
    void draining();
    void stopping_at_once();
    // Every reactor has acknowledged all that it was asked.
    void acknowledged();
    // Does what is due; call it at due_at(), or before.
    void tend(Nanos now);
    Nanos due_at() const { return due_at_; }
    // Something that an operator should know, once.
    std::optional<std::string> take_trouble();

  private:
    enum class Phase : uint8_t { starting, serving, reloading, draining, at_once };
    std::string status() const;
    void send_status();

    NotifySocket socket_;
    std::optional<std::string> trouble_;
    Server* server_ = nullptr;
    Phase phase_ = Phase::starting;
    bool reload_refused_ = false;
    Nanos watchdog_ = 0;  // its timeout; 0: none
    bool checking_ = false;
    Nanos next_check_ = kNever;
    Nanos next_status_ = kNever;
    Nanos due_at_ = kNever;
    std::string last_status_;
};

}  // namespace pulse::serve
