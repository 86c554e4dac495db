// Reading a filter, and asking it of a connection.
#include "net/control/filter.h"

#include <algorithm>
#include <concepts>

#include "core/time.h"
#include "core/units.h"
#include "net/control/limits.h"
#include "net/loop/profiles.h"
#include "net/protocols/protocol.h"

namespace pulse {
namespace {

Error wrong(std::string_view key, std::string_view value, std::string_view why,
            std::string_view remedy) {
    return Error{std::string(key) + " '" + std::string(value) + "': " + std::string(why) + "; " +
                 std::string(remedy)};
}

template <class Names>
std::string one_of(const Names& names) {
    std::string text = "write one of";
    for (const auto& name : names) text.append(text.back() == 'f' ? " " : ", ").append(name);
    return text;
}

Result<void> set_protocol(ConnectionFilter& filter, std::string_view key, std::string_view value) {
    const std::span<const Protocol* const> rows = all_protocols();
    bool known = false;
    for (size_t row = 0; row < rows.size(); ++row) {
        const std::optional<uint8_t> scheme = find_scheme(value);
        const bool of_scheme = scheme && rows[row]->framing == rows[*scheme]->framing;
        if (rows[row]->name != value && !of_scheme) continue;
        filter.protocols.push_back(static_cast<uint8_t>(row));
        known = true;
    }
    if (known) return {};
    std::vector<std::string> names;
    for (const Protocol* row : rows) names.emplace_back(row->name);
    return wrong(key, value, "is not a protocol of this server", one_of(names));
}

// One of several that may hold. Those that are looked up are kept once.
template <class Value>
Result<void> add(std::vector<Value>& values, Value value, std::string_view key,
                 std::string_view text) {
    if constexpr (std::equality_comparable<Value>) {
        if (std::ranges::find(values, value) != values.end()) return {};
    }
    if (values.size() == kFilterValuesMax) {
        return wrong(key, text,
                     "is one of more than " + std::to_string(kFilterValuesMax) + " values",
                     "ask in several requests");
    }
    values.push_back(std::move(value));
    return {};
}

bool is_one_of(const auto& values, auto value) {
    return values.empty() || std::ranges::find(values, value) != values.end();
}

Result<void> set_state(ConnectionFilter& filter, std::string_view key, std::string_view value) {
    const std::span words = std::span(kStageNames).subspan(1, 6);
    const auto word = std::ranges::find(words, value);
    if (word == words.end()) return wrong(key, value, "is not a state", one_of(words));
    return add(filter.stages, static_cast<Stage>(word - words.begin() + 1), key, value);
}

// By its URI, as the server listens on it, or by its place.
Result<void> set_listener(ConnectionFilter& filter, const std::vector<std::string>& listeners,
                          std::string_view key, std::string_view value) {
    for (size_t place = 0; place < listeners.size(); ++place) {
        if (value != listeners[place] && value != std::to_string(place)) continue;
        return add(filter.listeners, static_cast<uint8_t>(place), key, value);
    }
    return wrong(key, value, "is not listened on", one_of(listeners));
}

Result<void> set_profile(ConnectionFilter& filter, const std::vector<std::string>& profiles,
                         std::string_view key, std::string_view value) {
    const std::span named = std::span(profiles).subspan(kProfileDefault);
    const auto profile = std::ranges::find(named, value);
    if (profile == named.end()) return wrong(key, value, "is not a profile", one_of(named));
    return add(filter.profiles, static_cast<uint8_t>(profile - named.begin() + kProfileDefault),
               key, value);
}

Result<void> set_least(Nanos& least, std::string_view key, std::string_view value) {
    if (least > 0) return wrong(key, value, "is a second one", "give one, the least that counts");
    const Result<Nanos> time = parse_duration(value);
    if (!time) return Error{std::string(key) + " " + time.error()};
    least = *time;
    return {};
}

Result<void> set_text(std::vector<std::string>& texts, size_t bytes_max, std::string_view key,
                      std::string_view value) {
    if (value.empty() || value.size() > bytes_max) {
        return wrong(key, value, "is too long or empty",
                     "write 1 to " + std::to_string(bytes_max) + " bytes");
    }
    return add(texts, std::string(value), key, value);
}

// One host of IPv4 or one site of IPv6 is what the record knows by a number, behind a PROXY header
// too. A number may be another's by chance, and a kick must not be: so the socket is asked as well,
// where it is the peer's own; once, whatever the number of prefixes.
bool is_from_one(const std::vector<AddressPrefix>& prefixes, Connections& connections, Index index,
                 uint32_t& cost) {
    const Connection& connection = connections.table()[index];
    const bool proxied =
        connections.config().options->listen[connection.listener].expects_proxy_header;
    const SipKey& key = connections.config().probe_key;
    std::optional<SocketAddress> peer;
    for (const AddressPrefix& prefix : prefixes) {
        cost += kPassCost;
        if (proxied || prefix.bits == (prefix.address.base.sa_family == AF_INET ? 32 : 64)) {
            if (prefix.bits != (prefix.address.base.sa_family == AF_INET ? 32 : 64)) continue;
            if (connection.address != number_of(prefix.address, key)) continue;
            if (proxied) return true;
        }
        if (!peer) {
            cost += kAddressCost;
            peer = connections.peer_address(index);
        }
        if (prefix.contains(*peer)) return true;
    }
    return false;
}

// It may have logged in as another one since the directory was asked.
bool is_user_of(const std::vector<std::string>& users, Connections& connections,
                const Connection& connection, uint32_t& cost) {
    const SessionBook::Entry* const login = connections.logins().entry_of(connection);
    if (login == nullptr) return false;
    return std::ranges::any_of(users, [&](const std::string& user) {
        cost += kPassCost;
        return login->is_of(connections.logins().number_of(user));
    });
}

}  // namespace

Result<void> set_filter(ConnectionFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value) {
    if (key == "protocol") return set_protocol(filter, key, value);
    if (key == "state") return set_state(filter, key, value);
    if (key == "listener") return set_listener(filter, names.listeners, key, value);
    if (key == "profile") return set_profile(filter, names.profiles, key, value);
    if (key == "address") {
        const Result<AddressPrefix> prefix = parse_prefix(value);
        if (!prefix) return Error{"address " + prefix.error()};
        return add(filter.addresses, *prefix, key, value);
    }
    if (key == "idle") return set_least(filter.idle_min, key, value);
    if (key == "age") return set_least(filter.age_min, key, value);
    if (key == "id") {
        const std::optional<PublicName> id = parse_public_name(value);
        if (id) return add(filter.ids, *id, key, value);
        return wrong(key, value, "is not the name of a connection", "write one like r3-000123-9");
    }
    if (key == "user") return set_text(filter.users, kUserBytesMax, key, value);
    if (key == "label") return set_text(filter.labels, kLabelsBytesMax, key, value);
    return wrong("filter", key, "is not something to filter by", one_of(kFilterKeys));
}

Nanos idle_of(const Connections& connections, Index index, Nanos now) {
    const TickClock clock = connections.config().clock;
    const uint32_t heard = connections.table()[index].heard & kStoredTickMask;
    return std::max<Nanos>(0, now - clock.begins(restore_tick(heard, clock.down(now))));
}

Candidates::Candidates(const ConnectionFilter& filter, Index places, Index first)
    : chosen_(filter.chosen), next_(std::min(first, places)), end_(places) {
    if (chosen_ == nullptr) return;
    end_ = chosen_->size();
    next_ = static_cast<size_t>(
        std::ranges::lower_bound(*chosen_, first, {}, &ConnectionId::index) - chosen_->begin());
}

Index Candidates::next(Connections& connections) {
    if (chosen_ == nullptr) return static_cast<Index>(next_++);
    const ConnectionId id = (*chosen_)[next_++];
    return connections.find(id) != nullptr ? id.index : kNoIndex;
}

bool matches(const ConnectionFilter& filter, Connections& connections, Index index, Nanos now,
             uint32_t& cost) {
    if (index == kNoIndex) return false;
    const Connection& connection = connections.table()[index];
    if (connection.stage == Stage::free || connection.stage == Stage::closed) return false;
    if (!is_one_of(filter.stages, connection.stage)) return false;
    if (!is_one_of(filter.listeners, connection.listener)) return false;
    if (!is_one_of(filter.protocols, connection.protocol)) return false;
    if (!is_one_of(filter.profiles, asked_profile(connections.place_told(index)))) return false;
    if (filter.idle_min > 0 && idle_of(connections, index, now) < filter.idle_min) return false;
    if (filter.age_min > 0 && now - connections.accepted_at(index) < filter.age_min) return false;
    if (!filter.users.empty() && !is_user_of(filter.users, connections, connection, cost))
        return false;
    return filter.addresses.empty() || is_from_one(filter.addresses, connections, index, cost);
}

}  // namespace pulse
