// Delays by shape, jitter and hint; nothing overflows, whatever the attempt.
#include "net/client/backoff.h"

#include <algorithm>

namespace pulse::client {
namespace {

// What an immediate try falls back to where its row does not say, so that none is made hot.
constexpr Delay kAfterImmediate{Shape::exponential, kSecond, 30 * kSecond, Jitter::none};

Nanos exponential(Nanos base, Nanos cap, uint32_t attempt) {
    const uint32_t doublings = std::min(attempt - 1, 62u);
    return base > cap >> doublings ? cap : base << doublings;
}

Nanos linear(Nanos base, Nanos cap, uint32_t attempt) {
    return base > cap / attempt ? cap : base * attempt;
}

}  // namespace

Nanos plain_delay(const Delay& delay, uint32_t attempt) {
    attempt = std::max(attempt, 1u);
    if (delay.shape == Shape::linear) return linear(delay.base, delay.cap, attempt);
    if (delay.shape == Shape::exponential) return exponential(delay.base, delay.cap, attempt);
    if (attempt == 1) return 0;
    const Delay& behind = delay.base > 0 ? delay : kAfterImmediate;
    return exponential(behind.base, behind.cap, attempt - 1);
}

Nanos jittered(Nanos delay, Jitter jitter, Random& random) {
    const auto drawn = [&random](Nanos most) {
        return static_cast<Nanos>(random.below(static_cast<uint64_t>(most) + 1));
    };
    if (delay <= 0 || jitter == Jitter::none) return delay;
    if (jitter == Jitter::full) return drawn(delay);
    return delay - delay / 2 + drawn(delay / 2);
}

Nanos wait_before(const Delay& delay, uint32_t attempt, const std::optional<Hint>& hint,
                  Random& random) {
    const Nanos own = jittered(plain_delay(delay, attempt), delay.jitter, random);
    if (!hint || hint->wait < 0) return own;
    const Nanos asked = std::min(kHintMax, hint->wait);
    const Nanos kept = hint->spread ? asked + jittered(asked / 2, Jitter::full, random) : asked;
    return attempt > 1 ? std::max(kept, own) : kept;
}

}  // namespace pulse::client
