// Ids of tokens that were revoked: which of them a peer may not use again. Bounded: the oldest is
// forgotten first, and those of one process end with it, so that tokens should not live for long.
#pragma once

#include <cstdint>
#include <deque>
#include <string_view>
#include <unordered_set>

#include "core/sip_hash.h"
#include "net/auth/limits.h"

namespace pulse {

// A token's id, as reactors keep it: under a secret, 8 bytes of any. 0: it has none.
using TokenNumber = uint64_t;
inline TokenNumber number_of_token(std::string_view token_id, const SipKey& key) {
    if (token_id.empty()) return 0;
    const uint64_t number = sip_hash(key, token_id);
    return number + (number == 0);
}

class RevokedTokens {
  public:
    void add(TokenNumber token) {
        if (!numbers_.insert(token).second) return;
        order_.push_back(token);
        if (order_.size() <= kRevokedTokensMax) return;
        numbers_.erase(order_.front());
        order_.pop_front();
    }
    bool contains(TokenNumber token) const { return token != 0 && numbers_.contains(token); }
    size_t size() const { return order_.size(); }
    // About: a node of the set, its bucket, a number of the queue.
    size_t bytes() const { return order_.size() * 40; }

  private:
    std::unordered_set<TokenNumber> numbers_;
    std::deque<TokenNumber> order_;
};

}  // namespace pulse
