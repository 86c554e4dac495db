// The timing wheel: which connection needs a look, and when. O(1) to arm, O(1) a look, 5 bytes a
// connection in the record (a tick of 24 bits, and 16) and about 3.4 in the wheel; runs no
// callback, reads no clock, never allocates after construction.
//
// A connection that is heard of does nothing to the wheel: it stores a tick in its own record. The
// wheel comes by when the entry is due, and the caller (heartbeat_policy.h) returns the next tick:
//
//     uint32_t budget = kJudgeBudgetPerTurn;
//     while ((index = wheel.pop_due(reached, budget)) != kNoIndex)
//         ... judge(index): let it be, or wheel.arm(index, next deadline)
//
//   level 0   2^14 slots of one tick: 137 s at 8.39 ms. A slot is a chain of chunks of 24-bit ids:
//               head (chunk, count) -> [id id id .. next] -> [id x20 next] -> [id x20 0]
//   level 1   2^10 slots of 2^13 ticks (a period): 19.5 h. The slot of the coming period is seen to
//               chunk by chunk, evenly over the period before it, so that no tick sees a cascade.
//
// Chunks instead of links, because a list's next link sits in the line that misses, so that misses
// queue up; a chunk shows 20 of them at once, and with each record that is judged the one 40 later
// is fetched. The record keeps where its valid entry is (`armed`: level and slot, 16 bits); an
// entry whose place is not the one in the record is stale and erases itself when it comes up.
//
// What pop_due promises is a look, not an expiry: a look may come before the deadline (a move from
// level 1, a deadline that was moved later), never after pop_due has reached it. The
// caller compares.
//
// The invariants (numbers as in the design; validate() proves them)
//   I1  every armed place has a valid entry that comes up at or before what was asked for
//   I2  an entry of level 0 comes up at its tick, none before it
//   I3  one look per armed value: pop_due clears it, a second entry for it is stale
//   I4  the chunks reserved suffice: with 2 * limit entries and a few, most of them stale, the
//       stale ones are purged before another chunk is taken
//   I5  next_work() <= the earliest deadline of an armed place
//   I6  a slot of level 1 is empty when its period starts
//   I7  entries taken by a pop_due <= budget; with a budget and work, something is taken
//   I8  the cursor never moves back
//   I9  a slot's bit is set iff its chain is not empty
//   I10 the counts of the sectors are those of the entries in their slots
//
// The entry belongs to the place, not to its owner: releasing a connection does nothing here, the
// next owner adopts the entry, and pop_due may hand out a free place: the caller lets it be, and it
// is gone. Not thread-safe: a wheel belongs to one reactor.
//
// Sources: Varghese and Lauck 1987 (hashed and hierarchical wheels); lazy re-arming as TCP
// keepalive in Linux and HAProxy's task queue do it; a first level longer than the usual horizon,
// as in Erlang.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstring>
#include <vector>

#include "core/check.h"
#include "core/limits.h"
#include "core/page_source.h"
#include "core/slot_bitmap.h"
#include "core/types.h"
#include "core/wheel_rings.h"

namespace pulse {

// What the wheel needs of a record: 16 bits that it alone writes, zero before its first use.
template <class R>
concept WheelRecord = requires(R record) {
    { record.armed } -> std::same_as<uint16_t&>;
};

// Shrunk in tests so that every delay from every instant can be tried.
struct WheelGeometry {
    uint32_t slots_log2 = kWheelSlotsLog2;             // 2 .. 14
    uint32_t upper_slots_log2 = kWheelUpperSlotsLog2;  // 2 .. 14
};

template <WheelRecord Record, WheelGeometry kGeometry = WheelGeometry{}>
class TimingWheel {
  public:
    static constexpr uint32_t kSlots = uint32_t{1} << kGeometry.slots_log2;
    static constexpr uint32_t kUpperSlots = uint32_t{1} << kGeometry.upper_slots_log2;
    static constexpr uint32_t kPeriodLog2 = kGeometry.slots_log2 - 1;
    static constexpr Tick kPeriodTicks = Tick{1} << kPeriodLog2;
    static_assert(kGeometry.slots_log2 >= 2 && kGeometry.slots_log2 <= 14);
    static_assert(kGeometry.upper_slots_log2 >= 2 && kGeometry.upper_slots_log2 <= 14);

    // `records` are `limit` places that never move (1 .. kConnectionsPerReactorMax). Nothing before
    // `start` comes up. `pages` must outlive the wheel. ok() is false when it had no memory.
    TimingWheel(PageSource& pages, Record* records, uint32_t limit, Tick start)
        : pages_(pages),
          records_(records),
          limit_(limit),
          cursor_(start),
          chunk_ids_(limit >= kSmallPopulation ? kBigChunkIds : kSmallChunkIds),
          heads_(kSlots),
          upper_heads_(kUpperSlots),
          upper_counts_(kUpperSlots) {
        PULSE_ASSERT(limit >= 1 && limit <= kConnectionsPerReactorMax);
        // Every chain may have one chunk that is not full; the rest is dense. Chunk 0 is never
        // used, one chunk is in service, one is the new one.
        const uint64_t chunks = entries_max() / chunk_ids_ + kSlots + kUpperSlots + 4;
        units_max_ = static_cast<uint32_t>(chunks * chunk_units());
        units_used_ = chunk_units();
        chunks_ = pages_.reserve_small(reserved_bytes());
    }
    ~TimingWheel() {
        if (chunks_ != nullptr) pages_.release(chunks_, reserved_bytes());
    }
    TimingWheel(const TimingWheel&) = delete;
    TimingWheel& operator=(const TimingWheel&) = delete;

    bool ok() const { return chunks_ != nullptr; }

    // The place gets a look at `when` at the latest; nothing is done if it gets one by then anyway.
    // A tick that is over means the next one.
    [[gnu::always_inline]] void arm(Index index, Tick when) {
        PULSE_AUDIT_ASSERT(index < limit_);
        const uint16_t armed = records_[index].armed;
        if (armed != 0 && comes_up_by(armed, when)) return;
        push(index, when);
    }

    // A place that needs a look, now that `reached` is reached; kNoIndex when there is none or
    // `budget` is used up (then next_work() <= reached). Takes 1 from `budget` for each entry it
    // comes across. The caller arms the place again or lets it be.
    [[gnu::always_inline]] Index pop_due(Tick reached, uint32_t& budget) {
        for (;;) {
            while (serving_left_ > 0) {
                if (budget == 0) return kNoIndex;
                --budget;
                const Index index = id_at(serving_chunk_, --serving_left_);
                Record& record = records_[index];
                prefetch_record(serving_ahead_, serving_left_);
                if (record.armed != serving_armed_) continue;
                record.armed = 0;
                return index;
            }
            if (!serve_next_chunk(reached)) return kNoIndex;
        }
    }

    // The earliest tick at which pop_due has something to do; kNoTick if nothing is armed. Never
    // later than the earliest deadline; earlier only for a move from level 1 or a stale entry.
    Tick next_work() const {
        if (serving_left_ > 0 || serving_next_ != 0) return serving_tick_;
        return std::min(lower_due(), upper_due());
    }

    // The next tick that pop_due has not dealt with.
    Tick cursor() const { return cursor_; }
    // Entries in all slots, stale ones among them.
    uint64_t entries() const { return entries_ + serving_left_; }
    // Of them, those of level 1. O(its slots).
    uint64_t upper_entries() const {
        uint64_t entries = 0;
        for (const uint32_t count : upper_counts_) entries += count;
        return entries;
    }
    // Where they lie. O(slots of level 1).
    WheelRings rings() const;
    uint64_t purges() const { return purges_; }
    // What has been touched so far, without the records.
    size_t memory_bytes() const {
        return sizeof(*this) + (kSlots + 2 * kUpperSlots) * sizeof(uint32_t) +
               size_t{units_used_} * kUnitBytes;
    }
    size_t reserved_bytes() const { return size_t{units_max_} * kUnitBytes; }

    // Proves I1, I4, I5, I6, I9, I10 and that no chunk is lost. `deadline_of(index)` says until
    // when the place was promised a look, kNoTick for none. O(limit + slots): for tests and
    // debug builds only.
    template <class DeadlineOf>
    void validate(DeadlineOf&& deadline_of) const;

  private:
    // Small populations have a couple of entries a slot, and a chunk of 4 ids then wastes 16 bytes
    // a slot where one of 20 would waste 64; large ones have hundreds, where 20 at once
    // hide cache misses.
    static constexpr uint32_t kSmallPopulation = 65'536;
    static constexpr uint32_t kSmallChunkIds = 4;
    static constexpr uint32_t kBigChunkIds = 20;
    static constexpr uint32_t kIdBytes = 3;
    static constexpr uint32_t kIdMask = (1u << 24) - 1;
    // A chunk goes by the number of its first unit. A head is (chunk << 5) | ids in it; 0 is an
    // empty slot: chunk 0 is never used and all zeros, so its `next` is itself.
    static constexpr uint32_t kUnitBytes = 16;
    static constexpr uint32_t kCountBits = 5;
    static constexpr uint32_t kCountMask = (1u << kCountBits) - 1;
    // As __builtin_prefetch takes it. 40 records are on their way at once; the first level of cache
    // waits for 16 or so at a time.
    static constexpr int kIntoSecondLevel = 2;
    static constexpr uint16_t kArmed = 0x8000;
    static constexpr uint16_t kUpper = 0x4000;
    // Dues within a period in 1/1024 ticks, so that more chunks than ticks are spread evenly too.
    static constexpr uint32_t kPaceShift = 10;

    // Of level 0 entries are counted by sector only: a slot has no room for a count.
    static constexpr uint32_t kSectorLog2 =
        kGeometry.slots_log2 < kWheelSectorsLog2 ? 0 : kGeometry.slots_log2 - kWheelSectorsLog2;
    static constexpr uint32_t sector_of(uint32_t slot) { return slot >> kSectorLog2; }

    uint32_t chunk_units() const { return chunk_ids_ == kBigChunkIds ? 4 : 1; }
    std::byte* chunk_at(uint32_t chunk) const { return chunks_ + size_t{chunk} * kUnitBytes; }
    // Ids come first and `next` last, so that a four-byte read of the last id stays in the chunk.
    [[gnu::always_inline]] Index id_at(uint32_t chunk, uint32_t position) const {
        uint32_t word;
        std::memcpy(&word, chunk_at(chunk) + position * kIdBytes, sizeof word);
        return word & kIdMask;
    }
    void put_id(uint32_t chunk, uint32_t position, Index index) {
        std::byte* place = chunk_at(chunk) + position * kIdBytes;
        const auto low = static_cast<uint16_t>(index);
        std::memcpy(place, &low, sizeof low);
        place[2] = static_cast<std::byte>(index >> 16);
    }
    uint32_t next_of(uint32_t chunk) const {
        uint32_t next;
        std::memcpy(&next, chunk_at(chunk) + chunk_ids_ * kIdBytes, sizeof next);
        return next;
    }
    void set_next(uint32_t chunk, uint32_t next) {
        std::memcpy(chunk_at(chunk) + chunk_ids_ * kIdBytes, &next, sizeof next);
    }

    Tick period() const { return cursor_ >> kPeriodLog2; }

    bool comes_up_by(uint16_t armed, Tick when) const {
        const uint32_t slot = armed & (kUpper - 1);
        if (armed == serving_armed_ && (armed & kUpper) == 0) return true;  // later in this pass
        if ((armed & kUpper) == 0) {
            return cursor_ + ((slot - static_cast<uint32_t>(cursor_)) & (kSlots - 1)) <= when;
        }
        // Looked at before its period starts.
        const Tick now = period();
        return now + ((slot - static_cast<uint32_t>(now)) & (kUpperSlots - 1)) <= when >>
               kPeriodLog2;
    }

    [[gnu::always_inline]] void push(Index index, Tick when) {
        if (when < cursor_) when = cursor_;
        // One slot less than the whole level, so that a chain in service and the slot a round later
        // never go by the same name.
        if (when - cursor_ < kSlots - 1) [[likely]] {
            const uint32_t slot = static_cast<uint32_t>(when) & (kSlots - 1);
            if (put_entry(heads_[slot], index)) lower_bits_.set(slot);
            ++sector_counts_[sector_of(slot)];
            records_[index].armed = static_cast<uint16_t>(kArmed | slot);
        } else {
            push_upper(index, when);
        }
    }
    [[gnu::noinline]] void push_upper(Index index, Tick when) {
        const Tick now = period();
        Tick target = when >> kPeriodLog2;
        if (target <= now + 1) return push(index, cursor_ + kSlots - 2);  // its slot is being moved
        if (target > now + kUpperSlots - 1) target = now + kUpperSlots - 1;
        const uint32_t slot = static_cast<uint32_t>(target) & (kUpperSlots - 1);
        if (put_entry(upper_heads_[slot], index)) upper_bits_.set(slot);
        ++upper_counts_[slot];
        records_[index].armed = static_cast<uint16_t>(kArmed | kUpper | slot);
    }

    // True if it began a chunk, so that the slot may have been empty.
    [[gnu::always_inline]] bool put_entry(uint32_t& head, Index index) {
        const uint32_t count = head & kCountMask;
        bool began = false;
        if (head == 0 || count == chunk_ids_) [[unlikely]] {
            began = put_in_new_chunk(head, index);
        } else {
            put_id(head >> kCountBits, count, index);
            ++head;
        }
        ++entries_;
        return began;
    }
    [[gnu::noinline]] bool put_in_new_chunk(uint32_t& head, Index index) {
        if (entries() >= entries_max()) [[unlikely]] {
            purge();
            const uint32_t count = head & kCountMask;  // the purge may have made room right here
            if (head != 0 && count < chunk_ids_) {
                put_id(head >> kCountBits, count, index);
                ++head;
                return false;
            }
        }
        const uint32_t chunk = take_chunk();
        set_next(chunk, head >> kCountBits);
        put_id(chunk, 0, index);
        head = (chunk << kCountBits) | 1;
        return true;
    }
    uint64_t entries_max() const { return uint64_t{2} * limit_ + 2 * kBigChunkIds; }
    uint32_t take_chunk() {
        if (free_chunk_ != 0) {
            const uint32_t chunk = free_chunk_;
            free_chunk_ = next_of(chunk);
            return chunk;
        }
        const uint32_t chunk = units_used_;
        units_used_ += chunk_units();
        PULSE_ASSERT(units_used_ <= units_max_);
        return chunk;
    }
    void free_chunk(uint32_t chunk) {
        set_next(chunk, free_chunk_);
        free_chunk_ = chunk;
    }

    Tick lower_due() const {
        const uint32_t ahead = lower_bits_.distance(static_cast<uint32_t>(cursor_) & (kSlots - 1));
        return ahead == SlotBitmap<kGeometry.slots_log2>::kNone ? kNoTick : cursor_ + ahead;
    }
    Tick upper_due() const;
    void pace(Tick target);
    bool serve_next_chunk(Tick reached);
    // The head of a chain whose first chunk is full, as all but a slot's first are.
    uint32_t full_head(uint32_t chunk) const {
        return chunk == 0 ? 0 : (chunk << kCountBits) | chunk_ids_;
    }
    void take_in_service(uint32_t head) {
        serving_chunk_ = head >> kCountBits;
        serving_left_ = head & kCountMask;
        entries_ -= serving_left_;
    }
    void serve_lower(Tick due);
    void serve_chain(uint32_t head);
    void serve_upper();
    void move_cursor(Tick to);
    void purge();
    void purge_slot(uint32_t& head, uint16_t armed);

    // Inlined by force: to g++ 12 a function that only prefetches is pure, and its calls vanish.
    [[gnu::always_inline]] void prefetch_record(uint32_t chunk, uint32_t position) const {
        __builtin_prefetch(&records_[id_at(chunk, position)], 0, kIntoSecondLevel);
    }
    [[gnu::always_inline]] void prefetch_records(uint32_t chunk, uint32_t from, uint32_t to) const {
        for (uint32_t position = from; position < to; ++position) prefetch_record(chunk, position);
    }
    // The chunk whose records are fetched one by one as those of the chunk in service are judged: a
    // burst of 20 would wait for itself. What has no counterpart there is fetched now. Chunk 0 is
    // none: to fetch record 0 again costs less than to ask.
    void look_ahead(uint32_t chunk) {
        serving_ahead_ = chunk;
        if (chunk == 0) return;
        prefetch_records(chunk, serving_left_, chunk_ids_);
        __builtin_prefetch(chunk_at(next_of(chunk)));
    }

    PageSource& pages_;
    Record* records_;
    uint32_t limit_;

    // The next tick to process. While a chain of level 0 is in service: its tick + 1.
    Tick cursor_;
    // The chunk in service: ids [0, serving_left_) of it are still to be handed out; then the chain
    // behind it, which is a head like a slot's.
    uint32_t serving_chunk_ = 0;
    uint32_t serving_left_ = 0;
    uint32_t serving_next_ = 0;
    uint32_t serving_ahead_ = 0;
    uint16_t serving_armed_ = 0;
    Tick serving_tick_ = 0;

    const uint32_t chunk_ids_;
    std::byte* chunks_ = nullptr;
    uint32_t units_max_ = 0;
    uint32_t units_used_ = 0;
    uint32_t free_chunk_ = 0;
    uint64_t entries_ = 0;  // without the chunk in service
    uint64_t purges_ = 0;

    // The period whose slot is being moved, when the next chunk of it is due, and how far apart.
    Tick paced_period_ = 0;
    uint64_t paced_due_ = 0;
    uint64_t paced_gap_ = 0;

    SlotBitmap<kGeometry.slots_log2> lower_bits_;
    SlotBitmap<kGeometry.upper_slots_log2> upper_bits_;
    std::vector<uint32_t> heads_;
    std::vector<uint32_t> upper_heads_;
    std::vector<uint32_t> upper_counts_;
    std::array<uint32_t, kWheelSectors> sector_counts_{};  // of level 0
};

template <WheelRecord Record, WheelGeometry kGeometry>
WheelRings TimingWheel<Record, kGeometry>::rings() const {
    constexpr uint32_t kLog2 = kGeometry.upper_slots_log2;
    constexpr uint32_t kUpperSectorLog2 = kLog2 < kWheelSectorsLog2 ? 0 : kLog2 - kWheelSectorsLog2;
    WheelRings rings;
    rings.cursor = cursor_;
    std::ranges::copy(sector_counts_, rings.lower.begin());
    for (uint32_t slot = 0; slot < kUpperSlots; ++slot)
        rings.upper[slot >> kUpperSectorLog2] += upper_counts_[slot];
    // The chunk in service is still of its slot.
    const uint32_t slot = serving_armed_ & (kUpper - 1);
    if ((serving_armed_ & kUpper) == 0) {
        rings.lower[sector_of(slot)] += serving_left_;
    } else {
        rings.upper[slot >> kUpperSectorLog2] += serving_left_;
    }
    return rings;
}

// When the first chunk of the nearest occupied slot of level 1 is to be looked at. Its chunks are
// spread evenly over the period before theirs, none at its end, so that all are done by
// its start (I6).
template <WheelRecord Record, WheelGeometry kGeometry>
Tick TimingWheel<Record, kGeometry>::upper_due() const {
    const Tick now = period();
    const uint32_t first = static_cast<uint32_t>(now + 1) & (kUpperSlots - 1);
    const uint32_t ahead = upper_bits_.distance(first);
    if (ahead == SlotBitmap<kGeometry.upper_slots_log2>::kNone) return kNoTick;
    const Tick target = now + 1 + ahead;
    if (target == paced_period_) return std::max(cursor_, Tick{paced_due_ >> kPaceShift});
    const uint32_t count = upper_counts_[static_cast<uint32_t>(target) & (kUpperSlots - 1)];
    const uint64_t chunks = (count + chunk_ids_ - 1) / chunk_ids_;
    const Tick start = (target - 1) << kPeriodLog2;
    return std::max(cursor_, start + kPeriodTicks / (chunks + 1));
}

// From now on the slot of period `target` is moved, at this pace.
template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::pace(Tick target) {
    const uint32_t count = upper_counts_[static_cast<uint32_t>(target) & (kUpperSlots - 1)];
    const uint64_t chunks = (count + chunk_ids_ - 1) / chunk_ids_;
    paced_period_ = target;
    paced_gap_ = (uint64_t{kPeriodTicks} << kPaceShift) / (chunks + 1);
    paced_due_ = (uint64_t{target - 1} << (kPeriodLog2 + kPaceShift)) + paced_gap_;
}

template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::move_cursor(Tick to) {
    PULSE_AUDIT_ASSERT(to >= cursor_);
    cursor_ = to;
}

// Puts the next chunk in service, if one is due by `reached`; otherwise everything up to `reached`
// is done, and the cursor says so.
template <WheelRecord Record, WheelGeometry kGeometry>
[[gnu::noinline]] bool TimingWheel<Record, kGeometry>::serve_next_chunk(Tick reached) {
    if (serving_chunk_ != 0) {
        free_chunk(serving_chunk_);
        serving_chunk_ = 0;
    }
    if (serving_next_ != 0) {
        serve_chain(serving_next_);
        return true;
    }
    serving_armed_ = 0;
    if (reached < cursor_) return false;
    const Tick upper = upper_due();
    const Tick lower = lower_due();
    if (std::min(lower, upper) > reached) {
        move_cursor(reached + 1);
        return false;
    }
    if (upper <= lower) {
        move_cursor(upper);
        serve_upper();
    } else {
        serve_lower(lower);
    }
    return true;
}

template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::serve_lower(Tick due) {
    const uint32_t slot = static_cast<uint32_t>(due) & (kSlots - 1);
    const uint32_t head = heads_[slot];
    move_cursor(due + 1);
    heads_[slot] = 0;
    lower_bits_.clear(slot);
    serving_tick_ = due;
    serving_armed_ = static_cast<uint16_t>(kArmed | slot);
    prefetch_records(head >> kCountBits, 0, head & kCountMask);
    const uint32_t next = next_of(head >> kCountBits);
    if (next != 0) prefetch_records(next, 0, chunk_ids_);
    serve_chain(head);
}

// The first chunk of a chain; its records and those of the next one are already on their way.
template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::serve_chain(uint32_t head) {
    take_in_service(head);
    sector_counts_[sector_of(serving_armed_ & (kUpper - 1))] -= serving_left_;
    const uint32_t next = next_of(serving_chunk_);
    serving_next_ = full_head(next);
    look_ahead(next_of(next));
}

template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::serve_upper() {
    const Tick target = period() + 1;
    if (paced_period_ != target) pace(target);
    paced_due_ += paced_gap_;
    const uint32_t slot = static_cast<uint32_t>(target) & (kUpperSlots - 1);
    uint32_t& head = upper_heads_[slot];
    PULSE_AUDIT_ASSERT(head != 0);
    serving_armed_ = static_cast<uint16_t>(kArmed | kUpper | slot);
    take_in_service(head);
    serving_next_ = 0;
    upper_counts_[slot] -= serving_left_;
    serving_tick_ = cursor_;
    head = full_head(next_of(serving_chunk_));
    if (head == 0) upper_bits_.clear(slot);
    prefetch_records(serving_chunk_, 0, serving_left_);
    look_ahead(next_of(serving_chunk_));
}

// Throws every stale entry out. Needed at most once per `limit` deadlines that were moved forward,
// each of which left one behind, so that arming stays O(1) on the average and memory bounded (I4).
template <WheelRecord Record, WheelGeometry kGeometry>
[[gnu::noinline]] void TimingWheel<Record, kGeometry>::purge() {
    ++purges_;
    entries_ = 0;  // counted anew: a chain put together again asks for no purge
    sector_counts_ = {};
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
        if (heads_[slot] == 0) continue;
        const uint64_t before = entries_;
        purge_slot(heads_[slot], static_cast<uint16_t>(kArmed | slot));
        sector_counts_[sector_of(slot)] += static_cast<uint32_t>(entries_ - before);
        if (heads_[slot] == 0) lower_bits_.clear(slot);
    }
    for (uint32_t slot = 0; slot < kUpperSlots; ++slot) {
        if (upper_heads_[slot] == 0) continue;
        const uint64_t before = entries_;
        purge_slot(upper_heads_[slot], static_cast<uint16_t>(kArmed | kUpper | slot));
        upper_counts_[slot] = static_cast<uint32_t>(entries_ - before);
        if (upper_heads_[slot] == 0) upper_bits_.clear(slot);
    }
    const uint64_t before = entries_;
    purge_slot(serving_next_, serving_armed_);
    const uint32_t serving_slot = serving_armed_ & (kUpper - 1);  // level 1 has no chain in service
    sector_counts_[sector_of(serving_slot)] += static_cast<uint32_t>(entries_ - before);
    serving_ahead_ = 0;
}

// Rebuilds one chain from its valid entries. A place that stands in it twice is kept once: its
// `armed` is zero from its first entry on, and is put back when the chain is whole.
template <WheelRecord Record, WheelGeometry kGeometry>
void TimingWheel<Record, kGeometry>::purge_slot(uint32_t& head, uint16_t armed) {
    uint32_t chunk = head >> kCountBits;
    uint32_t count = head & kCountMask;
    head = 0;
    while (chunk != 0) {
        Index ids[kBigChunkIds];
        for (uint32_t position = 0; position < count; ++position)
            ids[position] = id_at(chunk, position);
        const uint32_t next = next_of(chunk);
        free_chunk(chunk);
        for (uint32_t position = 0; position < count; ++position) {
            Record& record = records_[ids[position]];
            if (record.armed != armed) continue;
            record.armed = 0;
            put_entry(head, ids[position]);
        }
        chunk = next;
        count = chunk_ids_;
    }
    count = head & kCountMask;
    for (chunk = head >> kCountBits; chunk != 0; chunk = next_of(chunk), count = chunk_ids_) {
        for (uint32_t position = 0; position < count; ++position) {
            records_[id_at(chunk, position)].armed = armed;
        }
    }
}

template <WheelRecord Record, WheelGeometry kGeometry>
template <class DeadlineOf>
void TimingWheel<Record, kGeometry>::validate(DeadlineOf&& deadline_of) const {
    uint64_t entries = 0;
    uint32_t chunks = 0;
    std::vector<bool> covered(limit_);
    auto visit = [&](uint32_t chunk, uint32_t count, uint16_t armed) {
        PULSE_ASSERT(chunk < units_used_ && chunk % chunk_units() == 0);
        ++chunks;
        entries += count;
        for (uint32_t position = 0; position < count; ++position) {
            const Index index = id_at(chunk, position);
            PULSE_ASSERT(index < limit_);
            if (records_[index].armed == armed) covered[index] = true;
        }
    };
    auto walk = [&](uint32_t head, uint16_t armed) {
        const uint64_t before = entries;
        for (; head != 0; head = full_head(next_of(head >> kCountBits))) {
            visit(head >> kCountBits, head & kCountMask, armed);
        }
        return entries - before;
    };
    std::array<uint64_t, kWheelSectors> sectors{};
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
        const uint32_t head = heads_[slot];
        PULSE_ASSERT(lower_bits_.test(slot) == (head != 0));
        sectors[sector_of(slot)] += walk(head, static_cast<uint16_t>(kArmed | slot));
    }
    for (uint32_t slot = 0; slot < kUpperSlots; ++slot) {
        const uint32_t head = upper_heads_[slot];
        PULSE_ASSERT(upper_bits_.test(slot) == (head != 0));
        const auto armed = static_cast<uint16_t>(kArmed | kUpper | slot);
        PULSE_ASSERT(walk(head, armed) == upper_counts_[slot]);
    }
    const uint32_t current = static_cast<uint32_t>(period()) & (kUpperSlots - 1);
    PULSE_ASSERT(upper_heads_[current] == 0);
    lower_bits_.validate();
    upper_bits_.validate();
    if (serving_chunk_ != 0) visit(serving_chunk_, serving_left_, serving_armed_);
    sectors[sector_of(serving_armed_ & (kUpper - 1))] += walk(serving_next_, serving_armed_);
    PULSE_ASSERT(std::ranges::equal(sectors, sector_counts_));
    PULSE_ASSERT(entries == this->entries());
    for (uint32_t chunk = free_chunk_; chunk != 0; chunk = next_of(chunk)) ++chunks;
    PULSE_ASSERT((chunks + 1) * chunk_units() == units_used_);
    PULSE_ASSERT(units_used_ <= units_max_);
    const Tick next = next_work();
    for (Index index = 0; index < limit_; ++index) {
        const Tick deadline = deadline_of(index);
        if (deadline == kNoTick) continue;
        PULSE_ASSERT(records_[index].armed != 0);
        PULSE_ASSERT(covered[index]);
        PULSE_ASSERT(next <= std::max(deadline, cursor_));
        PULSE_ASSERT(comes_up_by(records_[index].armed, std::max(deadline, cursor_)));
    }
}

}  // namespace pulse
