// Records of one kind in chunks that never move, named by 32-bit handles; 0 is none. A free record
// costs nothing beyond its place, and growing copies nothing, so that no turn waits for a million
// records to move.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/check.h"

namespace pulse {

// An array that grows by chunks of 2^kChunkLog2 values, zeroed. Elements keep their address.
template <class T, uint32_t kChunkLog2>
class ChunkedArray {
  public:
    static constexpr uint32_t kChunk = uint32_t{1} << kChunkLog2;

    T& operator[](uint32_t index) { return chunks_[index >> kChunkLog2][index & (kChunk - 1)]; }
    const T& operator[](uint32_t index) const {
        return chunks_[index >> kChunkLog2][index & (kChunk - 1)];
    }
    // At least `size` elements from now on.
    void grow(uint32_t size) {
        while (capacity() < size) chunks_.push_back(std::make_unique<T[]>(kChunk));
    }
    uint32_t capacity() const { return static_cast<uint32_t>(chunks_.size()) << kChunkLog2; }
    size_t bytes() const {
        return capacity() * sizeof(T) + chunks_.capacity() * sizeof(std::unique_ptr<T[]>);
    }
    // What bytes() comes to at the most, grown to `size`: the list of chunks doubles.
    static constexpr size_t bytes_max(uint64_t size) {
        const uint64_t chunks = (size + kChunk - 1) / kChunk;
        return chunks * (kChunk * sizeof(T) + 2 * sizeof(std::unique_ptr<T[]>));
    }

  private:
    std::vector<std::unique_ptr<T[]>> chunks_;
};

template <class T>
class Slab {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) >= sizeof(uint32_t));

  public:
    using Handle = uint32_t;

    // `limit`: records at once.
    explicit Slab(uint32_t limit) : limit_(limit) {}

    // A record with the values of T{}; 0 when `limit` are taken.
    Handle take() {
        if (taken_ == limit_) return 0;
        ++taken_;
        Handle handle = free_;
        if (handle != 0) {
            free_ = next_free(handle);
        } else {
            handle = ++fresh_;
            records_.grow(handle + 1);
        }
        records_[handle] = T{};
        return handle;
    }
    void release(Handle handle) {
        PULSE_ASSERT(handle != 0 && handle <= fresh_ && taken_ > 0);
        --taken_;
        next_free(handle) = free_;
        free_ = handle;
    }

    T& operator[](Handle handle) {
        PULSE_AUDIT_ASSERT(handle != 0 && handle <= fresh_);
        return records_[handle];
    }
    const T& operator[](Handle handle) const {
        PULSE_AUDIT_ASSERT(handle != 0 && handle <= fresh_);
        return records_[handle];
    }

    uint32_t taken() const { return taken_; }
    // Every handle that was ever given is at most this one.
    Handle last() const { return fresh_; }
    size_t bytes() const { return records_.bytes(); }
    // Of records that were taken and released.
    size_t free_bytes() const { return size_t{fresh_ - taken_} * sizeof(T); }

  private:
    // 64 KiB at most, so that a shard with a few users costs little.
    static constexpr uint32_t kChunkLog2 = 10;

    uint32_t& next_free(Handle handle) { return reinterpret_cast<uint32_t&>(records_[handle]); }

    uint32_t limit_;
    uint32_t taken_ = 0;
    Handle free_ = 0;
    Handle fresh_ = 0;
    ChunkedArray<T, kChunkLog2> records_;
};

}  // namespace pulse
