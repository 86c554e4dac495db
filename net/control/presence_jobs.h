// What the admin endpoint reads of the directory (core/sessions/directory.h): users, sessions, and
// what has changed. Jobs, each over the shard of one reactor (jobs.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/sessions/directory.h"
#include "net/loop/job.h"

namespace pulse {

// How a user is to those that look: one that lingers is online.
enum class UserState : uint8_t { online, suspect, offline };
inline constexpr std::string_view kUserStateNames[] = {"online", "suspect", "offline"};

struct SessionRow {
    std::string device;
    std::string labels;
    ConnectionRef connection;
    bool suspect = false;
    Nanos since = 0;  // to the second, of the reactor's clock
};

struct UserRow {
    std::string name;
    UserState state = UserState::offline;
    bool lingering = false;
    uint32_t sessions = 0;
    uint32_t generation = 0;
    uint32_t sequence = 0;
    Nanos seen_at = 0;
    CloseReason reason = CloseReason::none;  // of the last session that ended
};

// A page of a shard's users in the order of their handles: begins at `from`, ends with the last or
// when `most` were found.
struct UsersJob final : Job {
    UsersJob(std::optional<UserState> wanted, bool with_offline, uint32_t from, uint32_t limit)
        : state(wanted), offline(with_offline), most(limit), next(from) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const std::optional<UserState> state;
    const bool offline;  // those too, where no state is asked for
    const uint32_t most;
    uint32_t next;      // behind the last handle that was looked at; the first is 1
    bool over = false;  // no handle is left
    std::vector<UserRow> rows;
};

// One user, with all sessions.
struct UserJob final : Job {
    explicit UserJob(std::string wanted) : name(std::move(wanted)) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const std::string name;
    std::optional<UserRow> row;  // empty: it is not of this shard, or not known
    std::vector<SessionRow> sessions;
};

// A change, with its texts.
struct PresenceEvent {
    std::string user;
    std::string device;
    uint32_t generation = 0;
    uint32_t sequence = 0;
    ConnectionRef connection;
    Nanos at = 0;
    PresenceChange::Kind kind = PresenceChange::Kind::online;
    CloseReason reason = CloseReason::none;
};
std::string_view name_of(PresenceChange::Kind kind);

// What a shard's stream has from `position` on, `most` at most.
struct ChangesJob final : Job {
    ChangesJob(uint64_t from, uint32_t limit) : most(limit), position(from) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const uint32_t most;
    uint64_t position;    // of the next change
    bool gap = false;     // some behind the first position are not kept any more
    bool at_end = false;  // no change is left
    std::vector<PresenceEvent> events;
};

// Labels that are wanted, each NAME or NAME=VALUE. Those of one name are alternatives, and each
// name must be there: "ring=canary", "ring=beta" and "region" are those of either ring with a
// region, whichever that is.
class LabelChoice {
  public:
    explicit LabelChoice(const std::vector<std::string>& wanted);
    bool matches(std::string_view labels) const;
    // How many are compared at most.
    uint32_t size() const { return size_; }

  private:
    std::vector<std::vector<std::string>> by_name_;
    uint32_t size_;
};

// The connections of those sessions whose users and labels are wanted.
struct ChooseJob final : Job {
    ChooseJob(std::vector<std::string> names, const std::vector<std::string>& wanted)
        : users(std::move(names)), labels(wanted) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const std::vector<std::string> users;  // one of them; empty: any
    const LabelChoice labels;
    std::vector<ConnectionRef> chosen;
    bool too_many = false;  // more than kChosenMax

  private:
    bool add_sessions(const Directory& directory, const Directory::User& user);
    size_t next_user_ = 0;  // of those that are named
    uint32_t next_ = 1;     // of all, by handle
};

// Names of the sessions of a page of connections.
struct NamesJob final : Job {
    struct Session {
        ConnectionRef connection;
        SessionHandle handle = 0;
        size_t place = 0;  // the asker's
        std::string user{}, device{}, labels{};
    };
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    std::vector<Session> sessions;

  private:
    size_t next_ = 0;
};

// Whether `labels`, "ring=canary region=eu", has `wanted`: NAME or NAME=VALUE.
bool has_label(std::string_view labels, std::string_view wanted);

}  // namespace pulse
