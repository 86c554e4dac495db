// Why connections ended: what was known of each of the last ones when its end was decided, and what
// became of it then.
//
//     add(facts)  at the cause, while its silence, its protocol and its socket can still be seen
//     find(...)   to write down how it ended; for those that ask
//
// A ring: the newest takes the place of the oldest. Memory is taken as it fills and never more. An
// entry has a number, the next has the next, so that a walk can go on where it was although others
// were added meanwhile; and it is found by its connection. Pure: time is a parameter. Not
// thread-safe: it belongs to one reactor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/random.h"
#include "core/sessions/evidence.h"
#include "core/sessions/hash_index.h"
#include "core/sessions/slab.h"

namespace pulse {

class Ledger {
    struct Entry {
        Evidence facts;
        HashNode node;
    };
    // Of the index; the handle of a place is one more than the place.
    auto nodes() {
        return [this](uint32_t handle) -> HashNode& { return ring_[handle - 1].node; };
    }

  public:
    // `limit`: entries at most; 0 keeps none.
    explicit Ledger(uint32_t limit) : limit_(limit) {}

    // Returns the number of the entry. Requires: limit() > 0, and no entry of that connection.
    uint64_t add(const Evidence& facts) {
        const uint32_t place = place_of(next_);
        if (place >= ring_.capacity()) ring_.grow(place + 1);
        if (next_ - first() == limit_) index_.erase(place + 1, nodes());
        ring_[place].facts = facts;
        index_.insert(place + 1, hash_of(facts.id), nodes());
        return next_++;
    }
    // nullptr: it was never there, or a newer one has its place.
    Evidence* find(uint64_t number) {
        return number >= first() && number < next_ ? &ring_[place_of(number)].facts : nullptr;
    }
    const Evidence* find(uint64_t number) const { return const_cast<Ledger*>(this)->find(number); }
    // Of that connection.
    Evidence* find(ConnectionId id) {
        const uint32_t handle = index_.find(
            hash_of(id), nodes(), [&](uint32_t at) { return ring_[at - 1].facts.id == id; });
        return handle == 0 ? nullptr : &ring_[handle - 1].facts;
    }
    const Evidence* find(ConnectionId id) const { return const_cast<Ledger*>(this)->find(id); }
    // `limit` from now on; what is among the newest stays, with its numbers. Copies it.
    void resize(uint32_t limit) {
        Ledger resized(limit);
        const uint64_t kept = std::min<uint64_t>(size(), limit);
        resized.next_ = resized.oldest_ = next_ - kept;
        for (uint64_t number = next_ - kept; number < next_; ++number) resized.add(*find(number));
        *this = std::move(resized);
    }

    // Entries are numbered first() .. next() - 1, from the oldest to the newest.
    uint64_t first() const { return std::max(oldest_, next_ - std::min<uint64_t>(next_, limit_)); }
    uint64_t next() const { return next_; }
    uint32_t size() const { return static_cast<uint32_t>(next_ - first()); }
    uint32_t limit() const { return limit_; }
    size_t memory_bytes() const { return ring_.bytes() + index_.bytes(); }
    // What it comes to at the most. Both its parts grow by chunks, so many small ledgers take more
    // than one of as many entries.
    static constexpr size_t memory_bytes_max(uint64_t limit) {
        return Ring::bytes_max(limit) + HashIndex::bytes_max(limit);
    }

  private:
    using Ring = ChunkedArray<Entry, 6>;
    uint32_t place_of(uint64_t number) const { return static_cast<uint32_t>(number % limit_); }
    static uint32_t hash_of(ConnectionId id) {
        return static_cast<uint32_t>(mix64(uint64_t{id.generation} << 32 | id.index));
    }

    uint32_t limit_;
    uint64_t next_ = 0;
    uint64_t oldest_ = 0;  // what resize() left
    Ring ring_;
    HashIndex index_;
};

static_assert(std::is_trivially_copyable_v<Evidence>);

}  // namespace pulse
