// Traces as W3C Trace Context and OpenTelemetry name them: ids, what a connection takes over from
// its client, and the choice of those that are sampled.
//
// The ids of a connection that its client does not name are a function of a secret and the
// connection's id: they cost no memory, so that one that was not sampled has its trace all the same
// once something goes wrong with it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "core/sip_hash.h"
#include "core/types.h"

namespace pulse {

// Big-endian, as they are written in hexadecimal; all zero is none.
using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

template <size_t kBytes>
constexpr bool is_present(const std::array<uint8_t, kBytes>& id) {
    return std::any_of(id.begin(), id.end(), [](uint8_t byte) { return byte != 0; });
}

// What a peer is part of (proto/traceparent.h).
struct TraceContext {
    TraceId trace{};
    SpanId parent{};
    bool sampled = false;  // as the peer has decided
    bool present() const { return is_present(trace); }
};

// Of a span: its own ids, and its parent's, which is none at the root of a trace.
struct SpanIds {
    TraceId trace{};
    SpanId span{};
    SpanId parent{};
};

constexpr SpanId span_id_of(uint64_t number) {
    if (number == 0) number = 1;
    SpanId id{};
    for (size_t at = id.size(); at-- > 0; number >>= 8) id[at] = static_cast<uint8_t>(number);
    return id;
}

// Of what `subject` and `more` name together, in this process. Secret: `key`.
constexpr SpanIds root_span_ids(const SipKey& key, uint64_t subject, uint32_t more) {
    const auto word = [&](uint64_t which) { return sip_hash(key, subject, which << 32 | more); };
    const SpanId first = span_id_of(word(1)), last = span_id_of(word(2));
    SpanIds ids{.span = span_id_of(word(3))};
    std::copy(last.begin(), last.end(), std::copy(first.begin(), first.end(), ids.trace.begin()));
    return ids;
}
constexpr SpanIds span_ids_of(const SipKey& key, uint32_t reactor, ConnectionId id) {
    return root_span_ids(key, uint64_t{reactor} << 32 | id.index, id.generation);
}

// A share of all traces, in millionths. The choice is by the last 56 bits of the trace id, which
// are random (W3C Trace Context 2, section 3.2.2.5): the same for a trace wherever it is asked, and
// what is sampled at a ratio is sampled at each higher one.
inline constexpr uint32_t kTraceRatioOne = 1'000'000;
class TraceRatio {
  public:
    explicit constexpr TraceRatio(uint32_t millionths)
        : below_((uint64_t{1} << 56) / kTraceRatioOne * millionths) {
        if (millionths == kTraceRatioOne) below_ = uint64_t{1} << 56;
    }
    constexpr bool samples(const TraceId& trace) const {
        uint64_t number = 0;
        for (size_t at = 9; at < trace.size(); ++at) number = number << 8 | trace[at];
        return number < below_;
    }

  private:
    uint64_t below_;
};

}  // namespace pulse
