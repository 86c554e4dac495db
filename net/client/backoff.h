// How long to wait before the next try. Pure: chance is a seeded generator that the caller has.
//
// The jitters are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): full is
// uniform from 0 to the delay, equal from half of it. Full spreads a crowd that lost its server at
// one moment most evenly; equal never retries at once.
#pragma once

#include <cstdint>
#include <optional>

#include "core/random.h"
#include "core/types.h"

namespace pulse::client {

// immediate: at once after the first end in a row, and from the second on exponential.
enum class Shape : uint8_t { immediate, linear, exponential };
enum class Jitter : uint8_t { none, equal, full };

// Linear: base, 2 base, 3 base ...; exponential: base, 2 base, 4 base ...; `cap` at most.
// Requires: base above 0 and cap not below it, or both 0 where the shape is immediate: then an
// immediate one falls back to 1 s to 30 s.
struct Delay {
    Shape shape = Shape::immediate;
    Nanos base = 0;
    Nanos cap = 0;
    Jitter jitter = Jitter::none;
};

// What the server asked for. `spread`: it asks the same of all (Retry-After), so that half of it
// again is added by chance; a goodbye gives each peer another time already.
struct Hint {
    Nanos wait = 0;
    bool spread = false;
};

// Longer hints are taken for this: a server that is wrong by a unit must not silence a client.
inline constexpr Nanos kHintMax = 3600 * kSecond;

// Before jitter. `attempt` is 1 for the first try after an end.
Nanos plain_delay(const Delay& delay, uint32_t attempt);

Nanos jittered(Nanos delay, Jitter jitter, Random& random);

// The wait before try number `attempt`. A hint is kept to; from the second try in a row on the
// longer of hint and backoff counts.
Nanos wait_before(const Delay& delay, uint32_t attempt, const std::optional<Hint>& hint,
                  Random& random);

}  // namespace pulse::client
