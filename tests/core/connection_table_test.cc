// The connection table against tables, an oracle of standard containers, a real kernel's pages, and
// together with the wheel whose entries outlive its owners.
#include "core/connection_table.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <span>
#include <vector>

#include "core/random.h"
#include "core/timing_wheel.h"
#include "net/io/mapped_pages.h"

#include "tests/support/scale.h"

namespace pulse {
namespace {

constexpr uint32_t kChunk = kTableChunkRecords;
constexpr size_t kChunkBytes = kChunk * sizeof(Connection);

uint64_t key(ConnectionId id) { return uint64_t{id.generation} << 32 | id.index; }

// Remembers what was discarded, so that a test knows which places start anew.
class WatchedPages final : public PageSource {
  public:
    std::byte* reserve(size_t bytes) override { return heap_.reserve(bytes); }
    void release(std::byte* start, size_t bytes) override { heap_.release(start, bytes); }
    void discard(std::byte* start, size_t bytes) override {
        heap_.discard(start, bytes);
        discarded.emplace_back(start, bytes);
    }
    std::vector<std::span<std::byte>> discarded;

  private:
    HeapPages heap_;
};

std::vector<Index> take_many(ConnectionTable& table, uint32_t count) {
    std::vector<Index> taken;
    for (uint32_t i = 0; i < count; ++i) taken.push_back(table.take());
    return taken;
}

// --------------------------------------------------------------------------------------- tables

TEST(ConnectionTable, ANewConnectionIsZeroedButForItsIdentity) {
    HeapPages pages;
    ConnectionTable table(pages, 10);
    const Index index = table.take();
    std::memset(static_cast<void*>(&table[index]), 0xa5, sizeof(Connection));
    table.release(index);
    ASSERT_EQ(table.take(), index);
    Connection expected{};
    expected.armed = 0xa5a5;
    expected.generation = 0xa5a5a5a6;
    expected.descriptor = -1;
    expected.stage = Stage::detect;
    EXPECT_EQ(std::memcmp(&table[index], &expected, sizeof expected), 0);
}

TEST(ConnectionTable, AnIdIsGoodFromTakeToRelease) {
    HeapPages pages;
    ConnectionTable table(pages, 3);
    EXPECT_EQ(table.find({0, 0}), nullptr);  // never was
    const ConnectionId first = table.id(table.take());
    EXPECT_EQ(table.find(first), &table[first.index]);
    EXPECT_EQ(table.find({first.index, first.generation + 1}), nullptr);
    EXPECT_EQ(table.find({1, first.generation}), nullptr);  // free place
    EXPECT_EQ(table.find({3, 0}), nullptr);                 // no place
    EXPECT_EQ(table.find({}), nullptr);
    table.release(first.index);
    EXPECT_EQ(table.find(first), nullptr);
    EXPECT_EQ(table.find({first.index, first.generation + 1}), nullptr);  // not yet
    const ConnectionId second = table.id(table.take());
    EXPECT_EQ(second.index, first.index);
    EXPECT_EQ(table.find(first), nullptr);
    EXPECT_EQ(table.find(second), &table[first.index]);
}

TEST(ConnectionTable, HoldsItsLimitAndNotOneMore) {
    for (const uint32_t limit : {1u, 2u, 63u, kChunk - 1, kChunk, kChunk + 1, 2 * kChunk + 77}) {
        HeapPages pages;
        ConnectionTable table(pages, limit);
        ASSERT_TRUE(table.ok());
        for (int round = 0; round < 2; ++round) {
            std::vector<Index> taken = take_many(table, limit);
            EXPECT_EQ(table.live(), limit);
            EXPECT_EQ(table.take(), kNoIndex) << limit;
            EXPECT_EQ(table.live(), limit);
            table.validate();
            std::sort(taken.begin(), taken.end());
            for (uint32_t i = 0; i < limit; ++i) ASSERT_EQ(taken[i], i);
            for (const Index index : taken) table.release(index);
            EXPECT_EQ(table.live(), 0u);
            table.validate();
        }
    }
}

TEST(ConnectionTable, ARecordIsWhereItsIndexSays) {
    HeapPages pages;
    ConnectionTable table(pages, 2 * kChunk);
    Connection* const base = table.records();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(base) % kConnectionBytes, 0u);
    for (uint32_t i = 0; i < 2 * kChunk; ++i) {
        const Index index = table.take();
        ASSERT_EQ(&table[index], base + index);
    }
    EXPECT_EQ(table.records(), base);
}

TEST(ConnectionTable, TheWheelsMarkOutlivesTheOwner) {
    HeapPages pages;
    ConnectionTable table(pages, 4);
    const Index index = table.take();
    EXPECT_EQ(table[index].armed, 0);
    table[index].armed = 0x8123;
    table.release(index);
    EXPECT_EQ(table.records()[index].armed, 0x8123);
    ASSERT_EQ(table.take(), index);
    EXPECT_EQ(table[index].armed, 0x8123);
}

TEST(ConnectionTable, FailsWithoutMemory) {
    HeapPages pages;
    pages.fail_after(0);
    {
        ConnectionTable table(pages, 100);
        EXPECT_FALSE(table.ok());
    }
    EXPECT_EQ(pages.reserved_bytes(), 0u);
    pages.fail_after(1);
    ConnectionTable table(pages, 100);
    EXPECT_TRUE(table.ok());
    EXPECT_EQ(pages.reserved_bytes(), table.reserved_bytes());
}

TEST(ConnectionTable, GivesItsReservationBackInTheEnd) {
    HeapPages pages;
    {
        ConnectionTable table(pages, 2 * kChunk);
        take_many(table, kChunk + 1);
    }
    EXPECT_EQ(pages.reserved_bytes(), 0u);
}

TEST(ConnectionTableDeathTest, ReleasingAFreeRecordAborts) {
    HeapPages pages;
    ConnectionTable table(pages, 4);
    const Index index = table.take();
    table.release(index);
    EXPECT_DEATH(table.release(index), "Stage::free");
    EXPECT_DEATH(table.release(3), "Stage::free");
    EXPECT_DEATH(table.release(4), "index < limit_");
}

// -------------------------------------------------------------------------------- giving it back

TEST(ConnectionTable, AfterAPeakAllButOneEmptyChunkIsGivenBack) {
    HeapPages pages;
    ConnectionTable table(pages, 5 * kChunk);
    EXPECT_EQ(table.backed_bytes(), 0u);
    const std::vector<Index> taken = take_many(table, 5 * kChunk);
    EXPECT_EQ(table.backed_bytes(), 5 * kChunkBytes);
    // The newest go first: 4 is kept when it empties, then 3 is kept in its place, and so on.
    for (uint32_t left = 5; left-- > 1;) {
        for (Index index = (left + 1) * kChunk; index-- > left * kChunk;) table.release(index);
        EXPECT_EQ(table.backed_bytes(), (left + 1) * kChunkBytes);
        EXPECT_EQ(pages.discarded_bytes(), (4 - left) * kChunkBytes);
        table.validate();
    }
    // Emptied or not, the lowest is the one that stays.
    for (Index index = 0; index < kChunk; ++index) table.release(index);
    EXPECT_EQ(table.backed_bytes(), kChunkBytes);
    EXPECT_EQ(pages.discarded_bytes(), 4 * kChunkBytes);
    table.validate();
    EXPECT_LT(table.take(), kChunk);
    EXPECT_EQ(pages.discarded_bytes(), 4 * kChunkBytes);
}

TEST(ConnectionTable, TheHigherOfTwoEmptyChunksGoesInWhicheverOrderTheyEmpty) {
    for (const bool higher_first : {false, true}) {
        WatchedPages pages;
        ConnectionTable table(pages, 3 * kChunk);
        take_many(table, 3 * kChunk);
        for (Index index = 0; index < kChunk; ++index) {
            table.release((higher_first ? 2 : 1) * kChunk + index);
        }
        EXPECT_TRUE(pages.discarded.empty());
        for (Index index = 0; index < kChunk; ++index) {
            table.release((higher_first ? 1 : 2) * kChunk + index);
        }
        ASSERT_EQ(pages.discarded.size(), 1u);
        EXPECT_EQ(pages.discarded[0].data(),
                  reinterpret_cast<std::byte*>(table.records() + 2 * kChunk));
        EXPECT_EQ(pages.discarded[0].size(), kChunkBytes);
        table.validate();
        EXPECT_EQ(table.take() / kChunk, 1u);
    }
}

TEST(ConnectionTable, CrossingAChunksEdgeRepeatedlyGivesNothingBack) {
    HeapPages pages;
    ConnectionTable table(pages, 3 * kChunk);
    take_many(table, 2 * kChunk);
    for (int round = 0; round < 1'000; ++round) {
        const std::vector<Index> over = take_many(table, 3);
        for (const Index index : over) ASSERT_EQ(index / kChunk, 2u);
        for (const Index index : over) table.release(index);
    }
    EXPECT_EQ(pages.discarded_bytes(), 0u);
    EXPECT_EQ(table.backed_bytes(), 2 * kChunkBytes + 3 * sizeof(Connection));
    table.validate();
}

// One touched record may have backed the whole chunk with one huge page: it must go whole.
TEST(ConnectionTable, OfAChunkGivenBackNothingStaysInMemory) {
    MappedPages pages;
    const uint32_t tail = 100;  // the last chunk is not whole
    ConnectionTable table(pages, 3 * kChunk + tail);
    take_many(table, 2 * kChunk + 10);
    for (Index index = 2 * kChunk; index < 2 * kChunk + 10; ++index) table.release(index);
    for (Index index = kChunk; index < 2 * kChunk; ++index) table.release(index);
    EXPECT_EQ(table.backed_bytes(), 2 * kChunkBytes);
    std::vector<unsigned char> resident(kChunkBytes / 4096);
    ASSERT_EQ(mincore(table.records() + 2 * kChunk, kChunkBytes, resident.data()), 0);
    EXPECT_EQ(std::count(resident.begin(), resident.end(), 0),
              static_cast<ptrdiff_t>(resident.size()));

    take_many(table, 2 * kChunk + tail);
    EXPECT_EQ(table.take(), kNoIndex);
    for (Index index = kChunk; index < table.limit(); ++index) table.release(index);
    table.validate();
    EXPECT_EQ(table.backed_bytes(), 2 * kChunkBytes);
}

TEST(ConnectionTable, GenerationsNeverRepeatThoughTheRecordsThatHeldThemAreGone) {
    WatchedPages pages;
    constexpr uint32_t kLimit = 3 * kChunk;
    ConnectionTable table(pages, kLimit);
    std::set<uint64_t> seen;
    for (int round = 0; round < 4; ++round) {
        for (const Index index : take_many(table, kLimit)) {
            ASSERT_TRUE(seen.insert(key(table.id(index))).second) << index;
        }
        // Some places are used more often than others before all is given back.
        for (Index index = 0; index < kLimit; index += 1'000) {
            for (int again = 0; again < 5; ++again) {
                table.release(index);
                ASSERT_EQ(table.take(), index);
                ASSERT_TRUE(seen.insert(key(table.id(index))).second) << index;
            }
        }
        for (Index index = kLimit; index-- > 0;) table.release(index);
        EXPECT_EQ(pages.discarded.size(), 2u * (round + 1));
        for (const uint64_t id : {*seen.begin(), *seen.rbegin()}) {
            EXPECT_EQ(table.find({static_cast<Index>(id), static_cast<uint32_t>(id >> 32)}),
                      nullptr);
        }
    }
}

// A generation that has gone round is still above the one before it.
TEST(ConnectionTable, GenerationsGoRound) {
    HeapPages pages;
    ConnectionTable table(pages, 2 * kChunk);
    take_many(table, kChunk + 1);
    const Index last = kChunk;
    for (const uint32_t generation : {0x7000'0000u, 0xe000'0000u, 0xffff'ffffu}) {
        table[last].generation = generation;  // as if the place had had so many owners
        table.release(last);
        ASSERT_EQ(table.take(), last);
        EXPECT_EQ(table[last].generation, generation + 1);
    }
    table.release(last);
    for (Index index = 0; index < kChunk; ++index) table.release(index);
    ASSERT_EQ(pages.discarded_bytes(), kChunkBytes);
    take_many(table, kChunk);
    ASSERT_EQ(table.take(), last);
    EXPECT_EQ(table[last].generation, 1u);
}

// ---------------------------------------------------------------------------------- the oracle

struct Model {
    std::vector<uint32_t> generation;  // of the owner of each place
    std::vector<bool> taken;
    std::vector<Index> live;  // in no order
    std::vector<uint32_t> chunk_live;
    std::set<uint64_t> seen;

    explicit Model(uint32_t limit)
        : generation(limit), taken(limit), chunk_live((limit + kChunk - 1) / kChunk) {}
    uint32_t lowest_chunk_with_room() const {
        for (uint32_t chunk = 0;; ++chunk) {
            const size_t capacity = std::min<size_t>(kChunk, taken.size() - size_t{chunk} * kChunk);
            if (chunk_live[chunk] < capacity) return chunk;
        }
    }
    void take(ConnectionId id) {
        ASSERT_FALSE(taken[id.index]);
        ASSERT_EQ(id.index / kChunk, lowest_chunk_with_room());
        ASSERT_TRUE(seen.insert(key(id)).second) << "an id was made twice";
        generation[id.index] = id.generation;
        taken[id.index] = true;
        live.push_back(id.index);
        ++chunk_live[id.index / kChunk];
    }
    Index release(size_t position) {
        const Index index = live[position];
        live[position] = live.back();
        live.pop_back();
        taken[index] = false;
        --chunk_live[index / kChunk];
        return index;
    }
};

void random_run(uint64_t seed, uint32_t limit, uint64_t operations) {
    Random random(seed);
    HeapPages pages;
    ConnectionTable table(pages, limit);
    Model model(limit);
    std::vector<ConnectionId> gone;
    uint64_t aim = 0;  // how many live ones the run heads for
    for (uint64_t operation = 0; operation < operations; ++operation) {
        if (model.live.size() == aim) aim = random.chance(1, 2) ? 0 : random.below(limit + 1);
        const bool towards = random.chance(9, 10);
        if ((model.live.size() < aim) == towards || operation < limit) {
            const Index index = table.take();
            if (model.live.size() == limit) {
                ASSERT_EQ(index, kNoIndex);
            } else {
                ASSERT_LT(index, limit);
                ASSERT_NO_FATAL_FAILURE(model.take(table.id(index)));
                ASSERT_EQ(table[index].user, 0u);
                ASSERT_EQ(table[index].stage, Stage::detect);
                table[index].user = index * 7 + 1;
            }
        } else if (!model.live.empty()) {
            // Mostly the youngest, as a storm leaves them, so that whole chunks empty.
            const size_t count = model.live.size();
            const Index index =
                model.release(random.chance(1, 4) ? random.below(count) : count - 1);
            ASSERT_EQ(table[index].user, index * 7 + 1);
            gone.push_back(table.id(index));
            table.release(index);
        }
        ASSERT_EQ(table.live(), model.live.size());
        if (!gone.empty()) {
            ASSERT_EQ(table.find(gone[random.below(gone.size())]), nullptr);
        }
        if (!model.live.empty()) {
            const Index index = model.live[random.below(model.live.size())];
            ASSERT_EQ(table.find({index, model.generation[index]}), &table[index]);
        }
        if (operation % 2'000 == 0) table.validate();
    }
    while (!model.live.empty()) table.release(model.release(model.live.size() - 1));
    table.validate();
    EXPECT_EQ(pages.discarded_bytes() > 0, limit > 2 * kChunk);
    EXPECT_LE(table.backed_bytes(), kChunkBytes);
}

TEST(ConnectionTable, AgreesWithStandardContainersOverRandomOperations) {
    const uint64_t operations = test::scaled(400'000);
    for (uint64_t seed = 1; seed <= 2; ++seed) {
        ASSERT_NO_FATAL_FAILURE(random_run(seed, 1, operations / 20)) << "seed " << seed;
        ASSERT_NO_FATAL_FAILURE(random_run(seed, 900, operations / 4)) << "seed " << seed;
        ASSERT_NO_FATAL_FAILURE(random_run(seed, 3 * kChunk + 901, 130'000 + operations))
            << "seed " << seed;
    }
}

// --------------------------------------------------------------------------- with the wheel on it

// Beside the table and the wheel: for each place whether the wheel has a valid entry for it, and
// until when its owner was promised a look.
struct WheelOnTable {
    WatchedPages pages;
    ConnectionTable table;
    TimingWheel<Connection> wheel;
    std::vector<bool> valid;
    std::vector<Tick> deadline;
    std::vector<Index> live;
    uint64_t looks = 0;
    uint64_t stale_after_discard = 0;

    WheelOnTable(uint32_t limit, Tick start)
        : table(pages, limit),
          wheel(pages, table.records(), limit, start),
          valid(limit),
          deadline(limit, kNoTick) {}

    void take(Tick when) {
        const Index index = table.take();
        if (index == kNoIndex) return;
        live.push_back(index);
        EXPECT_EQ(table[index].armed != 0, valid[index]) << index;
        arm(index, when);
    }
    void arm(Index index, Tick when) {
        deadline[index] = when;
        wheel.arm(index, when);
        valid[index] = true;
    }
    void release(size_t position) {
        const Index index = live[position];
        live[position] = live.back();
        live.pop_back();
        deadline[index] = kNoTick;
        table.release(index);
        for (const std::span<std::byte> part : pages.discarded) forget(part);
        pages.discarded.clear();
    }
    // Places that start anew: whatever entry the wheel has for them must never be looked at.
    void forget(std::span<std::byte> part) {
        const auto first =
            static_cast<Index>(reinterpret_cast<Connection*>(part.data()) - table.records());
        const size_t end = std::min<size_t>(first + part.size() / sizeof(Connection), valid.size());
        for (size_t index = first; index < end; ++index) {
            ASSERT_EQ(deadline[index], kNoTick);
            ASSERT_EQ(table.records()[index].armed, 0);
            stale_after_discard += valid[index];
            valid[index] = false;
        }
    }
    void advance(Tick to) {
        uint32_t budget = UINT32_MAX;
        Index index;
        while ((index = wheel.pop_due(to, budget)) != kNoIndex) {
            ++looks;
            ASSERT_TRUE(valid[index]) << "a stale entry of place " << index << " was looked at";
            valid[index] = false;
            if (deadline[index] == kNoTick) continue;  // a free place
            if (deadline[index] > to) {
                arm(index, deadline[index]);  // moved from level 1, or adopted from the last owner
            } else {
                deadline[index] = kNoTick;
            }
        }
        for (const Index place : live) {
            ASSERT_TRUE(deadline[place] > to)
                << "place " << place << " had no look by its deadline";
            if (deadline[place] == kNoTick) arm(place, to + 1 + place % 9'000);
        }
    }
    void validate() {
        table.validate();
        wheel.validate([&](Index index) { return deadline[index]; });
    }
};

TEST(ConnectionTable, AStaleEntryOfAPlaceThatStartsAnewIsNeverLookedAt) {
    WheelOnTable rig(3 * kChunk, 0);
    for (uint32_t i = 0; i < 3 * kChunk; ++i) rig.take(100);
    while (rig.live.size() > kChunk) ASSERT_NO_FATAL_FAILURE(rig.release(rig.live.size() - 1));
    EXPECT_EQ(rig.stale_after_discard, kChunk);  // chunk 2 is gone, chunk 1 kept
    const uint64_t entries = rig.wheel.entries();
    EXPECT_EQ(entries, 3 * kChunk);
    // New owners of chunk 2, in the very slot where stale entries of their places stand, and in
    // another: one look each, none early.
    for (uint32_t i = 0; i < kChunk; ++i) rig.take(100);
    for (uint32_t i = 0; i < 200; ++i) rig.take(i % 2 == 0 ? 100 : 300);
    EXPECT_EQ(rig.wheel.entries(), entries + 200);
    rig.validate();
    uint32_t budget = UINT32_MAX;
    std::vector<uint32_t> looks(3 * kChunk);
    for (Index index; (index = rig.wheel.pop_due(100, budget)) != kNoIndex;) ++looks[index];
    for (Index index = 0; index < 3 * kChunk; ++index) {
        const bool expected = index < 2 * kChunk || rig.deadline[index] == 100;
        ASSERT_EQ(looks[index], expected ? 1u : 0u) << index;
    }
    EXPECT_EQ(rig.wheel.entries(), 100u);
    EXPECT_EQ(rig.wheel.next_work(), 300u);
}

TEST(ConnectionTable, AndTheWheelAgreeThroughPeaksAndTroughs) {
    const uint32_t limit = 3 * kChunk + 50;
    for (uint64_t seed = 1; seed <= 2; ++seed) {
        Random random(seed);
        WheelOnTable rig(limit, (Tick{1} << 32) - 3'000);
        Tick now = rig.wheel.cursor();
        const auto pass_time = [&] {
            if (!random.chance(1, 5'000)) return;
            now += random.below(700);
            rig.advance(now);
        };
        for (uint64_t phase = 0; phase < 3 + test::scaled(9); ++phase) {
            const uint64_t peak = limit - random.below(kChunk);
            while (rig.live.size() < peak) {
                if (!rig.live.empty() && random.chance(1, 4)) {
                    ASSERT_NO_FATAL_FAILURE(rig.release(random.below(rig.live.size())));
                } else {
                    rig.take(now + 1 + random.below(random.chance(1, 8) ? 50'000 : 4'000));
                }
                ASSERT_NO_FATAL_FAILURE(pass_time());
            }
            rig.validate();
            const Index from = static_cast<Index>(random.below(2 * kChunk));  // these and up leave
            for (size_t position = rig.live.size(); position-- > 0;) {
                if (rig.live[position] < from) continue;
                ASSERT_NO_FATAL_FAILURE(rig.release(position));
                ASSERT_NO_FATAL_FAILURE(pass_time());
            }
            rig.validate();
        }
        EXPECT_GT(rig.stale_after_discard, 1'000u);
        EXPECT_GT(rig.looks, 1'000u);
    }
}

}  // namespace
}  // namespace pulse
