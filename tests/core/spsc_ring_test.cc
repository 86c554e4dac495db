// The ring on one thread: its corners, and its agreement with a deque.
#include "core/spsc_ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <numeric>
#include <vector>

#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

std::vector<uint32_t> pop(SpscRing<uint32_t>& ring, size_t budget) {
    std::vector<uint32_t> popped;
    const size_t count = ring.pop_batch(budget, [&](uint32_t value) { popped.push_back(value); });
    EXPECT_EQ(count, popped.size());
    return popped;
}

TEST(SpscRing, HoldsAsManyAsItHasSlots) {
    for (const uint32_t slots : {1u, 2u, 64u}) {
        SpscRing<uint32_t> ring(slots);
        EXPECT_EQ(ring.capacity(), slots);
        for (uint32_t round = 0; round < 3; ++round) {
            EXPECT_TRUE(ring.empty());
            for (uint32_t i = 0; i < slots; ++i) EXPECT_TRUE(ring.try_push(i));
            EXPECT_FALSE(ring.try_push(99));
            EXPECT_FALSE(ring.empty());
            for (uint32_t i = 0; i < slots; ++i) {
                uint32_t value = 77;
                EXPECT_TRUE(ring.try_pop(value));
                EXPECT_EQ(value, i);
            }
            uint32_t value = 77;
            EXPECT_FALSE(ring.try_pop(value));
            EXPECT_EQ(value, 77u);
        }
    }
}

TEST(SpscRing, ABatchGoesInAsFarAsItFitsAndAcrossTheSeam) {
    SpscRing<uint32_t> ring(8);
    std::vector<uint32_t> values(12);
    std::iota(values.begin(), values.end(), 0u);
    EXPECT_EQ(ring.push_batch({values.data(), 5}), 5u);
    EXPECT_EQ(pop(ring, 4), (std::vector<uint32_t>{0, 1, 2, 3}));
    EXPECT_EQ(ring.push_batch({values.data() + 5, 7}), 7u);  // three before the seam, four behind
    EXPECT_EQ(ring.push_batch(values), 0u);
    EXPECT_EQ(ring.push_batch({}), 0u);
    EXPECT_EQ(pop(ring, 3), (std::vector<uint32_t>{4, 5, 6}));
    EXPECT_EQ(ring.push_batch(values), 3u);
    EXPECT_EQ(pop(ring, 100), (std::vector<uint32_t>{7, 8, 9, 10, 11, 0, 1, 2}));
    EXPECT_EQ(pop(ring, 0), std::vector<uint32_t>{});
}

TEST(SpscRing, TakesMemoryOfTheCallers) {
    RawSlots<uint32_t> memory(8);
    SpscRing<uint32_t> low(memory.get(), 4);
    SpscRing<uint32_t> high(memory.get() + 4, 4);
    for (uint32_t i = 0; i < 4; ++i) {
        EXPECT_TRUE(low.try_push(i));
        EXPECT_TRUE(high.try_push(10 + i));
    }
    EXPECT_EQ(pop(low, 9), (std::vector<uint32_t>{0, 1, 2, 3}));
    EXPECT_EQ(pop(high, 9), (std::vector<uint32_t>{10, 11, 12, 13}));
}

TEST(SpscRingDeathTest, SlotsThatAreNotAPowerOfTwoAbort) {
    EXPECT_DEATH(SpscRing<uint32_t>(3), "has_single_bit");
    EXPECT_DEATH(SpscRing<uint32_t>(0), "has_single_bit");
}

TEST(SpscRing, AgreesWithADeque) {
    Random random(1);
    for (const uint32_t slots : {1u, 4u, 16u}) {
        SpscRing<uint32_t> ring(slots);
        std::deque<uint32_t> deque;
        uint32_t next = 0;
        for (uint64_t round = test::scaled(100'000); round > 0; --round) {
            std::vector<uint32_t> values(random.below(slots + 3));
            std::iota(values.begin(), values.end(), next);
            const size_t pushed = ring.push_batch(values);
            ASSERT_EQ(pushed, std::min<size_t>(values.size(), slots - deque.size()));
            for (size_t i = 0; i < pushed; ++i) deque.push_back(next++);
            const size_t budget = random.below(slots + 3);
            const std::vector<uint32_t> popped = pop(ring, budget);
            ASSERT_EQ(popped.size(), std::min<size_t>(budget, deque.size()));
            for (const uint32_t value : popped) {
                ASSERT_EQ(value, deque.front());
                deque.pop_front();
            }
            ASSERT_EQ(ring.empty(), deque.empty());
        }
    }
}

}  // namespace
}  // namespace pulse
