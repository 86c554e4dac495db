// Assertions: what we did wrong stops the program at once, with the place and the values.
//
// PULSE_ASSERT is always on: it guards invariants whose breach would corrupt another peer's
// connection, and costs a predicted branch. PULSE_AUDIT_ASSERT is on under sanitizers and in the
// simulator's debug builds (PULSE_AUDIT=1): it guards the hottest paths and the O(n) walks. Neither
// is for bad input: that is returned or counted, never asserted.
#pragma once

namespace pulse {

// Writes one line to stderr and aborts. Cold, so that a check costs its caller only the branch.
[[noreturn, gnu::cold]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace pulse

#define PULSE_ASSERT(expression)                                        \
    do {                                                                \
        if (!(expression)) [[unlikely]]                                 \
            ::pulse::assertion_failed(#expression, __FILE__, __LINE__); \
    } while (false)

#if defined(PULSE_AUDIT) && PULSE_AUDIT
#define PULSE_AUDIT_ASSERT(expression) PULSE_ASSERT(expression)
#else
#define PULSE_AUDIT_ASSERT(expression) \
    do {                               \
    } while (false)
#endif
