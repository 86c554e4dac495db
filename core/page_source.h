// Where big, page-grained memory comes from. core/ makes no system call, so the caller passes a
// source in: net/io/mapped_pages.h maps and advises huge pages, HeapPages below is for tests
// and the simulator.
//
// A reservation is address space: zero until touched, and (with a kernel behind it) backed only
// then. discard() makes a part read as zero again and frees its backing. Called by one thread
// at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pulse {

class PageSource {
  public:
    virtual ~PageSource() = default;
    // Zeroed, aligned to 2 MiB if `bytes` is at least that, else to 4 KiB. Fails with nullptr.
    virtual std::byte* reserve(size_t bytes) = 0;
    // The same, never on huge pages: for what grows a line at a time and must not be rounded up to
    // 2 MiB, nor wait while that much is zeroed.
    virtual std::byte* reserve_small(size_t bytes) { return reserve(bytes); }
    // reserve_small() for what no dump of this process may hold.
    virtual std::byte* reserve_secret(size_t bytes) { return reserve_small(bytes); }
    // `start` and `bytes` are multiples of 4 KiB inside one reservation.
    virtual void discard(std::byte* start, size_t bytes) = 0;
    // Gives back one whole reservation.
    virtual void release(std::byte* start, size_t bytes) = 0;
};

// From the process's heap. Keeps count of what is out, so that a test can see a leak or a promise.
class HeapPages final : public PageSource {
  public:
    std::byte* reserve(size_t bytes) override;
    void discard(std::byte* start, size_t bytes) override;
    void release(std::byte* start, size_t bytes) override;

    size_t reserved_bytes() const { return reserved_bytes_; }
    size_t discarded_bytes() const { return discarded_bytes_; }  // in total, ever
    void fail_after(size_t reservations) { reservations_left_ = reservations; }

  private:
    size_t reserved_bytes_ = 0;
    size_t discarded_bytes_ = 0;
    size_t reservations_left_ = SIZE_MAX;
};

}  // namespace pulse
