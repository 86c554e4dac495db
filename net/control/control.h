// The admin endpoint: HTTP on an address of its own, answered by threads of its own, which ask
// reactors by jobs and the main thread by tasks, and never touch a connection.
//
//     http_front.h       sockets, whole requests, slow clients
//     http_head.h        the head of a request
//     control.h          who may ask; HTTP to questions, answers to HTTP (cpp-httplib)
//     routes.h           what can be asked: openapi.json describes it
//     errands.h, jobs.h  what reactors do for it
//
// Without tokens it serves only who is on this machine, and only requests that a web page which
// runs there cannot have made: a body must be application/json, and Host must not be a name.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/control/admin_address.h"
#include "net/control/target.h"

namespace pulse {

// Tokens that an operator may show: those of a file, a line each; empty lines and those that begin
// with # are nothing. The error names the file, or the line.
Result<std::vector<std::string>> read_admin_tokens(const std::string& path);

// An address that others can reach needs tokens. The error is "'ADDRESS': reason; remedy".
Result<void> check_admin_access(const AdminAddress& address, bool has_tokens);

class Control {
  public:
    // Serves from now on. `target` outlives it.
    static Result<std::unique_ptr<Control>> start(AdminListener listener,
                                                  std::vector<std::string> tokens,
                                                  ControlTarget& target);
    // Waits for requests that are being answered: their clients are gone from now on.
    ~Control();
    Control(const Control&) = delete;
    Control& operator=(const Control&) = delete;

    // What it may hold in memory: clients with a request and an unread answer each.
    static size_t memory_bytes_max();

  private:
    struct Parts;
    explicit Control(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace pulse
