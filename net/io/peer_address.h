// Whose the other end of a TCP socket is.
#pragma once

#include "net/io/address.h"
#include "net/io/system_calls.h"

namespace pulse {

// Unmapped. Of a socket that is not connected any more: none.
SocketAddress peer_address(SystemCalls& calls, int descriptor);

}  // namespace pulse
