// The ring between two real threads: every value once, whole and in order.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "core/random.h"
#include "core/spsc_ring.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

// Four words that must agree, so that a slot which is read while it is written shows.
struct Wide {
    uint64_t words[4];
};
constexpr Wide wide(uint64_t value) { return {{value, ~value, value * 3, value}}; }

struct Shape {
    uint32_t slots;
    uint32_t batch_max;
    uint32_t budget_max;
};

class SpscRingThreads : public ::testing::TestWithParam<Shape> {};

TEST_P(SpscRingThreads, EveryValueOnceWholeAndInOrder) {
    const uint64_t total = test::scaled(GetParam().slots < 64 ? 100'000 : 1'000'000);
    SpscRing<Wide> ring(GetParam().slots);
    std::thread writer([&] {
        Random random(2);
        std::vector<Wide> batch;
        for (uint64_t sent = 0; sent < total;) {
            const uint64_t wanted = random.between(1, GetParam().batch_max);
            batch.clear();
            for (uint64_t i = 0; i < wanted && sent + i < total; ++i)
                batch.push_back(wide(sent + i));
            const size_t pushed = ring.push_batch(batch);
            sent += pushed;
            if (pushed == 0) std::this_thread::yield();
        }
    });
    Random random(3);
    uint64_t received = 0;
    uint64_t broken = 0;
    while (received < total) {
        const uint64_t budget = random.between(1, GetParam().budget_max);
        const size_t popped = ring.pop_batch(budget, [&](const Wide& value) {
            const Wide expected = wide(received++);
            for (int i = 0; i < 4; ++i) broken += value.words[i] != expected.words[i];
        });
        if (popped == 0) std::this_thread::yield();
    }
    writer.join();
    EXPECT_EQ(broken, 0u);
    EXPECT_EQ(received, total);
    EXPECT_TRUE(ring.empty());
}

INSTANTIATE_TEST_SUITE_P(Shapes, SpscRingThreads,
                         ::testing::Values(Shape{1, 1, 1}, Shape{2, 3, 1}, Shape{64, 16, 64},
                                           Shape{1024, 100, 300}));

}  // namespace
}  // namespace pulse
