// Entries, found by index with linear probing.
#include "net/loop/trace_table.h"

#include "core/check.h"

namespace pulse {
namespace {

constexpr size_t kEntriesBytes = (size_t{kTracedMax} + 1) * sizeof(TraceTable::Entry);

}  // namespace

size_t TraceTable::memory_bytes_max() {
    return kEntriesBytes + kBuckets * sizeof(uint32_t) + kTraceQueueSlots * sizeof(TraceRecord);
}

size_t TraceTable::memory_bytes() const {
    return on() ? fresh_ * sizeof(Entry) + kBuckets * sizeof(uint32_t) : 0;
}

TraceTable::TraceTable(PageSource& pages, TraceQueue* queue) : pages_(pages), queue_(queue) {
    if (queue == nullptr) return;
    buckets_ = reinterpret_cast<uint32_t*>(pages_.reserve_small(kBuckets * sizeof(uint32_t)));
    if (buckets_ != nullptr)
        entries_ = reinterpret_cast<Entry*>(pages_.reserve_small(kEntriesBytes));
}

TraceTable::~TraceTable() {
    if (entries_ != nullptr) pages_.release(reinterpret_cast<std::byte*>(entries_), kEntriesBytes);
    if (buckets_ != nullptr)
        pages_.release(reinterpret_cast<std::byte*>(buckets_), kBuckets * sizeof(uint32_t));
}

// Its bucket, or the free one where it would be.
uint32_t& TraceTable::bucket_with(Index index) {
    uint32_t at = bucket_of(index);
    while (buckets_[at] != 0 && entries_[buckets_[at]].index != index)
        at = (at + 1) & (kBuckets - 1);
    return buckets_[at];
}

TraceTable::Entry* TraceTable::begin(Index index, const SpanIds& ids, Nanos now) {
    if (taken_ == kTracedMax) return nullptr;
    ++taken_;
    uint32_t handle = free_;
    if (handle != 0)
        free_ = entries_[handle].next;
    else
        handle = ++fresh_;
    uint32_t& bucket = bucket_with(index);
    PULSE_ASSERT(bucket == 0);
    bucket = handle;
    entries_[handle] = Entry{.index = index, .ids = ids, .accepted_at = now};
    return &entries_[handle];
}

// What stands behind it and would not be found past a free bucket moves up.
void TraceTable::end(Index index) {
    uint32_t* const found = &bucket_with(index);
    PULSE_ASSERT(*found != 0);
    entries_[*found].next = free_;
    free_ = *found;
    --taken_;
    auto hole = static_cast<uint32_t>(found - buckets_);
    for (uint32_t at = (hole + 1) & (kBuckets - 1); buckets_[at] != 0;
         at = (at + 1) & (kBuckets - 1)) {
        const uint32_t home = bucket_of(entries_[buckets_[at]].index);
        if (((at - home) & (kBuckets - 1)) < ((at - hole) & (kBuckets - 1))) continue;
        buckets_[hole] = buckets_[at];
        hole = at;
    }
    buckets_[hole] = 0;
}

bool TraceTable::allows_anomaly(Nanos now) {
    if (now - anomalies_since_ >= kSecond) {
        anomalies_since_ = now;
        anomalies_ = 0;
    }
    return anomalies_++ < kTraceAnomaliesPerSecond;
}

}  // namespace pulse
