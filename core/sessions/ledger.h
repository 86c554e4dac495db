// Why connections ended: what was known of each of the last ones when its end was decided, and what
// became of it then.
//
//     add(facts)  at the cause, while its silence, its protocol and its socket can still be seen
//     find(...)   to write down how it ended; for those that ask
//
// A ring: the newest takes the place of the oldest. Memory is taken as it fills and never more. An
// entry has a number, the next has the next, so that a walk can go on where it was although others
// were added meanwhile. Pure: time is a parameter. Not thread-safe: it belongs to one reactor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/sessions/evidence.h"
#include "core/sessions/slab.h"

namespace pulse {

class Ledger {
  public:
    // `limit`: entries at most; 0 keeps none.
    explicit Ledger(uint32_t limit) : limit_(limit) {}

    // Returns the number of the entry. Requires: limit() > 0.
    uint64_t add(const Evidence& facts) {
        const auto place = static_cast<uint32_t>(next_ % limit_);
        if (place >= ring_.capacity()) ring_.grow(place + 1);
        ring_[place] = facts;
        return next_++;
    }
    // nullptr: it was never there, or a newer one has its place.
    Evidence* find(uint64_t number) {
        return number >= first() && number < next_ ? &at(number) : nullptr;
    }
    const Evidence* find(uint64_t number) const { return const_cast<Ledger*>(this)->find(number); }
    // Of that connection, looked for from the newest on. O(entries).
    const Evidence* find(ConnectionId id) const {
        for (uint64_t number = next_; number > first(); --number) {
            const Evidence* facts = find(number - 1);
            if (facts->id == id) return facts;
        }
        return nullptr;
    }

    // Entries are numbered first() .. next() - 1, from the oldest to the newest.
    uint64_t first() const { return next_ - std::min<uint64_t>(next_, limit_); }
    uint64_t next() const { return next_; }
    uint32_t size() const { return static_cast<uint32_t>(next_ - first()); }
    uint32_t limit() const { return limit_; }
    size_t memory_bytes() const { return ring_.bytes(); }
    // What it comes to when it is full.
    static size_t memory_bytes(uint32_t limit) { return size_t{limit} * sizeof(Evidence); }

  private:
    static constexpr uint32_t kChunkLog2 = 6;
    Evidence& at(uint64_t number) { return ring_[static_cast<uint32_t>(number % limit_)]; }

    uint32_t limit_;
    uint64_t next_ = 0;
    ChunkedArray<Evidence, kChunkLog2> ring_;
};

static_assert(std::is_trivially_copyable_v<Evidence>);

}  // namespace pulse
