// The thread that measures the server each second while clients watch it, and those clients: what
// the live page (tools/pulsewheel/page/) draws.
//
//     reactors <-- StatsJob each, every kStatusPollNs while any client follows -- hub
//     hub --> buffer of each follower --> front thread (http_front.h) --> client
//
// A follower is sent, as Server-Sent Events:
//
//     status       all figures at one moment, whole: nothing is lost with an event that is missed
//     dropped      you read too slowly; the stream ends
//
// The first comes at once. Counters count since the start of the server, which `pid` and
// `started_at` name: rates are differences of two events of one start. Of a reactor that does not
// answer the figures are those that it gave last, but for percentiles in `total`: they are of the
// reactors that answered this time. Where memory is short all streams end; clients may come again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/result.h"
#include "net/control/errands.h"
#include "net/control/event_buffer.h"
#include "net/control/jobs.h"
#include "net/control/target.h"

namespace pulse {

// A client that has not taken what is too much already is sent `dropped`, and nothing more. Returns
// whether it goes on.
bool offer_status(EventBuffer& follower, const std::string& event);

class StatusHub {
  public:
    // Both outlive this.
    StatusHub(Errands& errands, const ControlTarget& target) : errands_(errands), target_(target) {}
    // Waits for the thread. The streams that it gave may outlive it, and say nothing more.
    ~StatusHub();
    StatusHub(const StatusHub&) = delete;
    StatusHub& operator=(const StatusHub&) = delete;

    // Any thread. One more follower. The error is that of the thread that cannot be started.
    // nullptr: as many follow as may.
    Result<std::shared_ptr<HttpStream>> follow();

    // What followers may hold.
    static size_t memory_bytes_max();

  private:
    struct Follower;
    // What a reactor said last.
    struct Seen {
        std::string_view state = "stuck";
        MetricsSnapshot metrics;
        Gauges gauges;
        IoCounters io;
        WheelRings rings;
        Population::Counts population;
        Nanos turn_p99 = 0, turn_max = 0;
    };
    Result<void> start();
    void run();
    void serve();
    void drop_all(std::string_view why);
    bool all_begun() const;
    void measure();
    void take(Seen& seen, const ReactorStats& stats);
    Json status() const;

    Errands& errands_;
    const ControlTarget& target_;
    std::mutex lock_;
    std::condition_variable changed_;
    std::vector<std::shared_ptr<Follower>> followers_;  // of all threads
    bool stopping_ = false;
    std::thread thread_;
    // The thread's.
    std::vector<Seen> reactors_;
    Distributions distributions_;  // of those that have answered, together
};

}  // namespace pulse
