// The server process as the kernel accounts it: CPU, RSS, and what the sockets of this machine
// cost. Read from /proc; what may not be read is left out.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/result.h"

namespace pulse::load {

class ServerWatch {
  public:
    // `pid` 0: nobody is watched. The error names the process.
    static Result<ServerWatch> of(int pid);

    // Kernel memory is the growth since of(): both ends of each connection, where they share a
    // machine. It needs root (/proc/slabinfo); 0 without.
    ServerReading read() const;
    bool watching() const { return pid_ != 0; }

  private:
    int pid_ = 0;
    uint64_t kernel_bytes_before_ = 0;
};

// What live objects of the slab caches that sockets are made of occupy, their share of a page's
// waste included; 0 where /proc/slabinfo is not to be read.
uint64_t socket_slab_bytes();

// Closes by reason so far, as the last line of a server's --stats-json file tells.
Result<std::vector<std::pair<std::string, uint64_t>>> read_server_closes(const std::string& path);

}  // namespace pulse::load
