// Reading a filter, and asking it of a connection.
#include "net/control/filter.h"

#include <algorithm>

#include "core/time.h"
#include "core/units.h"
#include "net/control/limits.h"
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

// What a filter has one of: the last of several would be the only one that counts.
bool is_set(const ConnectionFilter& filter, std::string_view key) {
    return (key == "state" && filter.stage) || (key == "listener" && filter.listener) ||
           (key == "profile" && filter.profile) || (key == "address" && filter.address) ||
           (key == "idle" && filter.idle_min > 0) || (key == "age" && filter.age_min > 0) ||
           (key == "id" && filter.id) || (key == "user" && !filter.user.empty());
}

Result<void> set_state(ConnectionFilter& filter, std::string_view key, std::string_view value) {
    const std::span words = std::span(kStageNames).subspan(1, 5);
    const auto word = std::ranges::find(words, value);
    if (word == words.end()) return wrong(key, value, "is not a state", one_of(words));
    filter.stage = static_cast<Stage>(word - words.begin() + 1);
    return {};
}

// By its URI, as the server listens on it, or by its place.
Result<void> set_listener(ConnectionFilter& filter, const std::vector<std::string>& listeners,
                          std::string_view key, std::string_view value) {
    for (size_t place = 0; place < listeners.size(); ++place) {
        if (value != listeners[place] && value != std::to_string(place)) continue;
        filter.listener = static_cast<uint8_t>(place);
        return {};
    }
    return wrong(key, value, "is not listened on", one_of(listeners));
}

Result<void> set_profile(ConnectionFilter& filter, const std::vector<std::string>& profiles,
                         std::string_view key, std::string_view value) {
    const std::span named = std::span(profiles).subspan(kProfileDefault);
    const auto profile = std::ranges::find(named, value);
    if (profile == named.end()) return wrong(key, value, "is not a profile", one_of(named));
    filter.profile = static_cast<uint8_t>(profile - named.begin() + kProfileDefault);
    return {};
}

// One host of IPv4 or one site of IPv6: what the record knows by a number, behind a PROXY header
// too. A number may be another's by chance, and a kick must not be: so the socket is asked as well,
// where it is the peer's own.
bool is_from(const AddressPrefix& prefix, Connections& connections, Index index, uint32_t& cost) {
    const Connection& connection = connections.table()[index];
    const bool proxied =
        connections.config().options->listen[connection.listener].expects_proxy_header;
    const bool v4 = prefix.address.base.sa_family == AF_INET;
    if (proxied || prefix.bits == (v4 ? 32 : 64)) {
        if (prefix.bits != (v4 ? 32 : 64)) return false;
        const SipKey& key = connections.config().probe_key;
        if (connection.address != number_of(prefix.address, key)) return false;
        if (proxied) return true;
    }
    cost += kAddressCost;
    return prefix.contains(connections.peer_address(index));
}

}  // namespace

Result<void> set_filter(ConnectionFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value) {
    if (key == "protocol") return set_protocol(filter, key, value);
    if (is_set(filter, key))
        return wrong(key, value, "is a second one", "give one, and ask again for another");
    if (key == "state") return set_state(filter, key, value);
    if (key == "listener") return set_listener(filter, names.listeners, key, value);
    if (key == "profile") return set_profile(filter, names.profiles, key, value);
    if (key == "address") {
        const Result<AddressPrefix> prefix = parse_prefix(value);
        if (!prefix) return Error{"address " + prefix.error()};
        filter.address = *prefix;
        return {};
    }
    if (key == "idle" || key == "age") {
        const Result<Nanos> least = parse_duration(value);
        if (!least) return Error{std::string(key) + " " + least.error()};
        (key == "age" ? filter.age_min : filter.idle_min) = *least;
        return {};
    }
    if (key == "id") {
        filter.id = parse_public_name(value);
        if (filter.id) return {};
        return wrong(key, value, "is not the name of a connection", "write one like r3-000123-9");
    }
    if (key == "user" || key == "label") {
        const size_t most = key == "user" ? kUserBytesMax : kLabelsBytesMax;
        if (value.empty() || value.size() > most) {
            return wrong(key, value, "is too long or empty",
                         "write 1 to " + std::to_string(most) + " bytes");
        }
        if (key == "user") {
            filter.user = value;
        } else {
            filter.labels.emplace_back(value);
        }
        return {};
    }
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
    if (filter.stage && connection.stage != *filter.stage) return false;
    if (filter.listener && connection.listener != *filter.listener) return false;
    if (!filter.protocols.empty() &&
        std::ranges::find(filter.protocols, connection.protocol) == filter.protocols.end()) {
        return false;
    }
    if (filter.profile && connection.profile % kRetunedProfiles != *filter.profile) return false;
    if (filter.idle_min > 0 && idle_of(connections, index, now) < filter.idle_min) return false;
    if (filter.age_min > 0) {
        const Nanos accepted_at = connections.accepted_at(index);
        if (accepted_at == 0 || now - accepted_at < filter.age_min) return false;
    }
    if (!filter.user.empty()) {  // it may have logged in as another one meanwhile
        const SessionBook::Entry* const login = connections.logins().entry_of(connection);
        if (login == nullptr || !login->is_of(connections.logins().number_of(filter.user)))
            return false;
    }
    return !filter.address || is_from(*filter.address, connections, index, cost);
}

}  // namespace pulse
