// The connection table: taking, releasing, and giving chunks of records back.
#include "core/connection_table.h"

#include <algorithm>
#include <bit>

namespace pulse {

ConnectionTable::ConnectionTable(PageSource& pages, uint32_t limit) : pages_(pages), limit_(limit) {
    PULSE_ASSERT(limit >= 1 && limit <= kConnectionsPerReactorMax);
    records_ = reinterpret_cast<Connection*>(pages_.reserve(reserved_bytes()));
    const uint32_t chunks = (limit + kTableChunkRecords - 1) / kTableChunkRecords;
    chunks_.resize(chunks);
    room_.resize((chunks + 63) / 64);
    for (uint32_t chunk = 0; chunk < chunks; ++chunk) mark_room(chunk, true);
}

ConnectionTable::~ConnectionTable() {
    if (records_ != nullptr)
        pages_.release(reinterpret_cast<std::byte*>(records_), reserved_bytes());
}

size_t ConnectionTable::reserved_bytes() const { return size_t{limit_} * sizeof(Connection); }

size_t ConnectionTable::backed_bytes() const {
    size_t records = 0;
    for (const Chunk& chunk : chunks_) records += chunk.fresh;
    return records * sizeof(Connection);
}

uint32_t ConnectionTable::chunk_capacity(uint32_t chunk) const {
    return std::min(kTableChunkRecords, limit_ - chunk * kTableChunkRecords);
}

void ConnectionTable::mark_room(uint32_t chunk, bool room) {
    const uint64_t bit = uint64_t{1} << (chunk & 63);
    if (room) {
        room_[chunk / 64] |= bit;
    } else {
        room_[chunk / 64] &= ~bit;
    }
}

Index ConnectionTable::take() {
    uint32_t word = 0;
    while (word < room_.size() && room_[word] == 0) ++word;
    if (word == room_.size()) return kNoIndex;
    const uint32_t number = word * 64 + static_cast<uint32_t>(std::countr_zero(room_[word]));
    Chunk& chunk = chunks_[number];
    Index index = chunk.free_head;
    uint32_t generation = chunk.generation_floor;
    if (index != kNoIndex) {
        chunk.free_head = records_[index].user;
        generation = records_[index].generation;
    } else {
        index = number * kTableChunkRecords + chunk.fresh++;
    }
    if (empty_backed_ == number) empty_backed_ = UINT32_MAX;
    ++chunk.live;
    ++live_;
    if (!has_room(number)) mark_room(number, false);

    Connection& record = records_[index];
    PULSE_ASSERT(record.stage == Stage::free);
    const uint16_t armed = record.armed;
    record = Connection{};
    record.armed = armed;
    record.generation = generation;
    record.descriptor = -1;
    record.stage = Stage::detect;
    return index;
}

void ConnectionTable::release(Index index) {
    PULSE_ASSERT(index < limit_);
    Connection& record = records_[index];
    PULSE_ASSERT(record.stage != Stage::free);
    const uint32_t number = index / kTableChunkRecords;
    Chunk& chunk = chunks_[number];
    record.stage = Stage::free;
    ++record.generation;
    record.user = chunk.free_head;
    chunk.free_head = index;
    // The highest generation of the chunk, so that records that start anew start above it. Compared
    // by subtraction: a generation wraps after 2^32 owners of one place.
    if (static_cast<int32_t>(record.generation - chunk.generation_floor) > 0) {
        chunk.generation_floor = record.generation;
    }
    --chunk.live;
    --live_;
    mark_room(number, true);
    if (chunk.live == 0) give_back(number);
}

// An emptied chunk is kept until a second one empties; then the higher of the two goes, because the
// lower one is used first.
void ConnectionTable::give_back(uint32_t number) {
    if (empty_backed_ == UINT32_MAX) {
        empty_backed_ = number;
        return;
    }
    const uint32_t victim = std::max(empty_backed_, number);
    empty_backed_ = std::min(empty_backed_, number);
    Chunk& chunk = chunks_[victim];
    // All of it, however little was used: the first record's touch may have backed it with one huge
    // page, and a part of one would stay.
    constexpr size_t kPageBytes = 4096;
    const size_t records = size_t{chunk_capacity(victim)} * sizeof(Connection);
    const size_t bytes = (records + kPageBytes - 1) / kPageBytes * kPageBytes;
    pages_.discard(reinterpret_cast<std::byte*>(&records_[victim * kTableChunkRecords]), bytes);
    chunk.fresh = 0;
    chunk.free_head = kNoIndex;
}

Connection* ConnectionTable::find(ConnectionId id) {
    if (id.index >= limit_) return nullptr;
    Connection& record = records_[id.index];
    if (record.stage == Stage::free || record.generation != id.generation) return nullptr;
    return &record;
}

void ConnectionTable::validate() const {
    uint32_t live = 0;
    for (uint32_t number = 0; number < chunks_.size(); ++number) {
        const Chunk& chunk = chunks_[number];
        const Index first = number * kTableChunkRecords;
        PULSE_ASSERT(chunk.fresh <= chunk_capacity(number));
        uint32_t taken = 0;
        for (Index index = first; index < first + chunk.fresh; ++index) {
            if (records_[index].stage != Stage::free) ++taken;
        }
        PULSE_ASSERT(taken == chunk.live);
        uint32_t chained = 0;
        for (Index index = chunk.free_head; index != kNoIndex; index = records_[index].user) {
            PULSE_ASSERT(index >= first && index < first + chunk.fresh);
            PULSE_ASSERT(records_[index].stage == Stage::free);
            ++chained;
            PULSE_ASSERT(chained <= chunk.fresh);
        }
        PULSE_ASSERT(chained + taken == chunk.fresh);
        const bool room = (room_[number / 64] >> (number & 63) & 1) != 0;
        PULSE_ASSERT(room == has_room(number));
        PULSE_ASSERT((taken == 0 && chunk.fresh > 0) == (number == empty_backed_));
        live += taken;
    }
    PULSE_ASSERT(live == live_);
}

}  // namespace pulse
