// What is remembered of each connection besides its record: when it was accepted, the address that
// its PROXY header named, and the ledger of those that ended (core/sessions/ledger.h).
//
// Kept while the debug log is on, or the reactor's config wants a ledger; it costs nothing
// otherwise. 4 bytes for each connection, in pages that are backed where they are used: while it
// lives, when it was accepted; while it ends, where its entry in the ledger is. Behind ?proxy=on 20
// more. An entry that newer ones have pushed out is not written to any more.
#pragma once

#include <cstdint>
#include <utility>

#include "core/page_source.h"
#include "core/sessions/ledger.h"
#include "core/transport_facts.h"
#include "core/types.h"

namespace pulse {

class History {
  public:
    // For indexes below `places`. `pages` outlives it.
    History(PageSource& pages, uint32_t places) : pages_(pages), places_(places) {}
    ~History() { forget(); }
    History(const History&) = delete;
    History& operator=(const History&) = delete;

    // From now on the last `entries` that ended are remembered; 0: nothing is, and what was is
    // forgotten. With `proxied` there is room for addresses. False: there was no address space.
    bool keep(uint32_t entries, bool proxied, Nanos now);
    bool on() const { return notes_ != nullptr; }

    // The rest: does nothing, or knows nothing, while it is off.
    void accepted(Index index, bool proxied, Nanos now);
    void named(Index index, const PeerAddress& address);
    // Requires: it was accepted, and end() was not called. 0: it was accepted before this was kept.
    Nanos accepted_at(Index index) const;
    PeerAddress address(Index index) const;
    // What was known when its end was decided. Once for each connection.
    void end(Index index, const Evidence& facts);
    // That entry; nullptr: newer ones have pushed it out, or it ended before this was kept.
    const Evidence* ending(Index index, ConnectionId id) const;
    Evidence* ending(Index index, ConnectionId id) {
        return const_cast<Evidence*>(std::as_const(*this).ending(index, id));
    }

    const Ledger& ledger() const { return ledger_; }
    size_t memory_bytes() const;
    // For one connection, when it is on.
    static constexpr size_t kBytesEach = sizeof(uint32_t);
    static constexpr size_t kProxiedBytesEach = sizeof(PeerAddress);

  private:
    // Units of an instant: 16.8 ms, of which 32 bits are 2.2 years.
    static constexpr uint32_t kShift = 24;
    void forget();

    PageSource& pages_;
    const uint32_t places_;
    uint32_t* notes_ = nullptr;
    PeerAddress* addresses_ = nullptr;
    Nanos began_at_ = 0;
    uint64_t used_ = 0;  // places below this were used, for memory_bytes()
    Ledger ledger_{0};
};

}  // namespace pulse
