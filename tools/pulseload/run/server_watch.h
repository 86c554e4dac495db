// The server process as the kernel accounts it: CPU, RSS, and what is charged to a cgroup of its
// own. Read from its clock and from /proc; what may not be read is left out.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/run/result.h"

namespace pulse::load {

class ServerWatch {
  public:
    // `pid` 0: no process is watched. The error names the process.
    static Result<ServerWatch> of(int pid);

    // Kernel memory is what was charged to its cgroup since of(); nothing where it shares one.
    ServerReading read() const;
    bool watching() const { return pid_ != 0; }

  private:
    int pid_ = 0;
    uint64_t rss_empty_bytes_ = 0;  // at of(), before anything connects
    std::string group_;
    uint64_t kernel_bytes_before_ = 0;
};

// Of a process: what of its memory is in RAM; 0 where it has ended.
uint64_t rss_bytes(int pid);

// What the last line of a server's --stats-json file holds.
struct ServerAccount {
    std::vector<std::pair<std::string, uint64_t>> closes;  // by reason, so far
    std::optional<ServerIdentity> identity;                // from schema pulsewheel/2 on
};
Result<ServerAccount> read_server_account(const std::string& path);

}  // namespace pulse::load
