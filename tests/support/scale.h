// How much work a test does: whole in a plain build, less where a sanitizer makes each step slow.
#pragma once

#include <cstdint>

namespace pulse::test {

#if defined(PULSE_TSAN)
inline constexpr uint64_t kSlowness = 20;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr uint64_t kSlowness = 10;
#else
inline constexpr uint64_t kSlowness = 1;
#endif

// `whole` in a plain build, a fraction of it (at least 1) under a sanitizer.
constexpr uint64_t scaled(uint64_t whole) { return whole / kSlowness > 0 ? whole / kSlowness : 1; }

}  // namespace pulse::test
