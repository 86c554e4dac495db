// Entries of one size for secrets that connections keep while they are idle: bytes, in their order
// and without a gap, wiped when they are given back. Their pages are not in a dump of the process.
//
// It has no memory before the first is taken, and none is returned to the system before its end. It
// belongs to its reactor's thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/check.h"
#include "core/page_source.h"

namespace pulse {

class SecretSlab {
  public:
    using Handle = uint32_t;  // 0: none

    // At most `entries` of `entry_bytes` each, a multiple of 8. `pages` outlives it.
    SecretSlab(PageSource& pages, uint32_t entries, size_t entry_bytes)
        : pages_(pages), entries_(entries), entry_bytes_(entry_bytes) {
        PULSE_ASSERT(entry_bytes % 8 == 0 && entry_bytes >= sizeof(Handle));
    }
    ~SecretSlab() {
        if (start_ == nullptr) return;
        wipe(start_, used_ * entry_bytes_);
        pages_.release(start_, entries_ * entry_bytes_);
    }
    SecretSlab(const SecretSlab&) = delete;
    SecretSlab& operator=(const SecretSlab&) = delete;

    // All zeros. 0: there is no address space, or all are taken.
    Handle take() {
        if (start_ == nullptr) start_ = pages_.reserve_secret(entries_ * entry_bytes_);
        if (start_ == nullptr) return 0;
        Handle handle = free_;
        if (handle != 0) {
            std::memcpy(&free_, at(handle), sizeof free_);
            std::memset(at(handle), 0, sizeof free_);
        } else {
            if (used_ == entries_) return 0;
            handle = static_cast<Handle>(++used_);
        }
        ++taken_;
        return handle;
    }
    // Aligned to 8. Requires: it is taken.
    std::byte* at(Handle handle) { return start_ + (handle - 1) * entry_bytes_; }
    void release(Handle handle) {
        PULSE_ASSERT(handle != 0 && handle <= used_ && taken_ > 0);
        wipe(at(handle), entry_bytes_);
        std::memcpy(at(handle), &free_, sizeof free_);
        free_ = handle;
        --taken_;
    }

    uint32_t taken() const { return taken_; }
    // Of the most that were ever taken at once.
    size_t memory_bytes() const { return used_ * entry_bytes_; }

  private:
    // A compiler must not leave out what is not read again.
    static void wipe(std::byte* start, size_t bytes) {
        std::memset(start, 0, bytes);
        asm volatile("" : : "r"(start) : "memory");
    }

    PageSource& pages_;
    const size_t entries_;
    const size_t entry_bytes_;
    std::byte* start_ = nullptr;
    size_t used_ = 0;  // entries that were ever taken
    Handle free_ = 0;  // begins with the next that is
    uint32_t taken_ = 0;
};

}  // namespace pulse
