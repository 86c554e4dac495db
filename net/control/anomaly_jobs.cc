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
    if (!began_at_) began_at_ = now;
    if (now - *began_at_ >= kAnomalyWalkNs) {
        spend(budget, kPassCost);
        return kNever;
    }
    if (series == AnomalySeries::evictions) return walk_ledger(connections, now, budget);
    if (series != AnomalySeries::loop_lag) return walk_living(connections, now, budget);
    spend(budget, kPassCost);
    return kNever;
}

Nanos HoldersJob::walk_ledger(Connections& connections, Nanos now, uint32_t& budget) {
    const Ledger& ledger = connections.ledger();
    if (!next_entry_) next_entry_ = ledger.next();
    while (budget > 0 && !is_full()) {
        const Evidence* const facts = *next_entry_ == 0 ? nullptr : ledger.find(*next_entry_ - 1);
        if (facts == nullptr || now - facts->at > within) return kNever;
        --*next_entry_;
        if (is_eviction(*facts)) holders.add(facts->peer, facts->listener);
        spend(budget, kPassCost + static_cast<uint32_t>(kHeavyHitters / 16));
    }
    return is_full() ? kNever : now;
}

// Of more than may be asked it takes every so-manieth: a part that is like the whole.
Nanos HoldersJob::walk_living(Connections& connections, Nanos now, uint32_t& budget) {
    const Index places = connections.table().limit();
    if (!next_) {
        next_ = 0;
        if (series == AnomalySeries::round_trip)
            stride_ += static_cast<Index>(connections.table().live() / most.asked);
    }
    for (; budget > 0 && *next_ < places && !is_full(); *next_ += stride_)
        spend(budget, consider(connections, *next_, now));
    return *next_ < places && !is_full() ? now : kNever;
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
