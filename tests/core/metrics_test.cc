// Counters: the table that they are made from, snapshots and their arithmetic.
#include "core/metrics.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

namespace pulse {
namespace {

TEST(Metrics, EveryLineOfTheTableIsUsable) {
    std::set<std::string_view> names;
    for (const MetricInfo& info : kMetricInfos) {
        EXPECT_EQ(info.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"),
                  std::string_view::npos)
            << info.name;
        EXPECT_TRUE(names.insert(info.name).second) << info.name << " twice";
        EXPECT_FALSE(info.unit.empty()) << info.name;
        EXPECT_GT(info.help.size(), 10u) << info.name;
        EXPECT_EQ(info.help.find_first_of("\"\\\n"), std::string_view::npos) << info.name;
    }
    EXPECT_EQ(kMetricInfos[static_cast<size_t>(Metric::accepted)].name, "accepted");
    EXPECT_EQ(kMetricInfos[static_cast<size_t>(Metric::looks)].name, "looks");
}

TEST(Metrics, EachCounterIsSeparate) {
    Metrics metrics;
    for (size_t i = 0; i < kMetrics; ++i) metrics.add(static_cast<Metric>(i), i + 1);
    metrics.add(Metric::turns);
    const MetricsSnapshot snapshot = metrics.snapshot();
    for (size_t i = 0; i < kMetrics; ++i) {
        const bool again = static_cast<Metric>(i) == Metric::turns;
        EXPECT_EQ(snapshot[static_cast<Metric>(i)], i + 1 + again) << kMetricInfos[i].name;
    }
}

TEST(Metrics, RefusalsAndClosesAreCountedApartByReasonAndTogether) {
    Metrics metrics;
    metrics.closed(CloseReason::idle_timeout);
    metrics.closed(CloseReason::idle_timeout);
    metrics.closed(CloseReason::kicked);
    metrics.refused(CloseReason::server_full);
    const MetricsSnapshot snapshot = metrics.snapshot();
    EXPECT_EQ(snapshot[Metric::closed], 3u);
    EXPECT_EQ(snapshot[Metric::refused], 1u);
    for (size_t i = 0; i < kCloseReasons; ++i) {
        const auto reason = static_cast<CloseReason>(i);
        const uint64_t closed =
            reason == CloseReason::idle_timeout ? 2 : reason == CloseReason::kicked;
        EXPECT_EQ(snapshot.closed[i], closed) << describe(reason).name;
        EXPECT_EQ(snapshot.refused[i], uint64_t{reason == CloseReason::server_full})
            << describe(reason).name;
    }
}

TEST(Metrics, SnapshotsAddUpAndSubtract) {
    Metrics one;
    Metrics other;
    one.add(Metric::bytes_received, 100);
    one.closed(CloseReason::kicked);
    const MetricsSnapshot earlier = one.snapshot();
    one.add(Metric::bytes_received, 23);
    one.refused(CloseReason::accept_rate);
    other.add(Metric::bytes_received, UINT64_MAX - 1'000);
    other.closed(CloseReason::kicked);

    MetricsSnapshot sum = one.snapshot();
    sum += other.snapshot();
    EXPECT_EQ(sum[Metric::bytes_received], UINT64_MAX - 877);
    EXPECT_EQ(sum.closed[static_cast<size_t>(CloseReason::kicked)], 2u);

    MetricsSnapshot since = one.snapshot();
    since -= earlier;
    EXPECT_EQ(since[Metric::bytes_received], 23u);
    EXPECT_EQ(since[Metric::closed], 0u);
    EXPECT_EQ(since.refused[static_cast<size_t>(CloseReason::accept_rate)], 1u);
    EXPECT_EQ(since.closed[static_cast<size_t>(CloseReason::kicked)], 0u);
}

TEST(Metrics, ReactorsDoNotShareACacheLine) {
    const Metrics reactors[2];
    EXPECT_EQ(reinterpret_cast<uintptr_t>(&reactors[0]) % kCacheLineBytes, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(&reactors[1]) % kCacheLineBytes, 0u);
}

}  // namespace
}  // namespace pulse
