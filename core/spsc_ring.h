// A bounded queue between two threads: one pushes, one pops, neither ever waits.
//
//     head_ (the reader's)            tail_ (the writer's)
//       v                               v
//   [ . x x x x x x x x x x x x x x x x . . . . . ]      slots, a power of two
//
// Each side keeps a copy of the other's index and looks at the real one only when the copy says
// full or empty, so that in steady flow the two cache lines travel once a batch and not once a
// message (rigtorp's SPSCQueue). Indexes count up for ever and are masked at use, so that full and
// empty differ.
//
// Orderings: the writer's release store of tail_ makes the slots' contents visible to the reader's
// acquire load of it; the reader's release store of head_ tells the writer, by its acquire load,
// that the slots were read and may be overwritten. Nothing stronger is needed for the contents.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

#include "core/check.h"

namespace pulse {

template <class T>
class SpscRing {
    static_assert(std::is_trivially_copyable_v<T>);

  public:
    // `slots` is a power of two. The memory is taken here, once.
    explicit SpscRing(uint32_t slots) : mask_(slots - 1), slots_(new T[slots]) {
        PULSE_ASSERT(std::has_single_bit(slots));
    }

    // --- the writer's thread ---
    // False when full: nothing was pushed.
    bool try_push(const T& value) { return push_batch({&value, 1}) == 1; }
    // As many as fit, in order; how many that were.
    size_t push_batch(std::span<const T> values) {
        const uint64_t tail = tail_.load(std::memory_order_relaxed);
        if (capacity() - (tail - head_seen_) < values.size()) {
            head_seen_ = head_.load(std::memory_order_acquire);
        }
        const size_t count = std::min<size_t>(values.size(), capacity() - (tail - head_seen_));
        for (size_t i = 0; i < count; ++i) slots_[(tail + i) & mask_] = values[i];
        if (count > 0) tail_.store(tail + count, std::memory_order_release);
        return count;
    }

    // --- the reader's thread ---
    // Calls take(const T&) for at most `budget` values, in order, then frees their slots at once;
    // how many that were. `take` must not pop.
    template <class Take>
    size_t pop_batch(size_t budget, Take&& take) {
        const uint64_t head = head_.load(std::memory_order_relaxed);
        if (tail_seen_ - head < budget) tail_seen_ = tail_.load(std::memory_order_acquire);
        const size_t count = std::min<size_t>(budget, tail_seen_ - head);
        for (size_t i = 0; i < count; ++i) take(const_cast<const T&>(slots_[(head + i) & mask_]));
        if (count > 0) head_.store(head + count, std::memory_order_release);
        return count;
    }
    bool try_pop(T& value) {
        return pop_batch(1, [&](const T& popped) { value = popped; }) == 1;
    }
    bool empty() const {
        return tail_.load(std::memory_order_acquire) == head_.load(std::memory_order_relaxed);
    }

    size_t capacity() const { return size_t{mask_} + 1; }

  private:
    const uint32_t mask_;
    const std::unique_ptr<T[]> slots_;
    alignas(64) std::atomic<uint64_t> tail_{0};
    uint64_t head_seen_ = 0;  // the writer's copy of head_, on the writer's line
    alignas(64) std::atomic<uint64_t> head_{0};
    uint64_t tail_seen_ = 0;  // the reader's copy of tail_, on the reader's line
};

}  // namespace pulse
