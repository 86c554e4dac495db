// Who is let in: limits of the server, of its listeners and of the address that a peer comes from.
//
//   accepted --> admit: the server, its address (*), the rate --> counted, attached
//                  '--> refuse: in the words of its listener's protocol, without a connection
//   (*) behind ?proxy=on, once the header has named it: count_address
//
// What is counted when a connection begins is given back by uncount() when it is closed.
#include <algorithm>
#include <string>

#include "net/loop/connections.h"
#include "net/protocols/refusal.h"

namespace pulse {

namespace {

constexpr CloseCause kGivesWay{CloseReason::address_share,
                               "a newer one of its address took its place"};

// Whether an end says something of the peer: not one that an operator or this machine wanted, nor
// that of a health check.
bool is_flap(CloseReason reason) {
    switch (reason) {
        case CloseReason::address_share:
        case CloseReason::http_answered:
        case CloseReason::io_error:
        case CloseReason::overloaded:
        case CloseReason::out_of_memory:
            return false;
        default:
            return describe(reason).party != CloseParty::by_operator;
    }
}

BucketRate with_message_burst(RateLimit limit) {
    const auto events = static_cast<Nanos>(limit.events);
    if (limit.burst == 0)
        limit.burst = static_cast<uint64_t>(
            std::max<Nanos>(1, kMessageBurstNs / kSecond * events / (limit.period / kSecond)));
    return BucketRate(limit);
}

}  // namespace

// By the options in force: at the start, and after a reload.
void Connections::set_limits() {
    const LoopOptions& options = *config_.options;
    accept_rate_ = BucketRate(options.accept_rate);
    address_rules_ = {.connections_max = options.max_connections_per_address,
                      .accepts = BucketRate(options.address_accept_rate),
                      .flapping = options.flapping,
                      .share = options.address_share};
    if (options.address_share > 0 && !sharing_.turn_on() && config_.warn)
        config_.warn("no address space for lists by address: none gives way (--address-share)");
    bool limits_messages = false;
    for (Cohort cohort = 0; cohort < kCohortsMax; ++cohort) {
        const CohortPolicy* const policy =
            cohort > kRestCohort && is_known(cohort) ? options.cohorts->policy(cohort) : nullptr;
        const bool own = policy != nullptr && policy->message_rate.events > 0;
        cohort_rates_[cohort] =
            with_message_burst(own ? policy->message_rate : options.message_rate);
        limits_messages |= cohort_rates_[cohort].limits();
    }
    if (!message_rates_.set(limits_messages, with_message_burst(options.user_message_rate)) &&
        config_.warn) {
        config_.warn("no address space for rates of messages: none is limited (--message-rate)");
    }
    traces_.set_ratio(options.trace_ratio);
    counts_messages_ = message_rates_.on() || traces_.on();
    if (options.flapping.ends > 0 && !beginnings_.turn_on(io_.now()) && config_.warn)
        config_.warn("no address space for ages of connections: --flapping holds off none");
    adapts_ = options.heartbeat_adaptive.on() && adaptive_.turn_on();
    if (adapts_) {
        adaptive_top_ = options.heartbeat_adaptive.top();
        adaptive_first_ = options.heartbeat_adaptive.level_at(options.heartbeat_interval);
        networks_.turn_on();
    }
    if (options.heartbeat_adaptive.on() && !adapts_ && config_.warn)
        config_.warn("no address space for adaptive intervals: they stay as they are");
    if (options.nat_probes > 0) nat_reports_.turn_on();
    const bool times_answers = options.suspect_probe > 0 || adapts_;
    if (times_answers && !answer_times_.turn_on() && config_.warn)
        config_.warn("no address space for round trips: each peer has 3s for an answer");
}

Connections::Admitted Connections::admit(const Accepted& accepted, uint32_t address) {
    if (accepted.exhausted) return {Refusal{CloseReason::out_of_descriptors}};
    // It was reset before it was accepted, and has no address any more.
    const bool names_peer = config_.options->listen[accepted.listener].expects_proxy_header;
    if (names_peer && !accepted.peer.present()) return {Refusal{CloseReason::peer_reset}};
    if (is_untrusted_proxy(accepted)) return {Refusal{CloseReason::untrusted_source}};
    if (draining_ || (refused_listeners_ >> accepted.listener & 1) != 0)
        return {Refusal{CloseReason::going_away}};
    if (overload_step_ >= OverloadStep::refuse)
        return {Refusal{CloseReason::overloaded, draw_time_away(kOverloadAwayNs)}};
    if (table_.live() == table_.limit()) {
        const bool all_full = config_.admission->live() >= config_.admission->connections_max();
        return {Refusal{all_full ? CloseReason::server_full : CloseReason::reactor_full}};
    }
    const uint32_t handshakes_max = config_.options->handshakes_max;
    if (handshakes_max > 0 && config_.admission->handshakes() >= handshakes_max)
        return {Refusal{CloseReason::handshakes_full}};
    if (!config_.admission->enter()) return {Refusal{CloseReason::server_full}};
    const ListenAddress& listener = config_.options->listen[accepted.listener];
    if (listener.connections_max > 0 &&
        !config_.admission->enter(accepted.listener, listener.connections_max)) {
        config_.admission->leave();
        return {Refusal{CloseReason::listener_full}};
    }
    // What an address may not have does not use up what all may have together.
    Admitted admitted;
    if (!names_peer) admitted = enter_address(address, accepted.peer);
    const Nanos wait =
        admitted.refusal ? 0 : config_.admission->accepts().take(io_.now(), accept_rate_);
    if (wait > 0) {
        admitted.refusal = Refusal{CloseReason::accept_rate};
        if (admitted.counted) config_.addresses->leave(address);
    }
    if (admitted.refusal) leave(accepted.listener);
    return admitted;
}

void Connections::leave(uint8_t listener) {
    if (config_.options->listen[listener].connections_max > 0) config_.admission->leave(listener);
    config_.admission->leave();
}

// A handshake is in flight from greet() on, until its phase ends or the connection does.
void Connections::set_handshaking(Connection& connection, bool handshaking) {
    if (((connection.flags & kHandshaking) != 0) == handshaking) return;
    connection.flags ^= kHandshaking;
    if (handshaking)
        config_.admission->begin_handshake();
    else
        config_.admission->end_handshake();
}

// Peers of a Unix socket have no address, and its permissions say who they are.
Connections::Admitted Connections::enter_address(uint32_t address, const SocketAddress& peer) {
    if (!address_rules_.any() || config_.addresses == nullptr) return {};
    if (peer.base.sa_family == AF_UNIX || !peer.present()) return {};
    const AddressTable::Entered entered =
        config_.addresses->enter(address, io_.now(), address_rules_);
    switch (entered.verdict) {
        case AddressTable::Verdict::counted:
            return {.counted = true};
        case AddressTable::Verdict::uncounted:
            metrics_.add(Metric::addresses_uncounted);
            return {};
        case AddressTable::Verdict::too_many:
            return {Refusal{CloseReason::address_full}};
        case AddressTable::Verdict::too_fast:
            return {Refusal{CloseReason::address_rate, entered.wait}};
        case AddressTable::Verdict::held_off:
            return {Refusal{CloseReason::flapping, entered.wait}};
    }
    return {};
}

std::optional<Refusal> Connections::count_address(Index index, const SocketAddress& peer) {
    Connection& connection = at(index);
    const Admitted admitted = enter_address(connection.address, peer);
    if (admitted.counted) connection.flags |= kCounted;
    if (admitted.refusal && logs_peers_)
        log_debug(index, "refused: ", describe(admitted.refusal->reason).name);
    begin_share(index);
    return admitted.refusal;
}

// It has a part in the share of its address. Where that is more than the share, the oldest that has
// one gives way: of this reactor, since none knows when those of the others came; where the
// newcomer is the only one here, of the next reactor that has one. Each joins before it looks, and
// the last that joins sees all: so an address has one too many while a message is on its way, and
// no longer. Where the other reactor takes none, the newcomer gives way.
void Connections::begin_share(Index index) {
    Connection& connection = at(index);
    if (address_rules_.share == 0 || !sharing_.on()) return;
    if ((connection.flags & kCounted) == 0) return;
    connection.flags |= kSharing;
    sharing_.add(index, connection.address);
    if (config_.addresses->join(connection.address) <= address_rules_.share) return;
    const uint32_t others = logins_.reactors() - 1;
    if (!give_way(connection.address, others, index)) begin_close(index, kGivesWay);
}

bool Connections::give_way(uint32_t address, uint32_t others, Index newcomer) {
    const uint32_t share = address_rules_.share;
    if (share == 0 || config_.addresses->sharing(address) <= share) return true;
    const Index oldest = sharing_.oldest(address);
    if (oldest != kNoIndex && oldest != newcomer) {
        // Another reactor may have been passed the same in the meantime, and have done it.
        if (!config_.addresses->part_above(address, share)) return true;
        forget_share(oldest);
        begin_close(oldest, kGivesWay);
        return true;
    }
    if (others == 0) return true;  // those that had one have closed it
    const uint32_t next = (config_.number + 1) % logins_.reactors();
    return logins_.tell(next, {Message::GiveWay{address, others - 1}});
}

void Connections::logged_in(Index index, std::string_view user) {
    if (!config_.options->address_share_users) end_share(index);
    const auto number = static_cast<uint32_t>(sip_hash(config_.user_key, user));
    message_rates_.log_in(index, std::max(1u, number), io_.now());
}

void Connections::limit_messages(Index index) {
    switch (message_rates_.take(index, io_.now(), cohort_rates_[cohort_of(index)])) {
        case MessageRates::Verdict::allowed:
            return;
        case MessageRates::Verdict::connection_too_fast:
            return begin_close(index, {CloseReason::message_rate, "it sent too many messages"});
        case MessageRates::Verdict::user_too_fast:
            return begin_close(index, {CloseReason::user_message_rate,
                                       "the connections of its user sent too many messages"});
    }
}

void Connections::end_share(Index index) {
    Connection& connection = at(index);
    if ((connection.flags & kSharing) == 0) return;
    forget_share(index);
    config_.addresses->part(connection.address);
}

// Its part in the share is given back already.
void Connections::forget_share(Index index) {
    at(index).flags &= static_cast<uint8_t>(~kSharing);
    sharing_.remove(index);
}

void Connections::uncount(Index index) {
    Connection& connection = at(index);
    set_handshaking(connection, false);
    message_rates_.end(index);
    if ((connection.flags & kCounted) != 0) {
        const FlappingRule& rule = address_rules_.flapping;
        const bool flaps = is_flap(connection.close_reason) &&
                           beginnings_.is_younger(index, rule.window, io_.now());
        if (flaps)
            config_.addresses->leave_young(connection.address, io_.now(), rule);
        else
            config_.addresses->leave(connection.address);
    }
    leave(connection.listener);
}

// A PROXY header replaces the address of a peer, so only a trusted source may connect where
// one is read. Of a Unix socket the permissions of its path decide.
bool Connections::is_untrusted_proxy(const Accepted& accepted) const {
    if (!config_.options->listen[accepted.listener].expects_proxy_header) return false;
    if (accepted.peer.base.sa_family == AF_UNIX) return false;
    return std::ranges::none_of(config_.options->proxy_trusted, [&](const AddressPrefix& prefix) {
        return prefix.contains(accepted.peer);
    });
}

uint32_t Connections::retry_after_ms(const Refusal& refusal) const {
    if (refusal.reason == CloseReason::untrusted_source) return 0;  // it is not to come back
    if (refusal.wait == 0) return config_.retry_after_ms;
    return static_cast<uint32_t>(std::min<Nanos>(refusal.wait / kMillisecond + 1, UINT32_MAX));
}

void Connections::refuse(const Accepted& accepted, const Refusal& refusal) {
    const ListenAddress& listener = config_.options->listen[accepted.listener];
    metrics_.refused(refusal.reason);
    if (traces_.on()) [[unlikely]]
        trace_refused(accepted, refusal.reason);
    if (logs_peers_) {
        config_.debug(accepted.peer.text() + " refused on " + listener.text + ": " +
                      std::string(describe(refusal.reason).name));
    }
    if (samples()) log_refusal(accepted, refusal.reason);
    const RefusalMessage words =
        listener.tls
            ? tls_refusal()
            : kProtocols[listener.protocol]->refuse(refusal.reason, retry_after_ms(refusal));
    io_.refuse(accepted, words.bytes());
}

}  // namespace pulse
