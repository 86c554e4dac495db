// Which addresses have given too many wrong tokens: a token bucket each, in a table of fixed size.
// Only failures count, so that a crowd behind one address may log in as fast as it likes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>

#include "core/random.h"
#include "core/rate_limiter.h"
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
        return entry == nullptr || kRate.allows(entry->full_at, now);
    }
    void failed(uint32_t address, Nanos now) {
        if (address == 0) return;
        if (entries_ == nullptr) entries_ = std::make_unique<Set[]>(kSets);
        Entry* entry = find(address);
        if (entry == nullptr) {
            entry = &*std::ranges::min_element(set_of(address), {}, &Entry::full_at);
            *entry = {address, 0};
        }
        entry->full_at = kRate.taken(entry->full_at, now);
    }

    size_t bytes() const { return entries_ == nullptr ? 0 : kSets * sizeof(Set); }

  private:
    static constexpr BucketRate kRate{
        RateLimit{.events = kAuthFailuresPerSecond, .burst = kAuthFailuresBurst}};
    struct Entry {
        uint32_t address = 0;  // 0: free
        Nanos full_at = 0;     // of its bucket
    };
    static_assert(sizeof(Entry) == 16);
    using Set = std::array<Entry, 8>;
    static constexpr size_t kSets = kAuthFailureAddresses / 8;
    static_assert((kSets & (kSets - 1)) == 0);

    Set& set_of(uint32_t address) { return entries_[mix64(address) & (kSets - 1)]; }
    Entry* find(uint32_t address) {
        for (Entry& entry : set_of(address))
            if (entry.address == address) return &entry;
        return nullptr;
    }

    std::unique_ptr<Set[]> entries_;
};

}  // namespace pulse
