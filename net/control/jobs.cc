// Walks over the connections of a reactor, in the slices that a turn has for them.
#include "net/control/jobs.h"

#include <algorithm>

#include "core/heartbeat_policy.h"
#include "net/loop/profiles.h"
#include "net/loop/session.h"

namespace pulse {
namespace {

void spend(uint32_t& budget, uint32_t cost) { budget -= std::min(budget, cost); }

// The name of its profile's heartbeats, as it was told; empty where it has none.
std::string profile_of(const Connections& connections, Index index) {
    const auto profile = asked_profile(connections.place_told(index));
    if (profile < kProfileDefault || !is_live(connections.table()[index].stage)) return {};
    if (is_side(connections.table()[index])) return "side";
    return connections.config().profile_names[profile];
}

ConnectionRow row_of(Connections& connections, Index index, Nanos now) {
    const Connection& connection = connections.table()[index];
    const SessionBook::Entry* const login = connections.logins().entry_of(connection);
    const Nanos accepted_at = connections.accepted_at(index);
    return {
        .reactor = connections.config().number,
        .id = connections.table().id(index),
        .name = std::string(Session(connections, index).name().view()),
        .address = connections.peer_address(index).text(),
        .protocol = connection.protocol,
        .stage = connection.stage,
        .listener = connection.listener,
        .profile = profile_of(connections, index),
        .idle = idle_of(connections, index, now),
        .age = accepted_at != 0 ? std::max<Nanos>(kMillisecond, now - accepted_at) : 0,
        .probes_unanswered = probes_sent(connection.heard),
        .queued_bytes = connections.queued_bytes(index),
        .unfinished_bytes =
            connection.inbox == 0 ? 0 : connections.buffers().size(connection.inbox),
        .session = login != nullptr ? login->session : 0,
        .shard = login != nullptr ? login->shard : 0u,
        .user = {},
        .device = {},
        .labels = {},
    };
}

}  // namespace

Nanos StatsJob::step(Connections& connections, Nanos, uint32_t& budget) {
    connections.fill(*stats);
    cohorts = connections.config().options->cohorts;
    cohort_counts = connections.cohort_counts();
    budget = 0;
    return kNever;
}

Nanos CountJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!places_) {
        places_.emplace(filter, connections.table().limit());
        by_protocol.resize(all_protocols().size());
        by_stage.resize(std::size(kStageNames));
    }
    while (budget > 0 && !places_->done()) {
        const Index index = places_->next(connections);
        uint32_t cost = kPassCost;
        const bool counts = matches(filter, connections, index, now, cost);
        spend(budget, cost);
        if (!counts) continue;
        const Connection& connection = connections.table()[index];
        ++total;
        ++by_protocol[connection.protocol];
        ++by_stage[static_cast<size_t>(connection.stage)];
    }
    return places_->done() ? kNever : now;
}

// ----------------------------------------------------------------------------------------- lists

Nanos PageJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!places_) places_.emplace(filter, connections.table().limit(), next);
    while (budget > 0 && !places_->done() && rows.size() < most) {
        const Index index = places_->next(connections);
        uint32_t cost = kPassCost;
        if (matches(filter, connections, index, now, cost)) {
            rows.push_back(row_of(connections, index, now));
            cost += kDescribeCost;
        }
        spend(budget, cost);
    }
    over = places_->done();
    next = places_->place();
    return over || rows.size() == most ? kNever : now;
}

void LongestJob::consider(Connections& connections, Index index, Nanos now, uint32_t& cost) {
    if (!matches(filter, connections, index, now, cost)) return;
    const Connection& connection = connections.table()[index];
    const TickClock clock = connections.config().clock;
    const Tick heard = restore_tick(connection.heard & kStoredTickMask, clock.down(now));
    const Nanos since = order == Order::idle ? clock.begins(heard) : connections.accepted_at(index);
    const Key key{since, connections.config().number, index};
    if (after && key <= *after) return;
    const auto by_key = [](const Candidate& a, const Candidate& b) { return a.key < b.key; };
    if (heap_.size() == most) {
        left_out_ = true;
        if (!(key < heap_.front().key)) return;
        std::ranges::pop_heap(heap_, by_key);
        heap_.pop_back();
    }
    heap_.push_back({key, connection.generation});
    std::ranges::push_heap(heap_, by_key);
}

// First all are looked at, then the best of them described.
Nanos LongestJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!places_) places_.emplace(filter, connections.table().limit());
    while (budget > 0 && !places_->done()) {
        uint32_t cost = kPassCost;
        consider(connections, places_->next(connections), now, cost);
        spend(budget, cost);
    }
    if (!places_->done()) return now;
    if (!std::exchange(sorted_, true)) {
        std::ranges::sort(heap_, {}, [](const Candidate& candidate) { return candidate.key; });
        if (left_out_) more_behind = heap_.back().key;
    }
    for (; described_ < heap_.size() && budget > 0; ++described_) {
        const auto& [key, generation] = heap_[described_];
        spend(budget, kDescribeCost);
        const Connection& connection = connections.table()[key.index];
        if (connection.generation != generation || connection.stage == Stage::free ||
            connection.stage == Stage::closed) {
            continue;  // it has gone meanwhile
        }
        found.push_back({key, row_of(connections, key.index, now)});
    }
    return described_ == heap_.size() ? kNever : now;
}

LongestPage page_of(std::span<const std::shared_ptr<LongestJob>> jobs, uint32_t limit) {
    LongestPage page;
    for (const auto& job : jobs) {
        for (LongestJob::Found& found : job->found) page.found.push_back(&found);
        if (job->more_behind && (!page.next || *job->more_behind < *page.next))
            page.next = job->more_behind;
    }
    const auto by_key = [](const LongestJob::Found* found) { return found->key; };
    std::ranges::sort(page.found, {}, by_key);
    if (page.next) {
        const auto known = std::ranges::upper_bound(page.found, *page.next, {}, by_key);
        page.found.erase(known, page.found.end());
    }
    if (page.found.size() > limit) {
        page.found.resize(limit);
        page.next = page.found.back()->key;
    }
    return page;
}

// ---------------------------------------------------------------------------------------- acting

uint32_t ActJob::visit(Connections& connections, Index index, Nanos now) {
    uint32_t spent = kPassCost;
    if (!matches(filter_, connections, index, now, spent)) return spent;
    if (!concerns(connections.table()[index])) return spent;
    if (pace_ != nullptr && !pace_->allows(now)) {
        held_up_ = connections.table().id(index);
        return spent;
    }
    if (act(connections, index)) {
        ++done;
    } else {
        ++skipped;
    }
    return spent + cost();
}

Nanos ActJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!places_) places_.emplace(filter_, connections.table().limit());
    while (budget > 0 && (held_up_ || !places_->done())) {
        Index index = held_up_ ? held_up_->index : places_->next(connections);
        if (held_up_ && connections.find(*held_up_) == nullptr) index = kNoIndex;
        held_up_.reset();
        spend(budget, visit(connections, index, now));
        if (held_up_) return now + kPaceNs;
    }
    return !held_up_ && places_->done() ? kNever : now;
}

bool KickJob::act(Connections& connections, Index index) {
    connections.begin_close(index, {CloseReason::kicked, reason_});
    return true;
}

Nanos PartialDrainJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (listener_ && passed_) connections.refuse_on(*listener_);
    if (listener_ && !passed_) connections.close_listener(*listener_);
    listener_.reset();
    const Nanos next = ActJob::step(connections, now, budget);
    if (next == kNever) drain_->walking.fetch_sub(1);
    return next;
}

bool PartialDrainJob::act(Connections& connections, Index index) {
    connections.begin_close(index, CloseReason::going_away);
    drain_->closed.fetch_add(1);
    return true;
}

bool BroadcastJob::act(Connections& connections, Index index) {
    Session session(connections, index);
    const Protocol& protocol = session.protocol();
    const bool greeted = session.stage() == Stage::open ||
                         (session.stage() == Stage::detect && !protocol.greets_at_once);
    // A side connection is silent, and none reads what it is sent.
    const bool side = is_side(connections.table()[index]);
    if (!greeted || protocol.data == nullptr || side) return false;
    if (connections.drops_data()) {
        connections.metrics().add(Metric::messages_dropped);
        return false;
    }
    if (!connections.has_room(index, wire_bytes_of(text_))) return false;
    session.send_data(text_);
    return is_live(connections.table()[index].stage);
}

size_t BroadcastJob::wire_bytes_of(std::string_view text) {
    return json::escaped_bytes(text) + kBroadcastFrameBytesMax;
}

bool RetuneJob::act(Connections& connections, Index index) {
    const Connection& connection = connections.table()[index];
    if (connection.profile < kProfileDefault || is_side(connection)) return false;
    connections.retune(index, profile_);
    return true;
}

Nanos RevokeJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    if (!places_) {
        connections.authentication().revoke(token_id);
        places_.emplace(connections.table().limit());
    }
    places_->advance(budget, [&](Index index) {
        if (!connections.close_if_revoked(index)) return kPassCost;
        ++closed;
        return kEvictCost;
    });
    return places_->done() ? kNever : now;
}

// ------------------------------------------------------------------------------------ one of them

Nanos FactsJob::step(Connections& connections, Nanos now, uint32_t& budget) {
    spend(budget, kDescribeCost + kExplainCost);
    const Connection* connection = connections.find(id);
    if (connection == nullptr || connection->stage == Stage::closed) return kNever;
    const Evidence evidence = connections.evidence(id.index);
    const ReactorConfig& config = connections.config();
    const HeartbeatConfig& heartbeat = connections.heartbeat_of(*connection);
    const Tick tick = config.clock.down(now);
    const Nanos deadline =
        config.clock.begins(heartbeat_ends_at(connection->heard, id.index, tick, heartbeat,
                                              connections.answer_wait(id.index)));
    const bool beats = connection->profile >= kProfileDefault;
    facts = ConnectionFacts{
        .row = row_of(connections, id.index, now),
        .proxied = config.options->listen[connection->listener].expects_proxy_header,
        .probes = heartbeat.probe,
        .interval_ms = beats ? config.interval_ms[connection->profile] : 0,
        .timeout_ms = beats ? config.timeout_ms[connection->profile] : 0,
        .deadline_in = std::max<Nanos>(0, deadline - now),
        .held_off = connections.is_held_off(id.index),
        .offences = connection->offences,
        .evidence = evidence,
        .explained = connections.explain(evidence),
    };
    return kNever;
}

Nanos KickOneJob::step(Connections& connections, Nanos, uint32_t& budget) {
    spend(budget, kEvictCost);
    const Connection* connection = connections.find(id);
    found = connection != nullptr && is_live(connection->stage);
    if (found) connections.begin_close(id.index, {CloseReason::kicked, reason});
    return kNever;
}

}  // namespace pulse
