// What a server knows of each address that connects to it: how many connections it has, how many of
// them share a part that anonymous ones may have, how fast they came, and whether it flaps.
//
// One table for all reactors, and no lock: the kernel draws a reactor for each connection, so that
// of 54 reactors none knows more than a part of what one address does, and shares of a limit of 10
// would be none at all. It is touched when a connection begins and ends and never in between.
//
//   entry   address, connections | bucket of accepts | flaps | connections with a share   32 bytes
//
// An address may be in two sets of eight entries, which its number chooses; a new one goes into the
// one that holds less. An entry with connections stays; any other is taken by the next address that
// needs a place once its bucket is full and its flaps are over, so that entries expire without a
// timer, or before that where both sets are full. Where all sixteen have connections the address
// is not counted and its connection let in: a crowd of addresses must not shut out the next one.
//
// Addresses are numbers as number_of() of net/io/address.h makes them: of IPv6 one for each /64,
// under a secret. Two addresses may have the same number by chance: of 100,000 about one pair.
// Two reactors may give an address two entries at the same instant; their counts are added up.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/flapping.h"
#include "core/page_source.h"
#include "core/rate_limiter.h"
#include "core/types.h"

namespace pulse {

struct AddressRules {
    uint32_t connections_max = 0;  // 0: no limit, here and below
    BucketRate accepts{};
    FlappingRule flapping{};
    uint32_t share = 0;  // of connections that give way (join())
    bool any() const {
        return connections_max > 0 || accepts.limits() || flapping.ends > 0 || share > 0;
    }
};

class AddressTable {
  public:
    enum class Verdict : uint8_t {
        counted,
        uncounted,  // no room for it: it is let in, and leave() must not be called
        too_many,   // connections
        too_fast,   // accepts
        held_off,   // it flaps
    };
    struct Entered {
        Verdict verdict;
        Nanos wait = 0;  // until it may come again, where that is known
    };

    // For `connections` of a server; `pages` outlives it. Where there is no address space ok()
    // returns false, and no address is counted.
    AddressTable(PageSource& pages, uint64_t connections);
    ~AddressTable();
    AddressTable(const AddressTable&) = delete;
    AddressTable& operator=(const AddressTable&) = delete;
    bool ok() const { return entries_ != nullptr; }

    // ---- any thread
    // A connection from `address` comes. Counts it, unless it is one too many. 0 is no address, and
    // what comes from there is let in.
    Entered enter(uint32_t address, Nanos now, const AddressRules& rules);
    // It ended. Requires: it was counted; so do the others here.
    void leave(uint32_t address);
    // The same, and it lived for less than the rule's window.
    void leave_young(uint32_t address, Nanos now, const FlappingRule& rule);
    // It takes one of the share of its address; how many have one now. And gives it back.
    uint32_t join(uint32_t address);
    void part(uint32_t address);
    // Gives one back where more than `share` are taken; then one of its connections is to give way,
    // whichever, and part() is not to be called for it. Of several threads no more do than have to.
    bool part_above(uint32_t address, uint32_t share);
    uint32_t sharing(uint32_t address) const;

    // Takes one from its bucket; otherwise returns how long there is none.
    Nanos take(uint32_t address, Nanos now, const BucketRate& rate) {
        return find_live(address)->accepts.take(now, rate);
    }

    uint32_t connections(uint32_t address) const;
    // Of the address that has most. Looks at all: for an operator who asks.
    uint32_t most_connections() const;
    // Addresses with an entry, live or not forgotten yet: the most so far.
    uint64_t entries_used() const { return used_.load(std::memory_order_relaxed); }
    // What they have touched, and what all would be.
    size_t memory_bytes() const { return entries_used() * sizeof(Entry); }
    static constexpr size_t kEntryBytes = 32;
    static size_t memory_bytes_max(uint64_t connections);

  private:
    static constexpr size_t kSetEntries = 8;
    static constexpr size_t kPlaces = 2 * kSetEntries;
    struct Entry {
        std::atomic<uint64_t> head{0};  // address, and below it how many connections
        SharedBucket accepts;
        std::atomic<uint64_t> flaps{0};
        std::atomic<uint32_t> sharing{0};
    };
    static_assert(sizeof(Entry) == kEntryBytes);
    static constexpr uint32_t address_of(uint64_t head) {
        return static_cast<uint32_t>(head >> 32);
    }
    static constexpr uint32_t count_of(uint64_t head) { return static_cast<uint32_t>(head); }
    static uint64_t entries_for(uint64_t connections);

    using Places = std::array<Entry*, kPlaces>;
    Places places_of(uint32_t address) const;
    Entry* find_live(uint32_t address) const;
    Entry* claim(const Places& places, uint32_t address, Nanos now, const AddressRules& rules);
    static bool is_over(const Entry& entry, Nanos now, const AddressRules& rules);

    PageSource& pages_;
    const uint64_t count_;
    Entry* entries_ = nullptr;
    alignas(kCacheLineBytes) std::atomic<uint64_t> used_{0};
};

}  // namespace pulse
