// An instant for some of the connections, the soonest first: for deadlines that few have, beside
// the one of the timing wheel that all have. A binary heap that knows where each index stands.
//
// 16 bytes for each that is in it, and 4 for each place once one was; both come as they are used.
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/types.h"

namespace pulse {

class DueQueue {
  public:
    // Of indices below `places`.
    explicit DueQueue(uint32_t places) : places_(places) {}

    // Puts it in, or moves it to another instant. O(log n).
    void set(Index index, Nanos due) {
        PULSE_ASSERT(index < places_);
        if (index >= position_.size()) {
            // Room for all, so that no turn waits for a copy; the kernel backs what is touched.
            position_.reserve(places_);
            heap_.reserve(places_);
            position_.resize(index + 1, kOutside);
        }
        uint32_t at = position_[index];
        if (at == kOutside) {
            at = static_cast<uint32_t>(heap_.size());
            heap_.push_back({due, index});
        }
        heap_[at] = {due, index};
        sink(rise(at));
    }
    // Takes it out, if it is in.
    void erase(Index index) {
        if (!contains(index)) return;
        const uint32_t at = position_[index];
        position_[index] = kOutside;
        const Entry last = heap_.back();
        heap_.pop_back();
        if (at == heap_.size()) return;
        heap_[at] = last;
        sink(rise(at));
    }
    bool contains(Index index) const {
        return index < position_.size() && position_[index] != kOutside;
    }
    // Takes out the soonest, if it is due by `now`; kNoIndex otherwise.
    Index pop_due(Nanos now) {
        if (heap_.empty() || heap_.front().due > now) return kNoIndex;
        const Index index = heap_.front().index;
        erase(index);
        return index;
    }
    // kNever: nothing is in it.
    Nanos next() const { return heap_.empty() ? kNever : heap_.front().due; }
    size_t size() const { return heap_.size(); }

  private:
    struct Entry {
        Nanos due;
        Index index;
    };
    static constexpr uint32_t kOutside = UINT32_MAX;

    void put(uint32_t at, const Entry& entry) {
        heap_[at] = entry;
        position_[entry.index] = at;
    }
    uint32_t rise(uint32_t at) {
        const Entry entry = heap_[at];
        for (; at > 0 && entry.due < heap_[(at - 1) / 2].due; at = (at - 1) / 2)
            put(at, heap_[(at - 1) / 2]);
        put(at, entry);
        return at;
    }
    void sink(uint32_t at) {
        const Entry entry = heap_[at];
        for (;;) {
            uint32_t child = 2 * at + 1;
            if (child >= heap_.size()) break;
            if (child + 1 < heap_.size() && heap_[child + 1].due < heap_[child].due) ++child;
            if (heap_[child].due >= entry.due) break;
            put(at, heap_[child]);
            at = child;
        }
        put(at, entry);
    }

    uint32_t places_;
    std::vector<Entry> heap_;
    std::vector<uint32_t> position_;  // in the heap, by index
};

}  // namespace pulse
