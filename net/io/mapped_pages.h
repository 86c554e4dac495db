// Pages from the kernel for the connection tables and the wheels: reserved at once, backed when
// touched, the tables on huge pages where the kernel has them to give.
//
// A million records are 64 MiB; on 4 KiB pages a sweep over them, or a storm of wake-ups in random
// order, misses the TLB every time. Huge pages are advised and never required: without them
// everything works, slower. One thread at a time.
#pragma once

#include "core/page_source.h"

namespace pulse {

class MappedPages final : public PageSource {
  public:
    std::byte* reserve(size_t bytes) override;
    std::byte* reserve_small(size_t bytes) override;
    std::byte* reserve_secret(size_t bytes) override;
    void discard(std::byte* start, size_t bytes) override;
    void release(std::byte* start, size_t bytes) override;
};

}  // namespace pulse
