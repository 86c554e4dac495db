// Side connections, by which a client finds out for how long its network bears a silence, and what
// becomes of what it found (--nat-probes; proto/PROTOCOL.md, "Side connections").
//
//     hello {"probe":true} --> begin_side: it has kProfileSide, in which nothing is sent by itself
//     hello {"nat":{...}}  --> take_nat: bounds the interval of that client alone, and is passed on
//                              to all reactors, for those that come next from its network
//     any welcome          <-- add_nat: the network, and what its clients have found
//
// What one client says is never taken for true of another: that one is told, and tries it on a side
// connection of its own. So a lie costs others a silence, or heartbeats, and not a connection.
#include <algorithm>

#include "net/loop/connections.h"
#include "net/loop/profiles.h"
#include "net/loop/session.h"

namespace pulse {

std::optional<Connections::Network> Connections::network_of(Index index) const {
    if (config_.options->nat_probes == 0) return std::nullopt;
    const PeerAddress named = history_.address(index);
    const bool proxied = config_.options->listen[table_[index].listener].expects_proxy_header;
    if (proxied && !named.present()) return std::nullopt;
    const SocketAddress peer = proxied ? socket_address(named) : io_.peer_address(index);
    uint32_t bits = 0;
    if (peer.base.sa_family == AF_INET) bits = kNatNetworkBitsV4;
    if (peer.base.sa_family == AF_INET6) bits = kNatNetworkBitsV6;
    if (bits == 0) return std::nullopt;
    const AddressPrefix block = prefix_of(peer, bits);
    return Network{block, number_of(block.address, config_.user_key)};
}

Connections::SideVerdict Connections::begin_side(Index index, bool has_network) {
    if (!has_network) return SideVerdict::off;
    // A search opens several, and gives some up: that is not what --flapping is about.
    beginnings_.forget(index);
    if (!config_.admission->begin_side(at(index).address, config_.options->nat_probes)) {
        metrics_.add(Metric::nat_probes_refused);
        return SideVerdict::too_many;
    }
    metrics_.add(Metric::nat_probes);
    metrics_.gauges.sides += 1;
    // It is counted as what it is, and not among those that are a user's or may be.
    end_share(index);
    leave_anonymous(index);
    set_profile(index, place_of(kProfileSide));
    return SideVerdict::taken;
}

void Connections::end_side(Index index) {
    if (!is_side(at(index))) return;
    metrics_.gauges.sides -= 1;
    config_.admission->end_side(at(index).address);
}

// A user is one client, and so is an address whose connection is of no user. A hello that logs a
// user in is that user's, though it is not logged in yet.
uint32_t Connections::client_of(Index index, std::string_view user) const {
    const SessionBook::Entry* const login = logins_.entry_of(table_[index]);
    uint64_t number = table_[index].address;
    if (!user.empty()) {
        number = logins_.number_of(user);
    } else if (login != nullptr) {
        number = login->number();
    }
    return std::max(1u, static_cast<uint32_t>(number));
}

void Connections::take_nat(Index index, const Network& network, std::string_view user,
                           const NatSilence& found) {
    if (adapts_) bound_interval(index, found);
    if (found.kept == 0) return;
    const uint32_t client = client_of(index, user);
    if (!nat_reports_.add(network.number, client, found, io_.now())) return;
    metrics_.add(Metric::nat_reports);
    const Message::NatFound report{network.number, client,
                                   static_cast<uint32_t>(found.kept / kMillisecond),
                                   static_cast<uint32_t>(found.lost / kMillisecond)};
    for (uint32_t reactor = 0; reactor < logins_.reactors(); ++reactor) {
        // One that has no room for it goes without: it is a hint.
        if (reactor != config_.number) logins_.tell(reactor, {report});
    }
}

void Connections::note_nat(const Message::NatFound& found) {
    if (!nat_reports_.on()) return;
    nat_reports_.add(found.network, found.client,
                     {found.kept_ms * kMillisecond, found.lost_ms * kMillisecond}, io_.now());
}

// It does not grow beyond what its client has found; until then it stays where it is, lest it be
// lost by trying. What its network has lost on other connections counts besides. The welcome that
// follows tells the interval; one whose interval is not adaptive yet goes by it once it is.
void Connections::bound_interval(Index index, const NatSilence& found) {
    const Connection& connection = at(index);
    const uint8_t told = place_told(index);
    const bool pends = announced_.of(index).pends();
    const uint8_t now = is_adaptive(told) ? level_at(told) : first_level(index);
    uint8_t level = now;
    if (found.kept > 0) {
        const uint8_t most = networks_.most(connection.address, adaptive_top_, io_.now());
        level = std::min(config_.options->heartbeat_adaptive.level_at(found.interval()), most);
    }
    AdaptiveState& state = adaptive_.at(index);
    state.most = level + 1;
    state.quiet = state.ceiling = 0;
    if (level == now || !is_adaptive(told)) return;
    const uint8_t place = place_of(profile_of_level(level));
    // One that it was told of holds first, and adapt() goes on from there: hellos that name one and
    // another would put off for ever from when on it has either.
    if (pends && level < now) return;
    // Where a round trip is wanted a hello proves none, and the silence goes on.
    const bool proves = heartbeat_of(connection).liveness == Liveness::any;
    announce_by_welcome(index, place, proves);
}

// ----------------------------------------------------------------------------- what sessions say

// True: it is to be welcomed.
bool Session::begin_side(const JsonMessage& hello) {
    if (is_side(connection_)) {
        report_error({"is one too many on a side connection; open another one", "type"});
        return false;
    }
    if (!hello.user.empty() || is_logged_in(connection_)) {
        report_error({"is for a connection of its own, without a user", "probe"});
        return false;
    }
    const std::optional<Authentication::Bearer> bearer = bearer_of({}, hello.token);
    if (!bearer) return false;
    Authentication& authentication = connections_.authentication();
    if (authentication.on() && !bearer->binds) {
        authentication.refused(index_, AuthFailure::no_token);
        refuse_token(AuthFailure::no_token);
        return false;
    }
    switch (connections_.begin_side(index_, network().has_value())) {
        case Connections::SideVerdict::off:
            report_error({"is off in this server (--nat-probes)", "probe"});
            return false;
        case Connections::SideVerdict::too_many:
            send_error(CloseReason::server_full,
                       "there are as many side connections as may be; try again later");
            return false;
        case Connections::SideVerdict::taken:
            break;
    }
    authentication.admit(index_, *bearer);
    connections_.metrics().add(Metric::hellos);
    connections_.trace_hello(index_);
    return !stopped();
}

// False: it cannot be, and was answered.
bool Session::read_nat(const JsonMessage& hello, NatSilence& found) {
    if (!hello.nat) return true;
    found = {hello.nat_kept_ms * kMillisecond, hello.nat_lost_ms * kMillisecond};
    if (found == NatSilence{} || found.is_valid()) return true;
    report_error(
        {"has silences out of bounds; they are 30000 to 1800000 ms, and lost_ms is the longer",
         "nat"});
    return false;
}

// Asked of the kernel once for a hello and its welcome.
const std::optional<Connections::Network>& Session::network() const {
    if (!network_) network_.emplace(connections_.network_of(index_));
    return *network_;
}

// ,"nat":{"network":"203.0.113.0/24","kept_ms":270000,"lost_ms":290000}
void Session::add_nat(WelcomeText& text) const {
    const std::optional<Connections::Network>& known_as = network();
    if (!known_as) return;
    text << R"(,"nat":{"network":")" << known_as->block.text() << "\"";
    if (is_side(connection_)) {
        text << R"(,"probe":true)";
    } else if (const NatSilence known = connections_.nat_of(*known_as); known.kept > 0) {
        text << R"(,"kept_ms":)" << static_cast<uint64_t>(known.kept / kMillisecond);
        if (known.lost > 0)
            text << R"(,"lost_ms":)" << static_cast<uint64_t>(known.lost / kMillisecond);
    }
    text << "}";
}

}  // namespace pulse
