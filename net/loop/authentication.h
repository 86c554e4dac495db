// Which connections of a reactor have given a token, whose it is, and for how long.
//
//     accepted --> anonymous --- hello with a token -----------> bound --- expired --> closed
//                     |   \                                      ^  |
//     auth_deadline --+    upgrade with a token --> upgraded ----+  +-- a minute before: `expiring`
//                     v                             a hello, or kUpgradeLoginNs
//                   closed
//
// Off, it costs nothing and takes every hello at its word. On, a hello is the user of its token. A
// hello with another token takes its place; one without keeps it and changes nothing of the login.
// A failure closes.
//
// Deadlines are judged as the wheel's are, once every byte that came before them was delivered (R1
// of reactor.h), so that a token that came in time counts, however late it is read. They stand by
// the monotonic clock: a step of the wall clock moves those of later tokens only.
//
// Belongs to the reactor's thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/due_queue.h"
#include "core/types.h"
#include "net/auth/failure_limiter.h"
#include "net/auth/verifier.h"
#include "net/loop/limits.h"
#include "net/loop/logins.h"
#include "net/loop/reactor_config.h"
#include "net/loop/reactor_metrics.h"

namespace pulse {

class Connections;

class Authentication {
  public:
    // `connections` are the reactor's, of `places` records; both outlive this.
    Authentication(const ReactorConfig& config, Connections& connections, ReactorMetrics& metrics,
                   uint32_t places);

    bool on() const { return verifier_.on(); }
    // Options of a reload, or the first. Tokens that are in use stay.
    void use(const LoopOptions& options);

    // ---- a connection's life
    // It was accepted.
    void accepted(Index index);
    // Whether what it sends must wait: it may hold a token, and this turn has checked enough.
    bool puts_off(Index index);
    // The token of its upgrade, one of `count`. If it is right, upgraded() is called next, in the
    // same call of the loop.
    AuthFailure judge_upgrade(Index index, std::string_view token, uint32_t count);
    // Its upgrade is answered.
    void upgraded(Index index);

    // Who a hello is. Views into what it was given and into the verifier: valid until the next.
    struct Bearer {
        AuthFailure failure = AuthFailure::none;
        UserHello login;       // without a user where nothing but its profile changes
        bool binds = false;    // a token was given, now or in the upgrade
        bool is_kept = false;  // in the upgrade
        Identity identity{};
    };
    Bearer judge_hello(Index index, const UserHello& hello, std::string_view token);
    // The hello is taken: its user logs in. Requires: it has one and did not fail, no other was
    // judged since, and Logins has no reason to wait.
    void log_in(Index index, const Bearer& bearer);
    // The hello is taken, and its user does not log in: it has shown a token, which may end.
    void admit(Index index, const Bearer& bearer);
    // What came of log_in(): its user is logged in; or is not, and the connection stays and may try
    // again with what it had.
    void logged_in(Index index) { kept_.erase(index); }
    void not_logged_in(Index index);
    // It was refused: counts it, and against its address if it was a guess.
    void refused(Index index, AuthFailure failure);
    void ended(Index index);

    // ---- revocation
    // No token with this id is right from now on. Then each is to be closed that
    // has_revoked_token().
    void revoke(std::string_view token_id) { verifier_.revoke(token_id); }
    bool has_revoked_token(Index index) const;
    // Its upgrade had a token, and its login follows.
    bool is_upgraded(Index index) const { return state(index) == State::upgraded; }

    // ---- a turn
    void begin_turn() { checks_us_left_ = kTokenChecksUsPerTurn; }
    // Ends and announces what is due by `heard_until`. True if some is left.
    bool advance(Nanos heard_until);
    // When the next turn is due for it; kNever: at no time.
    Nanos next_deadline() const { return due_.next(); }

    size_t bytes() const;

  private:
    enum class State : uint8_t { none, anonymous, upgraded, bound, expiring };
    struct Entry {
        TokenNumber token = 0;
        uint64_t user = 0;  // stands for the name
        UnixSeconds expires_at = kNeverExpires;
        State state = State::none;
    };
    // Of an upgrade, until its user is logged in: by its hello, or after kUpgradeLoginNs.
    struct Kept {
        std::string user, device, labels, token_id;
        UnixSeconds expires_at;
    };

    Entry& entry(Index index);
    State state(Index index) const {
        return index < entries_.size() ? entries_[index].state : State::none;
    }
    TokenVerdict verify(Index index, std::string_view token);
    AuthFailure take_identity(const UserHello& hello, const Identity& identity, Bearer& bearer);
    uint64_t number_of_user(std::string_view user) const;
    Bearer judge_kept(Index index, const UserHello& hello) const;
    void bind(Index index, const Identity& identity);
    void arm(Index index);
    void act(Index index);
    void log_in_upgraded(Index index);

    const ReactorConfig& config_;
    Connections& connections_;
    ReactorMetrics& metrics_;
    const uint32_t places_;
    TokenVerifier verifier_;
    FailureLimiter failures_;
    std::vector<Entry> entries_;  // by index, as far as they were needed
    std::unordered_map<Index, Kept> kept_;
    DueQueue due_;
    Identity upgrade_;  // of judge_upgrade(), and whose it is
    Index upgrade_of_ = kNoIndex;
    std::string labels_text_;  // of the last identity
    int64_t checks_us_left_ = 0;
};

}  // namespace pulse
