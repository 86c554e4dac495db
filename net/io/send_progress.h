// What a TCP socket's peer has acknowledged (Linux 4.1: tcpi_bytes_acked), when, and what has not.
#pragma once

#include "net/io/io_backend.h"
#include "net/io/system_calls.h"

namespace pulse {

// Of a connected socket; of one that is gone, nothing and nothing.
SendProgress send_progress(SystemCalls& calls, int descriptor);

}  // namespace pulse
