// Short texts, each kept once: names of users and devices, sets of labels. A thousand devices with
// the name "ios" cost one. Texts are counted by their holders and freed with the last.
//
// They lie in chunks of 64 KiB, each for texts of about one size. A chunk whose last text is gone
// is given back, so that texts of one size do not keep the memory from those of another.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string_view>
#include <vector>

#include "core/limits.h"
#include "core/sessions/hash_index.h"
#include "core/sip_hash.h"

namespace pulse {

class TextStore {
  public:
    using Handle = uint32_t;  // 0 is the empty text, which costs nothing

    static constexpr size_t kTextBytesMax = kLabelsBytesMax;
    static constexpr size_t kChunkBytes = 64 * 1024;

    // `bytes_max` bounds the chunks.
    TextStore(const SipKey& key, size_t bytes_max) : key_(key), bytes_max_(bytes_max) {}

    // One holder more of `text`; nothing if there is no room. Requires: at most kTextBytesMax.
    bool hold(std::string_view text, Handle& handle);
    void hold(Handle handle);
    void drop(Handle handle);

    // 0 if nothing holds `text`.
    Handle find(std::string_view text) const;
    // Valid until the last holder drops it.
    std::string_view text(Handle handle) const;
    // A number of the caller's that goes with a text: 0 until it is set.
    uint32_t& mark(Handle handle) { return entry(handle).mark; }
    uint32_t mark(Handle handle) const { return entry(handle).mark; }

    uint32_t texts() const { return index_.records(); }
    size_t chunk_bytes() const { return chunks_taken_ * kChunkBytes; }
    size_t bytes() const { return chunk_bytes() + index_.bytes(); }

  private:
    // A handle is a position in units of 8 bytes, its chunk in the upper bits.
    static constexpr size_t kUnit = 8;
    static constexpr uint32_t kChunkUnitsLog2 = 13;
    static constexpr uint32_t kChunkUnits = uint32_t{1} << kChunkUnitsLog2;
    static_assert(kChunkUnits * kUnit == kChunkBytes);
    // Units of the texts of a chunk: a name of up to 78 bytes loses at most 7, a longer text at
    // most a quarter.
    static constexpr uint8_t kSizes[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,
                                         12, 16, 20, 26, 33, 43, 54, 67};

    struct Entry {
        HashNode node;  // its `next` is the next free place of the chunk while it is free
        uint32_t holders;
        uint32_t mark;
        uint16_t size;
        char text[6];  // and on, behind the end
    };
    static_assert(sizeof(Entry) == 3 * kUnit);
    static constexpr size_t kHeadBytes = 18;
    static_assert(kSizes[std::size(kSizes) - 1] * kUnit >= kHeadBytes + kTextBytesMax);

    struct Chunk {
        std::unique_ptr<uint64_t[]> units;  // none while it is given back
        uint32_t previous = 0;              // among those of its size that have room
        uint32_t next = 0;
        Handle free = 0;
        uint16_t fresh = 0;  // the first unit never used
        uint16_t live = 0;
        uint8_t size = 0;  // index into kSizes
    };

    static uint8_t size_of(size_t bytes);
    uint32_t hash(std::string_view text) const {
        return static_cast<uint32_t>(sip_hash(key_, text));
    }
    Entry& entry(Handle handle) const;
    Handle allocate(uint8_t size);
    void free(Handle handle);
    uint32_t take_chunk(uint8_t size);
    static bool is_full(const Chunk& chunk) {
        return chunk.free == 0 && chunk.fresh + kSizes[chunk.size] > kChunkUnits;
    }
    void link(uint32_t chunk);
    void unlink(uint32_t chunk);

    SipKey key_;
    size_t bytes_max_;
    size_t chunks_taken_ = 0;
    HashIndex index_;
    std::vector<Chunk> chunks_{1};                        // the first is none
    std::vector<uint32_t> given_back_;                    // chunks without memory
    std::array<uint32_t, std::size(kSizes)> has_room_{};  // the first chunk of each size, or 0
};

}  // namespace pulse
