// The admin endpoint of this program: what net/control/ asks of the process, answered by the server
// and by the main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "net/control/anomaly_watch.h"
#include "net/control/control.h"
#include "net/observe/trace_exporter.h"
#include "net/server/server.h"
#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/operator.h"

namespace pulse::serve {

class AdminTarget;

// Nothing, where --admin is off.
class Admin {
  public:
    Admin();
    Admin(Admin&&) noexcept;
    ~Admin();

    // Before the server starts, so that an address that is taken ends the start. The error begins
    // with what was given.
    static Result<Admin> open(const ServerOptions& options, const Origins& origins);
    // The same but for the address, which the server that runs may have.
    static Result<void> check(const ServerOptions& options, const Origins& origins);
    // Answers from now on, until it is destroyed. All outlive it. `traces`: null where it is off.
    Result<void> serve(Server& server, Operator& main_thread, const AnomalyWatch& watch,
                       const TraceExporter* traces);
    // No request is answered any more. Before what it asks is gone.
    void stop() { control_.reset(); }
    // A line for the start of the log; empty: it is off.
    std::string describe() const;

  private:
    static Result<Admin> read(const ServerOptions& options, const Origins& origins);

    std::unique_ptr<AdminListener> listener_;
    std::vector<std::string> tokens_;
    std::string text_;
    std::unique_ptr<AdminTarget> target_;
    std::unique_ptr<Control> control_;
};

}  // namespace pulse::serve
