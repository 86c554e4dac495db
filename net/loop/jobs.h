// The jobs that a reactor has begun (job.h), and the acknowledgements that it owes. It all belongs
// to the thread of that reactor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/message.h"
#include "core/types.h"
#include "net/loop/job.h"

namespace pulse {

class Jobs {
  public:
    explicit Jobs(uint32_t reactor) : reactor_(reactor) {}
    Jobs(const Jobs&) = delete;
    Jobs& operator=(const Jobs&) = delete;
    // Acknowledges those that are left, which are not finished.
    ~Jobs();

    void begin(Job& job, Acknowledgement acknowledgement) {
        running_.push_back({&job, acknowledgement, 0});
    }
    bool empty() const { return running_.empty(); }
    // Steps of jobs that are due at `now`, in turn, as long as `budget` lasts. Equal shares: one
    // that has much to do does not keep the others waiting.
    void run(Connections& connections, Nanos now, uint32_t& budget);
    // When the next step is due, or a look at what was cancelled; kNever: there is no job.
    Nanos due_at(Nanos now) const;

  private:
    struct Running {
        Job* job;
        Acknowledgement acknowledgement;
        Nanos due;
    };
    void step(Running& running, Connections& connections, Nanos now, uint32_t& budget,
              uint32_t share);
    void give_up(Running& running, const Connections& connections, std::string_view why) const;
    void acknowledge(const Running& running) const;

    const uint32_t reactor_;
    std::vector<Running> running_;
    size_t next_ = 0;  // whose turn it is
};

}  // namespace pulse
