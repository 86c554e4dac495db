// Walks over a ledger, or over the connections that live.
#include "net/control/anomaly_jobs.h"

#include <algorithm>

#include "core/heartbeat_policy.h"
#include "net/control/limits.h"
#include "net/loop/connections.h"

namespace pulse {
namespace {

bool is_eviction(const Evidence& facts) {
    return facts.reason == CloseReason::idle_timeout ||
           describe(facts.reason).party == CloseParty::by_network;
}

void spend(uint32_t& budget, uint32_t cost) { budget -= std::min(budget, cost); }

}  // namespace

Nanos HoldersJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (series == AnomalySeries::evictions) return walk_ledger(connections, now, budget);
    if (series != AnomalySeries::loop_lag) return walk_living(connections, now, budget);
    spend(budget, kPassCost);
    return kNever;
}

Nanos HoldersJob::walk_ledger(Connections& connections, Nanos now, uint32_t& budget) {
    const Ledger& ledger = connections.ledger();
    if (!next_entry_) next_entry_ = ledger.next();
    while (budget > 0 && holders.total() < kAnomalyExaminedMax) {
        const Evidence* const facts = *next_entry_ == 0 ? nullptr : ledger.find(*next_entry_ - 1);
        if (facts == nullptr || now - facts->at > within) return kNever;
        --*next_entry_;
        if (is_eviction(*facts)) holders.add(facts->peer, facts->listener);
        spend(budget, kPassCost + static_cast<uint32_t>(kHeavyHitters / 16));
    }
    return holders.total() < kAnomalyExaminedMax ? now : kNever;
}

Nanos HoldersJob::walk_living(Connections& connections, Nanos now, uint32_t& budget) {
    const Index places = connections.table().limit();
    if (!next_) next_ = 0;
    while (budget > 0 && *next_ < places && holders.total() < kAnomalyExaminedMax)
        spend(budget, consider(connections, (*next_)++, now));
    return *next_ < places && holders.total() < kAnomalyExaminedMax ? now : kNever;
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

}  // namespace pulse
