// Every place is visited once, in order, whatever the slices are.
#include "core/sweep.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/even_order.h"
#include "core/random.h"

namespace pulse::test {
namespace {

TEST(Sweep, VisitsEachPlaceOnceInOrderWithinItsBudget) {
    Random random(7);
    for (int round = 0; round < 2'000; ++round) {
        const auto places = static_cast<Index>(random.below(40));
        std::vector<uint32_t> costs(places);
        for (uint32_t& cost : costs) cost = static_cast<uint32_t>(random.between(1, 20));
        Sweep sweep(places);
        std::vector<Index> visited;
        for (int slices = 0; !sweep.done(); ++slices) {
            ASSERT_LT(slices, 1'000);
            const auto given = static_cast<uint32_t>(random.between(1, 30));
            uint32_t budget = given;
            uint32_t spent = 0, last = 0;
            sweep.advance(budget, [&](Index index) {
                visited.push_back(index);
                last = costs[index];
                spent += last;
                return last;
            });
            EXPECT_LT(spent - last, given) << "only the last place may overspend";
            EXPECT_EQ(budget, spent < given ? given - spent : 0);
            EXPECT_TRUE(sweep.done() || budget == 0) << "it stopped early";
        }
        ASSERT_EQ(visited.size(), places);
        for (Index index = 0; index < places; ++index) EXPECT_EQ(visited[index], index);
    }
}

TEST(Sweep, NoneIsDone) {
    EXPECT_TRUE(Sweep().done());
    EXPECT_TRUE(Sweep(0).done());
    EXPECT_FALSE(Sweep(1).done());
}

TEST(EvenOrder, HasEachPlaceOnceAndInEachBeginningAnEvenPart) {
    EXPECT_TRUE(EvenOrder().done());
    std::vector<uint64_t> counts{0, 1, 2, 3, 4, 5, 6, 7, 8, 97, 1'000, 1'024, 10'000, 65'536};
    Random random(11);
    for (int i = 0; i < 50; ++i) counts.push_back(random.between(20, 5'000));
    for (const uint64_t count : counts) {
        EvenOrder order(count);
        std::vector<uint32_t> visits(count);
        std::array<uint64_t, 10> blocks{};
        for (uint64_t taken = 1; taken <= count; ++taken) {
            ASSERT_FALSE(order.done()) << count;
            const uint64_t place = order.next();
            ASSERT_LT(place, count);
            ++visits[place];
            ++blocks[place * 10 / count];
            if (count < 100) continue;
            for (const uint64_t block : blocks)
                ASSERT_NEAR(static_cast<double>(block), static_cast<double>(taken) / 10, 5)
                    << taken << " of " << count;
        }
        EXPECT_TRUE(order.done());
        EXPECT_EQ(std::ranges::count(visits, 1u), static_cast<std::ptrdiff_t>(count));
    }
}

}  // namespace
}  // namespace pulse::test
