// The words everything else is written in: which connection, and when.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

// Position of a record in the connection table; less than kConnectionsPerReactorMax: 24 bits.
using Index = uint32_t;
inline constexpr Index kNoIndex = UINT32_MAX;

// Names one connection for ever: the place is used again, the pair is not.
struct ConnectionId {
    Index index = kNoIndex;
    uint32_t generation = 0;
    friend bool operator==(const ConnectionId&, const ConnectionId&) = default;
};

// The same among all reactors of a server.
struct ConnectionRef {
    ConnectionId id;
    uint32_t reactor = 0;
    friend bool operator==(const ConnectionRef&, const ConnectionRef&) = default;
};

// Nanoseconds of a monotonic clock that the caller reads. Signed, so that differences are valid.
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
