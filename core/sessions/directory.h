// Who is online: one shard of the directory, for the users whose names hash to it.
//
// Reactors report logins and ends of connections by message; the shard decides who may stay and
// which older session gives way, and writes down each change. A report names its connection by
// index, generation and reactor, and counts only while the session still belongs to exactly that
// connection: the late end of an old connection never ends the session that took its place (goim's
// directory, keyed by user alone, had that fault).
//
//            login             last logout           linger over
//     absent ------> online <----------------- lingering -------> offline (kept: last seen, why)
//                      ^      login again: replaced, never offline    |
//                      +----------------------------------------------+  login: a new generation
//
// A user that lingers is online to all that look. Pure: time is a parameter. Not thread-safe:
// a shard belongs to one reactor.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/close_reason.h"
#include "core/sessions/login.h"
#include "core/sessions/presence_stream.h"
#include "core/sessions/slab.h"
#include "core/sessions/text_store.h"
#include "core/types.h"

namespace pulse {

// What becomes of sessions of the same user and the same device.
enum class DuplicateRule : uint8_t {
    takeover,  // the newest stays
    reject,    // the oldest stays, unless it is suspect
    allow,     // so many of them stay, and then the newest of those that come
};

struct DirectoryConfig {
    DuplicateRule duplicate = DuplicateRule::takeover;
    uint32_t same_device_max = 1;  // with allow: 1 .. kSessionsPerUserMax
    uint32_t per_user_max = kSessionsPerUserMax;
    Nanos linger = 0;                        // --presence-linger; 0: offline at once
    uint32_t users_max = kUsersPerShardMax;  // online, lingering and offline ones
    uint32_t sessions_max = kUsersPerShardMax;
    uint32_t offline_max = kOfflineUsersKept;      // more, and the one longest offline is forgotten
    size_t text_bytes_max = kSessionTextBytesMax;  // what names and labels may take
    uint32_t changes_kept = kPresenceChangesKept;
};

class Directory {
  public:
    enum class Presence : uint8_t { online, lingering, offline };

    // The first word of a free record is the slab's.
    struct User {
        uint32_t previous = 0;  // among those that linger, or among those that are offline
        uint32_t next = 0;
        TextStore::Handle name = 0;  // 0: the record is free
        SessionHandle first = 0;     // of its sessions, the oldest first
        uint32_t generation = 0;
        uint32_t sequence = 0;
        Nanos seen_at = 0;  // the last report of any of its sessions
        uint16_t sessions = 0;
        uint16_t suspects = 0;
        Presence presence = Presence::offline;
        CloseReason reason = CloseReason::none;  // of the last session that ended
        bool said_suspect = false;               // what followers know
    };
    static_assert(sizeof(User) == 40);

    struct Session {
        SessionHandle next = 0;  // of the same user
        uint32_t user = 0;       // 0: the record is free
        TextStore::Handle device = 0;
        TextStore::Handle labels = 0;
        ConnectionId connection;
        uint16_t reactor = 0;
        bool suspect = false;
        uint32_t since_s = 0;
        ConnectionRef ref() const { return {connection, reactor}; }
    };
    static_assert(sizeof(Session) == 32);

    struct Counts {
        uint32_t users = 0;  // online, suspect or lingering
        uint32_t sessions = 0;
        uint32_t suspects = 0;  // users of which every session is suspect
        uint32_t lingering = 0;
        uint32_t offline = 0;  // kept
        uint64_t takeovers = 0;
        uint64_t rejected = 0;
        uint64_t blips = 0;  // ends that --presence-linger kept from being offline
        uint64_t stale = 0;  // reports of connections that no session belongs to any more
    };

    // `key` is secret: it decides the buckets of names that peers choose.
    Directory(const DirectoryConfig& config, const SipKey& key);

    // The rules of `config` hold from now on, its linger for users that linger, too; what it bounds
    // stays as it was. Sessions that are one too many stay until others come.
    void set_rules(const DirectoryConfig& config);

    LoginAnswer login(const Login& login, Nanos now);
    // The connection ended. False if the session is not that connection's any more.
    bool logout(SessionHandle session, const ConnectionRef& connection, CloseReason reason,
                Nanos now);
    // The session is `to`'s from now on, which is its client, come back: neither counted as a
    // takeover nor offline in between. Requires: the session is some connection's.
    void adopt(SessionHandle session, const ConnectionRef& to, Nanos now);
    // A probe of the connection is unanswered, or it answered after all. False as above.
    bool set_suspect(SessionHandle session, const ConnectionRef& connection, bool suspect,
                     Nanos now);
    // Ends the lingering whose time is over, `budget` users at most. Returns whether more is due.
    bool advance(Nanos now, uint32_t budget);
    // When advance() has something to do next; kNever if nothing lingers.
    Nanos next_deadline() const;

    // nullptr: the user is absent. Valid until the directory changes.
    const User* find(std::string_view user) const;
    const Session& session(SessionHandle handle) const { return sessions_[handle]; }
    // nullptr: the session is not that connection's any more.
    const Session* session_of(SessionHandle session, const ConnectionRef& connection) const;
    // The users are among the handles 1 .. last_user(); nullptr where there is none now.
    uint32_t last_user() const { return users_.last(); }
    const User* user(uint32_t handle) const {
        return users_[handle].name == 0 ? nullptr : &users_[handle];
    }
    std::string_view text(TextStore::Handle handle) const { return texts_.text(handle); }
    const TextStore& texts() const { return texts_; }

    const PresenceStream& stream() const { return stream_; }
    const Counts& counts() const { return counts_; }
    size_t bytes() const { return texts_.bytes() + users_.bytes() + sessions_.bytes(); }
    // Of them, those of users and sessions that are gone.
    size_t free_bytes() const { return users_.free_bytes() + sessions_.free_bytes(); }
    // Walks all of it and proves that counts, lists and states agree. For tests.
    void validate() const;

  private:
    // First in, first out, through User::previous and next.
    struct Queue {
        uint32_t first = 0;
        uint32_t last = 0;
    };

    bool hold(std::string_view text, TextStore::Handle& handle);
    uint32_t create_user(std::string_view name);
    void forget(uint32_t user);
    bool is_of(SessionHandle session, const ConnectionRef& connection);
    SessionHandle session_of(const User& user, const ConnectionRef& connection) const;
    LoginAnswer refresh(SessionHandle session, const Session& wanted, Nanos now);
    LoginAnswer admit(uint32_t user, const Session& wanted, uint32_t most, Nanos now);
    LoginAnswer decide(const User& user, TextStore::Handle device, uint32_t most) const;
    void take_over(uint32_t user, const ConnectionRef& connection);
    void announce(uint32_t user, const Session& session, bool replaces, Nanos now);
    void append(uint32_t user, SessionHandle session);
    void remove(SessionHandle session);
    void say_suspect(uint32_t user, const Session& cause, Nanos now);
    void go_offline(uint32_t user, Nanos now);
    void change(uint32_t user, PresenceChange::Kind kind, const Session& cause, Nanos now);
    void push(Queue& queue, uint32_t user);
    void unlink(Queue& queue, uint32_t user);

    DirectoryConfig config_;
    TextStore texts_;
    Slab<User> users_;
    Slab<Session> sessions_;
    Queue lingering_;
    Queue offline_;
    uint32_t generations_ = 0;
    Counts counts_;
    PresenceStream stream_;
};

}  // namespace pulse
