// The heap as a source of pages.
#include "core/page_source.h"

#include <cstdlib>
#include <cstring>

#include "core/check.h"

namespace pulse {
namespace {

constexpr size_t kSmallAlignment = 4096;
constexpr size_t kHugeAlignment = size_t{2} << 20;

size_t alignment_of(size_t bytes) {
    return bytes >= kHugeAlignment ? kHugeAlignment : kSmallAlignment;
}

}  // namespace

std::byte* HeapPages::reserve(size_t bytes) {
    PULSE_ASSERT(bytes > 0);
    if (reservations_left_ == 0) return nullptr;
    --reservations_left_;
    const size_t alignment = alignment_of(bytes);
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (memory == nullptr) return nullptr;
    std::memset(memory, 0, rounded);
    reserved_bytes_ += bytes;
    return static_cast<std::byte*>(memory);
}

void HeapPages::discard(std::byte* start, size_t bytes) {
    PULSE_ASSERT(reinterpret_cast<uintptr_t>(start) % kSmallAlignment == 0);
    std::memset(start, 0, bytes);
    discarded_bytes_ += bytes;
}

void HeapPages::release(std::byte* start, size_t bytes) {
    PULSE_ASSERT(bytes <= reserved_bytes_);
    reserved_bytes_ -= bytes;
    std::free(start);
}

}  // namespace pulse
