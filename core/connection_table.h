// The only owner of connection records. All others hold an index, alone or with a generation.
//
// One contiguous reservation for the limit, backed on demand in chunks of 32,768 records (one 2 MiB
// huge page each), so that a record's address is base + index * 64 and never changes. The lowest
// chunk with room is used first; a chunk that empties is given back, except one that is kept,
// against repeated mapping.
//
//   reservation  [ chunk 0: full ][ chunk 1: 30,000 live ][ chunk 2: given back ][ untouched ... ]
//   in a chunk   [ used before, free ones chained through Connection::user | never used yet ]
//                                                                          ^ fresh
//
// take and release are O(1). Generations survive a chunk's being given back: no ConnectionId is
// ever made twice before 2^31 owners of one place. `armed` of a record is the wheel's and outlives
// the owner; take() and release() leave it alone, and it reads 0 once the chunk was given back,
// which makes what the wheel still holds for the place stale. Not thread-safe: it belongs
// to one reactor.
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/connection.h"
#include "core/page_source.h"

namespace pulse {

class ConnectionTable {
  public:
    // `limit` in 1 .. kConnectionsPerReactorMax. `pages` must outlive the table. ok() tells whether
    // the address space could be had; nothing else may be called when it could not.
    ConnectionTable(PageSource& pages, uint32_t limit);
    ~ConnectionTable();
    ConnectionTable(const ConnectionTable&) = delete;
    ConnectionTable& operator=(const ConnectionTable&) = delete;

    bool ok() const { return records_ != nullptr; }

    // A place in state `greeting`, all but `armed` and the generation zeroed. Returns
    // kNoIndex if full.
    Index take();
    // The place is free; its id is stale from now on. Must be taken.
    void release(Index index);

    Connection& operator[](Index index) {
        PULSE_AUDIT_ASSERT(index < limit_);
        return records_[index];
    }
    const Connection& operator[](Index index) const {
        PULSE_AUDIT_ASSERT(index < limit_);
        return records_[index];
    }
    ConnectionId id(Index index) const { return {index, records_[index].generation}; }
    // nullptr if that connection is gone, or never was.
    Connection* find(ConnectionId id);

    // Where the records start: for the wheel, which reads `armed` of any place below limit().
    Connection* records() { return records_; }
    uint32_t limit() const { return limit_; }
    uint32_t live() const { return live_; }
    size_t backed_bytes() const;    // records touched and not given back
    size_t reserved_bytes() const;  // address space

    // Walks everything and proves that counts, chains and states agree. O(limit). For tests.
    void validate() const;

  private:
    struct Chunk {
        uint32_t live = 0;
        uint32_t fresh = 0;             // records from here on were never used since it was backed
        Index free_head = kNoIndex;     // chain through Connection::user
        uint32_t generation_floor = 0;  // where records start when the chunk is backed again
    };

    uint32_t chunk_capacity(uint32_t chunk) const;
    bool has_room(uint32_t chunk) const { return chunks_[chunk].live < chunk_capacity(chunk); }
    void mark_room(uint32_t chunk, bool room);
    void give_back(uint32_t chunk);

    PageSource& pages_;
    uint32_t limit_;
    uint32_t live_ = 0;
    Connection* records_ = nullptr;
    std::vector<Chunk> chunks_;
    std::vector<uint64_t> room_;          // a bit a chunk: there is a free record
    uint32_t empty_backed_ = UINT32_MAX;  // the one empty chunk that keeps its backing
};

}  // namespace pulse
