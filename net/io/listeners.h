// The listening sockets of a backend, in its epoll set. They are level-triggered: what the budget
// of a turn leaves in the backlog is reported again. Not thread-safe: they belong to the backend
// that has the set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "core/limits.h"
#include "core/result.h"
#include "core/types.h"
#include "net/io/io_backend.h"
#include "net/io/io_counters.h"
#include "net/io/sockets.h"
#include "net/io/spare_descriptor.h"
#include "net/io/system_calls.h"

namespace pulse {

class Listeners {
  public:
    // What epoll_event::data of a listener holds, above its position; no Index has this bit.
    static constexpr uint64_t kTag = uint64_t{1} << 30;
    static_assert(kConnectionsPerReactorMax < kTag);
    static bool is_listener(uint64_t data) { return (data & kTag) != 0; }
    static uint32_t position_of(uint64_t data) { return static_cast<uint32_t>(data & ~kTag); }

    // `accept_flags` are accept4()'s.
    Listeners(SystemCalls& calls, IoCounters& counters, int accept_flags)
        : calls_(calls), counters_(counters), accept_flags_(accept_flags) {}

    // IoBackend::listen(), in the epoll set `set`.
    Result<void> open(int set, std::span<const ListenAddress> addresses,
                      const SocketOptions& options);
    void close();
    // IoBackend::close_listener(): the others keep their positions.
    void close(uint32_t position);
    bool spread_accepts(std::span<const uint32_t> shares);
    size_t count() const { return sockets_.size(); }

    enum class Accept : uint8_t {
        done,
        lost,  // that peer is gone already, or a firewall forbade it (accept(2)): go on
        none,  // no peer waits, or there is no descriptor or no memory, and the listeners rest
    };
    // Requires: position < count(). `now`: a clock reading.
    Accept accept(uint32_t position, SpareDescriptor& spare, Nanos now, Accepted& accepted);

    // They are polled again when that is due. Returns until when they rest; kNever: they do not.
    Nanos rest_until() const { return rest_until_; }
    void resume_if_due(Nanos now);

  private:
    bool watch(size_t position, int operation, uint32_t events);

    SystemCalls& calls_;
    IoCounters& counters_;
    const int accept_flags_;
    int set_ = -1;
    std::vector<int> sockets_;  // -1: closed
    Nanos rest_until_ = kNever;
};

}  // namespace pulse
