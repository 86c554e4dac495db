// What the benches measure with: this thread's CPU time, medians, and the heap's own count.
//
// Thread CPU time does not run while others have the core, which on a shared machine is most of the
// noise. Include this in one source file a program: it replaces operator new to count what is live.
#pragma once

#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "core/check.h"
#include "net/io/mapped_pages.h"

namespace pulse::bench {

inline int64_t thread_cpu_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// The value that `parts` in `of` of the samples do not exceed; sorts them. 0 if there are none.
inline int64_t quantile(std::vector<int64_t>& samples, size_t parts, size_t of) {
    if (samples.empty()) return 0;
    std::sort(samples.begin(), samples.end());
    return samples[std::min(samples.size() - 1, samples.size() * parts / of)];
}
inline int64_t median(std::vector<int64_t>& samples) { return quantile(samples, 1, 2); }

// Bytes live on the heap by operator new, each block with malloc's own 8 bytes of header.
inline size_t heap_bytes = 0;

// The production page source, and how much of what it gave out the kernel really backs.
class MeasuredPages final : public PageSource {
  public:
    std::byte* reserve(size_t bytes) override { return keep(pages_.reserve(bytes), bytes); }
    std::byte* reserve_small(size_t bytes) override {
        return keep(pages_.reserve_small(bytes), bytes);
    }
    void discard(std::byte* start, size_t bytes) override { pages_.discard(start, bytes); }
    void release(std::byte* start, size_t bytes) override {
        std::erase(reserved_, std::pair{start, bytes});
        pages_.release(start, bytes);
    }
    size_t resident_bytes() const {
        size_t resident = 0;
        for (const auto& [start, bytes] : reserved_) {
            std::vector<unsigned char> pages((bytes + kPageBytes - 1) / kPageBytes);
            PULSE_ASSERT(mincore(start, bytes, pages.data()) == 0);
            for (const unsigned char page : pages) resident += (page & 1) * kPageBytes;
        }
        return resident;
    }

  private:
    std::byte* keep(std::byte* start, size_t bytes) {
        if (start != nullptr) reserved_.emplace_back(start, bytes);
        return start;
    }

    static constexpr size_t kPageBytes = 4096;
    MappedPages pages_;
    std::vector<std::pair<std::byte*, size_t>> reserved_;
};

}  // namespace pulse::bench

// NOLINTBEGIN(misc-definitions-in-headers): one source file a program includes this, see above.
void* operator new(size_t bytes) {
    void* block = std::malloc(bytes);
    if (block == nullptr) std::abort();
    pulse::bench::heap_bytes += malloc_usable_size(block) + sizeof(size_t);
    return block;
}
void operator delete(void* block) noexcept {
    if (block != nullptr) pulse::bench::heap_bytes -= malloc_usable_size(block) + sizeof(size_t);
    std::free(block);
}
void operator delete(void* block, size_t) noexcept { operator delete(block); }
// NOLINTEND(misc-definitions-in-headers)
