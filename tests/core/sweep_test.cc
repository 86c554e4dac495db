// Every place is visited once, in order, whatever the slices are.
#include "core/sweep.h"

#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace pulse::test
