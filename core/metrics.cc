// Snapshots of counters, and their arithmetic.
#include "core/metrics.h"

namespace pulse {
namespace {

template <class To, class From>
void read_all(To& to, const From& from) {
    for (size_t i = 0; i < to.size(); ++i) to[i] = from[i].load(std::memory_order_relaxed);
}

template <class Array>
void add_all(Array& to, const Array& other, uint64_t sign) {
    for (size_t i = 0; i < to.size(); ++i) to[i] += sign * other[i];
}

void add_signed(MetricsSnapshot& to, const MetricsSnapshot& other, uint64_t sign) {
    add_all(to.counters, other.counters, sign);
    add_all(to.refused, other.refused, sign);
    add_all(to.closed, other.closed, sign);
    add_all(to.tokens_refused, other.tokens_refused, sign);
}

}  // namespace

MetricsSnapshot& MetricsSnapshot::operator+=(const MetricsSnapshot& other) {
    add_signed(*this, other, 1);
    return *this;
}

MetricsSnapshot& MetricsSnapshot::operator-=(const MetricsSnapshot& earlier) {
    add_signed(*this, earlier, ~uint64_t{0});
    return *this;
}

MetricsSnapshot Metrics::snapshot() const {
    MetricsSnapshot snapshot;
    read_all(snapshot.counters, counters_);
    read_all(snapshot.refused, refused_);
    read_all(snapshot.closed, closed_);
    read_all(snapshot.tokens_refused, tokens_refused_);
    return snapshot;
}

}  // namespace pulse
