// Which addresses have given too many wrong tokens: a token bucket each, in a table of fixed size.
// Only failures count, so that a crowd behind one address may log in as fast as it likes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include "core/random.h"
#include "core/types.h"
#include "net/auth/limits.h"

namespace pulse {

class FailureLimiter {
  public:
    // Whether tokens of `address` are looked at; a number as number_of() of net/io/address.h makes
    // it, so that IPv6 counts by /64. 0, no address, always is.
    bool allows(uint32_t address, Nanos now) {
        if (entries_ == nullptr || address == 0) return true;
        const Entry* const entry = find(address);
        return entry == nullptr || level(*entry, now) + 1.0F <= float{kAuthFailuresBurst};
    }
    void failed(uint32_t address, Nanos now) {
        if (address == 0) return;
        if (entries_ == nullptr) entries_ = std::make_unique<Set[]>(kSets);
        Entry* entry = find(address);
        if (entry == nullptr) {
            entry = &*std::ranges::min_element(set_of(address), {}, &Entry::at);
            *entry = {address, 0, now};
        }
        entry->level = level(*entry, now) + 1.0F;
        entry->at = now;
    }

    size_t bytes() const { return entries_ == nullptr ? 0 : kSets * sizeof(Set); }

  private:
    struct Entry {
        uint32_t address = 0;  // 0: free
        float level = 0;       // failures that are not forgotten yet
        Nanos at = 0;          // when that was
    };
    static_assert(sizeof(Entry) == 16);
    using Set = std::array<Entry, 8>;
    static constexpr size_t kSets = kAuthFailureAddresses / 8;
    static_assert((kSets & (kSets - 1)) == 0);

    static float level(const Entry& entry, Nanos now) {
        const float passed = static_cast<float>(now - entry.at) / static_cast<float>(kSecond);
        return std::max(0.0F, entry.level - passed * float{kAuthFailuresPerSecond});
    }
    Set& set_of(uint32_t address) { return entries_[mix64(address) & (kSets - 1)]; }
    Entry* find(uint32_t address) {
        for (Entry& entry : set_of(address))
            if (entry.address == address) return &entry;
        return nullptr;
    }

    std::unique_ptr<Set[]> entries_;
};

}  // namespace pulse
