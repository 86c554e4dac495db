// The logins of one reactor's connections, from hello to end: what is to be reported to the shards
// of the directory, and when.
//
// A login is a question to another thread, and its connection may end before the answer is there.
// Its entry then stays, abandoned, until the answer says which session to end, so that each session
// that a shard gave is reported ended once. Only logged-in connections have an entry.
//
//     begin -> waiting --answer: accepted--> bound --ended--> report, free
//                 |                          |  ^
//                 |                   begin again: waiting and bound
//                 +--ended--> abandoned --answer--> report if there is a session, free
#pragma once

#include <cstdint>

#include "core/sessions/directory.h"
#include "core/sessions/slab.h"

namespace pulse {

class SessionBook {
  public:
    using Handle = uint32_t;  // of an entry; 0 is none

    struct Entry {
        SessionHandle session = 0;  // 0: none, not yet, or not its any more
        ConnectionId connection;
        uint32_t user[2] = {};  // a number of 64 bits that stands for the name
        uint32_t accepted = 0;  // what Connection::user was before
        uint16_t shard : 13 = 0;
        uint16_t profile : 3 = 0;    // of its own: what it has where its cohort has none
        bool waiting : 1 = false;    // for the answer to a login
        bool abandoned : 1 = false;  // its connection has ended
        bool suspect : 1 = false;    // as its shard was told
        uint8_t cohort : 5 = 0;      // core/sessions/cohorts.h
        CloseReason reason = CloseReason::none;
        uint64_t number() const { return uint64_t{user[1]} << 32 | user[0]; }
        bool is_of(uint64_t name) const { return number() == name; }
    };
    static_assert(sizeof(Entry) == 28);
    static_assert(kAskedProfiles <= 8 && kCohortsMax <= 32);
    enum class Step : uint8_t {
        none,
        welcome,  // the connection is logged in
        refuse,   // it is not, for the verdict's reason
        report,   // tell the shard that `session` ended for `reason`; the entry is free
    };
    struct Outcome {
        Step step = Step::none;
        Entry entry{};
    };

    explicit SessionBook(uint32_t limit) : entries_(limit) {}

    // A hello: a login is on its way to `shard`. With `handle` (not 0) it is the connection's
    // second, of the same user. Returns the entry; 0 if all are taken, or if the answer to the
    // hello before is not there yet. `user` stands for the name. A new entry keeps `accepted`.
    Handle begin(Handle handle, ConnectionId connection, uint32_t shard, uint64_t user = 0,
                 uint32_t accepted = 0) {
        if (handle == 0) {
            handle = entries_.take();
            if (handle != 0) entries_[handle].accepted = accepted;
        }
        if (handle == 0 || entries_[handle].waiting) return 0;
        entries_[handle].connection = connection;
        entries_[handle].user[0] = static_cast<uint32_t>(user);
        entries_[handle].user[1] = static_cast<uint32_t>(user >> 32);
        entries_[handle].shard = shard & 0x1FFF;  // all of it: a server has fewer
        entries_[handle].waiting = true;
        return handle;
    }
    // Requires: begin() gave the handle, and this is the one answer to it.
    Outcome answered(Handle handle, const LoginAnswer& answer) {
        Entry& entry = entries_[handle];
        PULSE_ASSERT(entry.waiting);
        entry.waiting = false;
        if (answer.session != 0) entry.session = answer.session;
        if (entry.abandoned) return ended(handle, entry.reason);
        const Outcome outcome{answer.session != 0 ? Step::welcome : Step::refuse, entry};
        if (entry.session == 0) entries_.release(handle);
        return outcome;
    }
    // The connection ended. The handle is not the connection's any more.
    Outcome ended(Handle handle, CloseReason reason) {
        Entry& entry = entries_[handle];
        if (entry.waiting) {
            entry.abandoned = true;
            entry.reason = reason;
            return {};
        }
        entry.reason = reason;
        const Outcome outcome{entry.session != 0 ? Step::report : Step::none, entry};
        entries_.release(handle);
        return outcome;
    }
    // Another connection has the session now; the end of this one is not reported.
    void lost(Handle handle) { entries_[handle].session = 0; }
    // The shard was told that a probe is unanswered, or that the peer answered after all.
    void told_suspect(Handle handle, bool suspect) { entries_[handle].suspect = suspect; }

    void keep_profile(Handle handle, uint8_t profile) { entries_[handle].profile = profile & 7; }
    void set_cohort(Handle handle, uint8_t cohort) { entries_[handle].cohort = cohort & 31; }

    const Entry& entry(Handle handle) const { return entries_[handle]; }
    uint32_t taken() const { return entries_.taken(); }
    size_t bytes() const { return entries_.bytes(); }
    size_t free_bytes() const { return entries_.free_bytes(); }

  private:
    Slab<Entry> entries_;
};

}  // namespace pulse
