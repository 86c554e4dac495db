// The other ways to keep a million deadlines, each in the least code that is fair to it.
//
// A contender is written against this shape, so that every workload is written once:
//
//     struct Contender {
//         static constexpr const char* kName;
//         static constexpr bool kSlow;           // simulated for less time: costs microseconds
//         static constexpr size_t kRecordBytes;  // what it keeps inside the connection's own line
//         struct Record;                         // 64 bytes, its first word is `heard`
//         Contender(PageSource&, Record* records, uint32_t connections, uint32_t timeout_ticks,
//                   Tick now);
//         void start(Index, Tick now);           // due at now + timeout unless it is heard
//         void message(Index, Tick now);         // heard now
//         bool advance(Tick now, uint32_t budget, expire);  // true: everything due by now is done
//         Tick next_wake(Tick now);              // when advance() has work next
//     };
//
// Ticks are below 2^31 in every workload, so the baselines may compare 32-bit ticks as they are.
// Links are 32-bit indexes inside the connection's line, which a message touches anyway.
#pragma once

#include <algorithm>
#include <bit>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <queue>
#include <utility>
#include <vector>

#include "core/page_source.h"
#include "core/types.h"

namespace pulse::bench {

// What any server pays for a message: the connection's line is touched. Subtracted from all others.
struct Harness {
    static constexpr const char* kName = "harness";
    static constexpr bool kSlow = false;
    static constexpr size_t kRecordBytes = 0;
    struct alignas(64) Record {
        uint32_t heard;
    };

    Harness(PageSource&, Record* records, uint32_t, uint32_t, Tick) : records_(records) {}
    void start(Index index, Tick now) { message(index, now); }
    void message(Index index, Tick now) { records_[index].heard = static_cast<uint32_t>(now); }
    template <class F>
    bool advance(Tick, uint32_t, F&&) {
        return true;
    }
    Tick next_wake(Tick now) { return now + 1; }

  private:
    Record* records_;
};

// std::priority_queue: a message pushes a new entry, a stale one is dropped when it surfaces.
struct PriorityQueue {
    static constexpr const char* kName = "std::priority_queue";
    static constexpr bool kSlow = true;
    static constexpr size_t kRecordBytes = 4;
    struct alignas(64) Record {
        uint32_t heard;
    };

    PriorityQueue(PageSource&, Record* records, uint32_t, uint32_t timeout_ticks, Tick)
        : records_(records), timeout_(timeout_ticks) {}
    void start(Index index, Tick now) { message(index, now); }
    void message(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        queue_.push(((now + timeout_) << 32) | index);
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        while (!queue_.empty() && (queue_.top() >> 32) <= now) {
            if (budget-- == 0) return false;
            const uint64_t entry = queue_.top();
            queue_.pop();
            const Index index = static_cast<uint32_t>(entry);
            if (records_[index].heard + timeout_ == entry >> 32) expire(index);
        }
        return true;
    }
    Tick next_wake(Tick) { return queue_.empty() ? kNoTick : queue_.top() >> 32; }

  private:
    Record* records_;
    uint64_t timeout_;
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue_;
};

// std::multimap: a message takes its node out and puts it back under the new deadline.
struct Multimap {
    static constexpr const char* kName = "std::multimap";
    static constexpr bool kSlow = true;
    using Map = std::multimap<uint32_t, Index>;
    static constexpr size_t kRecordBytes = sizeof(uint32_t) + sizeof(Map::iterator);
    struct alignas(64) Record {
        uint32_t heard;
        Map::iterator node;
    };

    Multimap(PageSource&, Record* records, uint32_t, uint32_t timeout_ticks, Tick)
        : records_(records), timeout_(timeout_ticks) {}
    void start(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        records_[index].node = map_.emplace(static_cast<uint32_t>(now) + timeout_, index);
    }
    void message(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        auto node = map_.extract(records_[index].node);
        node.key() = static_cast<uint32_t>(now) + timeout_;
        records_[index].node = map_.insert(std::move(node));
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        while (!map_.empty() && map_.begin()->first <= now) {
            if (budget-- == 0) return false;
            const Index index = map_.begin()->second;
            map_.erase(map_.begin());
            expire(index);
        }
        return true;
    }
    Tick next_wake(Tick) { return map_.empty() ? kNoTick : map_.begin()->first; }

  private:
    Record* records_;
    uint32_t timeout_;
    Map map_;
};

// Boost.Intrusive's red-black tree, its node inside the connection's line.
struct IntrusiveTree {
    static constexpr const char* kName = "Boost rbtree";
    static constexpr bool kSlow = true;
    using Hook = boost::intrusive::set_member_hook<boost::intrusive::optimize_size<true>>;
    static constexpr size_t kRecordBytes = sizeof(Hook) + 2 * sizeof(uint32_t);
    struct alignas(64) Record {
        uint32_t heard;
        uint32_t deadline;
        Hook hook;
        friend bool operator<(const Record& a, const Record& b) { return a.deadline < b.deadline; }
    };

    IntrusiveTree(PageSource&, Record* records, uint32_t connections, uint32_t timeout_ticks, Tick)
        : records_(records), timeout_(timeout_ticks) {
        for (Index index = 0; index < connections; ++index) new (&records[index]) Record{};
    }
    ~IntrusiveTree() { tree_.clear(); }
    void start(Index index, Tick now) {
        Record& record = records_[index];
        record.heard = static_cast<uint32_t>(now);
        record.deadline = record.heard + timeout_;
        tree_.insert(record);
    }
    void message(Index index, Tick now) {
        tree_.erase(tree_.iterator_to(records_[index]));
        start(index, now);
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        while (!tree_.empty() && tree_.begin()->deadline <= now) {
            if (budget-- == 0) return false;
            Record& first = *tree_.begin();
            tree_.erase(tree_.begin());
            expire(static_cast<Index>(&first - records_));
        }
        return true;
    }
    Tick next_wake(Tick) { return tree_.empty() ? kNoTick : tree_.begin()->deadline; }

  private:
    using Member = boost::intrusive::member_hook<Record, Hook, &Record::hook>;
    Record* records_;
    uint32_t timeout_;
    boost::intrusive::multiset<Record, Member, boost::intrusive::constant_time_size<false>> tree_;
};

// A 4-ary heap that knows where each connection sits, so that a message moves its entry in place.
struct QuadHeap {
    static constexpr const char* kName = "4-ary heap";
    static constexpr bool kSlow = true;
    static constexpr size_t kRecordBytes = 8;
    struct alignas(64) Record {
        uint32_t heard;
        uint32_t position;
    };

    QuadHeap(PageSource&, Record* records, uint32_t, uint32_t timeout_ticks, Tick)
        : records_(records), timeout_(timeout_ticks) {}
    void start(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        heap_.emplace_back();
        sift_up(static_cast<uint32_t>(heap_.size() - 1), entry(index, now));
    }
    void message(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        sift_down(records_[index].position, entry(index, now));
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        while (!heap_.empty() && heap_[0].deadline <= now) {
            if (budget-- == 0) return false;
            const Index index = heap_[0].index;
            const Entry last = heap_.back();
            heap_.pop_back();
            if (!heap_.empty()) sift_down(0, last);
            expire(index);
        }
        return true;
    }
    Tick next_wake(Tick) { return heap_.empty() ? kNoTick : heap_[0].deadline; }

  private:
    struct Entry {
        uint32_t deadline;
        Index index;
    };

    Entry entry(Index index, Tick now) const {
        return {static_cast<uint32_t>(now) + timeout_, index};
    }
    void place(uint32_t position, Entry moved) {
        heap_[position] = moved;
        records_[moved.index].position = position;
    }
    void sift_up(uint32_t position, Entry moved) {
        while (position > 0) {
            const uint32_t parent = (position - 1) / 4;
            if (heap_[parent].deadline <= moved.deadline) break;
            place(position, heap_[parent]);
            position = parent;
        }
        place(position, moved);
    }
    void sift_down(uint32_t position, Entry moved) {
        const size_t size = heap_.size();
        for (size_t child = size_t{4} * position + 1; child < size;
             child = size_t{4} * position + 1) {
            size_t least = child;
            for (size_t other = child + 1; other < child + 4 && other < size; ++other)
                if (heap_[other].deadline < heap_[least].deadline) least = other;
            if (heap_[least].deadline >= moved.deadline) break;
            place(position, heap_[least]);
            position = static_cast<uint32_t>(least);
        }
        place(position, moved);
    }

    Record* records_;
    uint32_t timeout_;
    std::vector<Entry> heap_;
};

// Doubly linked lists of 32-bit indexes through the records, one head a bucket.
template <class Record>
class IndexLists {
  public:
    IndexLists(Record* records, uint32_t buckets) : records_(records), heads_(buckets, kNoIndex) {}

    bool empty(uint32_t bucket) const { return heads_[bucket] == kNoIndex; }
    Index first(uint32_t bucket) const { return heads_[bucket]; }
    void link(Index index, uint32_t bucket) {
        Record& record = records_[index];
        record.bucket = bucket;
        record.previous = kNoIndex;
        record.next = heads_[bucket];
        if (record.next != kNoIndex) records_[record.next].previous = index;
        heads_[bucket] = index;
    }
    void unlink(Index index) {
        const Record& record = records_[index];
        if (record.next != kNoIndex) records_[record.next].previous = record.previous;
        if (record.previous != kNoIndex)
            records_[record.previous].next = record.next;
        else
            heads_[record.bucket] = record.next;
    }

  private:
    Record* records_;
    std::vector<Index> heads_;
};

// A bit a bucket: which are not empty, and which comes next.
class Occupied {
  public:
    explicit Occupied(uint32_t buckets) : words_((buckets + 63) / 64) {}

    void set(uint32_t bucket) { words_[bucket / 64] |= uint64_t{1} << bucket % 64; }
    void clear(uint32_t bucket) { words_[bucket / 64] &= ~(uint64_t{1} << bucket % 64); }
    bool test(uint32_t bucket) const { return words_[bucket / 64] >> bucket % 64 & 1; }
    // The first set bit in [from, to); `to` if there is none.
    uint32_t next(uint32_t from, uint32_t to) const {
        for (uint32_t at = from; at < to; at = (at / 64 + 1) * 64) {
            const uint64_t rest = words_[at / 64] >> at % 64;
            if (rest == 0) continue;
            const uint32_t found = at + static_cast<uint32_t>(std::countr_zero(rest));
            return found < to ? found : to;
        }
        return to;
    }

  private:
    std::vector<uint64_t> words_;
};

// The eager wheel: two levels of lists, a message relinks at once, the upper level cascades.
struct EagerWheel {
    static constexpr const char* kName = "eager lists";
    static constexpr bool kSlow = false;
    static constexpr size_t kRecordBytes = 16;
    struct alignas(64) Record {
        uint32_t heard;
        Index next, previous;
        uint32_t bucket;
    };

    EagerWheel(PageSource&, Record* records, uint32_t, uint32_t timeout_ticks, Tick now)
        : records_(records),
          timeout_(timeout_ticks),
          next_(static_cast<uint32_t>(now)),
          lists_(records, kSlots + kUpperSlots),
          occupied_(kSlots + kUpperSlots) {}
    void start(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        place(index);
    }
    void message(Index index, Tick now) {
        unlink(index);
        start(index, now);
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        for (;; ++next_) {
            const uint32_t slot = next_ % kSlots;
            while (!lists_.empty(slot)) {
                if (budget-- == 0) return false;
                const Index index = lists_.first(slot);
                unlink(index);
                expire(index);
            }
            if (next_ == now) return true;
            if ((next_ + 1) % kSlots == 0) cascade(kSlots + (next_ + 1) / kSlots % kUpperSlots);
        }
    }
    Tick next_wake(Tick now) {
        const uint32_t at = static_cast<uint32_t>(now) % kSlots;
        const uint32_t found = occupied_.next(at, kSlots);
        return now - at + found;  // where there is none: the next cascade
    }

  private:
    static constexpr uint32_t kSlots = 1 << 14;
    static constexpr uint32_t kUpperSlots = 1 << 10;

    void place(Index index) {
        const uint32_t deadline = records_[index].heard + timeout_;
        const bool near = deadline / kSlots == next_ / kSlots;
        const uint32_t bucket = near ? deadline % kSlots : kSlots + deadline / kSlots % kUpperSlots;
        lists_.link(index, bucket);
        occupied_.set(bucket);
    }
    void unlink(Index index) {
        lists_.unlink(index);
        if (lists_.empty(records_[index].bucket)) occupied_.clear(records_[index].bucket);
    }
    void cascade(uint32_t bucket) {
        ++next_;  // places go by the period that begins now
        while (!lists_.empty(bucket)) {
            const Index index = lists_.first(bucket);
            unlink(index);
            place(index);
        }
        --next_;
    }

    Record* records_;
    uint32_t timeout_;
    uint32_t next_;  // all before this tick is done
    IndexLists<Record> lists_;
    Occupied occupied_;
};

// The wheel of Linux since 4.8: nine levels of 64 buckets, each 8 times as coarse as the one below.
// Nothing cascades; a deadline is rounded up to its level's grain and is that much late.
struct LinuxWheel {
    static constexpr const char* kName = "Linux-style";
    static constexpr bool kSlow = false;
    static constexpr size_t kRecordBytes = 16;
    struct alignas(64) Record {
        uint32_t heard;
        Index next, previous;
        uint32_t bucket;
    };

    LinuxWheel(PageSource&, Record* records, uint32_t, uint32_t timeout_ticks, Tick now)
        : records_(records),
          timeout_(timeout_ticks),
          next_(static_cast<uint32_t>(now)),
          lists_(records, kLevels * kBuckets),
          occupied_(kLevels * kBuckets) {}
    void start(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        place(index, bucket_of(static_cast<uint32_t>(now) + timeout_));
    }
    void message(Index index, Tick now) {
        Record& record = records_[index];
        record.heard = static_cast<uint32_t>(now);
        const uint32_t bucket = bucket_of(record.heard + timeout_);
        if (bucket == record.bucket) return;  // as mod_timer() does
        unlink(index);
        place(index, bucket);
    }
    // As the kernel does, a whole bucket at a time: the budget is not kept.
    template <class F>
    bool advance(Tick now, uint32_t, F&& expire) {
        for (; next_ <= now; ++next_) {
            uint32_t clock = next_;
            for (uint32_t level = 0; level < kLevels; ++level, clock /= 8) {
                const uint32_t bucket = level * kBuckets + clock % kBuckets;
                while (occupied_.test(bucket)) {
                    const Index index = lists_.first(bucket);
                    unlink(index);
                    expire(index);
                }
                if (clock % 8 != 0) break;
            }
        }
        return true;
    }
    Tick next_wake(Tick) {
        Tick soonest = kNoTick;
        uint32_t clock = next_;
        for (uint32_t level = 0; level < kLevels; ++level) {
            const uint32_t first = level * kBuckets, at = clock % kBuckets;
            uint32_t found = occupied_.next(first + at, first + kBuckets);
            uint32_t ahead = found - first - at;
            if (found == first + kBuckets) {
                found = occupied_.next(first, first + at);
                ahead = found == first + at ? kBuckets : found - first + kBuckets - at;
            }
            if (ahead < kBuckets) soonest = std::min(soonest, Tick{clock + ahead} << (3 * level));
            clock = clock / 8 + (clock % 8 != 0);
        }
        return soonest;
    }

  private:
    static constexpr uint32_t kLevels = 9;
    static constexpr uint32_t kBuckets = 64;

    uint32_t bucket_of(uint32_t deadline) const {
        const uint32_t ahead = deadline - next_;
        uint32_t level = 0;
        while (level + 1 < kLevels && ahead >= uint64_t{kBuckets - 1} << (3 * level)) ++level;
        // One grain later than the deadline's own, so that rounding never makes it early.
        const uint32_t grain = level == 0 ? deadline : (deadline >> (3 * level)) + 1;
        return level * kBuckets + grain % kBuckets;
    }
    void place(Index index, uint32_t bucket) {
        lists_.link(index, bucket);
        occupied_.set(bucket);
    }
    void unlink(Index index) {
        lists_.unlink(index);
        if (lists_.empty(records_[index].bucket)) occupied_.clear(records_[index].bucket);
    }

    Record* records_;
    uint32_t timeout_;
    uint32_t next_;
    IndexLists<Record> lists_;
    Occupied occupied_;
};

// No structure at all: a dense array of deadlines of which every tick sweeps 1/120, four at a time.
// A deadline is noticed up to a second late.
struct Sweep {
    static constexpr const char* kName = "SIMD sweep, 1 s late";
    static constexpr bool kSlow = false;
    static constexpr size_t kRecordBytes = 0;
    struct alignas(64) Record {
        uint32_t heard;
    };

    Sweep(PageSource&, Record* records, uint32_t connections, uint32_t timeout_ticks, Tick now)
        : records_(records),
          timeout_(timeout_ticks),
          deadlines_((connections + kBlock - 1) / kBlock * kBlock, kFree),
          stride_((static_cast<uint32_t>(deadlines_.size()) / kBlock / kTicksPerSweep + 1) *
                  kBlock),
          left_(stride_),
          next_(now) {}
    void start(Index index, Tick now) { message(index, now); }
    void message(Index index, Tick now) {
        records_[index].heard = static_cast<uint32_t>(now);
        deadlines_[index] = static_cast<uint32_t>(now) + timeout_;
    }
    template <class F>
    bool advance(Tick now, uint32_t budget, F&& expire) {
        for (; next_ <= now; ++next_, left_ = stride_) {
            for (; left_ > 0; left_ -= kBlock) {
                if (any_due(&deadlines_[cursor_], static_cast<uint32_t>(now)) &&
                    !judge(cursor_, static_cast<uint32_t>(now), budget, expire))
                    return false;
                cursor_ += kBlock;
                if (cursor_ == deadlines_.size()) cursor_ = 0;
            }
        }
        return true;
    }
    Tick next_wake(Tick now) { return now + 1; }  // it never sleeps

  private:
    static constexpr uint32_t kFree = INT32_MAX;
    static constexpr uint32_t kBlock = 64;
    static constexpr uint32_t kTicksPerSweep = 119;  // of 8.39 ms: a second
    using Four __attribute__((vector_size(16), may_alias)) = int32_t;

    static bool any_due(const uint32_t* block, uint32_t now) {
        const int32_t limit = static_cast<int32_t>(now);
        const Four limits = {limit, limit, limit, limit};
        Four due = {};
        for (uint32_t at = 0; at < kBlock; at += 4)
            due |= *reinterpret_cast<const Four*>(block + at) <= limits;
        return (due[0] | due[1] | due[2] | due[3]) != 0;
    }
    template <class F>
    bool judge(uint32_t first, uint32_t now, uint32_t& budget, F&& expire) {
        for (uint32_t index = first; index < first + kBlock; ++index) {
            if (deadlines_[index] > now) continue;
            if (budget-- == 0) return false;
            deadlines_[index] = kFree;
            expire(index);
        }
        return true;
    }

    Record* records_;
    uint32_t timeout_;
    std::vector<uint32_t> deadlines_;  // malloc aligns to 16
    uint32_t stride_;                  // entries a tick
    uint32_t cursor_ = 0;
    uint32_t left_;
    Tick next_;
};

}  // namespace pulse::bench
