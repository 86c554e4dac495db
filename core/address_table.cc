// Finding, claiming and counting, by compare-and-swap on an entry's first word.
#include "core/address_table.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "core/limits.h"
#include "core/random.h"

namespace pulse {
namespace {

// Each try that fails is another thread's success.
constexpr int kTriesMax = 1'000;

}  // namespace

// Half full, two sets of eight overflow for one address in billions.
uint64_t AddressTable::entries_for(uint64_t connections) {
    return std::clamp(std::bit_ceil(2 * connections), kAddressEntriesMin, kAddressEntriesMax);
}

size_t AddressTable::memory_bytes_max(uint64_t connections) {
    return entries_for(connections) * sizeof(Entry);
}

AddressTable::AddressTable(PageSource& pages, uint64_t connections)
    : pages_(pages), count_(entries_for(connections)) {
    // Zeros are entries without an address: no page is touched before one is used.
    entries_ = reinterpret_cast<Entry*>(pages_.reserve_small(count_ * sizeof(Entry)));
}

AddressTable::~AddressTable() {
    if (ok()) pages_.release(reinterpret_cast<std::byte*>(entries_), count_ * sizeof(Entry));
}

AddressTable::Places AddressTable::places_of(uint32_t address) const {
    const uint64_t sets = count_ / kSetEntries;
    const uint64_t hash = mix64(address);
    const uint64_t first = hash & (sets - 1);
    const uint64_t second = (first + 1 + (hash >> 32) % (sets - 1)) & (sets - 1);
    Places places;
    for (size_t i = 0; i < kSetEntries; ++i) {
        places[i] = entries_ + first * kSetEntries + i;
        places[kSetEntries + i] = entries_ + second * kSetEntries + i;
    }
    return places;
}

bool AddressTable::is_over(const Entry& entry, Nanos now, const AddressRules& rules) {
    return entry.accepts.full_at() <= now &&
           Flaps(entry.flaps.load(std::memory_order_relaxed)).is_over(now, rules.flapping);
}

AddressTable::Entered AddressTable::enter(uint32_t address, Nanos now, const AddressRules& rules) {
    if (!ok() || address == 0) return {Verdict::uncounted};
    const Places places = places_of(address);
    for (int tries = 0; tries < kTriesMax; ++tries) {
        Entry* found = nullptr;
        uint64_t head = 0, connections = 0;
        for (Entry* entry : places) {
            const uint64_t word = entry->head.load(std::memory_order_acquire);
            if (address_of(word) != address) continue;
            connections += count_of(word);
            if (found == nullptr) found = entry, head = word;
        }
        if (found == nullptr) {
            found = claim(places, address, now, rules);
            if (found == nullptr) return {Verdict::uncounted};
        } else {
            const Nanos held = Flaps(found->flaps.load(std::memory_order_relaxed)).held_for(now);
            if (rules.flapping.ends > 0 && held > 0) return {Verdict::held_off, held};
            if (rules.connections_max > 0 && connections >= rules.connections_max)
                return {Verdict::too_many};
            if (!found->head.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel))
                continue;
        }
        const Nanos wait = found->accepts.take(now, rules.accepts);
        if (wait == 0) return {Verdict::counted};
        found->head.fetch_sub(1, std::memory_order_acq_rel);
        return {Verdict::too_fast, wait};
    }
    return {Verdict::uncounted};
}

// An entry for a new address, with one connection. nullptr: all places have connections.
AddressTable::Entry* AddressTable::claim(const Places& places, uint32_t address, Nanos now,
                                         const AddressRules& rules) {
    for (int tries = 0; tries < kTriesMax; ++tries) {
        // By set: how many are in use, and one that is not; of both, one that is only remembered.
        std::array<size_t, 2> used{};
        std::array<Entry*, 2> unused{};
        std::array<uint64_t, 2> unused_head{};
        Entry* remembered = nullptr;
        uint64_t remembered_head = 0;
        for (size_t i = 0; i < kPlaces; ++i) {
            Entry* const entry = places[i];
            const size_t set = i / kSetEntries;
            const uint64_t head = entry->head.load(std::memory_order_acquire);
            if (count_of(head) > 0) {
                ++used[set];
            } else if (head == 0 || is_over(*entry, now, rules)) {
                if (unused[set] == nullptr) unused[set] = entry, unused_head[set] = head;
            } else {
                ++used[set];
                // The one that is forgotten soonest by its bucket: those held off stay longest.
                const bool sooner =
                    remembered == nullptr || entry->flaps.load(std::memory_order_relaxed) <
                                                 remembered->flaps.load(std::memory_order_relaxed);
                if (sooner) remembered = entry, remembered_head = head;
            }
        }
        size_t set = used[1] < used[0] ? 1 : 0;
        if (unused[set] == nullptr) set = 1 - set;
        Entry* entry = unused[set] != nullptr ? unused[set] : remembered;
        uint64_t head = unused[set] != nullptr ? unused_head[set] : remembered_head;
        if (entry == nullptr) return nullptr;
        const bool fresh = head == 0;
        const uint64_t mine = uint64_t{address} << 32 | 1;
        if (!entry->head.compare_exchange_strong(head, mine, std::memory_order_acq_rel)) continue;
        entry->accepts.fill();
        entry->sharing.store(0, std::memory_order_relaxed);
        entry->flaps.store(0, std::memory_order_relaxed);
        if (fresh) used_.fetch_add(1, std::memory_order_relaxed);
        return entry;
    }
    return nullptr;
}

// One with connections. There is one for each that is counted; where an address has two, others may
// change both while they are looked at.
AddressTable::Entry* AddressTable::find_live(uint32_t address) const {
    const Places places = places_of(address);
    for (int tries = 0; tries < kTriesMax; ++tries) {
        for (Entry* entry : places) {
            const uint64_t head = entry->head.load(std::memory_order_acquire);
            if (address_of(head) == address && count_of(head) > 0) return entry;
        }
    }
    PULSE_ASSERT(false && "a connection that was counted has no entry");
    return nullptr;
}

void AddressTable::leave(uint32_t address) {
    for (;;) {
        Entry* const entry = find_live(address);
        uint64_t head = entry->head.load(std::memory_order_acquire);
        while (address_of(head) == address && count_of(head) > 0)
            if (entry->head.compare_exchange_weak(head, head - 1, std::memory_order_acq_rel))
                return;
    }
}

void AddressTable::leave_young(uint32_t address, Nanos now, const FlappingRule& rule) {
    std::atomic<uint64_t>& flaps = find_live(address)->flaps;
    uint64_t word = flaps.load(std::memory_order_relaxed);
    while (!flaps.compare_exchange_weak(word, Flaps(word).ended(now, rule).word(),
                                        std::memory_order_relaxed)) {
    }
    leave(address);
}

uint32_t AddressTable::join(uint32_t address) {
    return find_live(address)->sharing.fetch_add(1, std::memory_order_relaxed) + 1;
}

// Where an address has two entries it may have joined at the other.
void AddressTable::part(uint32_t address) {
    for (Entry* entry : places_of(address)) {
        if (address_of(entry->head.load(std::memory_order_acquire)) != address) continue;
        uint32_t sharing = entry->sharing.load(std::memory_order_relaxed);
        while (sharing > 0)
            if (entry->sharing.compare_exchange_weak(sharing, sharing - 1,
                                                     std::memory_order_relaxed))
                return;
    }
}

// The look and the change are one step, by the entry that has most: where an address has two, which
// is rare, a change of the other in between is not seen.
bool AddressTable::part_above(uint32_t address, uint32_t share) {
    for (;;) {
        uint32_t all = 0;
        std::atomic<uint32_t>* most = nullptr;
        uint32_t seen = 0;
        for (Entry* entry : places_of(address)) {
            if (address_of(entry->head.load(std::memory_order_acquire)) != address) continue;
            const uint32_t sharing = entry->sharing.load(std::memory_order_relaxed);
            all += sharing;
            if (most == nullptr || sharing > seen) most = &entry->sharing, seen = sharing;
        }
        if (most == nullptr || seen == 0 || all <= share) return false;
        if (most->compare_exchange_weak(seen, seen - 1, std::memory_order_relaxed)) return true;
    }
}

uint32_t AddressTable::sharing(uint32_t address) const {
    uint32_t sharing = 0;
    for (const Entry* entry : places_of(address))
        if (address_of(entry->head.load(std::memory_order_acquire)) == address)
            sharing += entry->sharing.load(std::memory_order_relaxed);
    return sharing;
}

uint32_t AddressTable::connections(uint32_t address) const {
    uint64_t connections = 0;
    if (!ok() || address == 0) return 0;
    for (const Entry* entry : places_of(address)) {
        const uint64_t head = entry->head.load(std::memory_order_acquire);
        if (address_of(head) == address) connections += count_of(head);
    }
    return static_cast<uint32_t>(connections);
}

uint32_t AddressTable::most_connections() const {
    uint32_t most = 0;
    for (uint64_t i = 0; ok() && entries_used() > 0 && i < count_; ++i)
        most = std::max(most, count_of(entries_[i].head.load(std::memory_order_relaxed)));
    return most;
}

}  // namespace pulse
