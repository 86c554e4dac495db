// The queue of instants beside a multimap.
#include "core/due_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

TEST(DueQueue, GivesTheSoonestFirst) {
    DueQueue queue(8);
    EXPECT_EQ(queue.next(), kNever);
    EXPECT_EQ(queue.pop_due(1'000), kNoIndex);
    queue.set(3, 30);
    queue.set(1, 10);
    queue.set(7, 20);
    EXPECT_EQ(queue.next(), 10);
    queue.set(1, 40);
    EXPECT_EQ(queue.next(), 20);
    EXPECT_EQ(queue.pop_due(19), kNoIndex);
    EXPECT_EQ(queue.pop_due(20), 7u);
    EXPECT_FALSE(queue.contains(7));
    queue.erase(7);
    queue.erase(3);
    EXPECT_EQ(queue.pop_due(100), 1u);
    EXPECT_EQ(queue.size(), 0u);
}

TEST(DueQueue, AgreesWithASetOfPairs) {
    constexpr uint32_t kPlaces = 64;
    for (uint64_t seed = 1; seed <= test::scaled(200); ++seed) {
        Random random(seed);
        DueQueue queue(kPlaces);
        std::map<Index, Nanos> due;
        for (int step = 0; step < 500; ++step) {
            const auto index = static_cast<Index>(random.below(kPlaces));
            const auto at = static_cast<Nanos>(random.below(50));
            switch (random.below(4)) {
                case 0:
                    queue.erase(index);
                    due.erase(index);
                    break;
                case 1: {
                    Nanos soonest = kNever;
                    for (const auto& [other, when] : due) soonest = std::min(soonest, when);
                    ASSERT_EQ(queue.next(), soonest);
                    const Index popped = queue.pop_due(at);
                    ASSERT_EQ(popped != kNoIndex, soonest <= at);
                    if (popped == kNoIndex) break;
                    ASSERT_EQ(due[popped], soonest);
                    due.erase(popped);
                    break;
                }
                default:
                    queue.set(index, at);
                    due[index] = at;
            }
            ASSERT_EQ(queue.size(), due.size());
            ASSERT_EQ(queue.contains(index), due.contains(index));
        }
    }
}

}  // namespace
}  // namespace pulse
