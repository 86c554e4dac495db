// Where texts are kept: in chunks of 64 KiB, freed places by their size.
#include "core/sessions/text_store.h"

#include <cstring>

namespace pulse {

TextStore::Entry& TextStore::entry(Handle handle) const {
    PULSE_AUDIT_ASSERT(handle >= kChunkUnits && handle < fresh_);
    uint64_t* unit = &chunks_[(handle >> kChunkUnitsLog2) - 1][handle & (kChunkUnits - 1)];
    return *reinterpret_cast<Entry*>(unit);
}

TextStore::Handle TextStore::find(std::string_view text) const {
    return index_.find(
        hash(text), [&](Handle handle) -> HashNode& { return entry(handle).node; },
        [&](Handle handle) { return this->text(handle) == text; });
}

std::string_view TextStore::text(Handle handle) const {
    if (handle == 0) return {};
    const Entry& found = entry(handle);
    return {found.text, found.size};
}

// A place of `units`, 0 if there is none.
TextStore::Handle TextStore::allocate(uint32_t units) {
    if (const Handle handle = free_[units]; handle != 0) {
        free_[units] = entry(handle).node.next;
        return handle;
    }
    const uint32_t left = kChunkUnits - (fresh_ & (kChunkUnits - 1));
    const bool is_new_chunk = left == kChunkUnits || left < units;
    if (is_new_chunk) {
        if (fresh_ > UINT32_MAX - 2 * kChunkUnits) return 0;
        if (left != kChunkUnits) fresh_ += left;  // an end too short for this text is left unused
        chunks_.push_back(std::make_unique<uint64_t[]>(kChunkUnits));
    }
    const Handle handle = fresh_;
    fresh_ += units;
    return handle;
}

bool TextStore::hold(std::string_view text, Handle& handle) {
    PULSE_ASSERT(text.size() <= kTextBytesMax);
    handle = text.empty() ? 0 : find(text);
    if (text.empty()) return true;
    if (handle != 0) {
        hold(handle);
        return true;
    }
    const uint32_t units = units_of(text.size());
    if (held_bytes_ + units * kUnit > bytes_max_) return false;
    handle = allocate(units);
    if (handle == 0) return false;
    held_bytes_ += units * kUnit;
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
    const uint32_t units = units_of(dropped.size);
    held_bytes_ -= units * kUnit;
    dropped.node.next = free_[units];
    free_[units] = handle;
}

size_t TextStore::bytes() const { return chunks_.size() * kChunkUnits * kUnit + index_.bytes(); }

}  // namespace pulse
