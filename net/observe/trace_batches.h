// What waits to be exported, and when: batches by size and age, and the waits between tries of a
// request. Pure: time is a parameter, randomness a seed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "core/types.h"
#include "net/loop/trace_queue.h"
#include "net/observe/limits.h"

namespace pulse {

// Records in the order of their coming.
class TraceBatches {
  public:
    // False: as many wait as may, and this one is dropped. The last kTracePendingReserve places are
    // for anomalies alone.
    bool add(const TraceRecord& record, Nanos now) {
        const size_t most = kTracePendingMax - (record.anomaly ? 0 : kTracePendingReserve);
        if (waiting_.size() >= most) return false;
        waiting_.push_back({now, record});
        return true;
    }
    size_t size() const { return waiting_.size(); }
    // When the next batch is to be sent: at once if it is full, else when its oldest is old enough;
    // kNever: nothing waits.
    Nanos due_at() const {
        if (waiting_.empty()) return kNever;
        if (waiting_.size() >= kTraceBatchRecords) return 0;
        return waiting_.front().came_at + kTraceBatchAgeNs;
    }
    // The oldest, a batch of them at most.
    std::vector<TraceRecord> take() {
        const size_t count = std::min(waiting_.size(), kTraceBatchRecords);
        std::vector<TraceRecord> batch;
        batch.reserve(count);
        for (; batch.size() < count; waiting_.pop_front()) batch.push_back(waiting_.front().record);
        return batch;
    }

  private:
    struct Waiting {
        Nanos came_at;
        TraceRecord record;
    };
    std::deque<Waiting> waiting_;
};

// What came of a request.
enum class ExportOutcome : uint8_t {
    taken,    // 2xx, in whole or in part
    retry,    // 429, 502, 503, 504: the endpoint asks for it again
    refused,  // any other status: it would refuse it again
    failed,   // no answer: no connection, a timeout, a close; to be tried again
};
constexpr ExportOutcome outcome_of(int status) {
    if (status >= 200 && status < 300) return ExportOutcome::taken;
    switch (status) {
        case 429:
        case 502:
        case 503:
        case 504:
            return ExportOutcome::retry;
        default:
            return ExportOutcome::refused;
    }
}

// Retry-After (RFC 9110 section 10.2.3): seconds, or a date; `wall_now` is since 1970. nullopt: it
// is neither, or in the past. Bounded.
std::optional<Nanos> parse_retry_after(std::string_view text, Nanos wall_now);

// Waits between the tries of requests, each of which is tried for kTraceRetryForNs.
class ExportRetries {
  public:
    explicit ExportRetries(uint64_t seed) : random_(seed) {}

    // A new request is about to be tried; a wait that the endpoint has asked for goes on.
    void begin(Nanos now) {
        first_try_at_ = now;
        failures_ = 0;
    }
    // It failed; the endpoint wants so long a wait (0: it did not say). False: it was tried for
    // long enough, and is to be dropped.
    bool failed(Nanos now, Nanos retry_after) {
        const Nanos wait = std::min(kTraceRetryMostNs, kTraceRetryFirstNs << failures_);
        const auto jittered =
            wait / 2 + static_cast<Nanos>(random_.below(static_cast<uint64_t>(wait) + 1));
        if (failures_ < kDoublingsMax) ++failures_;
        next_at_ = now + std::max(jittered, retry_after);
        return now - first_try_at_ < kTraceRetryForNs;
    }
    void succeeded() { next_at_ = 0; }
    Nanos next_at() const { return next_at_; }

  private:
    static constexpr uint32_t kDoublingsMax = 20;

    Random random_;
    Nanos first_try_at_ = 0;
    Nanos next_at_ = 0;
    uint32_t failures_ = 0;
};
static_assert(kTraceRetryMostNs >= kTraceRetryFirstNs);

}  // namespace pulse
