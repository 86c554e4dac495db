// Byte buffers that a connection borrows while it is not idle: replies on their way out, messages
// that are not whole yet. Handles are 32 bits and fit a record; 0 is none.
//
//     0                          bytes_max           + reserve
//     |---- buffers of any size -----|---- small ones ----|
//
// What borrowers share needs a reserve for those who hold little, and what one may take shrinks as
// the pool fills: a buffer above kBufferSmallBytes grows to half of what is free (itself counted as
// free), or to kBufferShareMin, and never into the reserve; smaller ones, which carry heartbeats,
// handshakes and goodbyes, may.
//
// On shortage largest() says whose buffer is to go, which is the caller's to decide: of the address
// that holds most the largest, of equals the one that came first, and not the one that asks. So
// many connections of one address do not push out the one of another, whether they fill the pool
// with large buffers or its reserve with small ones. Counted for an address is what is larger than
// a first block, which a heartbeat and its answer are not; an address without any is not known.
//
// A buffer that is given back keeps its first block, so that the next heartbeat allocates nothing;
// what was larger returns to the allocator (or the goodbye of one that gives way would take all
// that it gave), and so does what is idle beyond kIdleBufferBytesMax. Idle blocks are not counted
// as held. Not thread-safe: a pool belongs to one reactor.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/limits.h"
#include "core/types.h"

namespace pulse {

class BufferPool {
  public:
    using Handle = uint32_t;

    // `bytes_max` bounds what all borrowed buffers may hold together, padding aside; `reserve` is
    // what small ones may hold beyond it.
    explicit BufferPool(size_t bytes_max, size_t reserve = 0)
        : bytes_max_(bytes_max), reserve_(reserve) {
        buffers_.emplace_back();
    }
    ~BufferPool() {
        for (Buffer& buffer : buffers_) std::free(buffer.data);
    }
    BufferPool(const BufferPool&) = delete;
    BufferPool& operator=(const BufferPool&) = delete;

    // A buffer of the caller's, empty. It owns no memory until something is put into it. `owner` is
    // what largest() will name; `address` is any number that its peers' address has in common.
    Handle take(Index owner = kNoIndex, uint32_t address = 0) {
        ++taken_;
        if (free_ == 0) {
            buffers_.emplace_back();
            buffers_.back().owner = owner;
            buffers_.back().address = address;
            return static_cast<Handle>(buffers_.size() - 1);
        }
        const Handle handle = free_;
        Buffer& buffer = buffers_[handle];
        free_ = buffer.next;
        buffer.next = 0;
        buffer.owner = owner;
        buffer.address = address;
        idle_bytes_ -= buffer.capacity;
        held_bytes_ += buffer.capacity;
        if (held_bytes_ > bytes_max_ + reserve_) give_back(buffer);
        return handle;
    }

    void release(Handle handle) {
        PULSE_ASSERT(handle != 0 && taken_ > 0);
        Buffer& buffer = buffers_[handle];
        clear(handle);
        if (idle_bytes_ + buffer.capacity > kIdleBufferBytesMax) give_back(buffer);
        held_bytes_ -= buffer.capacity;
        idle_bytes_ += buffer.capacity;
        buffer.owner = kNoIndex;
        buffer.next = free_;
        free_ = handle;
        --taken_;
    }

    // `bytes` more at the end, or nullptr when that is over `limit` for this buffer, over what the
    // pool has for it (was_short() tells), or more than the allocator has. Spans into this buffer
    // are stale afterwards.
    uint8_t* extend(Handle handle, size_t bytes, size_t limit) {
        Buffer& buffer = buffers_[handle];
        short_ = false;
        if (bytes > limit || buffer.size > limit - bytes) return nullptr;
        if (buffer.size + bytes > buffer.capacity && !grow(handle, buffer.size + bytes))
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

    // The last extend() failed for want of room in the pool, and wanted a buffer of so many bytes,
    // so many more than it had.
    bool was_short() const { return short_; }
    size_t wanted_bytes() const { return wanted_bytes_; }
    size_t wanted_more_bytes() const { return wanted_more_bytes_; }
    // Of the address whose counted buffers hold most, the largest; both to within a factor of two,
    // and of equals the one that came there first. 0: there is none.
    Handle largest() const {
        for (size_t order = addresses_by_order_.size(); order-- > 0;)
            if (addresses_by_order_[order].first != nullptr)
                return largest_in(*addresses_by_order_[order].first);
        return 0;
    }
    // The same of one address.
    Handle largest_of(uint32_t address) const {
        const auto holder = addresses_.find(address);
        return holder == addresses_.end() ? 0 : largest_in(holder->second);
    }
    // What the counted buffers of an address hold together.
    size_t held_by(uint32_t address) const {
        const auto holder = addresses_.find(address);
        return holder == addresses_.end() ? 0 : holder->second.bytes;
    }
    size_t addresses() const { return addresses_.size(); }
    uint32_t address(Handle handle) const { return buffers_[handle].address; }
    Index owner(Handle handle) const { return buffers_[handle].owner; }
    size_t capacity(Handle handle) const { return buffers_[handle].capacity; }
    // Its borrower is on its way out, and cannot give it back before the kernel does: it is not
    // counted, and not named by largest(), from now on. Requires: release() follows.
    void write_off(Handle handle) {
        Buffer& buffer = buffers_[handle];
        if (buffer.written_off) return;
        uncount(handle);
        held_bytes_ -= buffer.capacity;
        written_off_bytes_ += buffer.capacity;
        buffer.written_off = true;
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
    // Empty again, and no larger than one that was just taken.
    void clear(Handle handle) {
        Buffer& buffer = buffers_[handle];
        buffer.size = 0;
        if (buffer.written_off) {
            written_off_bytes_ -= buffer.capacity;
            held_bytes_ += buffer.capacity;
            buffer.written_off = false;
            return give_back(buffer);
        }
        uncount(handle);
        if (buffer.capacity > kBufferFirstBytes) give_back(buffer);
    }

    uint32_t taken() const { return taken_; }
    // Of borrowed buffers, of those written off, and of those that wait for a borrower.
    size_t held_bytes() const { return held_bytes_; }
    size_t written_off_bytes() const { return written_off_bytes_; }
    size_t idle_bytes() const { return idle_bytes_; }

  private:
    // Binary orders of the capacities of counted buffers.
    static constexpr size_t kOrderMin = 9;
    static constexpr size_t kOrders = 32;
    static_assert(2 * kBufferFirstBytes >= size_t{1} << kOrderMin);

    // The counted buffers of one size, first come, first named.
    struct Order {
        Handle first = 0;
        Handle last = 0;
    };
    // An address that holds counted buffers.
    struct Address {
        size_t bytes = 0;
        Address* next = nullptr;  // among those that hold about as much
        Address* previous = nullptr;
        std::array<Order, kOrders - kOrderMin> buffers{};  // by the binary order of their capacity
    };
    struct AddressOrder {
        Address* first = nullptr;
        Address* last = nullptr;
    };
    struct Buffer {
        uint8_t* data = nullptr;
        uint32_t size = 0;
        uint32_t capacity = 0;
        Index owner = kNoIndex;
        uint32_t address = 0;
        Handle next = 0;  // in its order's list while it is counted, in the free list while idle
        Handle previous = 0;
        bool written_off = false;
    };

    static size_t order_of(size_t bytes) { return static_cast<size_t>(std::bit_width(bytes) - 1); }

    static Handle largest_in(const Address& address) {
        for (size_t order = address.buffers.size(); order-- > 0;)
            if (address.buffers[order].first != 0) return address.buffers[order].first;
        return 0;
    }

    void count(Handle handle) {
        Buffer& buffer = buffers_[handle];
        if (buffer.capacity <= kBufferFirstBytes) return;
        Address& address = address_of(buffer.address);
        set_bytes(address, address.bytes + buffer.capacity);
        Order& order = address.buffers[order_of(buffer.capacity) - kOrderMin];
        buffer.previous = order.last;
        buffer.next = 0;
        (order.last == 0 ? order.first : buffers_[order.last].next) = handle;
        order.last = handle;
    }
    void uncount(Handle handle) {
        Buffer& buffer = buffers_[handle];
        if (buffer.capacity <= kBufferFirstBytes || buffer.written_off) return;
        const auto holder = addresses_.find(buffer.address);
        Address& address = holder->second;
        Order& order = address.buffers[order_of(buffer.capacity) - kOrderMin];
        (buffer.previous == 0 ? order.first : buffers_[buffer.previous].next) = buffer.next;
        (buffer.next == 0 ? order.last : buffers_[buffer.next].previous) = buffer.previous;
        buffer.previous = buffer.next = 0;
        set_bytes(address, address.bytes - buffer.capacity);
        if (address.bytes == 0) spare_ = addresses_.extract(holder);
    }
    // The last that held nothing any more is used again: a message after the other of one peer
    // allocates nothing here.
    Address& address_of(uint32_t number) {
        if (spare_.empty()) return addresses_[number];
        spare_.key() = number;
        spare_.mapped() = Address{};
        auto known = addresses_.insert(std::move(spare_));
        spare_ = std::move(known.node);  // not inserted: it was there
        return known.position->second;
    }
    // Into the list of those that hold about as much.
    void set_bytes(Address& address, size_t bytes) {
        const size_t before = std::exchange(address.bytes, bytes);
        if (before != 0 && bytes != 0 && order_of(before) == order_of(bytes)) return;
        if (before != 0) {
            AddressOrder& order = addresses_by_order_[order_of(before)];
            (address.previous == nullptr ? order.first : address.previous->next) = address.next;
            (address.next == nullptr ? order.last : address.next->previous) = address.previous;
            address.next = address.previous = nullptr;
        }
        if (bytes == 0) return;
        AddressOrder& order = addresses_by_order_[order_of(bytes)];
        address.previous = order.last;
        (order.last == nullptr ? order.first : order.last->next) = &address;
        order.last = &address;
    }

    // Whether a buffer may go from one capacity to another.
    bool has_room(size_t from, size_t to) const {
        const size_t others = held_bytes_ - from;
        const size_t most = bytes_max_ + (to <= kBufferSmallBytes ? reserve_ : 0);
        if (others + to > most) return false;
        return to <= kBufferSmallBytes || to <= std::max(kBufferShareMin, (most - others) / 2);
    }

    bool grow(Handle handle, size_t wanted) {
        Buffer& buffer = buffers_[handle];
        size_t capacity = buffer.capacity == 0 ? kBufferFirstBytes : buffer.capacity;
        while (capacity < wanted) capacity *= 2;
        if (buffer.written_off || !has_room(buffer.capacity, capacity)) {
            short_ = true;
            wanted_bytes_ = capacity;
            wanted_more_bytes_ = capacity - buffer.capacity;
            return false;
        }
        void* data = std::realloc(buffer.data, capacity + kReceivePadBytes);
        if (data == nullptr) return false;
        uncount(handle);
        held_bytes_ += capacity - buffer.capacity;
        buffer.data = static_cast<uint8_t*>(data);
        buffer.capacity = static_cast<uint32_t>(capacity);
        count(handle);
        return true;
    }
    void give_back(Buffer& buffer) {
        std::free(buffer.data);
        held_bytes_ -= buffer.capacity;
        buffer.data = nullptr;
        buffer.capacity = 0;
    }

    size_t bytes_max_;
    size_t reserve_;
    size_t held_bytes_ = 0;
    size_t written_off_bytes_ = 0;
    size_t idle_bytes_ = 0;
    size_t wanted_bytes_ = 0;
    size_t wanted_more_bytes_ = 0;
    bool short_ = false;
    uint32_t taken_ = 0;
    Handle free_ = 0;
    using Addresses = std::unordered_map<uint32_t, Address>;  // its nodes stay where they are
    Addresses addresses_;
    Addresses::node_type spare_;
    std::array<AddressOrder, 64> addresses_by_order_{};
    std::vector<Buffer> buffers_;
};

}  // namespace pulse
