// TCP sockets as Pulsewheel wants them: how listeners and outgoing connections are opened, for
// every backend that has a kernel under it.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "core/result.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/io/system_calls.h"

namespace pulse {

// Set on a listener and inherited by what it accepts (Linux copies TCP_NODELAY, SO_KEEPALIVE with
// its times and TCP_USER_TIMEOUT into the child), so that an accept needs no further system call.
struct SocketOptions {
    // --tcp-keepalive: idle time before the first probe, a quarter of it (1 s at least) between
    // others; 0: off. What ends it is the user timeout, or without one the tenth.
    Nanos tcp_keepalive = 0;
    // --tcp-user-timeout: bytes or probes that long without an answer end it; 0: the kernel's.
    Nanos tcp_user_timeout = 0;
};

// A non-blocking socket that listens, with SO_REUSEADDR and SO_REUSEPORT so that each reactor may
// have one of its own. "*" and "[::]" take IPv4 too. Of a listener with a descriptor: a duplicate
// of that, so that each reactor closes its own. An error names address, cause and remedy.
Result<int> open_listener(SystemCalls& calls, const ListenAddress& listener,
                          const SocketOptions& options);

// From now on the kernel draws, for each connection that comes to the address of this listener, one
// of those that share it (SO_REUSEPORT): by `shares`, in the order in which they began to listen.
// Where a listener was closed, the last has its position (socket(7)). Without this the kernel
// chooses by a hash of both addresses and ports. Returns false, with errno, where the kernel does
// not take it; then all is as before.
// Requires: the sum of the shares is not 0 and fits into 32 bits.
bool spread_accepts(SystemCalls& calls, int listener, std::span<const uint32_t> shares);
// The kernel chooses by its hash again, for the address of this listener. Leaves errno alone.
void stop_spreading(SystemCalls& calls, int listener);

// A socket that holds a port without listening while a server starts, for two reasons: every
// reactor can listen on the port that the kernel chose, and a port on which another program listens
// is refused. The second needs it, because reactors listen with SO_REUSEPORT, which alone would
// share the port with any program of the same user that does so too, and split the peers.
class PortHolder {
  public:
    PortHolder() = default;
    PortHolder(PortHolder&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    PortHolder& operator=(PortHolder&&) = delete;
    ~PortHolder();

    // Port 0 in `listener` becomes the port that the kernel chose, in its text too. With `shared`
    // the port may be another program's that shares it as well. The error is open_listener()'s.
    Result<void> hold(ListenAddress& listener, bool shared);

  private:
    int descriptor_ = -1;
};

// Whether this machine has the address. A port that is taken is not an error here: the caller may
// be about to replace the server that has it. Nor is one that this process may not have, which is
// added to `doubts`: a service manager may open it.
Result<void> can_listen(const ListenAddress& listener, std::vector<std::string>& doubts);

// A non-blocking socket bound to `source` (if present) that only lacks its connect(). -1 with
// errno. Without a port in `source` the kernel chooses one at connect, by destination.
int open_client(SystemCalls& calls, const SocketAddress& to, const SocketAddress& source,
                const SocketOptions& options);

// Bounds of a connection that has others from its listener, in whole seconds and milliseconds,
// rounded up; what is 0 stays as it is. Where its listener has no keepalive it gets none. False,
// with errno: it is not a TCP socket, or is one no more.
bool bound_silence(SystemCalls& calls, int descriptor, const SocketOptions& options);

// From now on close() resets: SO_LINGER with no time.
void reset_on_close(SystemCalls& calls, int descriptor);

}  // namespace pulse
