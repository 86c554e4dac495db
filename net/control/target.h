// What the admin endpoint knows of the server that it belongs to, and asks of its main thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/control/anomaly_report.h"
#include "net/loop/reactors.h"

namespace pulse {

using Json = nlohmann::ordered_json;

struct CertificateEnd {
    std::string file;     // as --tls-cert names it
    int64_t not_after_s;  // since 1970
};

// How far a server is on its way to the end.
struct ServingState {
    bool draining = false;
    bool stopping_hard = false;
    Nanos draining_for = 0;
    Nanos drain_delay = 0;  // before it stops to accept
    Nanos drain_window = 0;
    uint64_t goodbyes_per_second = 0;
    uint32_t connections = 0;           // now
    uint32_t connections_max = 0;       // --max-connections
    uint32_t connections_at_drain = 0;  // when it began
    uint32_t reactors_stuck = 0;        // they have not acknowledged an order for a while
    uint32_t reactors_overloaded = 0;   // they refuse newcomers (--overload)
    std::vector<CertificateEnd> certificates{};  // those in force
};

// A counter of a thread that is not a reactor's. Those of one family differ by their reason.
struct ThreadCounter {
    std::string_view family, reason, help;
    uint64_t value = 0;
};

// A file of the live page.
struct PageFile {
    std::string_view path;  // of the request
    std::string_view type;  // its media type
    std::string_view text;  // of the program itself: it lives as long
};

// Any thread. What `ask` is said of is done by the main thread, and waited for; an error where it
// does not come to it, or refuses; then nothing was changed.
class ControlTarget {
  public:
    virtual Reactors& reactors() = 0;
    virtual ServingState serving() const = 0;
    // Of the process: version, pid, times, backend, listeners, memory. An object.
    virtual Json process() const = 0;
    virtual std::vector<std::string> listeners() const = 0;
    virtual std::vector<std::string> profiles() const = 0;
    // It was opened by another program, which goes on listening where this one closes it.
    virtual bool is_passed(size_t listener) const = 0;
    virtual size_t send_queue_bytes() const = 0;
    virtual std::span<const PageFile> page() const = 0;
    virtual AnomalyReport anomalies() const = 0;
    // For /metrics; those of a family one after the other.
    virtual std::vector<ThreadCounter> counters() const { return {}; }

    // A line for the operator: what went wrong here, and was not the fault of a request.
    virtual void warn(const std::string& line) const = 0;

    // Ask: every setting with its value, its origin, and whether a reload applies it.
    virtual Result<Json> config() = 0;
    virtual Result<std::string> log_level() = 0;
    // Ask; the inner error is that of a level that does not exist: "'TEXT' reason; remedy".
    virtual Result<Result<void>> set_log_level(std::string_view level) = 0;
    // Ask: what SIGHUP does. What has changed and what waits for a restart; or, as the inner error,
    // why nothing has changed.
    virtual Result<Result<Json>> reload() = 0;
    // Ask: these policies for cohorts, or those before the last change; the inner error is why not.
    virtual Result<Result<void>> set_policies(const std::vector<std::string>& texts) = 0;
    virtual Result<Result<void>> roll_back_policies() = 0;
    // Ask: no token with this id is right any more, in any reactor, as soon as it comes to it.
    virtual Result<void> revoke(const std::string& token_id) = 0;
    // Ask: what SIGTERM does the first time. Harmless while it drains already.
    virtual Result<void> drain() = 0;

  protected:
    ~ControlTarget() = default;
};

}  // namespace pulse
