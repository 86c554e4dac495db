// The ring of connections that ended: what it keeps, what it pushes out, what it costs.
#include "core/sessions/ledger.h"

#include <gtest/gtest.h>

namespace pulse {
namespace {

Evidence facts_of(Index index, uint32_t generation = 0) {
    Evidence facts;
    facts.id = {index, generation};
    return facts;
}

TEST(Ledger, KeepsTheNewestAndPushesOutTheOldest) {
    for (const uint32_t limit : {1u, 2u, 63u, 64u, 65u, 200u}) {
        Ledger ledger(limit);
        for (Index index = 0; index < 500; ++index) {
            EXPECT_EQ(ledger.add(facts_of(index)), index);
            EXPECT_EQ(ledger.size(), std::min(index + 1, limit));
            EXPECT_EQ(ledger.next(), index + 1);
            EXPECT_EQ(ledger.first(), index + 1 - ledger.size());
            for (uint64_t number = ledger.first(); number < ledger.next(); ++number)
                ASSERT_EQ(ledger.find(number)->id.index, number);
            EXPECT_EQ(ledger.find(ledger.next()), nullptr);
            if (ledger.first() > 0) {
                EXPECT_EQ(ledger.find(ledger.first() - 1), nullptr);
            }
        }
    }
}

TEST(Ledger, FindsTheOwnerOfAPlaceAndNotThatOfBefore) {
    Ledger ledger(3);
    ledger.add(facts_of(7, 1));
    ledger.add(facts_of(7, 2));
    ASSERT_NE(ledger.find(ConnectionId{7, 1}), nullptr);
    EXPECT_EQ(ledger.find(ConnectionId{7, 2})->id.generation, 2u);
    EXPECT_EQ(ledger.find(ConnectionId{7, 3}), nullptr);
    ledger.add(facts_of(1));
    ledger.add(facts_of(2));
    EXPECT_EQ(ledger.find(ConnectionId{7, 1}), nullptr) << "pushed out";
}

TEST(Ledger, TakesMemoryAsItFillsAndNoMoreThanItSays) {
    Ledger ledger(10'000);
    EXPECT_EQ(ledger.memory_bytes(), 0u);
    ledger.add(facts_of(0));
    EXPECT_LT(ledger.memory_bytes(), 48u * 1'024);
    for (Index index = 0; index < 30'000; ++index) ledger.add(facts_of(index));
    const size_t most = Ledger::memory_bytes_max(10'000);
    EXPECT_LE(ledger.memory_bytes(), most);
    EXPECT_GE(ledger.memory_bytes(), most - most / 100);
    EXPECT_EQ(sizeof(Evidence), 352u) << "net/README.md names it";
}

// The ledgers of many reactors: each has a share of the entries that --ledger asks for.
TEST(Ledger, ASmallOneTakesNoMoreThanItSays) {
    for (const uint32_t limit : {1u, 63u, 64u, 189u, 1'025u, 4'097u}) {
        Ledger ledger(limit);
        for (Index index = 0; index < 3 * limit; ++index) ledger.add(facts_of(index));
        EXPECT_LE(ledger.memory_bytes(), Ledger::memory_bytes_max(limit)) << limit;
    }
    EXPECT_EQ(Ledger::memory_bytes_max(0), 0u);
}

TEST(Ledger, KeepsTheNewestWhenItsLengthChanges) {
    Ledger ledger(8);
    for (Index index = 0; index < 20; ++index) ledger.add(facts_of(index));
    ledger.resize(3);
    EXPECT_EQ(ledger.size(), 3u);
    ledger.resize(100);
    EXPECT_EQ(ledger.first(), 17u);
    EXPECT_EQ(ledger.find(16), nullptr) << "it was pushed out, though there is room again";
    EXPECT_EQ(ledger.find(ConnectionId{16, 0}), nullptr);
    ASSERT_NE(ledger.find(ConnectionId{17, 0}), nullptr);
    EXPECT_EQ(ledger.add(facts_of(20)), 20u) << "numbers go on";
    EXPECT_EQ(ledger.size(), 4u);
    ledger.resize(0);
    EXPECT_EQ(ledger.size(), 0u);
    EXPECT_EQ(ledger.find(ConnectionId{20, 0}), nullptr);
}

TEST(Ledger, OfNoEntriesKnowsNothing) {
    const Ledger ledger(0);
    EXPECT_EQ(ledger.size(), 0u);
    EXPECT_EQ(ledger.find(0), nullptr);
    EXPECT_EQ(ledger.find(ConnectionId{0, 0}), nullptr);
}

}  // namespace
}  // namespace pulse
