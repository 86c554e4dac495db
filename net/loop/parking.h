// Bytes that were read and not decoded yet, because their connection, or all of them together, had
// what one turn may have (core/turn_budget.h). First come, first served, a share at a time; while
// something of a connection is here the backend reads nothing more of it (C9).
//
//     entry:  [ message: the rest of a message of pulse.v1.binary ] [ bytes: the rest of the read ]
//
// Both keep kReceiveFrontBytes of slack in front, as a codec wants it.
#pragma once

#include <algorithm>
#include <deque>
#include <span>

#include "core/buffer_pool.h"
#include "core/limits.h"
#include "core/types.h"

namespace pulse {

class Parking {
  public:
    struct Entry {
        Index index = kNoIndex;
        BufferPool::Handle message = 0;  // 0: none
        BufferPool::Handle bytes = 0;
        size_t message_at = 0;  // where what is left of it begins
        size_t bytes_at = 0;
    };

    explicit Parking(BufferPool& buffers) : buffers_(buffers) {}

    // A copy of `bytes` for a codec, or 0 where the pool has no room.
    BufferPool::Handle keep(Index owner, uint32_t address, std::span<const uint8_t> bytes) {
        const BufferPool::Handle handle = buffers_.take(owner, address);
        const size_t size = kReceiveFrontBytes + bytes.size();
        uint8_t* const place = buffers_.extend(handle, size, size);
        if (place == nullptr) {
            buffers_.release(handle);
            return 0;
        }
        std::fill_n(place, kReceiveFrontBytes, uint8_t{0});
        std::copy(bytes.begin(), bytes.end(), place + kReceiveFrontBytes);
        return handle;
    }
    std::span<uint8_t> rest(BufferPool::Handle handle, size_t at) {
        if (handle == 0) return {};
        return buffers_.bytes(handle).subspan(at);
    }
    // Where `rest`, a part of what `handle` keeps, begins.
    size_t position(BufferPool::Handle handle, std::span<const uint8_t> rest) {
        return static_cast<size_t>(rest.data() - buffers_.bytes(handle).data());
    }

    // Requires: `index` has no entry.
    void push(const Entry& entry) { entries_.push_back(entry); }
    // Requires: !empty().
    Entry pop() {
        const Entry entry = entries_.front();
        entries_.pop_front();
        return entry;
    }
    void release(const Entry& entry) {
        if (entry.message != 0) buffers_.release(entry.message);
        if (entry.bytes != 0) buffers_.release(entry.bytes);
    }
    // The connection is gone. O(size()).
    void drop(Index index) {
        const auto entry = std::ranges::find(entries_, index, &Entry::index);
        if (entry == entries_.end()) return;
        release(*entry);
        entries_.erase(entry);
    }
    size_t size() const { return entries_.size(); }
    bool empty() const { return entries_.empty(); }

  private:
    BufferPool& buffers_;
    std::deque<Entry> entries_;
};

}  // namespace pulse
