// A bounded queue between two threads: one pushes, one pops, neither ever waits.
//
//     head_ (the reader's)            tail_ (the writer's)
//       v                               v
//   [ . x x x x x x x x x x x x x x x x . . . . . ]      slots, a power of two
//
//     line 0   where the slots are                      read by both, never written
//     line 1   tail_   and the writer's copy of head_   written by the writer alone
//     line 2   head_   and the reader's copy of tail_   written by the reader alone
//
// Each side keeps a copy of the other's index and looks at the real one only when the copy says
// full or not enough, so that in steady flow the two lines travel once a batch and not once a
// message (rigtorp's SPSCQueue). Indexes count up for ever, in 64 bits, and are masked at use:
// tail - head is the number of values inside, and full and empty differ.
//
// Orderings. Contents need a pair in each direction and nothing stronger:
//   - the writer stores tail_ with release after it wrote the slots; the reader's acquire load of
//     tail_ makes them visible before it reads them
//   - the reader stores head_ with release after it read the slots; the writer's acquire load of
//     head_ orders its overwriting of them after that reading
//   - each side's load of its own index is relaxed: no other thread writes it
// A release store may be delayed past the writer's later loads. Who pushes and then looks whether
// the reader sleeps needs more than the ring gives: mailbox.h.
//
// `Atomic` is std::atomic, or, in tests, one whose scheduler tries every interleaving.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "core/check.h"
#include "core/types.h"

namespace pulse {

// Room for `count` values, untouched: pages that are never used are never backed.
template <class T, size_t kAlignment = kCacheLineBytes>
class RawSlots {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);
    static_assert(alignof(T) <= kAlignment);

  public:
    RawSlots() = default;
    explicit RawSlots(size_t count)
        : first_(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kAlignment}))) {
    }
    T* get() const { return first_.get(); }

  private:
    struct Free {
        void operator()(T* first) const { ::operator delete(first, std::align_val_t{kAlignment}); }
    };
    std::unique_ptr<T, Free> first_;
};

template <class T, template <class> class Atomic = std::atomic>
class SpscRing {
  public:
    // `slots` is a power of two. The memory is taken here, once.
    explicit SpscRing(uint32_t slots) : SpscRing(RawSlots<T>(slots), nullptr, slots) {}
    // Over `slots` places of the caller's, which outlive the ring and need not be initialised.
    SpscRing(T* first, uint32_t slots) : SpscRing({}, first, slots) {}
    SpscRing(const SpscRing&) = delete;
    SpscRing& operator=(const SpscRing&) = delete;

    // --- the writer's thread ---
    // False when full: nothing was pushed.
    bool try_push(const T& value) { return push_batch({&value, 1}) == 1; }
    // As many as fit, in order; how many that were. The reader sees all of them at once.
    size_t push_batch(std::span<const T> values) {
        const uint64_t tail = tail_.load(std::memory_order_relaxed);
        if (capacity() - (tail - head_seen_) < values.size()) {
            head_seen_ = head_.load(std::memory_order_acquire);
        }
        const size_t count = std::min<size_t>(values.size(), capacity() - (tail - head_seen_));
        if (count == 0) return 0;
        const size_t before_the_seam = std::min<size_t>(count, capacity() - (tail & mask_));
        std::copy_n(values.data(), before_the_seam, slots_ + (tail & mask_));
        std::copy_n(values.data() + before_the_seam, count - before_the_seam, slots_);
        tail_.store(tail + count, std::memory_order_release);
        return count;
    }

    // So many can be pushed now, and more once the reader has taken some. Looks at the reader's
    // line, which a push does only where it must.
    size_t room() {
        head_seen_ = head_.load(std::memory_order_acquire);
        return capacity() - (tail_.load(std::memory_order_relaxed) - head_seen_);
    }

    // --- the reader's thread ---
    // Calls take(const T&) for at most `budget` values, in order, then frees their slots at once;
    // how many that were. `take` must not pop.
    template <class Take>
    size_t pop_batch(size_t budget, Take&& take) {
        const uint64_t head = head_.load(std::memory_order_relaxed);
        if (tail_seen_ - head < budget) tail_seen_ = tail_.load(std::memory_order_acquire);
        const size_t count = std::min<size_t>(budget, tail_seen_ - head);
        if (count == 0) return 0;
        for (size_t i = 0; i < count; ++i) take(std::as_const(slots_[(head + i) & mask_]));
        head_.store(head + count, std::memory_order_release);
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
    SpscRing(RawSlots<T> owned, T* first, uint32_t slots)
        : owned_(std::move(owned)),
          slots_(first != nullptr ? first : owned_.get()),
          mask_(slots - 1) {
        PULSE_ASSERT(std::has_single_bit(slots));
        static_assert(sizeof(SpscRing) % kCacheLineBytes == 0);
        // No standard layout, for libstdc++'s unique_ptr has none: then offsetof is conditionally
        // supported, which both of our compilers do, and clang warns.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
        static_assert(offsetof(SpscRing, tail_) % kCacheLineBytes == 0);
        static_assert(offsetof(SpscRing, head_) % kCacheLineBytes == 0);
        static_assert(offsetof(SpscRing, head_seen_) / kCacheLineBytes ==
                      offsetof(SpscRing, tail_) / kCacheLineBytes);
        static_assert(offsetof(SpscRing, tail_seen_) / kCacheLineBytes ==
                      offsetof(SpscRing, head_) / kCacheLineBytes);
        static_assert(offsetof(SpscRing, mask_) < offsetof(SpscRing, tail_) &&
                      offsetof(SpscRing, tail_) < offsetof(SpscRing, head_));
#pragma GCC diagnostic pop
    }

    const RawSlots<T> owned_;
    T* const slots_;
    const uint32_t mask_;
    alignas(kCacheLineBytes) Atomic<uint64_t> tail_{0};
    uint64_t head_seen_ = 0;  // the writer's copy of head_
    alignas(kCacheLineBytes) Atomic<uint64_t> head_{0};
    uint64_t tail_seen_ = 0;  // the reader's copy of tail_
};

}  // namespace pulse
