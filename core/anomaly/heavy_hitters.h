// Which keys of a stream come most often, in fixed memory: Space-Saving (Metwally, Agrawal, El
// Abbadi, "Efficient computation of frequent and top-k elements in data streams", 2005). Of n keys
// in kEntries entries every one that came more than n / kEntries times is in the table, and a count
// is too high by its `error` at most, and never too low.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace pulse {

template <class Key, size_t kEntries>
class HeavyHitters {
  public:
    struct Entry {
        Key key{};
        uint64_t count = 0;
        uint64_t error = 0;
        // It certainly came so often.
        uint64_t least() const { return count - error; }
    };

    // O(kEntries).
    void add(const Key& key, uint64_t times = 1) {
        total_ += times;
        Entry* least = &entries_[0];
        for (size_t at = 0; at < used_; ++at) {
            if (entries_[at].key == key) {
                entries_[at].count += times;
                return;
            }
            if (entries_[at].count < least->count) least = &entries_[at];
        }
        if (used_ < kEntries) {
            entries_[used_++] = {key, times, 0};
        } else {
            *least = {key, least->count + times, least->count};
        }
    }
    // What another has seen, too: the sum of the counts, of the errors likewise.
    void add(const HeavyHitters& other) {
        const uint64_t total = total_ + other.total_;
        for (size_t at = 0; at < other.used_; ++at) {
            const Entry& entry = other.entries_[at];
            add(entry.key, entry.count);
            for (size_t own = 0; own < used_; ++own)
                if (entries_[own].key == entry.key) entries_[own].error += entry.error;
        }
        total_ = total;
    }
    // The key that came most often for certain; nullptr: there was none.
    const Entry* top() const {
        if (used_ == 0) return nullptr;
        return &*std::max_element(
            entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(used_),
            [](const Entry& a, const Entry& b) { return a.least() < b.least(); });
    }
    uint64_t total() const { return total_; }

  private:
    std::array<Entry, kEntries> entries_{};
    size_t used_ = 0;
    uint64_t total_ = 0;
};

}  // namespace pulse
