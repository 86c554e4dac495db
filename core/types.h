// The words everything else is written in: which connection, and when.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// A place in the connection table. Below limits.h's kConnectionsPerReactorMax, so that 24 bits hold
// it.
using Index = uint32_t;
inline constexpr Index kNoIndex = UINT32_MAX;

// Names one connection for ever: the place is used again, the pair is not.
struct ConnectionId {
    Index index = kNoIndex;
    uint32_t generation = 0;
    friend bool operator==(const ConnectionId&, const ConnectionId&) = default;
};

// Nanoseconds of a monotonic clock that somebody else reads; signed, so that differences may be
// taken.
using Nanos = int64_t;
inline constexpr Nanos kNever = INT64_MAX;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

// A tick of the wheel, counted from the clock's zero. Monotone, 64 bits wherever it crosses an
// interface; records keep fewer (time.h).
using Tick = uint64_t;
inline constexpr Tick kNoTick = UINT64_MAX;

// What two threads must not share if both write. A number and not the standard library's constant,
// which changes with compiler flags and so would change layouts. 64 on x86-64 and most aarch64.
inline constexpr size_t kCacheLineBytes = 64;

}  // namespace pulse
