// Asks the kernel what it knows of a TCP socket: TCP_INFO, and who its peer is.
#pragma once

#include "core/transport_facts.h"
#include "net/io/system_calls.h"

namespace pulse {

// Of a connected socket, or of one that failed and was not closed yet. Two system calls. Linux 4.19
// counts what is needed to know what is unacknowledged; before it only the address is known.
TransportFacts transport_facts(SystemCalls& calls, int descriptor);

}  // namespace pulse
