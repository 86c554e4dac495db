// What changed in a shard of the directory, in order, the newest kPresenceChangesKept of it.
//
// A follower asks for what is behind the position it has reached, and is told when that is no
// longer kept: then it reads all users anew and goes on from the end. Positions count from 0 for
// each shard and each start of the server.
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/close_reason.h"
#include "core/sessions/text_store.h"
#include "core/types.h"

namespace pulse {

struct PresenceChange {
    enum class Kind : uint8_t {
        online,     // the user's first session
        offline,    // its last one ended, and none came in the time that --presence-linger gives
        suspect,    // a probe of each of its sessions is unanswered
        well,       // one of them answered
        joined,     // one more session
        left,       // one session of several ended
        replaced,   // a session took another's place: by takeover, or after one that just ended
        refreshed,  // a session has other labels now
    };

    TextStore::Handle user = 0;  // held for the stream
    TextStore::Handle device = 0;
    uint32_t generation = 0;  // which stay of this user: grows from each online to the next
    uint32_t sequence = 0;    // of this stay: 1, 2, 3 ...
    Nanos at = 0;
    ConnectionRef connection;
    Kind kind = Kind::online;
    CloseReason reason = CloseReason::none;  // of left and offline
};
static_assert(sizeof(PresenceChange) == 40);

class PresenceStream {
  public:
    // The texts of changes are held as long as the changes are kept. `texts` must outlive it.
    explicit PresenceStream(TextStore& texts, uint32_t kept = kPresenceChangesKept)
        : texts_(texts), kept_(kept) {
        PULSE_ASSERT(kept > 0);
    }
    ~PresenceStream() {
        for (const PresenceChange& change : changes_) drop(change);
    }
    PresenceStream(const PresenceStream&) = delete;
    PresenceStream& operator=(const PresenceStream&) = delete;

    void append(const PresenceChange& change) {
        texts_.hold(change.user);
        texts_.hold(change.device);
        if (changes_.size() < kept_) {
            changes_.reserve(kept_);  // once: address space, so that no turn copies what is kept
            changes_.push_back(change);
        } else {
            PresenceChange& oldest = changes_[end_ % kept_];
            drop(oldest);
            oldest = change;
        }
        ++end_;
    }

    // Positions first() .. end() - 1 are kept.
    uint64_t end() const { return end_; }
    uint64_t first() const { return end_ - changes_.size(); }
    // Requires: first() <= position < end().
    const PresenceChange& at(uint64_t position) const {
        PULSE_ASSERT(position >= first() && position < end_);
        return changes_[position % kept_];
    }

  private:
    void drop(const PresenceChange& change) {
        texts_.drop(change.user);
        texts_.drop(change.device);
    }

    TextStore& texts_;
    uint64_t kept_;
    uint64_t end_ = 0;
    std::vector<PresenceChange> changes_;
};

}  // namespace pulse
