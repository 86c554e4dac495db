// How fast the peers of one reactor send messages: a token bucket for each connection, and one for
// each user, whose connections may be on other reactors. Off, it has no memory; on, 16 bytes for
// each place that is used, and an entry for each user that is logged in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "core/address_table.h"
#include "core/page_source.h"
#include "core/rate_limiter.h"
#include "core/types.h"

namespace pulse {

class MessageRates {
  public:
    // For indexes below `places`. `users` is the server's table of users, by a number under a
    // secret; null: users have no limit. Both outlive this.
    MessageRates(PageSource& pages, uint32_t places, AddressTable* users)
        : pages_(pages), places_(places), users_(users) {}
    ~MessageRates() {
        if (has_memory()) pages_.release(reinterpret_cast<std::byte*>(entries_), bytes_max());
    }
    MessageRates(const MessageRates&) = delete;
    MessageRates& operator=(const MessageRates&) = delete;

    // From now on connections have rates, if `connections`, and users have that of `user`, those
    // that log in from now on. False: there is no address space, and nothing is limited.
    bool set(bool connections, const BucketRate& user) {
        user_ = user;
        const bool limits = connections || user.limits();
        if (!has_memory() && limits)
            entries_ = reinterpret_cast<Entry*>(pages_.reserve_small(bytes_max()));
        on_ = has_memory() && limits;
        return on_ || !limits;
    }
    bool on() const { return on_; }

    void begin(Index index) {
        if (!has_memory()) return;
        used_ = std::max<size_t>(used_, index + 1);
        entries_[index] = Entry{};
    }
    void log_in(Index index, uint32_t user, Nanos now) {
        if (!user_.limits() || !on_ || users_ == nullptr || entries_[index].user != 0) return;
        const auto entered = users_->enter(user, now, AddressRules{});
        if (entered.verdict == AddressTable::Verdict::counted) entries_[index].user = user;
    }
    void end(Index index) {
        if (!has_memory() || entries_[index].user == 0) return;
        users_->leave(entries_[index].user);
        entries_[index].user = 0;
    }

    enum class Verdict : uint8_t { allowed, connection_too_fast, user_too_fast };
    // One more message came, and `rate` is that of the connection. Requires: it is on.
    Verdict take(Index index, Nanos now, const BucketRate& rate) {
        Entry& entry = entries_[index];
        if (rate.limits()) {
            // A reload, or another cohort, into which a peer may come as often as it likes.
            if (entry.depth != rate.depth())
                entry = {rate.poured(entry.full_at, now, entry.depth), entry.user, rate.depth()};
            if (!rate.allows(entry.full_at, now)) return Verdict::connection_too_fast;
            entry.full_at = rate.taken(entry.full_at, now);
        }
        if (entry.user == 0 || users_->take(entry.user, now, user_) == 0) return Verdict::allowed;
        return Verdict::user_too_fast;
    }

    size_t memory_bytes() const { return has_memory() ? used_ * kBytesEach : 0; }
    static constexpr size_t kBytesEach = 16;

  private:
    struct Entry {
        Nanos full_at = 0;  // of its bucket
        uint32_t user = 0;  // 0: none that is limited
        float depth = 0;    // BucketRate::depth() of the rate that it is of
    };
    static_assert(sizeof(Entry) == kBytesEach);
    bool has_memory() const { return entries_ != nullptr; }
    size_t bytes_max() const { return places_ * kBytesEach; }

    PageSource& pages_;
    const size_t places_;
    AddressTable* const users_;
    BucketRate user_;
    bool on_ = false;
    Entry* entries_ = nullptr;
    size_t used_ = 0;  // places below this were used
};

}  // namespace pulse
