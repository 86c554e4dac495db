// Which connections of one reactor are traced from their beginning, and what is counted of them.
//
// A connection is sampled when it is accepted, by its trace id (--trace-ratio), and again when its
// peer names a trace: then as the peer has decided. It has kTraced among its flags, and an entry
// here; one that is not sampled has nothing anywhere. How it ended may still make it worth a trace
// (is_anomaly), with the ids that it would have had and what the ledger knows.
//
// Memory is address space of the page source, backed as entries are used.
#pragma once

#include <cstdint>
#include <optional>

#include "core/close_reason.h"
#include "core/page_source.h"
#include "core/trace.h"
#include "core/types.h"
#include "net/loop/limits.h"
#include "net/loop/trace_queue.h"

namespace pulse {

// An end that is traced although its connection was not sampled: evictions, breaches of a protocol,
// and what this server or its machine had too little for. Not what scanners of a public port cause
// all day (wrong_protocol, handshake_timeout), nor what an operator or a limit wanted.
constexpr bool is_anomaly(CloseReason reason) {
    switch (reason) {
        case CloseReason::idle_timeout:
        case CloseReason::slow_upload:
        case CloseReason::protocol_error:
        case CloseReason::invalid_data:
        case CloseReason::message_too_big:
        case CloseReason::too_many_offences:
        case CloseReason::overloaded:
        case CloseReason::out_of_descriptors:
        case CloseReason::out_of_memory:
        case CloseReason::io_error:
            return true;
        default:
            return false;
    }
}

class TraceTable {
  public:
    // What is known of a sampled connection besides its evidence.
    struct Entry {
        Index index = kNoIndex;
        uint32_t next = 0;  // of the free ones
        SpanIds ids{};
        bool parent_remote = false;
        uint32_t probes = 0;
        uint32_t probe_answers = 0;
        Nanos accepted_at = 0;
        Nanos upgraded_at = 0;
        Nanos hello_at = 0;
        uint64_t messages = 0;
        uint64_t others = 0;  // that are no heartbeats
    };

    // `pages` and `queue` outlive it; no queue: nothing is traced, and nothing below is called.
    TraceTable(PageSource& pages, TraceQueue* queue);
    ~TraceTable();
    TraceTable(const TraceTable&) = delete;
    TraceTable& operator=(const TraceTable&) = delete;

    // False as well: there was no address space for entries.
    bool on() const { return entries_ != nullptr; }
    void set_ratio(uint32_t millionths) { ratio_ = TraceRatio(millionths); }
    bool samples(const TraceId& trace) const { return ratio_.samples(trace); }

    // A sampled connection. nullptr: as many as may be are traced. Requires: it has none.
    Entry* begin(Index index, const SpanIds& ids, Nanos now);
    // Requires: begin() gave it one.
    Entry& at(Index index) { return entries_[handle_of(index)]; }
    void end(Index index);

    // False: the exporter has not taken what came before, and the record is lost. What is not an
    // anomaly leaves kTraceQueueReserve places free.
    bool push(const TraceRecord& record) {
        if (!record.anomaly && queue_->room() <= kTraceQueueReserve) return false;
        return queue_->try_push(record);
    }
    // Whether one more anomaly may be traced in the second that `now` is in.
    bool allows_anomaly(Nanos now);

    uint32_t traced() const { return taken_; }
    size_t memory_bytes() const;
    // Of one reactor, with its queue.
    static size_t memory_bytes_max();

  private:
    static constexpr uint32_t kBuckets = 2 * kTracedMax;  // half of them free: short chains
    static uint32_t bucket_of(Index index) { return index * 2'654'435'769u >> (32 - kBucketsLog2); }
    static constexpr uint32_t kBucketsLog2 = kTracedMaxLog2 + 1;
    uint32_t& bucket_with(Index index);
    uint32_t handle_of(Index index) { return bucket_with(index); }

    PageSource& pages_;
    TraceQueue* const queue_;
    TraceRatio ratio_{0};
    Entry* entries_ = nullptr;     // by handle, from 1
    uint32_t* buckets_ = nullptr;  // handles; 0: free. Open addressing, by index
    uint32_t taken_ = 0;
    uint32_t fresh_ = 0;  // handles that were ever used
    uint32_t free_ = 0;
    Nanos anomalies_since_ = 0;
    uint32_t anomalies_ = 0;
};

}  // namespace pulse
