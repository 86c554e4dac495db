// Short texts, each kept once: names of users and devices, sets of labels. A thousand devices with
// the name "ios" cost one. Texts are counted by their holders and freed with the last.
#pragma once

#include <array>
#include <cstdint>
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

    // `bytes_max` bounds what the texts take together, their bookkeeping included.
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
    // What is held, without what was freed and waits to be used again; and all that is allocated.
    size_t held_bytes() const { return held_bytes_; }
    size_t bytes() const;

  private:
    // A handle is a position in units of 8 bytes, its chunk in the upper bits.
    static constexpr size_t kUnit = 8;
    static constexpr uint32_t kChunkUnitsLog2 = 13;
    static constexpr uint32_t kChunkUnits = uint32_t{1} << kChunkUnitsLog2;

    struct Entry {
        HashNode node;
        uint32_t holders;
        uint32_t mark;
        uint16_t size;
        char text[6];  // and on, behind the end
    };
    static_assert(sizeof(Entry) == 3 * kUnit);
    static constexpr size_t kHeadBytes = 18;

    static uint32_t units_of(size_t size) {
        return static_cast<uint32_t>((kHeadBytes + size + kUnit - 1) / kUnit);
    }
    static constexpr size_t kUnitsMax = (kHeadBytes + kTextBytesMax + kUnit - 1) / kUnit;

    uint32_t hash(std::string_view text) const {
        return static_cast<uint32_t>(sip_hash(key_, text));
    }
    Entry& entry(Handle handle) const;
    Handle allocate(uint32_t units);

    SipKey key_;
    size_t bytes_max_;
    size_t held_bytes_ = 0;
    HashIndex index_;
    std::vector<std::unique_ptr<uint64_t[]>> chunks_;
    uint32_t fresh_ = kChunkUnits;              // the first unit never used; none of chunk 0 is
    std::array<Handle, kUnitsMax + 1> free_{};  // freed entries by their units
};

}  // namespace pulse
