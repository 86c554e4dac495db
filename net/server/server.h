// The server: as many reactors as were asked for, each on a thread of its own, and what the main
// thread asks of them.
//
//     plan_server(options)   any time: what it will hold and cost, or why this machine cannot
//     Server::start(plan)    threads up, all listening; or an error, and nothing left behind
//     stats() drain() stop() from the main thread
//     ended()                once every reactor has closed all connections
//
// A thread's own descriptor table (unshare(CLONE_FILES)) gives each reactor the whole
// RLIMIT_NOFILE, and no lock that others take. Its price: a descriptor opened afterwards belongs to
// one table alone, so doorbells are opened before the threads are. Where the kernel refuses it, all
// share one table, as long as --max-connections fits into that.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/overload.h"
#include "core/result.h"
#include "net/loop/log_event.h"
#include "net/loop/reactors.h"
#include "net/loop/trace_queue.h"
#include "net/server/machine.h"
#include "net/server/options.h"
#include "net/server/stats.h"

namespace pulse {

// What start() will do, checked against the machine, for an operator to read before.
struct ServerPlan {
    ServerOptions options;
    bool uring = false;           // else epoll
    std::string backend_note;     // features, or why it is epoll
    std::vector<uint32_t> cores;  // that this process may run on
    double cpu_quota = 0;         // cores' worth that the cgroup allows; 0: no quota
    uint32_t reactors = 0;
    uint32_t connections_per_reactor = 0;
    uint64_t descriptors = 0;             // that a table may hold
    bool own_tables = false;              // each reactor has a descriptor table of its own
    std::string table_note;               // why not
    std::vector<std::string> auth_notes;  // what tokens are checked with
    std::vector<std::string> tls_notes;   // which certificates there are
    // At max_connections, all idle: records and wheel; the kernel's share for the sockets.
    uint64_t user_bytes = 0;
    uint64_t kernel_bytes = 0;
    MemoryRoom available;

    // Of the ledgers of all reactors, full. Requires: reactors > 0.
    uint64_t ledger_bytes_max() const;
    // Several lines for the start of the log; what an operator should look at.
    std::vector<std::string> describe() const;
    std::vector<std::string> warnings;
};

// Raises the soft descriptor limit, probes the kernel and the listeners' addresses. What was asked
// for and does not fit is an error, which says which limit is in the way and how to raise it; a
// default that does not fit shrinks, with a warning.
Result<ServerPlan> plan_server(const ServerOptions& options);
// What an operator should look at of a listener and of what is asked of clients: of the start, and
// of a reload.
std::vector<std::string> client_certificate_warnings(const ServerOptions& options);

// How a drain goes.
struct DrainPlan {
    uint32_t connections = 0;  // when it began
    uint64_t rate = 0;         // goodbyes a second
    bool keeps_rate = false;   // that of the options; else the window needs another, or none is set
};

// Goodbyes a second with which so many are said within three quarters of the window.
uint64_t goodbyes_needed(uint32_t connections, Nanos window);

class Server {
  public:
    // `debug` gets a line for each peer while the log level is debug, from the reactors' threads at
    // once; it must not wait. `warn` gets what an operator should know at any level, likewise, a
    // line a second of a kind at most. `event` gets what --log-connections asks for, as `debug`.
    using LogLine = std::function<void(const std::string& line)>;
    using LogEvents = std::function<void(const LogEvent& event)>;
    static Result<std::unique_ptr<Server>> start(const ServerPlan& plan, LogLine debug = {},
                                                 LogLine warn = {}, LogEvents event = {});
    // Resets those that are left, and waits for the threads.
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // Everything below: the thread that called start(). Orders to the reactors are never lost and
    // never waited for (orders.h); deliver() posts those that had to wait.

    // Asks every reactor for a sign of life: deliver() returns 0 once all have acknowledged it, and
    // what was ordered before.
    void check();
    // From now on it is not ready; after the delay of the options it stops accepting, and sends
    // goodbyes to all peers. Once: what was planned is in force.
    DrainPlan drain();
    // Reset all peers now.
    void stop();
    // These options are in force from now on. Of those that are not live (settings.h) the values
    // must be the running ones. Where it listens and how many it holds stay as they are. Requires:
    // has_cohorts_for() its policies.
    void reload(const ServerOptions& options);
    // False while sessions are still told of changes before, so many of them that there are no
    // cohorts for these policies: soon there are again, unless a reactor is stuck.
    bool has_cohorts_for(const std::vector<CohortPolicy>& policies) const;
    // Looks at memory, for the steps of overload; to be called often while the options want any.
    // Returns a line for the log where the step has changed; else it is empty.
    std::string watch_memory();
    // No token with this id is right from now on, in any reactor; who has given one is closed.
    void revoke(const std::string& token_id);
    // Posts orders that had to wait. Returns how many reactors have not acknowledged all of theirs:
    // while it is not 0, call it again soon.
    uint32_t deliver();
    // True once every reactor has ended, waiting for that at most `wait`.
    bool ended(Nanos wait);
    // A reactor that has ended had to reset peers that did not take their goodbye in time.
    bool drain_cut_short() const;
    // Asked of each reactor and waited for, but no longer than a second, and once: one that is
    // stuck is reported with its last answer.
    const ServerStats& stats();
    // The step of overload that anomalies ask for, no further than the options allow. Any thread.
    void set_anomaly_step(OverloadStep step);
    // Open connections of all reactors, and the most that they hold: without asking any of them.
    uint32_t connections() const;
    uint32_t connections_max() const;
    // Reactors that refuse newcomers, by a step of overload.
    uint32_t overloaded() const;
    // TLS handshakes in flight, and the most of them since the last call.
    uint32_t tls_handshakes() const;
    uint32_t take_tls_handshakes_most();
    // Where it listens, with the ports that the kernel chose.
    const std::vector<std::string>& listening() const { return listening_; }

    // Everything below: any thread, while the server lives.

    // For the threads of an admin endpoint.
    Reactors& reactors();
    // Where the reactors put their traces; null where the options name no endpoint for them.
    std::shared_ptr<TraceQueues> traces() const;
    // Of listening(): another program has it open, too.
    bool is_passed(size_t listener) const { return plan_.options.listen[listener].descriptor >= 0; }
    // Of stats() what is not the reactors': times, process, backend, listeners.
    void fill_process(ServerStats& stats) const;

  private:
    struct Thread;
    explicit Server(const ServerPlan& plan);
    Result<void> open_doorbells();
    Result<void> start_threads(LogLine debug, LogLine warn, LogEvents event);
    CohortSet free_cohorts() const;

    ServerPlan plan_;
    std::shared_ptr<const ServerOptions> options_;  // in force
    std::vector<std::unique_ptr<Thread>> threads_;
    std::vector<std::string> listening_;
    struct Shared;
    std::unique_ptr<Shared> shared_;
    ServerStats stats_;
    Nanos started_at_ = 0;
    Nanos wall_started_at_ = 0;
    Overload memory_overload_;
};

}  // namespace pulse
