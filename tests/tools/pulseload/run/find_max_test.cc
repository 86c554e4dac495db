// The search finds the edge, from whichever side, and ends.
#include "tools/pulseload/run/find_max.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

namespace pulse::load {
namespace {

// Trials against a server that holds up to `edge`.
Search search_for(uint64_t edge, uint64_t first = 1'000, uint64_t most = 1'000'000) {
    Search search(first, most);
    while (const auto load = search.next()) search.took(*load <= edge);
    return search;
}

TEST(FindMax, FindsTheEdgeWithinATwentieth) {
    for (uint64_t edge = 1'000; edge < 900'000; edge = edge * 7 / 5 + 13) {
        const Search search = search_for(edge);
        EXPECT_LE(search.best(), edge);
        EXPECT_GE(search.best() * 21 / 20 + 1, edge);
        EXPECT_LE(search.trials().size(), 24u);
    }
}

TEST(FindMax, GoesBelowTheFirstTrial) {
    for (const uint64_t edge : {1u, 2u, 17u, 400u, 999u}) {
        const Search search = search_for(edge);
        EXPECT_LE(search.best(), edge);
        EXPECT_GE(search.best() + edge / 20 + 1, edge);
    }
}

TEST(FindMax, EndsIfNoLoadAndIfEveryLoadMeetsIt) {
    EXPECT_EQ(search_for(0).best(), 0u);
    EXPECT_EQ(search_for(UINT64_MAX, 1'000, 50'000).best(), 50'000u);
}

TEST(FindMax, EndsAlsoWhereTrialsContradictEachOther) {
    Search search(1'000, 1'000'000);
    int trials = 0;
    while (search.next()) search.took(trials++ % 3 != 0);
    EXPECT_LE(trials, 24);
}

TEST(FindMax, NeverGoesAboveTheCeiling) {
    Search search(1'000, 300);
    std::vector<uint64_t> loads;
    while (const auto load = search.next()) {
        loads.push_back(*load);
        search.took(true);
    }
    EXPECT_EQ(loads, (std::vector<uint64_t>{300}));
    EXPECT_EQ(search.best(), 300u);
}

TEST(FindMax, TheMajorityOfItsTriesDecidesALoad) {
    const auto decide = [](uint32_t tries, const std::vector<bool>& runs) {
        Votes votes(tries);
        for (const bool met : runs) {
            EXPECT_FALSE(votes.decided());
            votes.cast(met);
        }
        return votes.decided();
    };
    EXPECT_EQ(decide(1, {true}), true);
    EXPECT_EQ(decide(1, {false}), false);
    EXPECT_EQ(decide(3, {true, true}), true);
    EXPECT_EQ(decide(3, {true, false, true}), true);
    EXPECT_EQ(decide(3, {false, true, false}), false);
    EXPECT_EQ(decide(3, {true, false}), std::nullopt);
    EXPECT_EQ(decide(4, {true, true, false, false}), false);  // half is not more than half
}

}  // namespace
}  // namespace pulse::load
