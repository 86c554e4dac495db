// What a shard of the directory should do, with maps and linear walks: the oracle of its tests.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/sessions/directory.h"

namespace pulse::test {

class PresenceModel {
  public:
    struct Session {
        ConnectionRef connection;
        std::string device;
        std::string labels;
        bool suspect = false;
    };
    struct User {
        std::vector<Session> sessions;  // the oldest first
        Directory::Presence presence = Directory::Presence::offline;
        uint32_t generation = 0;
        uint32_t sequence = 0;
        Nanos seen_at = 0;
        CloseReason reason = CloseReason::none;
        bool said_suspect = false;
        uint64_t order = 0;  // of the last change of its presence, among all users
    };
    struct Change {
        std::string user;
        uint32_t generation;
        uint32_t sequence;
        PresenceChange::Kind kind;
        CloseReason reason;
        ConnectionRef connection;
        friend bool operator==(const Change&, const Change&) = default;
    };

    explicit PresenceModel(const DirectoryConfig& config) : config_(config) {}

    LoginAnswer login(const std::string& name, const Session& wanted, bool had_session, Nanos now);
    bool logout(const ConnectionRef& connection, CloseReason reason, Nanos now);
    bool set_suspect(const ConnectionRef& connection, bool suspect, Nanos now);
    void advance(Nanos now);

    const std::map<std::string, User>& users() const { return users_; }
    std::vector<Change>& changes() { return changes_; }

  private:
    using Found = std::pair<const std::string, User>*;
    // The user and the place of the session that the connection has.
    std::pair<Found, size_t> find(const ConnectionRef& connection);
    LoginAnswer decide(const User& user, const Session& wanted, bool comes, size_t& replaced) const;
    void say_suspect(const std::string& name, User& user, const ConnectionRef& cause);
    void change(const std::string& name, User& user, PresenceChange::Kind kind,
                const ConnectionRef& cause);
    void go_offline(const std::string& name, User& user);

    DirectoryConfig config_;
    std::map<std::string, User> users_;
    std::vector<Change> changes_;
    uint32_t generations_ = 0;
    uint64_t order_ = 0;
};

}  // namespace pulse::test
