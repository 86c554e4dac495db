// Counters read by one thread while another writes them: never torn, never back, nothing lost.
#include <gtest/gtest.h>

#include <thread>

#include "core/metrics.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

TEST(MetricsThreads, AReaderSeesCountersGrow) {
    constexpr uint64_t kStep = (uint64_t{1} << 32) + 1;  // both halves of a word change together
    const uint64_t times = test::scaled(1'000'000);
    Metrics metrics;
    std::thread writer([&] {
        for (uint64_t i = 0; i < times; ++i) {
            metrics.add(Metric::bytes_received, kStep);
            metrics.closed(CloseReason::idle_timeout);
        }
    });
    uint64_t seen = 0;
    uint64_t torn = 0;
    uint64_t back = 0;
    while (seen < times * kStep) {
        const uint64_t now = metrics.snapshot()[Metric::bytes_received];
        torn += (now >> 32) != (now & UINT32_MAX);
        back += now < seen;
        seen = now;
    }
    writer.join();
    EXPECT_EQ(torn, 0u);
    EXPECT_EQ(back, 0u);
    EXPECT_EQ(metrics.snapshot()[Metric::closed], times);
}

}  // namespace
}  // namespace pulse
