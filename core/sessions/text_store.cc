// Where texts are kept: places in chunks, and chunks that come and go.
#include "core/sessions/text_store.h"

#include <cstring>
#include <utility>

namespace pulse {

TextStore::Entry& TextStore::entry(Handle handle) const {
    uint64_t* units = chunks_[handle >> kChunkUnitsLog2].units.get();
    return *reinterpret_cast<Entry*>(units + (handle & (kChunkUnits - 1)));
}

TextStore::Handle TextStore::find(std::string_view text) const {
    return index_.find(
        hash(text), [&](Handle handle) -> HashNode& { return entry(handle).node; },
        [&](Handle handle) { return this->text(handle) == text; });
}

std::string_view TextStore::text(Handle handle) const {
    if (handle == 0) return {};
    const Entry& found = entry(handle);
    return {reinterpret_cast<const char*>(&found) + kHeadBytes, found.size};
}

bool TextStore::hold(std::string_view text, Handle& handle) {
    PULSE_ASSERT(text.size() <= kTextBytesMax);
    handle = text.empty() ? 0 : find(text);
    if (text.empty()) return true;
    if (handle != 0) {
        hold(handle);
        return true;
    }
    handle = allocate(size_of(text.size()));
    if (handle == 0) return false;
    Entry& made = entry(handle);
    made.holders = 1;
    made.mark = 0;
    made.size = static_cast<uint16_t>(text.size());
    std::memcpy(reinterpret_cast<char*>(&made) + kHeadBytes, text.data(), text.size());
    index_.insert(handle, hash(text), [&](Handle at) -> HashNode& { return entry(at).node; });
    return true;
}

void TextStore::hold(Handle handle) {
    if (handle != 0) ++entry(handle).holders;
}

void TextStore::drop(Handle handle) {
    if (handle == 0) return;
    Entry& dropped = entry(handle);
    PULSE_ASSERT(dropped.holders > 0);
    if (--dropped.holders > 0) return;
    index_.erase(handle, [&](Handle at) -> HashNode& { return entry(at).node; });
    free(handle);
}

uint8_t TextStore::size_of(size_t bytes) {
    uint8_t size = 0;
    while (kSizes[size] * kUnit < kHeadBytes + bytes) ++size;
    return size;
}

// A place of this size, 0 if there is none.
TextStore::Handle TextStore::allocate(uint8_t size) {
    const uint32_t number = has_room_[size] != 0 ? has_room_[size] : take_chunk(size);
    if (number == 0) return 0;
    Chunk& chunk = chunks_[number];
    Handle handle = chunk.free;
    if (handle != 0) {
        chunk.free = entry(handle).node.next;
    } else {
        handle = number << kChunkUnitsLog2 | chunk.fresh;
        chunk.fresh = static_cast<uint16_t>(chunk.fresh + kSizes[size]);
    }
    ++chunk.live;
    if (is_full(chunk)) unlink(number);
    return handle;
}

void TextStore::free(Handle handle) {
    const uint32_t number = handle >> kChunkUnitsLog2;
    Chunk& chunk = chunks_[number];
    const bool was_full = is_full(chunk);
    entry(handle).node.next = std::exchange(chunk.free, handle);
    if (was_full) link(number);
    if (--chunk.live > 0) return;
    unlink(number);
    chunk = Chunk{};
    given_back_.push_back(number);
    --chunks_taken_;
}

uint32_t TextStore::take_chunk(uint8_t size) {
    if (chunk_bytes() + kChunkBytes > bytes_max_) return 0;
    uint32_t number = static_cast<uint32_t>(chunks_.size());
    if (!given_back_.empty()) {
        number = given_back_.back();
        given_back_.pop_back();
    } else if (number > UINT32_MAX >> kChunkUnitsLog2) {
        return 0;
    } else {
        chunks_.emplace_back();
    }
    ++chunks_taken_;
    chunks_[number].units = std::make_unique<uint64_t[]>(kChunkUnits);
    chunks_[number].size = size;
    link(number);
    return number;
}

void TextStore::link(uint32_t number) {
    Chunk& chunk = chunks_[number];
    chunk.previous = 0;
    chunk.next = std::exchange(has_room_[chunk.size], number);
    if (chunk.next != 0) chunks_[chunk.next].previous = number;
}

void TextStore::unlink(uint32_t number) {
    const Chunk& chunk = chunks_[number];
    (chunk.previous == 0 ? has_room_[chunk.size] : chunks_[chunk.previous].next) = chunk.next;
    if (chunk.next != 0) chunks_[chunk.next].previous = chunk.previous;
}

}  // namespace pulse
