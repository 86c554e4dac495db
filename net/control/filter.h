// Which connections a request is about. All that is given must hold; nothing given: every one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/connection.h"
#include "core/result.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/loop/connections.h"

namespace pulse {

struct ConnectionFilter {
    std::vector<uint8_t> protocols;  // rows of kProtocols; empty: any
    std::optional<Stage> stage;
    std::optional<uint8_t> listener;
    std::optional<uint8_t> profile;  // as a hello names it: below kRetunedProfiles
    // Of the peer. Behind a PROXY header only a single host of IPv4 (/32) and a site of IPv6 (/64)
    // are known; other prefixes do not match there.
    std::optional<AddressPrefix> address;
    Nanos idle_min = 0;

    bool empty() const {
        return protocols.empty() && !stage && !listener && !profile && !address && idle_min == 0;
    }
};

// What a filter can name.
inline constexpr std::string_view kFilterKeys[] = {"protocol", "state",   "listener",
                                                   "address",  "profile", "idle"};

// The words of Stage, by its value; of what is live or on its way out.
inline constexpr std::string_view kStageNames[] = {"free", "proxy",   "detect", "http",
                                                   "open", "closing", "closed"};
static_assert(std::size(kStageNames) == static_cast<size_t>(Stage::closed) + 1);

// What names and listeners a filter may use: those of a running server.
struct FilterNames {
    std::vector<std::string> listeners;  // by their place, as they were given or with a port
    std::vector<std::string> profiles;   // by their number; the first two are not for a filter
};

// Sets what `key` names, or adds a protocol; all else is refused a second time. The error is
// "KEY 'VALUE': reason; remedy".
Result<void> set_filter(ConnectionFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value);

// How long a connection has proved no life.
Nanos idle_of(const Connections& connections, Index index, Nanos now);

// Whether `index` is meant; adds what the answer cost to `cost`. On the reactor's thread.
bool matches(const ConnectionFilter& filter, Connections& connections, Index index, Nanos now,
             uint32_t& cost);

}  // namespace pulse
