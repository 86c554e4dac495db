// How many times this thread has asked for memory, through operator new or malloc's family.
#pragma once

#include <cstdint>

namespace pulse::test {

// Sanitizers bring an allocator of their own, in front of which nothing can count.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kAllocationsCounted = false;
#else
inline constexpr bool kAllocationsCounted = true;
#endif

uint64_t allocations();  // 0 for ever where they are not counted

}  // namespace pulse::test
