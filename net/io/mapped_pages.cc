// mmap, madvise, munmap.
#include "net/io/mapped_pages.h"

#include <sys/mman.h>

#include <cstdint>

#include "core/check.h"

namespace pulse {
namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kHugePageBytes = size_t{2} << 20;

constexpr size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

std::byte* map(size_t bytes) {
    // NORESERVE: address space for the limit is not charged; pages are, when touched.
    void* start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? nullptr : static_cast<std::byte*>(start);
}

void unmap(std::byte* start, size_t bytes) {
    if (bytes > 0) PULSE_ASSERT(munmap(start, bytes) == 0);
}

}  // namespace

std::byte* MappedPages::reserve(size_t bytes) {
    PULSE_ASSERT(bytes > 0);
    const size_t whole = round_up(bytes, kPageBytes);
    if (whole < kHugePageBytes) return map(whole);
    // The kernel aligns to 4 KiB only: ask for 2 MiB too much, and cut off what sticks out.
    std::byte* start = map(whole + kHugePageBytes);
    if (start == nullptr) return nullptr;
    const uintptr_t place = reinterpret_cast<uintptr_t>(start);
    const size_t before = round_up(place, kHugePageBytes) - place;
    unmap(start, before);
    unmap(start + before + whole, kHugePageBytes - before);
    start += before;
    // Only whole 2 MiB pieces: a tail could at best be joined with the pages of others. Refused by
    // kernels without huge pages, which is not an error.
    madvise(start, whole / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE);
    return start;
}

std::byte* MappedPages::reserve_small(size_t bytes) {
    PULSE_ASSERT(bytes > 0);
    const size_t whole = round_up(bytes, kPageBytes);
    std::byte* start = map(whole);
    // Kernels that give huge pages unasked are asked not to; refused by those without any.
    if (start != nullptr) madvise(start, whole, MADV_NOHUGEPAGE);
    return start;
}

std::byte* MappedPages::reserve_secret(size_t bytes) {
    std::byte* start = reserve_small(bytes);
    if (start == nullptr || madvise(start, round_up(bytes, kPageBytes), MADV_DONTDUMP) == 0)
        return start;
    release(start, bytes);
    return nullptr;
}

void MappedPages::discard(std::byte* start, size_t bytes) {
    PULSE_ASSERT(reinterpret_cast<uintptr_t>(start) % kPageBytes == 0);
    PULSE_ASSERT(bytes % kPageBytes == 0);
    // Private and anonymous: the next touch finds zeros.
    PULSE_ASSERT(madvise(start, bytes, MADV_DONTNEED) == 0);
}

void MappedPages::release(std::byte* start, size_t bytes) {
    unmap(start, round_up(bytes, kPageBytes));
}

}  // namespace pulse
