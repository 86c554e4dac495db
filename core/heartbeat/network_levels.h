// What silences each network bears, as levels of adaptive intervals (adaptive.h): for those that
// come next from it. A NAT or a firewall forgets a connection that was silent for too long, and
// which of its devices finds that out does not matter.
//
// Off, it has no memory; on, kAdaptiveNetworks entries of 12 bytes. Of two networks with one place
// the newer stays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/limits.h"
#include "core/types.h"

namespace pulse {

class NetworkLevels {
  public:
    void turn_on() { entries_.resize(kAdaptiveNetworks); }
    bool on() const { return !entries_.empty(); }

    // A silence at `level` ended in time. `network` is a number that stands for it.
    void note_kept(uint32_t network, uint8_t level) {
        Entry& entry = claim(network);
        entry.kept = std::max(entry.kept, level);
        if (level >= entry.failed) entry.failed = 0;
        if (level >= entry.lost_at) entry.lost = 0;
    }
    // A connection was lost in a silence at `level`. `came_back`: its device had another at once,
    // so it was there and the network forgot it. Else it may have been switched off, as it may
    // where others have kept that level: then kAdaptiveLost in a row tell.
    void note_lost(uint32_t network, uint8_t level, bool came_back, Nanos now) {
        Entry& entry = claim(network);
        if (level == 0) return;
        entry.lost_at = entry.lost == 0 ? level : std::min(entry.lost_at, level);
        ++entry.lost;
        if ((!came_back || level <= entry.kept) && entry.lost < kAdaptiveLost) return;
        entry.failed = entry.failed == 0 ? entry.lost_at : std::min(entry.failed, entry.lost_at);
        entry.kept = std::min<uint8_t>(entry.kept, entry.failed - 1);
        entry.lost = 0;
        entry.until = hour(now + kAdaptiveNetworkNs);
    }
    // The level to begin with: what was kept, `otherwise` where nothing is known.
    uint8_t start(uint32_t network, uint8_t otherwise, Nanos now) const {
        const Entry* const entry = find(network);
        if (entry == nullptr) return otherwise;
        return std::min(std::max(entry->kept, otherwise), most(network, UINT8_MAX, now));
    }
    // The highest that it bears, or may bear; at most `top`.
    uint8_t most(uint32_t network, uint8_t top, Nanos now) const {
        const Entry* const entry = find(network);
        const bool fails = entry != nullptr && entry->failed != 0 && hour(now) < entry->until;
        return fails ? std::min<uint8_t>(top, entry->failed - 1) : top;
    }
    size_t memory_bytes() const { return entries_.size() * sizeof(Entry); }

  private:
    struct Entry {
        uint32_t network = 0;
        uint8_t kept = 0;
        uint8_t failed = 0;   // 0: none
        uint8_t lost = 0;     // in a row, none kept at their levels since
        uint8_t lost_at = 0;  // the lowest of those
        uint32_t until = 0;   // `failed` holds, in hours
    };
    static_assert(sizeof(Entry) == 12);

    static uint32_t hour(Nanos now) { return static_cast<uint32_t>(now / (3'600 * kSecond)); }
    const Entry* find(uint32_t network) const {
        if (!on()) return nullptr;
        const Entry& entry = entries_[network % kAdaptiveNetworks];
        return entry.network == network ? &entry : nullptr;
    }
    // Requires: it is on.
    Entry& claim(uint32_t network) {
        Entry& entry = entries_[network % kAdaptiveNetworks];
        if (entry.network != network) entry = Entry{.network = network};
        return entry;
    }

    std::vector<Entry> entries_;
};

}  // namespace pulse
