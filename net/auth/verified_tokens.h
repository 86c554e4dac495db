// Tokens whose signature was found right, by their SHA-256: a peer that reconnects gives the one it
// gave before, and to find it here costs 2 us instead of 18 to 67.
//
// Sets of four places, of which the one used longest ago gives way. Fixed in size, and nothing
// before the first is added.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "core/types.h"
#include "net/auth/limits.h"
#include "net/auth/token_file.h"

namespace pulse {

class VerifiedTokens {
  public:
    // Whether it was added; then it was used just now.
    bool contains(const Sha256& hash) {
        if (sets_ == nullptr) return false;
        for (Entry& entry : set_of(hash)) {
            if (entry.used_at == 0 || entry.hash != hash) continue;
            entry.used_at = ++uses_;
            return true;
        }
        return false;
    }
    void add(const Sha256& hash) {
        if (sets_ == nullptr) sets_ = std::make_unique<Set[]>(kSets);
        Set& set = set_of(hash);
        Entry& oldest = *std::ranges::min_element(set, {}, &Entry::used_at);
        oldest = {hash, ++uses_};
    }
    // Keys have changed.
    void clear() { sets_.reset(); }
    size_t bytes() const { return sets_ == nullptr ? 0 : kSets * sizeof(Set); }

  private:
    struct Entry {
        Sha256 hash{};
        uint64_t used_at = 0;  // 0: free
    };
    static_assert(sizeof(Entry) == 40);
    using Set = std::array<Entry, 4>;
    static constexpr size_t kSets = kVerifiedTokensKept / 4;
    static_assert((kSets & (kSets - 1)) == 0);

    // A peer cannot choose the hash of a token with a right signature, but by having many.
    Set& set_of(const Sha256& hash) {
        uint64_t word;
        std::memcpy(&word, hash.data(), sizeof word);
        return sets_[word & (kSets - 1)];
    }

    std::unique_ptr<Set[]> sets_;
    uint64_t uses_ = 0;
};

}  // namespace pulse
