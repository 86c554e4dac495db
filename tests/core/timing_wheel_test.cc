// The timing wheel against tables, oracles and every case of a tiny world, and against each bug
// that other wheels shipped.
#include "core/timing_wheel.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

#include "core/deadline_sweep.h"
#include "core/random.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

struct TestRecord {
    uint32_t heard = 0;
    uint16_t armed = 0;
    uint16_t unused = 0;
};

constexpr uint32_t kNoBudgetLimit = UINT32_MAX;

// A wheel with its records and, beside it, what each place was promised: the oracle. A look before
// the deadline is answered by arming it again, as the heartbeat policy does; a look at it fires.
template <WheelGeometry kGeometry>
struct Rig {
    HeapPages pages;
    std::vector<TestRecord> records;
    TimingWheel<TestRecord, kGeometry> wheel;
    std::vector<Tick> deadlines;
    std::multimap<Tick, Index> oracle;
    Tick reached;
    uint64_t early_looks = 0;

    Rig(uint32_t limit, Tick start)
        : records(limit),
          wheel(pages, records.data(), limit, start),
          deadlines(limit, kNoTick),
          reached(start == 0 ? 0 : start - 1) {
        EXPECT_TRUE(wheel.ok());
    }

    // The deadline moves, earlier or later. One in the past is promised for the next tick.
    void set(Index index, Tick when) {
        forget(index);
        when = std::max(when, wheel.cursor());
        deadlines[index] = when;
        oracle.emplace(when, index);
        wheel.arm(index, when);
    }
    void forget(Index index) {
        if (deadlines[index] == kNoTick) return;
        auto [entry, end] = oracle.equal_range(deadlines[index]);
        while (entry->second != index) ++entry;
        oracle.erase(entry);
        deadlines[index] = kNoTick;
    }
    // Looks at everything due by `to`, `slice` entries at a time; the places that fired.
    std::vector<Index> advance(Tick to, uint32_t slice = kNoBudgetLimit) {
        std::vector<Index> fired;
        reached = to;
        for (;;) {
            uint32_t budget = slice;
            const Tick before = wheel.cursor();
            Index index;
            while ((index = wheel.pop_due(to, budget)) != kNoIndex) look(index, fired);
            EXPECT_GE(wheel.cursor(), before);
            if (budget > 0) break;
        }
        EXPECT_GT(wheel.next_work(), to);
        return fired;
    }
    void look(Index index, std::vector<Index>& fired) {
        const Tick deadline = deadlines[index];
        if (deadline == kNoTick) return;
        if (deadline > reached) {
            ++early_looks;
            wheel.arm(index, deadline);
            return;
        }
        forget(index);
        fired.push_back(index);
    }
    // Fires everything due by `to` and compares it with what the oracle says.
    void advance_and_compare(Tick to, uint32_t slice = kNoBudgetLimit) {
        std::multiset<Index> expected;
        for (auto entry = oracle.begin(); entry != oracle.end() && entry->first <= to; ++entry) {
            expected.insert(entry->second);
        }
        const std::vector<Index> fired = advance(to, slice);
        ASSERT_EQ(std::multiset<Index>(fired.begin(), fired.end()), expected) << "at tick " << to;
    }
    void validate() {
        wheel.validate([&](Index index) { return deadlines[index]; });
    }
};

using Tiny = Rig<WheelGeometry{.slots_log2 = 3, .upper_slots_log2 = 2}>;
using Small = Rig<WheelGeometry{.slots_log2 = 6, .upper_slots_log2 = 4}>;
using Middle = Rig<WheelGeometry{.slots_log2 = 8, .upper_slots_log2 = 6}>;
using Full = Rig<WheelGeometry{}>;

TEST(TimingWheel, FiresAtItsTickAndNotBefore) {
    Full rig(4, 1000);
    rig.set(0, 1000);
    rig.set(1, 1001);
    rig.set(2, 1500);
    EXPECT_EQ(rig.wheel.next_work(), 1000u);
    EXPECT_EQ(rig.advance(1000), std::vector<Index>{0});
    EXPECT_EQ(rig.wheel.next_work(), 1001u);
    EXPECT_EQ(rig.advance(1499), std::vector<Index>{1});
    EXPECT_EQ(rig.wheel.next_work(), 1500u);
    EXPECT_EQ(rig.advance(1500), std::vector<Index>{2});
    EXPECT_EQ(rig.wheel.next_work(), kNoTick);
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

TEST(TimingWheel, TickZeroIsATickLikeAnyOther) {
    Full rig(2, 0);
    rig.set(0, 0);
    EXPECT_EQ(rig.wheel.next_work(), 0u);
    EXPECT_EQ(rig.advance(0), std::vector<Index>{0});
}

TEST(TimingWheel, APastDeadlineFiresAtTheNextTick) {
    Full rig(2, 1000);
    rig.advance(2000);
    rig.set(0, 5);
    EXPECT_EQ(rig.wheel.next_work(), 2001u);
    EXPECT_EQ(rig.advance(2001), std::vector<Index>{0});
}

TEST(TimingWheel, ALaterDeadlineLeavesTheEntryWhereItIs) {
    Full rig(1, 0);
    rig.set(0, 100);
    rig.set(0, 300);
    EXPECT_EQ(rig.wheel.entries(), 1u);
    EXPECT_TRUE(rig.advance(299).empty());
    EXPECT_EQ(rig.early_looks, 1u);
    EXPECT_EQ(rig.advance(300), std::vector<Index>{0});
}

TEST(TimingWheel, AnEarlierDeadlineLeavesAStaleEntryThatErasesItself) {
    Full rig(1, 0);
    rig.set(0, 300);
    rig.set(0, 100);
    EXPECT_EQ(rig.wheel.entries(), 2u);
    EXPECT_EQ(rig.advance(100), std::vector<Index>{0});
    EXPECT_EQ(rig.wheel.entries(), 1u);
    EXPECT_TRUE(rig.advance(300).empty());
    EXPECT_EQ(rig.early_looks, 0u);
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

// I3: a stale entry is not a look, not even when its place has a valid entry elsewhere.
TEST(TimingWheel, AStaleEntryOfAnIndexThatIsArmedElsewhereIsNotALook) {
    Full rig(1, 0);
    rig.wheel.arm(0, 300);
    rig.wheel.arm(0, 100);
    uint32_t budget = kNoBudgetLimit;
    ASSERT_EQ(rig.wheel.pop_due(100, budget), 0u);
    rig.wheel.arm(0, 400);
    EXPECT_EQ(rig.wheel.entries(), 2u);
    EXPECT_EQ(rig.wheel.pop_due(399, budget), kNoIndex);
    EXPECT_EQ(rig.wheel.entries(), 1u);
    EXPECT_EQ(rig.wheel.pop_due(400, budget), 0u);
}

TEST(TimingWheel, EntriesOfTheUpperLevelAreCountedUntilTheyAreMoved) {
    Rig<WheelGeometry{.slots_log2 = 6, .upper_slots_log2 = 4}> rig(2, 0);
    rig.set(0, 10);
    EXPECT_EQ(rig.wheel.upper_entries(), 0u);
    rig.set(1, 200);
    EXPECT_EQ(rig.wheel.upper_entries(), 1u);
    EXPECT_EQ(rig.wheel.entries(), 2u);
    EXPECT_EQ(rig.advance(10), std::vector<Index>{0});
    EXPECT_EQ(rig.wheel.upper_entries(), 1u);
    EXPECT_EQ(rig.advance(200), std::vector<Index>{1});
    EXPECT_EQ(rig.wheel.upper_entries(), 0u);
}

// A level of 64 slots has a slot a sector, one of 16 leaves the others empty.
TEST(TimingWheel, RingsShowWhereEntriesLieUntilTheyAreHandedOut) {
    Small rig(40, 0);
    for (Index index = 0; index < 30; ++index) rig.set(index, 10);
    rig.set(30, 11);
    rig.set(31, 200);  // level 1, period 6 of 32 ticks
    WheelRings rings = rig.wheel.rings();
    EXPECT_EQ(rings.lower[10], 30u);
    EXPECT_EQ(rings.lower[11], 1u);
    EXPECT_EQ(rings.upper[6], 1u);
    std::vector<Index> fired;
    uint32_t budget = 7;  // in the middle of a chain, and of a chunk
    rig.reached = 10;
    for (Index index; (index = rig.wheel.pop_due(10, budget)) != kNoIndex;) rig.look(index, fired);
    EXPECT_EQ(fired.size(), 7u);
    rings = rig.wheel.rings();
    EXPECT_EQ(rings.lower[10], 23u);
    EXPECT_EQ(rings.cursor, 11u);
    rig.validate();
    rig.advance(11);
    rings = rig.wheel.rings();
    EXPECT_EQ(rings.lower[10] + rings.lower[11], 0u);
    EXPECT_EQ(rings.upper[6], 1u);
    rings += WheelRings{};
    EXPECT_EQ(rings.cursor, 12u) << "what is of no wheel changes nothing";
    WheelRings sum;
    sum += WheelRings{.lower = {1}, .upper = {}, .cursor = 9, .tick = 4};
    sum += WheelRings{.lower = {2}, .upper = {}, .cursor = 7, .tick = 4};
    EXPECT_EQ(sum.lower[0], 3u);
    EXPECT_EQ(sum.cursor, 7u) << "the earliest";
}

TEST(TimingWheel, ANewOwnerAdoptsTheEntryOfThePlace) {
    Full rig(1, 0);
    rig.set(0, 100);
    rig.forget(0);    // the owner goes
    rig.set(0, 250);  // the next one comes
    EXPECT_EQ(rig.wheel.entries(), 1u);
    rig.validate();
    EXPECT_EQ(rig.advance(250), std::vector<Index>{0});
}

TEST(TimingWheel, AFreePlaceIsHandedOutOnceAndForgotten) {
    Full rig(1, 0);
    rig.set(0, 10);
    rig.forget(0);
    uint32_t budget = 10;
    EXPECT_EQ(rig.wheel.pop_due(20, budget), 0u);
    EXPECT_EQ(rig.wheel.pop_due(20, budget), kNoIndex);
    EXPECT_EQ(rig.records[0].armed, 0);
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

TEST(TimingWheel, ABudgetStopsInTheMiddleOfAChunkAndGoesOnThere) {
    Full rig(100'000, 0);
    for (Index index = 0; index < 50; ++index) rig.set(index, 7);
    std::set<Index> seen;
    for (int slice = 0; slice < 50; ++slice) {
        uint32_t budget = 1;
        const Index index = rig.wheel.pop_due(7, budget);
        ASSERT_NE(index, kNoIndex);
        EXPECT_EQ(budget, 0u);
        EXPECT_TRUE(seen.insert(index).second);
        rig.forget(index);
        EXPECT_EQ(rig.wheel.pop_due(7, budget), kNoIndex);
        EXPECT_TRUE(slice == 49 || rig.wheel.next_work() <= 7u);
        rig.validate();
    }
    EXPECT_EQ(rig.wheel.next_work(), kNoTick);
}

// I7: what is stale costs its share too, or a tick full of it would be a long one.
TEST(TimingWheel, StaleEntriesAreCountedInTheBudget) {
    Full rig(100, 0);
    for (Index index = 0; index < 100; ++index) {
        rig.set(index, 300);
        rig.set(index, 100);
    }
    EXPECT_EQ(rig.advance(100).size(), 100u);
    for (uint32_t left = 100; left > 0; left -= 10) {
        EXPECT_EQ(rig.wheel.entries(), left);
        EXPECT_LE(rig.wheel.next_work(), 300u);
        uint32_t budget = 10;
        EXPECT_EQ(rig.wheel.pop_due(300, budget), kNoIndex);
        EXPECT_EQ(budget, 0u);
    }
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

TEST(TimingWheel, WithoutABudgetNothingMoves) {
    Full rig(10, 0);
    rig.set(3, 7);
    uint32_t budget = 0;
    EXPECT_EQ(rig.wheel.pop_due(7, budget), kNoIndex);
    EXPECT_LE(rig.wheel.next_work(), 7u);
    rig.validate();
    EXPECT_EQ(rig.advance(7), std::vector<Index>{3});
}

TEST(TimingWheel, ArmingThePlaceInServiceForTheSameTickComesUpAtTheNext) {
    Full rig(10, 100);
    rig.set(0, 100);
    uint32_t budget = 10;
    ASSERT_EQ(rig.wheel.pop_due(100, budget), 0u);
    rig.wheel.arm(0, 100);
    EXPECT_EQ(rig.wheel.pop_due(100, budget), kNoIndex);
    EXPECT_EQ(rig.wheel.pop_due(101, budget), 0u);
}

TEST(TimingWheel, ArmingAPlaceThatIsLaterInTheSamePassAddsNothing) {
    Full rig(10, 100);
    rig.set(0, 100);
    rig.set(1, 100);
    uint32_t budget = 10;
    const Index first = rig.wheel.pop_due(100, budget);
    const Index second = 1 - first;
    rig.wheel.arm(second, 500);
    EXPECT_EQ(rig.wheel.entries(), 1u);
    EXPECT_EQ(rig.wheel.pop_due(100, budget), second);
}

// Two chunks of a slot of level 1, moved at 74 and at 85. While the first is in service, a place of
// the second is wanted sooner than its chunk would come.
TEST(TimingWheel, APlaceWhoseSlotIsBeingMovedCanStillBeWantedSooner) {
    Small rig(8, 0);
    for (Index index = 0; index < 8; ++index) rig.set(index, 100);
    EXPECT_TRUE(rig.advance(73).empty());
    EXPECT_EQ(rig.early_looks, 0u);
    uint32_t budget = 1;
    std::vector<Index> fired;
    rig.reached = 74;
    const Index moved = rig.wheel.pop_due(74, budget);
    ASSERT_NE(moved, kNoIndex);
    rig.look(moved, fired);
    const Index sooner = (moved + 4) % 8;
    rig.set(sooner, 76);
    rig.validate();
    EXPECT_TRUE(rig.advance(75).empty());
    EXPECT_EQ(rig.advance(76), std::vector<Index>{sooner});
    EXPECT_TRUE(rig.advance(99).empty());
    EXPECT_EQ(rig.advance(100).size(), 7u);
}

// Every delay from every instant of a two-level wheel, with every way to get there: at once, tick
// by tick, and by jumps that overshoot.
TEST(TimingWheel, EveryDelayFromEveryInstantOfATinyWorld) {
    for (Tick start = 0; start < 40; ++start) {
        for (Tick delay = 0; delay < 80; ++delay) {
            for (Tick step : {Tick{1}, Tick{3}, Tick{9}, Tick{100}}) {
                Tiny rig(1, start);
                rig.set(0, start + delay);
                rig.validate();
                Tick fired_at = kNoTick;
                for (Tick tick = start; fired_at == kNoTick && tick < start + 300; tick += step) {
                    ASSERT_LE(rig.wheel.next_work(), std::max(start + delay, rig.wheel.cursor()));
                    if (!rig.advance(tick).empty()) fired_at = tick;
                    rig.validate();
                }
                const Tick due = start + (delay + step - 1) / step * step;
                ASSERT_EQ(fired_at, due) << start << " + " << delay << " by " << step;
            }
        }
    }
}

// Sleeping until next_work() and no longer never makes anything late, and never wakes for nothing
// more often than the moves from level 1 explain.
TEST(TimingWheel, SleepingUntilNextWorkIsNeverLate) {
    for (Tick start : {Tick{0}, Tick{5}, Tick{1} << 20}) {
        for (Tick delay = 0; delay < 500; ++delay) {
            Small rig(1, start);
            rig.set(0, start + delay);
            int wakes = 0;
            while (!rig.oracle.empty()) {
                const Tick wake = rig.wheel.next_work();
                ASSERT_LE(wake, start + delay);
                const auto fired = rig.advance(wake);
                ASSERT_TRUE(fired.empty() || wake == start + delay);
                ASSERT_LE(++wakes, 2);
            }
        }
    }
}

template <class R>
void random_run(uint64_t seed, Tick start, uint32_t limit, Tick reach, uint64_t operations) {
    Random random(seed);
    R rig(limit, start);
    Tick now = start;
    for (uint64_t operation = 0; operation < operations; ++operation) {
        const Index index = static_cast<Index>(random.below(limit));
        switch (random.below(10)) {
            case 0:
                rig.forget(index);
                break;
            case 1:
                rig.set(index, random.chance(1, 2) ? now : (now > 50 ? now - random.below(50) : 0));
                break;
            case 2: {
                now += random.chance(1, 50) ? random.below(reach * 3) : random.below(8);
                const auto slice =
                    static_cast<uint32_t>(random.chance(1, 2) ? 1 + random.below(7) : 1'000'000);
                ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(now, slice)) << "seed " << seed;
                break;
            }
            default:
                rig.set(index, now + random.below(reach) / (1 + random.below(16)));
                break;
        }
        if (operation % 64 == 0) rig.validate();
    }
    now += reach * 20;
    ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(now));
    EXPECT_TRUE(rig.oracle.empty());
    rig.validate();
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

TEST(TimingWheel, AgreesWithAMultimapOverRandomOperations) {
    const Tick starts[] = {0,
                           1,
                           (Tick{1} << 31) - 100,
                           (Tick{1} << 32) - 100,
                           (Tick{1} << 24) - 100,
                           (Tick{1} << 36) - 7};
    uint64_t seed = 1;
    for (const Tick start : starts) {
        for (int repeat = 0; repeat < 3; ++repeat) {
            random_run<Tiny>(seed++, start, 5, 60, test::scaled(150'000));
            random_run<Small>(seed++, start, 40, 1'500, test::scaled(150'000));
            random_run<Middle>(seed++, start, 300, 20'000, test::scaled(150'000));
        }
        random_run<Full>(seed++, start, 500, Tick{1} << 15, test::scaled(10'000));
    }
}

TEST(TimingWheel, AgreesWithAMultimapInBigChunks) {
    random_run<Small>(99, 12345, 70'000, 1'500, test::scaled(20'000));
    Rig<WheelGeometry{.slots_log2 = 4, .upper_slots_log2 = 3}> rig(70'000, 0);
    Random random(5);
    Tick now = 0;
    for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < 3'000; ++i) {
            rig.set(static_cast<Index>(random.below(70'000)), now + random.below(100));
        }
        now += random.below(9);
        ASSERT_NO_FATAL_FAILURE(
            rig.advance_and_compare(now, 1 + static_cast<uint32_t>(random.below(50))));
    }
    rig.validate();
}

// The auditor is another algorithm over the same deadlines: no slots, no entries, no laziness.
TEST(TimingWheel, AgreesWithTheSweep) {
    constexpr uint32_t kLimit = 1'000;
    constexpr uint32_t kAbsent = UINT32_MAX;
    Middle rig(kLimit, 0);
    std::vector<uint32_t> dense(kLimit, kAbsent);
    Random random(17);
    Tick now = 0;
    for (uint64_t round = 0; round < test::scaled(20'000); ++round) {
        const auto index = static_cast<Index>(random.below(kLimit));
        const Tick when = now + 1 + random.below(3'000);
        rig.set(index, when);
        dense[index] = static_cast<uint32_t>(when);
        if (!random.chance(1, 4)) continue;
        now += random.below(20);
        std::set<Index> swept;
        sweep_due(dense, static_cast<uint32_t>(now), kAbsent,
                  [&](Index due) { swept.insert(due); });
        for (const Index due : swept) dense[due] = kAbsent;
        const std::vector<Index> fired = rig.advance(now);
        ASSERT_EQ(std::set<Index>(fired.begin(), fired.end()), swept);
    }
}

TEST(TimingWheel, StaleEntriesArePurgedBeforeTheyOutgrowTheirBound) {
    constexpr uint32_t kLimit = 64;
    Full rig(kLimit, 0);
    Tick now = 0;
    Random random(3);
    // A deadline is moved from far to near and comes due, repeatedly: each round leaves
    // an entry behind.
    for (int round = 0; round < 4'000; ++round) {
        const auto index = static_cast<Index>(random.below(kLimit));
        rig.forget(index);
        rig.set(index, now + 10'000);
        rig.set(index, now + 1);
        ASSERT_LE(rig.wheel.entries(), 2 * kLimit + 64u);
        if (round % 16 == 0) rig.validate();
        ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(++now));
    }
    EXPECT_GT(rig.wheel.purges(), 10u);
    EXPECT_EQ(rig.pages.reserved_bytes(), rig.wheel.reserved_bytes());
}

// The same index, stale repeatedly in the same slot: the index alone does not tell its
// entries apart.
TEST(TimingWheel, APurgeKeepsOneEntryOfAPlaceThatStandsInASlotTwice) {
    constexpr uint32_t kLimit = 64;
    constexpr Tick kFar = 10'000;
    Full rig(kLimit, 0);
    for (Tick now = 0; now < 3'000; ++now) {
        const auto index = static_cast<Index>(now % kLimit);
        rig.set(index, now + 1);
        ASSERT_EQ(rig.advance(now + 1), std::vector<Index>{index});
        rig.set(index, kFar);  // once more, and what stood there before is good again
        ASSERT_LE(rig.wheel.entries(), 2 * kLimit + 64u);
        if (now % 16 == 0) rig.validate();
    }
    EXPECT_GT(rig.wheel.purges(), 10u);
    EXPECT_LT(rig.wheel.purges(), 60u);  // one for every `limit` stale entries, not one for each
}

TEST(TimingWheel, PurgesInTheMiddleOfAChainLoseNothing) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        Random random(seed);
        constexpr uint32_t kLimit = 200;
        Small rig(kLimit, 0);
        Tick now = 0;
        for (int round = 0; round < 300; ++round) {
            for (Index index = 0; index < kLimit; ++index) {
                rig.set(index, now + 1 + random.below(900));
                if (random.chance(1, 2)) rig.set(index, now + 1 + random.below(60));
            }
            now += random.below(6);
            std::vector<Index> fired;
            rig.reached = now;
            uint32_t budget = static_cast<uint32_t>(random.below(100));
            Index index;
            while ((index = rig.wheel.pop_due(now, budget)) != kNoIndex) {
                rig.look(index, fired);
                // Shortenings from inside a judgement, which is where a purge is least welcome.
                const auto other = static_cast<Index>(random.below(kLimit));
                rig.set(other, now + 1 + random.below(500));
                rig.set(other, now + 1 + random.below(5));
            }
            rig.validate();
        }
        EXPECT_GT(rig.wheel.purges(), 0u);
        ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(now + 100'000));
        EXPECT_TRUE(rig.oracle.empty());
    }
}

// Stale entries also pile up in the room that chunks have left, where they are not counted; then
// the purge, when it comes, finds far more entries than its bound, and must neither start another
// purge for each chain that it puts together nor lose the chain in its hands.
TEST(TimingWheel, APurgeOfMoreThanItsBoundIsOnePurge) {
    constexpr uint32_t kLimit = 1'000;
    Full rig(kLimit, 0);
    const Tick far = 10'000;
    const Tick crowd = 9;  // where all go in the end
    // Each goes to its neighbour's tick, three times over: chunks of four fill, none is added.
    for (Index nearer = 0; nearer < 4; ++nearer) {
        for (Index index = nearer; index < kLimit; ++index) rig.set(index, far + index - nearer);
    }
    EXPECT_EQ(rig.wheel.purges(), 0u);
    EXPECT_GT(rig.wheel.entries(), 3 * kLimit);
    rig.validate();
    for (Index index = 0; index < kLimit; ++index) rig.set(index, crowd);
    EXPECT_EQ(rig.wheel.purges(), 1u);
    rig.validate();
    ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(crowd));
    EXPECT_TRUE(rig.oracle.empty());
    rig.advance(far * 2);
    EXPECT_EQ(rig.wheel.entries(), 0u);
}

// What the wheel costs in bytes: chunks touched grow with entries, not with time.
TEST(TimingWheel, MemoryDoesNotGrowWithTime) {
    Middle rig(2'000, 0);
    Random random(11);
    Tick now = 0;
    size_t settled = 0;
    for (int round = 0; round < 4'000; ++round) {
        for (int i = 0; i < 20; ++i) {
            rig.set(static_cast<Index>(random.below(2'000)), now + 100 + random.below(100));
        }
        rig.advance(++now);
        if (round == 1'000) settled = rig.wheel.memory_bytes();
    }
    EXPECT_LE(rig.wheel.memory_bytes(), settled + settled / 4);
}

TEST(TimingWheel, FailsWithoutMemory) {
    HeapPages pages;
    pages.fail_after(0);
    TestRecord record;
    TimingWheel<TestRecord> wheel(pages, &record, 1, 0);
    EXPECT_FALSE(wheel.ok());
}

// --- bugs that others shipped --------------------------------------------------------------------

// tokio 8334: after 12 days short timers landed in slots that had wrapped.
TEST(OthersBugs, ShortTimersAfterFiveHundredDays) {
    Full rig(64, 0);
    Random random(8334);
    const Tick days_500 = Tick{500} * 86'400 * 119;  // 119.2 ticks a second
    Tick now = 0;
    while (now < days_500) {
        for (Index index = 0; index < 64; ++index) {
            if (rig.deadlines[index] == kNoTick) rig.set(index, now + 1 + random.below(200'000));
        }
        now += random.chance(1, 8) ? random.below(Tick{1} << 24) : random.below(20'000);
        ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(now));
        if (random.chance(1, 16)) rig.validate();
    }
    rig.set(0, now + 3);
    EXPECT_TRUE(rig.advance(now + 2).empty() || rig.deadlines[0] != kNoTick);
    EXPECT_NE(rig.deadlines[0], kNoTick);
    rig.advance(now + 3);
    EXPECT_EQ(rig.deadlines[0], kNoTick);
}

// tikv 12043: a panic at 2^36 ms.
TEST(OthersBugs, NothingHappensAtPowersOfTwo) {
    for (int power = 14; power < 50; ++power) {
        const Tick edge = Tick{1} << power;
        Full rig(8, edge - 20);
        for (Index index = 0; index < 8; ++index) rig.set(index, edge - 4 + index);
        for (Tick tick = edge - 20; tick < edge + 10; ++tick) {
            ASSERT_NO_FATAL_FAILURE(rig.advance_and_compare(tick));
        }
        EXPECT_TRUE(rig.oracle.empty());
    }
}

// glommio 44: the next expiry ignored timers that waited for a cascade, 100 ms late.
TEST(OthersBugs, NextWorkKnowsOfTheUpperLevel) {
    Full rig(2, 0);
    const Tick far = (Tick{1} << 14) + 777;
    rig.set(0, far);
    EXPECT_LT(rig.wheel.next_work(), far);
    while (!rig.oracle.empty()) {
        const Tick wake = rig.wheel.next_work();
        ASSERT_LE(wake, far);
        rig.advance(wake);
    }
    EXPECT_EQ(rig.reached, far);
}

// Linux 2020: the base clock moved back; the index of the last level was wrong.
TEST(OthersBugs, TheCursorNeverMovesBackAndTheLastSlotIsUsable) {
    Small rig(4, 1'000'000);
    rig.advance(1'000'500);
    const Tick cursor = rig.wheel.cursor();
    uint32_t budget = 10;
    EXPECT_EQ(rig.wheel.pop_due(1'000'100, budget), kNoIndex);
    EXPECT_EQ(rig.wheel.cursor(), cursor);
    for (Tick delay : {62, 63, 64, 32 * 15 - 1, 32 * 15, 32 * 15 + 1, 32 * 16, 32 * 17}) {
        Small other(1, 0);
        other.set(0, delay);
        other.validate();
        EXPECT_TRUE(other.advance(delay - 1).empty()) << delay;
        EXPECT_EQ(other.advance(delay).size(), 1u) << delay;
    }
}

// pingora: timers far out were never taken out again, a leak. timeout.c: a horizon of 2^24 ticks
// that wraps silently.
TEST(OthersBugs, BeyondTheHorizonIsLookedAtAgainAndFiresOnTime) {
    const Tick horizon = Tick{1} << 23;
    for (Tick delay :
         {horizon - 1, horizon, horizon + 1, horizon * 2, (Tick{1} << 24) + 5, horizon * 7}) {
        Full rig(1, 500);
        rig.set(0, 500 + delay);
        EXPECT_TRUE(rig.advance(500 + delay - 1).empty()) << delay;
        EXPECT_EQ(rig.wheel.entries(), 1u);
        EXPECT_LE(rig.early_looks, 2 + 2 * (delay / (horizon - (Tick{1} << 14))));
        EXPECT_EQ(rig.advance(500 + delay).size(), 1u) << delay;
        EXPECT_EQ(rig.wheel.entries(), 0u);
    }
}

// ratas: ticks_to_next_event walked the wheel for 6.5 ms. A million such calls would not end here.
TEST(OthersBugs, AskingForTheNextEventIsCheap) {
    Full rig(2, 0);
    rig.set(0, 16'000);
    Tick sum = 0;
    for (uint64_t i = 0; i < test::scaled(1'000'000); ++i) sum += rig.wheel.next_work();
    EXPECT_EQ(sum, test::scaled(1'000'000) * 16'000);
}

// The cascade as the worst tick of all: 100,000 entries of one period of level 1 are moved evenly.
TEST(OthersBugs, NoTickSeesACascade) {
    constexpr uint32_t kCount = 100'000;
    Full rig(kCount, 0);
    Random random(1);
    const Tick period = Tick{1} << 13;
    for (Index index = 0; index < kCount; ++index)
        rig.set(index, 5 * period + random.below(period));
    uint32_t worst = 0;
    for (Tick tick = 0; tick < 6 * period; ++tick) {
        uint32_t budget = kNoBudgetLimit;
        std::vector<Index> fired;
        rig.reached = tick;
        Index index;
        while ((index = rig.wheel.pop_due(tick, budget)) != kNoIndex) rig.look(index, fired);
        worst = std::max(worst, kNoBudgetLimit - budget);
    }
    EXPECT_TRUE(rig.oracle.empty());
    // 100,000 / 8,192 is 12.2 an even tick, in chunks of 20.
    EXPECT_LE(worst, 64u);
}

}  // namespace
}  // namespace pulse
