// Finds records by hash, growing by one bucket at a time: linear hashing (Litwin, "Linear hashing:
// a new tool for file and table addressing", 1980). A table that doubles would hold up a turn while
// it moves a million users; here each insertion splits at most one bucket.
//
//     buckets   0 1 2 3 4 5 6 7 | 8 9        8 + split: 10 buckets
//               ^split = 2                   0 and 1 were split into 0, 8 and 1, 9
//
// A record carries a HashNode, which chains the records of its bucket. Hashes must be secret where
// peers choose the keys (sip_hash.h), or a peer could make all records share a bucket. Buckets take
// memory with the first record.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/check.h"
#include "core/sessions/slab.h"

namespace pulse {

struct HashNode {
    uint32_t next = 0;  // handle of the next record of the bucket; 0 is the end
    uint32_t hash = 0;
};

class HashIndex {
  public:
    // The handle of a record with this hash for which same(handle) holds; 0 if there is none.
    // `nodes(handle)` is the HashNode of a record, here and below.
    template <class Nodes, class Same>
    uint32_t find(uint32_t hash, Nodes&& nodes, Same&& same) const {
        if (heads_.capacity() == 0) return 0;
        uint32_t handle = heads_[bucket_of(hash)];
        while (handle != 0 && !(nodes(handle).hash == hash && same(handle)))
            handle = nodes(handle).next;
        return handle;
    }
    // Requires: the record is not in the index.
    template <class Nodes>
    void insert(uint32_t handle, uint32_t hash, Nodes&& nodes) {
        if (heads_.capacity() == 0) heads_.grow(kBucketsFirst);
        if (records_ >= buckets()) split(nodes);
        ++records_;
        nodes(handle).hash = hash;
        push(bucket_of(hash), handle, nodes);
    }
    // Requires: the record is in the index.
    template <class Nodes>
    void erase(uint32_t handle, Nodes&& nodes) {
        uint32_t* link = &heads_[bucket_of(nodes(handle).hash)];
        while (*link != handle) {
            PULSE_ASSERT(*link != 0);
            link = &nodes(*link).next;
        }
        *link = nodes(handle).next;
        --records_;
    }

    uint32_t records() const { return records_; }
    uint32_t buckets() const { return level_ + split_; }
    size_t bytes() const { return heads_.bytes(); }
    // What bytes() comes to at the most, of an index that never has more records.
    static constexpr size_t bytes_max(uint64_t records) {
        return records == 0 ? 0 : Heads::bytes_max(std::max<uint64_t>(kBucketsFirst, records));
    }

  private:
    using Heads = ChunkedArray<uint32_t, 12>;
    static constexpr uint32_t kBucketsFirst = 1'024;

    uint32_t bucket_of(uint32_t hash) const {
        const uint32_t bucket = hash & (level_ - 1);
        return bucket < split_ ? hash & (2 * level_ - 1) : bucket;
    }
    template <class Nodes>
    void push(uint32_t bucket, uint32_t handle, Nodes&& nodes) {
        nodes(handle).next = heads_[bucket];
        heads_[bucket] = handle;
    }
    template <class Nodes>
    void split(Nodes&& nodes) {
        heads_.grow(buckets() + 1);
        uint32_t handle = heads_[split_];
        heads_[split_] = heads_[level_ + split_] = 0;
        const uint32_t mask = 2 * level_ - 1;
        if (++split_ == level_) {
            level_ *= 2;
            split_ = 0;
        }
        while (handle != 0) {
            const uint32_t next = nodes(handle).next;
            push(nodes(handle).hash & mask, handle, nodes);
            handle = next;
        }
    }

    uint32_t level_ = kBucketsFirst;  // a power of two
    uint32_t split_ = 0;              // buckets of this level that were split: below level_
    uint32_t records_ = 0;
    Heads heads_;
};

}  // namespace pulse
