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
#include <functional>
#include <span>
#include <unordered_map>

#include "core/buffer_pool.h"
#include "core/check.h"
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
    // Whether `rest` is a part of what `handle` keeps.
    bool has(BufferPool::Handle handle, std::span<const uint8_t> rest) {
        if (handle == 0) return false;
        const std::span<const uint8_t> all = buffers_.bytes(handle);
        return !std::less<>()(rest.data(), all.data()) &&
               !std::less<>()(all.data() + all.size(), rest.data() + rest.size());
    }
    // Where `rest`, a part of what `handle` keeps, begins.
    size_t position(BufferPool::Handle handle, std::span<const uint8_t> rest) {
        return static_cast<size_t>(rest.data() - buffers_.bytes(handle).data());
    }

    // Requires: its connection has no entry.
    void push(const Entry& entry) {
        const bool is_first = serials_.emplace(entry.index, first_ + entries_.size()).second;
        PULSE_ASSERT(is_first);
        entries_.push_back(entry);
    }
    // Requires: !empty().
    Entry pop() {
        const Entry entry = entries_.front();
        serials_.erase(entry.index);
        pop_front();
        return entry;
    }
    void release(const Entry& entry) {
        if (entry.message != 0) buffers_.release(entry.message);
        if (entry.bytes != 0) buffers_.release(entry.bytes);
    }
    // The connection is gone. O(1), amortised.
    void drop(Index index) {
        const auto serial = serials_.find(index);
        if (serial == serials_.end()) return;
        Entry& entry = entries_[serial->second - first_];
        serials_.erase(serial);
        release(entry);
        entry = Entry{};
        if (entries_.front().index == kNoIndex) pop_front();
    }
    size_t size() const { return serials_.size(); }
    bool empty() const { return serials_.empty(); }

  private:
    // And what was dropped behind it.
    void pop_front() {
        do {
            entries_.pop_front();
            ++first_;
        } while (!entries_.empty() && entries_.front().index == kNoIndex);
    }

    BufferPool& buffers_;
    std::deque<Entry> entries_;  // the first is not dropped; those that are stay as empty entries
    uint64_t first_ = 0;         // serial number of the first: each has the next
    std::unordered_map<Index, uint64_t> serials_;  // of the parked ones, and of no others
};

}  // namespace pulse
