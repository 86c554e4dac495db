// Walks over a ledger, from its newest entry back.
#include "net/control/closed.h"

#include <algorithm>

#include "core/units.h"
#include "net/control/limits.h"
#include "net/loop/connections.h"

namespace pulse {
namespace {

void spend(uint32_t& budget, uint32_t cost) { budget -= std::min(budget, cost); }

Error wrong(std::string_view key, std::string_view value, std::string_view why,
            std::string_view remedy) {
    return Error{std::string(key) + " '" + std::string(value) + "': " + std::string(why) + "; " +
                 std::string(remedy)};
}

Result<void> set_reason(ClosedFilter& filter, std::string_view key, std::string_view value) {
    std::string names;
    for (size_t reason = 1; reason < kCloseReasons; ++reason) {
        if (kCloseReasonInfos[reason].name == value) {
            filter.reasons.push_back(static_cast<CloseReason>(reason));
            return {};
        }
        names.append(names.empty() ? " " : ", ").append(kCloseReasonInfos[reason].name);
    }
    return wrong(key, value, "is not a reason to close", "write one of" + names);
}

}  // namespace

Result<void> set_filter(ClosedFilter& filter, const FilterNames& names, std::string_view key,
                        std::string_view value) {
    if (key == "reason") return set_reason(filter, key, value);
    if (key == "since") {
        if (filter.within > 0)
            return wrong(key, value, "is a second one", "give one, the longest ago that counts");
        const Result<Nanos> ago = parse_duration(value);
        if (!ago) return Error{"since " + ago.error()};
        if (*ago == 0) return wrong(key, value, "is not a time ago", "write how long, as 5m");
        filter.within = *ago;
        return {};
    }
    if (std::ranges::find(kClosedFilterKeys, key) == std::end(kClosedFilterKeys)) {
        std::string known = "write one of";
        for (const std::string_view each : kClosedFilterKeys)
            known.append(known.back() == 'f' ? " " : ", ").append(each);
        return wrong("filter", key, "is not something to filter by here", known);
    }
    // What both filters have.
    ConnectionFilter same{.protocols = std::move(filter.protocols),
                          .listeners = std::move(filter.listeners),
                          .addresses = std::move(filter.addresses),
                          .users = std::move(filter.users)};
    Result<void> set = set_filter(same, names, key, value);
    filter.protocols = std::move(same.protocols);
    filter.listeners = std::move(same.listeners);
    filter.addresses = std::move(same.addresses);
    filter.users = std::move(same.users);
    return set;
}

bool matches(const ClosedFilter& filter, const Evidence& facts,
             std::span<const uint64_t> user_numbers, Nanos now) {
    const auto lacks = [](const auto& list, auto value) {
        return !list.empty() && std::ranges::find(list, value) == list.end();
    };
    if (lacks(filter.reasons, facts.reason) || lacks(filter.protocols, facts.protocol))
        return false;
    if (lacks(filter.listeners, facts.listener) || lacks(user_numbers, facts.user)) return false;
    if (filter.within > 0 && now - facts.at > filter.within) return false;
    return filter.addresses.empty() ||
           std::ranges::any_of(filter.addresses, [&](const AddressPrefix& prefix) {
               return prefix.contains(socket_address(facts.peer));
           });
}

Nanos ClosedPageJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    const Ledger& ledger = connections.ledger();
    if (!next_) {
        next_ = ledger.next();
        kept = ledger.limit();
        for (const std::string& user : filter.users)
            user_numbers_.push_back(connections.logins().number_of(user));
    }
    while (budget > 0 && found.size() < most) {
        const Evidence* const facts = *next_ == 0 ? nullptr : ledger.find(*next_ - 1);
        if (facts == nullptr) return kNever;  // newer ones have pushed out the rest
        --*next_;
        const ClosedKey key{facts->at, facts->reactor, *next_};
        uint32_t cost = kPassCost * static_cast<uint32_t>(1 + filter.addresses.size());
        if ((!after || key < *after) && matches(filter, *facts, user_numbers_, now)) {
            found.push_back({key, *facts});
            cost += kDescribeCost;
        }
        spend(budget, cost);
    }
    return found.size() == most ? kNever : now;
}

Nanos ClosedJob::step(Connections& connections, Nanos, uint32_t& budget) {
    spend(budget, kExplainCost);
    if (const Evidence* const ended = connections.ledger().find(id)) {
        facts = *ended;
        explained = connections.explain(*ended);
    }
    return kNever;
}

}  // namespace pulse
