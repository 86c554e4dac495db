// What is remembered of each connection besides its record: when it was accepted, the address that
// its PROXY header named, and the ledger of those that ended (core/sessions/ledger.h).
//
// Kept as --ledger and the log want it, but for when a connection was accepted, which is always
// known and costs no byte: it stands in Connection::user, which is free until a hello names a user,
// and then in the entry of that login. Behind ?proxy=on an address is 20 bytes, in pages that are
// backed where it is used.
#pragma once

#include <cstdint>
#include <utility>

#include "core/connection.h"
#include "core/page_source.h"
#include "core/sessions/ledger.h"
#include "core/transport_facts.h"
#include "core/types.h"

namespace pulse {

class History {
  public:
    // For indexes below `places`. `pages` outlives it. `now`: of the clock of all that follows.
    History(PageSource& pages, uint32_t places, Nanos now)
        : pages_(pages), places_(places), began_at_(now) {}
    ~History() { forget_addresses(); }
    History(const History&) = delete;
    History& operator=(const History&) = delete;

    // From now on the last `entries` that ended are remembered, those too that were already; 0:
    // nothing is. With `proxied` there is room for addresses. False: there was no address space.
    bool keep(uint32_t entries, bool proxied);
    bool on() const { return ledger_.limit() > 0; }

    // Returns what Connection::user of a connection that was accepted now is to hold, on or off.
    uint32_t accepted(Index index, bool proxied, Nanos now);
    // When that was, to 34 ms, never later than it was. Requires: it is not 2.2 years ago.
    Nanos accepted_at(uint32_t user, Nanos now) const;
    // The rest: does nothing, or knows nothing, while it is off.
    void named(Index index, const PeerAddress& address);
    PeerAddress address(Index index) const;
    // What was known when its end was decided. Once for each connection.
    void end(const Evidence& facts) {
        if (on()) ledger_.add(facts);
    }
    // That entry; nullptr: newer ones have pushed it out, or it ended before this was kept.
    const Evidence* ending(ConnectionId id) const { return on() ? ledger_.find(id) : nullptr; }
    Evidence* ending(ConnectionId id) {
        return const_cast<Evidence*>(std::as_const(*this).ending(id));
    }

    const Ledger& ledger() const { return ledger_; }
    size_t memory_bytes() const;

  private:
    // Units of an instant: 33.6 ms, of which 31 bits are 2.2 years. Then they begin again.
    static constexpr uint32_t kShift = 25;
    int64_t units(Nanos now) const { return (now - began_at_) >> kShift; }
    void forget_addresses();

    PageSource& pages_;
    const uint32_t places_;
    const Nanos began_at_;
    PeerAddress* addresses_ = nullptr;
    uint64_t used_ = 0;  // places below this had addresses, for memory_bytes()
    Ledger ledger_{0};
};

}  // namespace pulse
