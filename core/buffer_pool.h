// Byte buffers that a connection borrows while it is not idle: replies on their way out, messages
// that are not whole yet. Handles are 32 bits and fit a record; 0 is none.
//
// A buffer keeps its first block when it is given back, so that the next borrower allocates
// nothing; what grew beyond kBufferKeptBytes is returned to the allocator. All buffers together
// never hold more than the bound given at construction. Not thread-safe: a pool belongs to one
// reactor.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "core/check.h"
#include "core/limits.h"

namespace pulse {

class BufferPool {
  public:
    using Handle = uint32_t;

    // `bytes_max` bounds what all borrowed buffers may hold together, padding aside.
    explicit BufferPool(size_t bytes_max) : bytes_max_(bytes_max) { buffers_.emplace_back(); }
    ~BufferPool() {
        for (Buffer& buffer : buffers_) std::free(buffer.data);
    }
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    // A buffer of the caller's, empty. It owns no memory until something is put into it.
    Handle take() {
        ++taken_;
        if (free_ != 0) {
            const Handle handle = free_;
            free_ = buffers_[handle].next_free;
            return handle;
        }
        buffers_.emplace_back();
        return static_cast<Handle>(buffers_.size() - 1);
    }

    void release(Handle handle) {
        PULSE_ASSERT(handle != 0 && taken_ > 0);
        Buffer& buffer = buffers_[handle];
        clear(handle);
        buffer.next_free = free_;
        free_ = handle;
        --taken_;
    }

    // `bytes` more at the end, or nullptr when that is over `limit` for this buffer, over the bound
    // of the pool, or more than the allocator has. Spans into this buffer are stale afterwards.
    uint8_t* extend(Handle handle, size_t bytes, size_t limit) {
        Buffer& buffer = buffers_[handle];
        if (bytes > limit || buffer.size > limit - bytes) return nullptr;
        if (buffer.size + bytes > buffer.capacity && !grow(buffer, buffer.size + bytes))
            return nullptr;
        uint8_t* place = buffer.data + buffer.size;
        buffer.size += static_cast<uint32_t>(bytes);
        return place;
    }
    bool append(Handle handle, std::span<const uint8_t> bytes, size_t limit) {
        if (bytes.empty()) return true;
        uint8_t* place = extend(handle, bytes.size(), limit);
        if (place == nullptr) return false;
        std::memcpy(place, bytes.data(), bytes.size());
        return true;
    }

    // Valid until the next extend or release of this buffer; kReceivePadBytes readable behind.
    std::span<uint8_t> bytes(Handle handle) {
        return {buffers_[handle].data, buffers_[handle].size};
    }
    size_t size(Handle handle) const { return buffers_[handle].size; }

    // Forgets everything behind the first `bytes`.
    void truncate(Handle handle, size_t bytes) {
        PULSE_ASSERT(bytes <= buffers_[handle].size);
        buffers_[handle].size = static_cast<uint32_t>(bytes);
    }
    // Empty again, and no bigger than a buffer that was just taken.
    void clear(Handle handle) {
        Buffer& buffer = buffers_[handle];
        buffer.size = 0;
        if (buffer.capacity <= kBufferKeptBytes) return;
        std::free(buffer.data);
        held_bytes_ -= buffer.capacity;
        buffer.data = nullptr;
        buffer.capacity = 0;
    }

    uint32_t taken() const { return taken_; }
    size_t held_bytes() const { return held_bytes_; }

  private:
    struct Buffer {
        uint8_t* data = nullptr;
        uint32_t size = 0;
        uint32_t capacity = 0;
        Handle next_free = 0;
    };

    bool grow(Buffer& buffer, size_t wanted) {
        size_t capacity = buffer.capacity == 0 ? kBufferFirstBytes : buffer.capacity;
        while (capacity < wanted) capacity *= 2;
        if (held_bytes_ + capacity - buffer.capacity > bytes_max_) return false;
        void* data = std::realloc(buffer.data, capacity + kReceivePadBytes);
        if (data == nullptr) return false;
        held_bytes_ += capacity - buffer.capacity;
        buffer.data = static_cast<uint8_t*>(data);
        buffer.capacity = static_cast<uint32_t>(capacity);
        return true;
    }

    size_t bytes_max_;
    size_t held_bytes_ = 0;
    uint32_t taken_ = 0;
    Handle free_ = 0;
    std::vector<Buffer> buffers_;
};

}  // namespace pulse
