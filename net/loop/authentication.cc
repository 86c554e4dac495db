// From tokens to logins, and from their ends to closes.
#include "net/loop/authentication.h"

#include <algorithm>
#include <utility>

#include "core/limits.h"
#include "core/sip_hash.h"
#include "net/loop/connections.h"
#include "net/loop/session.h"
#include "proto/labels.h"

namespace pulse {
namespace {

// What an expiry that lies so far ahead is: none, and no sum of it overflows.
constexpr UnixSeconds kFarSeconds = UnixSeconds{100} * 365 * 24 * 3600;

// Whether a peer may have guessed; a peer that has none, or whose turn it is not, has not.
bool is_guess(AuthFailure failure) {
    return failure != AuthFailure::no_token && failure != AuthFailure::too_many_failures;
}

}  // namespace

Authentication::Authentication(const ReactorConfig& config, Connections& connections,
                               ReactorMetrics& metrics, uint32_t places)
    : config_(config),
      connections_(connections),
      metrics_(metrics),
      places_(places),
      verifier_(config.user_key),
      due_(places) {
    use(*config.options);
}

void Authentication::use(const LoopOptions& options) {
    PULSE_ASSERT(options.credentials == nullptr || config_.wall_clock);
    verifier_.use(options.credentials);
}

Authentication::Entry& Authentication::entry(Index index) {
    if (index >= entries_.size()) {
        // Room for all, so that no turn waits for a copy; the kernel backs what is touched.
        entries_.reserve(places_);
        entries_.resize(index + 1);
    }
    return entries_[index];
}

uint64_t Authentication::number_of_user(std::string_view user) const {
    return sip_hash(config_.user_key, user);
}

// ----------------------------------------------------------------------------- a connection's life

void Authentication::accepted(Index index) {
    if (!on()) return;
    entry(index) = {.state = State::anonymous};
    const Nanos deadline = config_.options->auth_deadline;
    if (deadline > 0) due_.set(index, connections_.now() + deadline);
}

void Authentication::ended(Index index) {
    if (index == upgrade_of_) upgrade_of_ = kNoIndex;
    if (state(index) == State::none) return;
    kept_.erase(index);
    entries_[index] = {};
    due_.erase(index);
}

bool Authentication::puts_off(Index index) {
    if (checks_us_left_ > 0 || !on() || state(index) != State::anonymous) return false;
    metrics_.add(Metric::token_checks_put_off);
    return true;
}

TokenVerdict Authentication::verify(Index index, std::string_view token) {
    TokenVerdict verdict;
    if (!failures_.allows(connections_.at(index).address, connections_.now())) {
        verdict.failure = AuthFailure::too_many_failures;
        return verdict;
    }
    verdict = verifier_.verify(token, config_.wall_clock() / kSecond);
    checks_us_left_ -= verdict.cost_us;
    if (verdict.cost_us > 0) metrics_.add(Metric::token_signatures_checked);
    return verdict;
}

void Authentication::refused(Index index, AuthFailure failure) {
    metrics_.token_refused(failure);
    if (is_guess(failure)) failures_.failed(connections_.at(index).address, connections_.now());
    connections_.log_debug(index, "token refused: ", describe(failure).word);
}

AuthFailure Authentication::judge_upgrade(Index index, std::string_view token, uint32_t count) {
    AuthFailure failure = AuthFailure::several_tokens;
    upgrade_of_ = kNoIndex;
    if (count == 1) {
        const TokenVerdict verdict = verify(index, token);
        Bearer bearer;
        failure = verdict.ok() ? take_identity({}, verdict.identity, bearer) : verdict.failure;
        upgrade_ = bearer.identity;
        if (failure == AuthFailure::none) upgrade_of_ = index;
    }
    if (failure != AuthFailure::none) refused(index, failure);
    return failure;
}

void Authentication::upgraded(Index index) {
    // An upgrade for whose answer there was no room leaves its identity here.
    if (std::exchange(upgrade_of_, kNoIndex) != index) return;
    const Identity identity = std::exchange(upgrade_, {});
    metrics_.add(Metric::tokens_accepted);
    kept_[index] = {.user = std::string(identity.user),
                    .device = std::string(identity.device),
                    .labels = labels_text_,
                    .token_id = std::string(identity.token_id),
                    .expires_at = identity.expires_at};
    entry(index) = {.token = verifier_.number_of(identity.token_id),
                    .user = number_of_user(identity.user),
                    .expires_at = identity.expires_at,
                    .state = State::upgraded};
    due_.set(index, connections_.now() + kUpgradeLoginNs);
}

// What the token says holds; the hello says the rest.
AuthFailure Authentication::take_identity(const UserHello& hello, const Identity& identity,
                                          Bearer& bearer) {
    if (!hello.user.empty() && hello.user != identity.user) return AuthFailure::wrong_user;
    if (!write_labels(labels_text_, identity.labels)) return AuthFailure::bad_claims;
    bearer.login = hello;
    bearer.login.user = identity.user;
    if (!identity.device.empty()) bearer.login.device = identity.device;
    if (!labels_text_.empty()) bearer.login.labels = labels_text_;
    bearer.identity = identity;
    bearer.binds = true;
    return AuthFailure::none;
}

Authentication::Bearer Authentication::judge_hello(Index index, const UserHello& hello,
                                                   std::string_view token) {
    if (!on()) return {.login = hello};
    if (token.empty()) {
        if (state(index) == State::upgraded) return judge_kept(index, hello);
        Bearer bearer{.login = hello};
        const bool known = state(index) >= State::bound;
        if (!known && !hello.user.empty()) bearer.failure = AuthFailure::no_token;
        if (known && !hello.user.empty() && entry(index).user != number_of_user(hello.user))
            bearer.failure = AuthFailure::wrong_user;
        // It is who it was; nothing of its login changes without a token.
        bearer.login.user = {};
        return bearer;
    }
    Bearer bearer;
    const TokenVerdict verdict = verify(index, token);
    bearer.failure =
        verdict.ok() ? take_identity(hello, verdict.identity, bearer) : verdict.failure;
    return bearer;
}

Authentication::Bearer Authentication::judge_kept(Index index, const UserHello& hello) const {
    const Kept& kept = kept_.at(index);
    Bearer bearer{.login = hello, .binds = true, .is_kept = true};
    if (!hello.user.empty() && hello.user != kept.user) bearer.failure = AuthFailure::wrong_user;
    bearer.login.user = kept.user;
    if (!kept.device.empty()) bearer.login.device = kept.device;
    if (!kept.labels.empty()) bearer.login.labels = kept.labels;
    bearer.identity = {.user = kept.user,
                       .device = kept.device,
                       .labels = {},
                       .token_id = kept.token_id,
                       .expires_at = kept.expires_at};
    return bearer;
}

void Authentication::log_in(Index index, const Bearer& bearer) {
    if (bearer.binds) {
        if (!bearer.is_kept) {
            metrics_.add(Metric::tokens_accepted);
            kept_.erase(index);
        }
        bind(index, bearer.identity);
    }
    connections_.logins().begin(index, bearer.login);
}

void Authentication::admit(Index index, const Bearer& bearer) {
    if (!bearer.binds) return;
    if (!bearer.is_kept) metrics_.add(Metric::tokens_accepted);
    bind(index, bearer.identity);  // which is in what was kept of it, where it is_kept
    kept_.erase(index);
}

void Authentication::not_logged_in(Index index) {
    if (state(index) < State::bound) return;
    const bool is_kept = kept_.contains(index);
    entries_[index].state = is_kept ? State::upgraded : State::anonymous;
    const Nanos deadline = config_.options->auth_deadline;
    if (is_kept) {
        due_.set(index, connections_.now() + kUpgradeLoginNs);
    } else if (deadline > 0) {
        due_.set(index, connections_.now() + deadline);
    } else {
        due_.erase(index);
    }
}

void Authentication::bind(Index index, const Identity& identity) {
    entry(index) = {.token = verifier_.number_of(identity.token_id),
                    .user = number_of_user(identity.user),
                    .expires_at = identity.expires_at,
                    .state = State::bound};
    arm(index);
}

bool Authentication::has_revoked_token(Index index) const {
    return state(index) >= State::upgraded && verifier_.is_revoked(entries_[index].token);
}

size_t Authentication::bytes() const {
    return entries_.size() * (sizeof(Entry) + sizeof(uint32_t)) + due_.size() * 2 * sizeof(Nanos) +
           verifier_.bytes() + failures_.bytes();
}

// ------------------------------------------------------------------------------------------ a turn

// The announcement comes a moment after the welcome at the soonest, also of a token that ends soon.
void Authentication::arm(Index index) {
    const Entry& at = entry(index);
    const Nanos wall = config_.wall_clock();
    if (at.expires_at - wall / kSecond > kFarSeconds) return due_.erase(index);
    const Nanos now = connections_.now();
    const Nanos end = now + (at.expires_at * kSecond - wall);
    const Nanos notice = std::max(end - kExpiringNoticeNs, now + kExpiringAfterHelloNs);
    due_.set(index, at.state == State::bound ? std::min(notice, end) : end);
}

bool Authentication::advance(Nanos heard_until) {
    for (uint32_t left = kTokensDuePerTurn; left > 0; --left) {
        const Index index = due_.pop_due(heard_until);
        if (index == kNoIndex) return false;
        act(index);
    }
    return due_.next() <= heard_until;
}

void Authentication::act(Index index) {
    // Bytes of it are here and not read yet, its token perhaps among them.
    if (connections_.is_held_off(index)) return due_.set(index, connections_.now() + kTokenLookNs);
    Entry& at = entry(index);
    switch (at.state) {
        case State::none:
            return;
        case State::anonymous:
            if (!on()) return;
            refused(index, AuthFailure::no_token);
            return Session(connections_, index).refuse_token(AuthFailure::no_token);
        case State::upgraded:
            return log_in_upgraded(index);
        case State::bound:
        case State::expiring:
            break;
    }
    const Nanos left = at.expires_at * kSecond - config_.wall_clock();
    if (left <= 0) return connections_.begin_close(index, CloseReason::token_expired);
    if (at.state == State::bound && left <= kExpiringNoticeNs) {
        at.state = State::expiring;
        Session(connections_, index).send_expiring(static_cast<uint32_t>(left / kMillisecond));
    }
    arm(index);
}

// An upgrade had a token and no hello followed: it is who the token says, and is not welcomed.
void Authentication::log_in_upgraded(Index index) {
    UserHello quiet;
    quiet.is_quiet = true;
    const Bearer bearer = judge_kept(index, quiet);
    if (!connections_.logins().reason_to_wait(index, bearer.login).empty())
        return due_.set(index, connections_.now() + kTokenLookNs);
    log_in(index, bearer);
}

}  // namespace pulse
