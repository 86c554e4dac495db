// Sockets that the service manager listens on and hands over (sd_listen_fds(3)): descriptors from 3
// on, as LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES have it.
//
//     --listen auto://fd:web          the sockets of that name (FileDescriptorName=)
//     --listen auto://127.0.0.1:9000  the socket that has this address, if one was passed
//     no --listen                     all that were passed, as auto://
//
// All reactors accept from the one queue of such a socket, each through a duplicate of its own.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "net/io/address.h"
#include "net/server/options.h"

namespace pulse::serve {

struct PassedSocket {
    int descriptor = -1;
    std::string name;
    SocketAddress address;  // none: a Unix socket's
    std::string text;       // "127.0.0.1:9000", "unix:/run/x"
};

// Removes the variables from the environment, and lets no program that is started inherit what was
// passed. Requires: no other thread runs yet, and nothing was opened. An error names the variable
// or the socket that cannot be listened on.
Result<std::vector<PassedSocket>> take_passed_sockets();

// Gives the listeners of `options` what was passed for them; `listen_given`: they are not the
// default. Returns warnings, of sockets that no listener takes. Fails for a listener that finds
// none, which the error names.
Result<std::vector<std::string>> match_passed_sockets(ServerOptions& options, bool listen_given,
                                                      const std::vector<PassedSocket>& sockets);

}  // namespace pulse::serve
