// Counts in front of the C library's allocator, which all others end in.
#include "tests/support/allocation_count.h"

#include <cstddef>

namespace {

thread_local uint64_t count = 0;

}  // namespace

uint64_t pulse::test::allocations() { return count; }

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): the C library's own names.
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t members, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);
// NOLINTEND(bugprone-reserved-identifier)

void* malloc(size_t bytes) {
    ++count;
    return __libc_malloc(bytes);
}
void* calloc(size_t members, size_t bytes) {
    ++count;
    return __libc_calloc(members, bytes);
}
void* realloc(void* block, size_t bytes) {
    ++count;
    return __libc_realloc(block, bytes);
}
}

#endif
