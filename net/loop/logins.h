// Who the connections of a reactor are: hello, login, welcome, and the end of the session.
//
//     connection's reactor                      shard: the reactor that the name hashes to
//       hello -> book: waiting  -- Login ---------->  Directory::login
//       welcome, or refusal     <- LoginAnswered ---    |
//       the replaced one closes <- SessionTaken ----    '-> of the connection that gives way
//       begin of the close      -- SessionEnded --->  Directory::logout
//       a probe is unanswered   -- SessionSuspect ->  Directory::set_suspect
//
// Of a session that can be resumed Login, LoginAnswered and SessionEnded take along what it is
// resumed by (resumption.h).
//
// The shard that is this reactor's own is called directly. Reactors are told apart by the upper
// half of a hash of the name under a secret key; the directory's tables use another key, or the
// names of one shard would share buckets. An anonymous connection has no part in any of this.
// Belongs to the reactor's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "core/connection.h"
#include "core/message.h"
#include "core/sessions/directory.h"
#include "core/sessions/session_book.h"
#include "net/loop/reactor_config.h"
#include "net/loop/reactor_mail.h"
#include "net/loop/reactor_metrics.h"
#include "net/loop/resumption.h"

namespace pulse {

class Connections;

// A hello that names a user. Texts are within their bounds (core/limits.h).
struct UserHello {
    std::string_view user;
    std::string_view device;
    std::string_view labels;
    // For the welcome: of the frame, and whether it asks for an answer_every.
    uint32_t sequence = 0;
    bool asks_answer_every = false;
    bool is_quiet = false;  // there was no hello, and it is not welcomed (authentication.h)
    // Of --resume-hold; its client has seen all messages up to `seen`.
    ResumeAsk resume{};
    uint64_t seen = 0;
};

class Logins {
  public:
    // `connections` are the reactor's, of `places` records; both outlive this.
    Logins(const ReactorConfig& config, Connections& connections, ReactorMetrics& metrics,
           uint32_t places);

    // ---- sessions of connections
    // Why a hello of the connection cannot be taken now and is to be tried again; empty: it can.
    std::string_view reason_to_wait(Index index, const UserHello& hello) const;
    // The connection logs in. The answer is Session's welcome_user() or refuse_login(), here where
    // the shard is this reactor's own. Requires: reason_to_wait() is empty.
    void begin(Index index, const UserHello& hello);
    // Requires: the connection has a session, or waits for one. From now on it has none.
    void ended(Index index, CloseReason reason);
    // Tells the shard whether a probe is unanswered. False: it could not be told and is to be told
    // again at the next look. Requires: as for ended().
    bool set_suspect(Index index, bool suspect);

    // ---- messages of other reactors
    void handle(const Message::Login& login, const LoginTexts& texts);
    void handle(const Message::LoginAnswered& answered, const Payload& payload);
    void handle(const Message::SessionEnded& ended, const Payload& payload);
    void handle(const Message::SessionSuspect& suspect);
    void handle(const Message::SessionTaken& taken);
    void handle(const Message::Regroup& regroup);

    // Posts to another reactor, behind what waits for it. False: its lane is full.
    bool tell(uint32_t reactor, const Message& message) { return mail_.try_post(reactor, message); }
    uint32_t reactors() const { return mail_.reactors(); }

    // ---- a turn
    // Ends lingering that is over, and posts what waits. True if a turn must follow at once.
    bool advance();
    // When the next turn is due for it; kNever: at no time.
    Nanos next_deadline() const;

    // Policies have changed: each session of this shard is told its cohort, in slices that are
    // taken from a turn's budget for sweeps.
    void begin_regroup() { regroup_next_ = 1; }
    // The server stops: from now on no session waits for its client.
    void stop_holding() { holds_ = false; }
    void regroup_some(uint32_t& budget);
    void set_cohort(const Connection& connection, Cohort cohort) {
        book_.set_cohort(connection.user, cohort);
    }
    void keep_profile(const Connection& connection, uint8_t profile) {
        book_.keep_profile(connection.user, profile);
    }

    // A reload: see Directory::set_rules().
    void set_rules(const DirectoryConfig& rules) { directory_.set_rules(rules); }
    // No login waits for its answer, and no message to be posted. With no connection left it stays
    // so, whatever other reactors send.
    bool settled() const { return book_.taken() == 0 && mail_.empty(); }

    Resumption& resumption() { return resumption_; }
    const Directory& directory() const { return directory_; }
    // What the book has of the connection; nullptr: it is anonymous.
    const SessionBook::Entry* entry_of(const Connection& connection) const {
        return is_logged_in(connection) ? &book_.entry(connection.user) : nullptr;
    }
    // The number that stands for a user's name, in all reactors of a server.
    uint64_t number_of(std::string_view user) const { return place_of(user).user; }
    void fill(Gauges& gauges) const;
    // Of what they hold, what is free for others.
    size_t free_bytes() const { return directory_.free_bytes() + book_.free_bytes(); }

  private:
    struct Waiting {
        LoginTexts texts;
        uint32_t sequence = 0;
        bool asks_answer_every = false;
        bool is_quiet = false;
        uint64_t seen = 0;
        // Of the connection, which ended before this answer.
        std::optional<ResumeParcel> left{};
    };
    struct Place {
        uint64_t user;  // stands for the name
        uint32_t shard;
    };

    Place place_of(std::string_view user) const;
    ConnectionRef ref_of(ConnectionId connection) const { return {connection, config_.number}; }
    using Parcel = std::optional<ResumeParcel>;

    // What this shard has for its own reactor's connections, in its order: given when the turn
    // ends, since an answer may end other connections than that which is in hand.
    struct OwnPost {
        Message::SessionTaken taken{};  // if `entry` is 0
        SessionBook::Handle entry = 0;
        LoginAnswer answer{};
        Parcel parcel{};
    };

    void take_answer(SessionBook::Handle entry, const LoginAnswer& answer, const UserHello& hello,
                     Parcel parcel = {}, Parcel left = {});
    void welcome(Index index, const UserHello& hello, const LoginAnswer& answer, Parcel parcel);
    void answered(SessionBook::Handle entry, const LoginAnswer& answer, Parcel parcel);
    // The shard's part of it, where sessions can be resumed.
    void serve(const Message::Login& login, const LoginTexts& texts);
    void resume(Resumption::Session& session, const Message::Login& login, const LoginTexts& texts);
    void take_away(const ConnectionRef& holder, SessionHandle session, bool resumes);
    void give_own();
    void give_answer(const ConnectionRef& to, uint32_t entry, const LoginAnswer& answer,
                     Parcel parcel = {});
    void give_up_waiter(Resumption::Session& session);
    void came_home(SessionHandle handle, Resumption::Session& session, Parcel parcel);
    void session_ended(SessionHandle handle, const ConnectionRef& connection, CloseReason reason,
                       Parcel parcel);
    void forget(SessionHandle handle);
    void end_held(SessionHandle handle);
    bool end_held_due(uint32_t budget);
    void refuse(Index index, LoginAnswer::Verdict verdict, bool keeps_its_session);
    void report_end(const SessionBook::Entry& entry, Parcel parcel);
    void close_replaced(const LoginAnswer& answer);
    void count();
    Cohort cohort_of(std::string_view user, std::string_view labels) const;
    uint32_t number_of_cohort(Cohort cohort) const;
    std::optional<Cohort> heard_cohort(Cohort cohort, uint32_t number) const;
    LoginAnswer judge(Login login);
    bool regroup(const Directory::User& user, uint32_t& budget);

    const ReactorConfig& config_;
    Connections& connections_;
    ReactorMetrics& metrics_;
    Directory directory_;
    SessionBook book_;
    ReactorMail mail_;
    Resumption resumption_;
    Index resuming_ = kNoIndex;  // whose session its client has on another connection
    bool holds_ = true;          // until the server stops
    std::deque<OwnPost> own_posts_;
    std::unordered_map<SessionBook::Handle, Waiting> waiting_;  // payloads, until the answer
    Directory::Counts counted_;
    uint64_t delayed_counted_ = 0;
    Nanos retry_at_ = kNever;
    uint32_t regroup_next_ = 0;   // user; 0: none
    bool regroup_waits_ = false;  // for room in a lane
};

}  // namespace pulse
