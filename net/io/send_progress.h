// What a TCP socket's peer has acknowledged (Linux 4.1: tcpi_bytes_acked), when, what it has not,
// and for how long there was nothing to acknowledge (Linux 4.10: tcpi_busy_time).
#pragma once

#include "net/io/io_backend.h"
#include "net/io/system_calls.h"

namespace pulse {

// Of a connected socket; of one that is gone, nothing and nothing.
SendProgress send_progress(SystemCalls& calls, int descriptor);

}  // namespace pulse
