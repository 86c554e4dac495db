// Which connections a request is about. Several values of one key are alternatives, and all keys
// that are given must hold; nothing given: every one.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/connection.h"
#include "core/result.h"
#include "core/types.h"
#include "net/io/address.h"
#include "net/loop/connections.h"
#include "net/loop/public_name.h"

namespace pulse {

struct ConnectionFilter {
    std::vector<uint8_t> protocols{};  // rows of kProtocols; empty: any
    std::vector<Stage> stages{};       // empty: any, here and below
    std::vector<uint8_t> listeners{};  // by their places
    std::vector<uint8_t> profiles{};   // as a hello names them: below kAskedProfiles
    // Of the peer. Behind a PROXY header only a single host of IPv4 (/32) and a site of IPv6 (/64)
    // are known; other prefixes do not match there.
    std::vector<AddressPrefix> addresses{};
    Nanos idle_min = 0;
    Nanos age_min = 0;

    // Who they are. What the directory or a name tells is looked up first, and makes `chosen`.
    std::vector<PublicName> ids{};
    std::vector<std::string> users{};   // logged in as one of them
    std::vector<std::string> labels{};  // of the login: one of those of each name (LabelChoice)
    // Of one reactor, in the order of their places; null: they are not looked up.
    std::shared_ptr<const std::vector<ConnectionId>> chosen{};

    bool names_some() const { return !ids.empty() || !users.empty() || !labels.empty(); }
    bool empty() const {
        return protocols.empty() && stages.empty() && listeners.empty() && profiles.empty() &&
               addresses.empty() && idle_min == 0 && age_min == 0 && !names_some();
    }
};

// What a filter can name.
inline constexpr std::string_view kFilterKeys[] = {
    "protocol", "state", "listener", "address", "profile", "idle", "age", "id", "user", "label"};

// The words of Stage, by its value; of what is live or on its way out.
inline constexpr std::string_view kStageNames[] = {"free", "proxy",   "tls", "detect", "http",
                                                   "open", "closing", "closed"};
static_assert(std::size(kStageNames) == static_cast<size_t>(Stage::closed) + 1);

// What names and listeners a filter may use: those of a running server.
struct FilterNames {
    std::vector<std::string> listeners;  // by their place, as they were given or with a port
    std::vector<std::string> profiles;   // by their number; the first two are not for a filter
};

// Adds a value of what `key` names; of idle and age, lower bounds, a second one is refused, and so
// is a value beyond kFilterValuesMax. The error is "KEY 'VALUE': reason; remedy".
Result<void> set_filter(ConnectionFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value);

// The places of a reactor that a job looks at: all, or those of the connections that were chosen.
class Candidates {
  public:
    // From place `first` on, below `places`.
    Candidates(const ConnectionFilter& filter, Index places, Index first = 0);
    bool done() const { return next_ == end_; }
    // The next place; kNoIndex: the connection that was chosen is gone. Requires: !done().
    Index next(Connections& connections);
    // Where one that goes on behind these begins.
    Index place() const {
        return chosen_ == nullptr || done() ? static_cast<Index>(next_) : (*chosen_)[next_].index;
    }

  private:
    std::shared_ptr<const std::vector<ConnectionId>> chosen_;
    size_t next_;
    size_t end_;
};

// How long a connection has proved no life.
Nanos idle_of(const Connections& connections, Index index, Nanos now);

// Whether a candidate is meant; adds what the answer cost to `cost`. On the reactor's thread.
bool matches(const ConnectionFilter& filter, Connections& connections, Index index, Nanos now,
             uint32_t& cost);

}  // namespace pulse
