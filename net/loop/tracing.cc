// What becomes a trace: connections that are sampled, from their accept on, and those that end in a
// way that an operator looks for (Connections).
#include "net/loop/connections.h"

namespace pulse {

void Connections::trace_accepted(Index index) {
    const SpanIds ids = span_ids_of(config_.trace_key, config_.number, table_.id(index));
    if (traces_.samples(ids.trace)) begin_trace(index, ids, io_.now());
}

TraceTable::Entry* Connections::begin_trace(Index index, const SpanIds& ids, Nanos accepted_at) {
    TraceTable::Entry* const entry = traces_.begin(index, ids, accepted_at);
    if (entry == nullptr) {
        metrics_.add(Metric::traces_lost_table_full);
        return nullptr;
    }
    at(index).flags |= kTraced;
    metrics_.add(Metric::traced);
    return entry;
}

void Connections::end_trace(Index index) {
    at(index).flags &= static_cast<uint8_t>(~kTraced);
    traces_.end(index);
}

// The first sampled one that a peer names counts. One that is not sampled ends what our own choice
// began, and leaves no mark: a later one may begin a trace.
void Connections::join_trace(Index index, const TraceContext& context) {
    if (!traces_.on() || !context.present()) return;
    const bool traced = is_traced(index);
    if (traced && traces_.at(index).parent_remote) return;
    if (!context.sampled) {
        if (traced) end_trace(index);
        return;
    }
    SpanIds ids = span_ids_of(config_.trace_key, config_.number, table_.id(index));
    ids.trace = context.trace;
    ids.parent = context.parent;
    TraceTable::Entry* const entry =
        traced ? &traces_.at(index) : begin_trace(index, ids, accepted_at(index));
    if (entry == nullptr) return;
    entry->ids = ids;
    entry->parent_remote = true;
}

void Connections::trace_upgraded(Index index) {
    if (is_traced(index)) traces_.at(index).upgraded_at = io_.now();
}

void Connections::trace_hello(Index index) {
    if (!is_traced(index)) return;
    TraceTable::Entry& entry = traces_.at(index);
    if (entry.hello_at == 0) entry.hello_at = io_.now();
}

// Heartbeats are all messages but these, so that their way has no count of its own.
void Connections::count_other(Index index, bool answers_probe) {
    TraceTable::Entry& entry = traces_.at(index);
    ++entry.others;
    entry.probe_answers += answers_probe ? 1 : 0;
}

void Connections::look_at_message(Index index) {
    if (is_traced(index)) ++traces_.at(index).messages;
    if (message_rates_.on()) limit_messages(index);
}

// Whether an end that was not sampled may be traced; counts it where it may not.
bool Connections::allows_anomaly() {
    if (traces_.allows_anomaly(io_.now())) return true;
    metrics_.add(Metric::traces_lost_rate);
    return false;
}

void Connections::push_trace(const TraceRecord& record) {
    if (!traces_.push(record)) return metrics_.add(Metric::traces_lost_queue_full);
    if (!record.sampled) metrics_.add(Metric::traced_anomalies);
}

// Its last event: the ledger has how it ended, unless newer ones have pushed that out.
void Connections::trace_closed(Index index) {
    const ConnectionId id = table_.id(index);
    const Evidence* const ending = history_.ending(id);
    const bool slow = ending != nullptr && ending->ended_at - ending->at > kTraceSlowCloseNs;
    const bool anomaly = slow || is_anomaly(at(index).close_reason);
    TraceRecord record;
    record.sampled = is_traced(index);
    if (!record.sampled) {
        if (!anomaly) return;
        if (ending == nullptr) return metrics_.add(Metric::traces_lost_ledger);
        if (!allows_anomaly()) return;
        record.ids = span_ids_of(config_.trace_key, config_.number, id);
        record.anomaly = true;
    } else {
        // Beyond the rate it is exported as any other that was sampled.
        record.anomaly = anomaly && traces_.allows_anomaly(io_.now());
    }
    record.facts = ending != nullptr ? *ending : evidence(index);
    record.accepted_at = record.facts.accepted_at;
    record.ended_at = record.facts.ended_at != 0 ? record.facts.ended_at : io_.clock();
    if (record.sampled) {
        const TraceTable::Entry& entry = traces_.at(index);
        record.ids = entry.ids;
        record.parent_remote = entry.parent_remote;
        record.accepted_at = entry.accepted_at;
        record.upgraded_at = entry.upgraded_at;
        record.hello_at = entry.hello_at;
        record.messages = entry.messages;
        record.heartbeats = entry.messages - entry.others;
        record.probes = entry.probes;
        record.probe_answers = entry.probe_answers;
        end_trace(index);
    }
    push_trace(record);
}

void Connections::trace_refused(const Accepted& accepted, CloseReason reason) {
    if (!is_anomaly(reason) || !allows_anomaly()) return;
    TraceRecord record;
    record.refused = record.anomaly = true;
    // Not the index of any connection; `came_` differs for each that is refused.
    record.ids = root_span_ids(config_.trace_key, uint64_t{config_.number} << 32 | kNoIndex,
                               static_cast<uint32_t>(came_));
    record.facts.reactor = config_.number;
    record.facts.listener = accepted.listener;
    record.facts.protocol = config_.options->listen[accepted.listener].protocol;
    record.facts.reason = reason;
    record.facts.peer = plain_address(accepted.peer);
    record.facts.at = record.accepted_at = record.ended_at = io_.clock();
    push_trace(record);
}

}  // namespace pulse
