// What a client was sent and has not acknowledged: what it is sent again when it resumes its
// session on another connection.
//
//     acknowledged or dropped | kept: first() .. sent() | not sent yet
//
// Messages have numbers, 1 and up, in the order of their sending. What is kept is always the last
// ones: a bound drops the oldest, so that a gap is one range, which the client is told. The bytes
// are in one buffer of a pool, which is given back as soon as nothing is kept. Pure: time is a
// parameter. Owns no memory itself: release() before it is dropped.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/buffer_pool.h"
#include "core/types.h"

namespace pulse {

// Of one session. Requires: each is above 0.
struct ResumeBounds {
    uint32_t messages = 256;
    size_t bytes = size_t{64} << 10;  // with kHeadBytes for each message
    Nanos age = 60 * kSecond;
};

// Messages that are not kept any more, or never were, by what was too small for them.
struct ResumeDrops {
    uint32_t count = 0;
    uint32_t bytes = 0;
    uint32_t age = 0;
    uint32_t memory = 0;
};

class ResumeWindow {
  public:
    struct Kept {
        uint64_t number;
        uint8_t kind;       // the caller's
        uint32_t sequence;  // likewise
        std::span<const uint8_t> bytes;
    };
    // A window outside of any pool, to be handed to another thread.
    struct Packed {
        std::vector<uint8_t> bytes{};
        uint32_t count = 0;
        uint64_t sent = 0;
    };

    // So much more than its own bytes a message takes.
    static constexpr size_t kHeadBytes = 24;

    uint64_t sent() const { return sent_; }
    // The oldest that is kept; sent() + 1 where none is.
    uint64_t first() const { return sent_ - kept_ + 1; }
    uint32_t kept() const { return kept_; }

    // One more is sent.
    ResumeDrops push(BufferPool& pool, const ResumeBounds& bounds, Nanos now, uint8_t kind,
                     uint32_t sequence, std::span<const uint8_t> bytes) {
        ++sent_;
        ++kept_;  // until it is found to be too much
        ResumeDrops drops;
        drops.age = drop_old(pool, now - bounds.age, 1);
        const size_t wanted = kHeadBytes + bytes.size();
        if (wanted > bounds.bytes) {
            drops.bytes = drop_all(pool);
            return drops;
        }
        while (kept_ > bounds.messages) drops.count += drop_first(pool);
        while (kept_ > 1 && live_bytes(pool) + wanted > bounds.bytes)
            drops.bytes += drop_first(pool);
        uint8_t* place = extend(pool, wanted, bounds.bytes);
        while (place == nullptr && kept_ > 1) {
            drops.memory += drop_first(pool);
            place = extend(pool, wanted, bounds.bytes);
        }
        if (place == nullptr) {
            drops.memory += drop_all(pool);
            return drops;
        }
        write(place, {now, static_cast<uint32_t>(bytes.size()), sequence, kind}, bytes);
        return drops;
    }

    // The client has all up to `number`. False, and nothing is done: so many were not sent.
    bool acknowledge(BufferPool& pool, uint64_t number) {
        if (number > sent_) return false;
        while (kept_ > 0 && first() <= number) drop_first(pool);
        return true;
    }
    // Drops what was sent before `horizon`. Returns how many.
    uint32_t expire(BufferPool& pool, Nanos horizon) { return drop_old(pool, horizon, 0); }

    // Calls `send(kept)` for each, the oldest first, until that returns false. Meanwhile the window
    // may not change.
    template <class Send>
    void each(BufferPool& pool, Send&& send) const {
        size_t at = head_;
        uint64_t number = first();
        for (uint32_t left = kept_; left > 0; --left, ++number) {
            const Head head = read(pool, at);
            const std::span<const uint8_t> bytes =
                std::span<const uint8_t>(pool.bytes(buffer_)).subspan(at + kHeadBytes, head.size);
            if (!send(Kept{number, head.kind, head.sequence, bytes})) return;
            at += kHeadBytes + head.size;
        }
    }

    // Leaves it empty, with nothing sent.
    Packed pack(BufferPool& pool) {
        Packed packed{.count = kept_, .sent = sent_};
        if (buffer_ != 0) {
            const std::span<const uint8_t> live =
                std::span<const uint8_t>(pool.bytes(buffer_)).subspan(head_);
            packed.bytes.assign(live.begin(), live.end());
        }
        release(pool);
        return packed;
    }
    // Requires: it is empty. Returns how many the pool had no room for: then none is kept.
    uint32_t unpack(BufferPool& pool, const Packed& packed) {
        sent_ = packed.sent;
        kept_ = packed.count;
        if (kept_ == 0) return 0;
        buffer_ = pool.take();
        if (pool.append(buffer_, packed.bytes, packed.bytes.size())) return 0;
        return drop_all(pool);
    }
    void release(BufferPool& pool) {
        drop_all(pool);
        sent_ = 0;
    }

  private:
    struct Head {
        Nanos at;
        uint32_t size;
        uint32_t sequence;
        uint8_t kind;
    };
    static_assert(sizeof(Head) == kHeadBytes);

    Head read(BufferPool& pool, size_t at) const {
        Head head;
        std::memcpy(&head, pool.bytes(buffer_).data() + at, sizeof head);
        return head;
    }
    static void write(uint8_t* place, const Head& head, std::span<const uint8_t> bytes) {
        std::memcpy(place, &head, sizeof head);
        if (!bytes.empty()) std::memcpy(place + kHeadBytes, bytes.data(), bytes.size());
    }
    size_t live_bytes(BufferPool& pool) const {
        return buffer_ == 0 ? 0 : pool.size(buffer_) - head_;
    }
    // In front of what is kept there may be as much as is kept: moved down before it would be more.
    uint8_t* extend(BufferPool& pool, size_t bytes, size_t most) {
        if (buffer_ == 0) buffer_ = pool.take();
        if (head_ > 0 && head_ + bytes > live_bytes(pool)) {
            const std::span<uint8_t> all = pool.bytes(buffer_);
            std::memmove(all.data(), all.data() + head_, all.size() - head_);
            pool.truncate(buffer_, all.size() - head_);
            head_ = 0;
        }
        return pool.extend(buffer_, bytes, 2 * most);
    }
    // Requires: one that is written is kept.
    uint32_t drop_first(BufferPool& pool) {
        head_ += kHeadBytes + read(pool, head_).size;
        --kept_;
        if (head_ == pool.size(buffer_)) give_back(pool);
        return 1;
    }
    // All that are kept, and one more that is not written yet.
    uint32_t drop_all(BufferPool& pool) {
        const uint32_t dropped = kept_;
        kept_ = 0;
        if (buffer_ != 0) give_back(pool);
        return dropped;
    }
    // Of those that are written: the last `unwritten` are not.
    uint32_t drop_old(BufferPool& pool, Nanos horizon, uint32_t unwritten) {
        uint32_t dropped = 0;
        while (kept_ > unwritten && read(pool, head_).at < horizon) dropped += drop_first(pool);
        return dropped;
    }
    void give_back(BufferPool& pool) {
        pool.release(buffer_);
        buffer_ = 0;
        head_ = 0;
    }

    uint64_t sent_ = 0;
    uint32_t kept_ = 0;
    BufferPool::Handle buffer_ = 0;
    size_t head_ = 0;  // where the first that is kept begins
};

}  // namespace pulse
