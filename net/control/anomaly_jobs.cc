// Walks over a ledger, or over the connections that live; and what comes of what they found.
#include "net/control/anomaly_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/anomaly/heavy_hitters.h"
#include "core/heartbeat_policy.h"
#include "net/loop/connections.h"

namespace pulse {
namespace {

bool is_eviction(const Evidence& facts) {
    return facts.reason == CloseReason::idle_timeout ||
           describe(facts.reason).party == CloseParty::by_network;
}

void spend(uint32_t& budget, uint32_t cost) { budget -= std::min(budget, cost); }

std::string text_of(const NetworkPrefix& prefix) {
    const auto& bytes = prefix.bytes;
    if (prefix.family == 4)
        return fmt::format("{}.{}.{}.0/{}", bytes[0], bytes[1], bytes[2], prefix.bits);
    return fmt::format("{:x}:{:x}:{:x}::/{}", bytes[0] << 8 | bytes[1], bytes[2] << 8 | bytes[3],
                       bytes[4] << 8 | bytes[5], prefix.bits);
}

}  // namespace

Nanos HoldersJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!began_at_) {
        began_at_ = now;
        places_ = places_of(connections, now);
    }
    const bool over = places_.done() || now - *began_at_ >= kAnomalyWalkNs;
    if (!over) return walk(connections, now, budget);
    spend(budget, kPassCost);
    return kNever;
}

// Where those may be that are a part of it.
EvenOrder HoldersJob::places_of(const Connections& connections, Nanos now) {
    if (series == AnomalySeries::loop_lag) return {};
    if (series != AnomalySeries::evictions) return EvenOrder(connections.table().limit());
    // Entries are in the order of their time.
    const Ledger& ledger = connections.ledger();
    uint64_t first = ledger.first(), last = ledger.next();
    while (first < last) {
        const uint64_t middle = first + (last - first) / 2;
        if (now - ledger.find(middle)->at > within)
            first = middle + 1;
        else
            last = middle;
    }
    first_entry_ = first;
    return EvenOrder(ledger.next() - first);
}

Nanos HoldersJob::walk(Connections& connections, Nanos now, uint32_t& budget) {
    while (budget > 0 && !places_.done() && !is_full()) {
        const uint64_t place = places_.next();
        spend(budget, series == AnomalySeries::evictions
                          ? consider_ended(connections, first_entry_ + place)
                          : consider(connections, static_cast<Index>(place), now));
    }
    return places_.done() || is_full() ? kNever : now;
}

uint32_t HoldersJob::consider_ended(const Connections& connections, uint64_t entry) {
    const Evidence* const facts = connections.ledger().find(entry);  // nullptr: pushed out since
    if (facts != nullptr && is_eviction(*facts)) holders.add(facts->peer, facts->listener);
    return kPassCost + static_cast<uint32_t>(kHeavyHitters / 16);
}

// What can be told without asking the kernel.
bool HoldersJob::may_be_part(Connections& connections, Index index, Nanos now) const {
    const Connection& connection = connections.table()[index];
    if (!is_live(connection.stage)) return false;
    switch (series) {
        case AnomalySeries::missed_probes:
            return probes_sent(connection.heard) > 0;
        case AnomalySeries::newcomers: {
            const Nanos accepted_at = connections.accepted_at(index);
            return accepted_at != 0 && now - accepted_at <= within;
        }
        default:
            return true;
    }
}

uint32_t HoldersJob::consider(Connections& connections, Index index, Nanos now) {
    if (!may_be_part(connections, index, now)) return kPassCost;
    const Evidence facts = connections.evidence(index);
    ++asked;
    if (series == AnomalySeries::round_trip && facts.transport.round_trip <= round_trip)
        return kDescribeCost;
    holders.add(facts.peer, facts.listener);
    const SessionBook::Entry* const login =
        connections.logins().entry_of(connections.table()[index]);
    if (login != nullptr && login->session != 0 && logged_in.size() < kAnomalyLabelledMax) {
        logged_in.push_back(
            {.session = {.connection = {facts.id, facts.reactor}, .handle = login->session},
             .shard = login->shard});
    }
    return kDescribeCost;
}

bool note_holders(AnomalyEvent& event, const Holders& found,
                  std::span<const std::string> listeners) {
    if (found.total() <= event.examined) return false;
    event.examined = found.total();
    event.prefix = event.listener = {};
    if (const auto prefix = found.prefix()) event.prefix = {text_of(prefix->key), prefix->part};
    const auto listener = found.listener();
    if (listener && listeners.size() > 1 && listener->key < listeners.size())
        event.listener = {listeners[listener->key], listener->part};
    return true;
}

AnomalyShare label_of(std::span<const std::string> sessions) {
    HeavyHitters<std::string, kHeavyHitters> labels;
    for (const std::string_view session : sessions) {
        std::string_view left = session;
        while (!left.empty()) {
            const size_t end = std::min(left.find(' '), left.size());
            if (end > 0) labels.add(std::string(left.substr(0, end)));
            left.remove_prefix(std::min(end + 1, left.size()));
        }
    }
    const auto* const top = labels.top();
    if (top == nullptr || 2 * top->least() < sessions.size()) return {};
    return {top->key, static_cast<double>(top->least()) / static_cast<double>(sessions.size())};
}

}  // namespace pulse
