// The marks of watch_proof.h: eventfds in an epoll set, which are never read and are ready once
// for each write (EPOLLET). Not thread-safe: they belong to the backend that has the set.
#pragma once

#include <array>
#include <cstdint>

#include "core/limits.h"
#include "core/types.h"
#include "net/io/limits.h"
#include "net/io/system_calls.h"
#include "net/io/watch_proof.h"

namespace pulse {

class WatchMarks {
  public:
    // What epoll_event::data of a mark holds, above its number; no Index has this bit.
    static constexpr uint64_t kTag = uint64_t{1} << 31;
    static_assert(kConnectionsPerReactorMax < kTag);
    static bool is_mark(uint64_t data) { return (data & kTag) != 0; }
    static uint32_t number_of(uint64_t data) { return static_cast<uint32_t>(data & ~kTag); }

    // Fails with errno set: there are no descriptors, or no memory.
    bool open(SystemCalls& calls, int watch_set);
    void close(SystemCalls& calls);

    // Makes the mark ready that is due, if one is. `now`: a clock reading.
    void place(SystemCalls& calls, WatchProof& proof, Nanos now) {
        const uint32_t mark = proof.due();
        if (mark < kWatchMarks && ring(calls, mark)) proof.placed(mark, now);
    }

  private:
    bool ring(SystemCalls& calls, uint32_t mark);

    std::array<int, kWatchMarks> descriptors_{};  // 0: not open
};

}  // namespace pulse
