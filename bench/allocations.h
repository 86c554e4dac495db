// How many times this thread asked for memory, by operator new or malloc's family, counted in front
// of the C library's allocator. Include this in one source file a program, and not with measure.h,
// which counts what is live.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse::bench {

inline thread_local uint64_t allocations = 0;

}  // namespace pulse::bench

// One source file a program includes this, see above; __libc_ names are the C library's own.
// NOLINTBEGIN(misc-definitions-in-headers,bugprone-reserved-identifier)
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t members, size_t bytes);
void* __libc_realloc(void* block, size_t bytes);

void* malloc(size_t bytes) {
    ++pulse::bench::allocations;
    return __libc_malloc(bytes);
}
void* calloc(size_t members, size_t bytes) {
    ++pulse::bench::allocations;
    return __libc_calloc(members, bytes);
}
void* realloc(void* block, size_t bytes) {
    ++pulse::bench::allocations;
    return __libc_realloc(block, bytes);
}
}
// NOLINTEND(misc-definitions-in-headers,bugprone-reserved-identifier)
