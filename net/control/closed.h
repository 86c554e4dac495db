// What the admin endpoint reads of the ledgers (core/sessions/ledger.h): connections that ended, by
// what is asked of them, the newest first. Jobs, each over one reactor (jobs.h).
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/sessions/evidence.h"
#include "net/control/filter.h"
#include "net/loop/job.h"

namespace pulse {

// Several values of one key are alternatives, and all keys that are given must hold. Without any
// of them every one is meant.
struct ClosedFilter {
    std::vector<CloseReason> reasons;  // empty: any
    std::vector<uint8_t> protocols;    // rows of kProtocols; empty: any
    std::vector<uint8_t> listeners;
    std::vector<AddressPrefix> addresses;  // of the peer, behind a PROXY header too
    std::vector<std::string> users;        // that it was logged in as; empty: any, or none
    Nanos within = 0;                      // ended so long ago at most; 0: whenever
};

// What a filter of these can name.
inline constexpr std::string_view kClosedFilterKeys[] = {"reason", "user",     "address",
                                                         "since",  "protocol", "listener"};

// Adds a value of what `key` names; a second `since` is refused. Errors as of a ConnectionFilter.
Result<void> set_filter(ClosedFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value);
// `user_numbers` stand for the users that the filter names (Logins::number_of).
bool matches(const ClosedFilter& filter, const Evidence& facts,
             std::span<const uint64_t> user_numbers, Nanos now);

// The order of lists: when the end was decided, and where its entry is. The newest comes first.
struct ClosedKey {
    Nanos at = 0;
    uint32_t reactor = 0;
    uint64_t number = 0;
    auto operator<=>(const ClosedKey&) const = default;
};

// The newest `most` that match and come behind `after` of the page before.
struct ClosedPageJob final : Job {
    ClosedPageJob(ClosedFilter wanted, std::optional<ClosedKey> last, uint32_t limit)
        : filter(std::move(wanted)), after(last), most(limit) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    struct Found {
        ClosedKey key;
        Evidence facts;
    };
    const ClosedFilter filter;
    const std::optional<ClosedKey> after;
    const uint32_t most;
    std::vector<Found> found;
    uint32_t kept = 0;  // entries that the ledger has room for; 0: it is off

  private:
    std::optional<uint64_t> next_;  // behind the next entry to look at
    std::vector<uint64_t> user_numbers_;
};

// One that ended, and whole sentences about it.
struct ClosedJob final : Job {
    explicit ClosedJob(ConnectionId wanted) : id(wanted) {}
    Nanos step(Connections& connections, Nanos now, uint32_t& budget) override;

    const ConnectionId id;
    std::optional<Evidence> facts;  // empty: the ledger does not have it
    std::string explained;
};

}  // namespace pulse
