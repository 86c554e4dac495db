// The table of addresses beside a map, full, expiring, and under several threads at once.
#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <map>
#include <thread>
#include <vector>

#include "core/address_lists.h"
#include "core/address_table.h"
#include "core/limits.h"
#include "core/random.h"

namespace pulse {
namespace {

using Verdict = AddressTable::Verdict;

constexpr Nanos kStart = 1'000 * kSecond;
constexpr FlappingRule kRule{.ends = 3, .window = 60 * kSecond, .hold_off = 300 * kSecond};

AddressRules at_most(uint32_t connections) { return {.connections_max = connections}; }
AddressRules at_rate(uint64_t per_second, uint64_t burst) {
    return {.accepts = BucketRate({per_second, kSecond, burst})};
}
AddressRules unless_flapping() { return {.flapping = kRule}; }

TEST(AddressTable, RefusesOneConnectionTooMany) {
    HeapPages pages;
    AddressTable table(pages, 100);
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(table.enter(7, kStart, at_most(5)).verdict, Verdict::counted) << i;
    EXPECT_EQ(table.enter(7, kStart, at_most(5)).verdict, Verdict::too_many);
    EXPECT_EQ(table.enter(8, kStart, at_most(5)).verdict, Verdict::counted) << "another address";
    EXPECT_EQ(table.connections(7), 5u);
    EXPECT_EQ(table.most_connections(), 5u);
    table.leave(7);
    EXPECT_EQ(table.enter(7, kStart, at_most(5)).verdict, Verdict::counted);
    EXPECT_EQ(table.enter(7, kStart, at_most(6)).verdict, Verdict::counted) << "a reload";
    EXPECT_EQ(table.enter(0, kStart, at_most(1)).verdict, Verdict::uncounted) << "no address";
}

TEST(AddressTable, TakesABurstAndThenTheRate) {
    HeapPages pages;
    AddressTable table(pages, 100);
    const AddressRules rules = at_rate(10, 4);
    for (int i = 0; i < 4; ++i)
        EXPECT_EQ(table.enter(7, kStart, rules).verdict, Verdict::counted) << i;
    const AddressTable::Entered fifth = table.enter(7, kStart, rules);
    EXPECT_EQ(fifth.verdict, Verdict::too_fast);
    EXPECT_EQ(fifth.wait, kSecond / 10);
    EXPECT_EQ(table.connections(7), 4u) << "what is refused is not counted";
    EXPECT_EQ(table.enter(8, kStart, rules).verdict, Verdict::counted);
    // What left does not give its accept back.
    table.leave(7);
    EXPECT_EQ(table.enter(7, kStart + fifth.wait - 1, rules).verdict, Verdict::too_fast);
    EXPECT_EQ(table.enter(7, kStart + fifth.wait, rules).verdict, Verdict::counted);
}

TEST(AddressTable, HoldsOffWhatFlaps) {
    HeapPages pages;
    AddressTable table(pages, 100);
    Nanos now = kStart;
    for (uint32_t i = 0; i < kRule.ends; ++i, now += kSecond) {
        ASSERT_EQ(table.enter(7, now, unless_flapping()).verdict, Verdict::counted) << i;
        table.leave_young(7, now, kRule);
    }
    const Nanos held_from = now - kSecond;
    const AddressTable::Entered held = table.enter(7, now, unless_flapping());
    EXPECT_EQ(held.verdict, Verdict::held_off);
    EXPECT_EQ(held.wait, held_from + kRule.hold_off - now);
    EXPECT_EQ(table.enter(8, now, unless_flapping()).verdict, Verdict::counted);
    EXPECT_EQ(table.enter(7, now, at_most(5)).verdict, Verdict::counted) << "the rule is off now";
    table.leave(7);
    EXPECT_EQ(table.enter(7, held_from + kRule.hold_off, unless_flapping()).verdict,
              Verdict::counted);
}

TEST(Flaps, CountsWithinAWindowAndForgets) {
    Flaps flaps;
    flaps = flaps.ended(kStart, kRule).ended(kStart + kRule.window - kMillisecond, kRule);
    EXPECT_EQ(flaps.held_for(kStart + kRule.window), 0);
    // The window is over: a new one begins with this.
    flaps = flaps.ended(kStart + kRule.window, kRule).ended(kStart + kRule.window, kRule);
    EXPECT_EQ(flaps.held_for(kStart + kRule.window), 0);
    EXPECT_FALSE(flaps.is_over(kStart + kRule.window, kRule));
    EXPECT_TRUE(flaps.is_over(kStart + 2 * kRule.window, kRule));
    flaps = flaps.ended(kStart + kRule.window, kRule);
    EXPECT_EQ(flaps.held_for(kStart + kRule.window), kRule.hold_off);
    // Ends while it is held off change nothing, and afterwards it begins anew.
    EXPECT_EQ(flaps.ended(kStart + kRule.window + kSecond, kRule).word(), flaps.word());
    const Nanos over = kStart + kRule.window + kRule.hold_off;
    EXPECT_TRUE(flaps.is_over(over, kRule));
    EXPECT_EQ(flaps.ended(over, kRule).ended(over, kRule).held_for(over), 0);
    EXPECT_EQ(Flaps(0).ended(kStart, FlappingRule{}).word(), 0u) << "off";
    const FlappingRule once{.ends = 1, .window = kSecond, .hold_off = kSecond};
    EXPECT_EQ(Flaps(0).ended(kStart, once).held_for(kStart), kSecond);
}

TEST(AddressTable, CountsThoseWithAShare) {
    HeapPages pages;
    AddressTable table(pages, 100);
    for (int i = 0; i < 3; ++i) table.enter(7, kStart, at_most(9));
    EXPECT_EQ(table.join(7), 1u);
    EXPECT_EQ(table.join(7), 2u);
    table.part(7);
    EXPECT_EQ(table.join(7), 2u);
}

// Addresses with connections are never forgotten; what is more than the table holds is let in
// uncounted, and neither a limit nor a leave of another is wrong for it.
TEST(AddressTable, AFullTableLetsInAndForgetsNone) {
    HeapPages pages;
    AddressTable table(pages, 1);
    std::vector<uint32_t> counted;
    uint64_t uncounted = 0;
    for (uint32_t address = 1; address <= 2 * kAddressEntriesMin; ++address) {
        const Verdict verdict = table.enter(address, kStart, at_most(1)).verdict;
        ASSERT_TRUE(verdict == Verdict::counted || verdict == Verdict::uncounted);
        if (verdict == Verdict::counted)
            counted.push_back(address);
        else
            ++uncounted;
    }
    EXPECT_GT(counted.size(), kAddressEntriesMin * 9 / 10);
    EXPECT_LE(counted.size(), kAddressEntriesMin);
    EXPECT_EQ(counted.size(), table.entries_used());
    for (const uint32_t address : counted)
        EXPECT_EQ(table.enter(address, kStart, at_most(1)).verdict, Verdict::too_many);
    for (const uint32_t address : counted) table.leave(address);
    // None is left, so that there is room again.
    EXPECT_EQ(table.enter(1'000'000, kStart, at_most(1)).verdict, Verdict::counted);
    EXPECT_EQ(table.entries_used(), counted.size()) << "of an entry that is not used any more";
}

// Half full, as it is made: each address that a server can hold has its entry.
TEST(AddressTable, HasAnEntryForEachConnection) {
    HeapPages pages;
    constexpr uint32_t kConnections = 65'536;
    AddressTable table(pages, kConnections);
    for (uint32_t address = 1; address <= kConnections; ++address)
        ASSERT_EQ(table.enter(address, kStart, at_most(1)).verdict, Verdict::counted) << address;
    EXPECT_EQ(table.memory_bytes() * 2, AddressTable::memory_bytes_max(kConnections));
}

// A full table forgets those that flap last.
TEST(AddressTable, ExpiredEntriesGiveWayFirst) {
    HeapPages pages;
    AddressTable table(pages, 1);
    const auto come_and_go = [&](uint32_t address, Nanos now) {
        const Verdict verdict = table.enter(address, now, unless_flapping()).verdict;
        ASSERT_EQ(verdict, Verdict::counted);
        table.leave_young(address, now, kRule);
    };
    for (uint32_t i = 0; i < kRule.ends; ++i) come_and_go(7, kStart);
    for (uint32_t address = 100; address < 100 + 4 * kAddressEntriesMin; ++address)
        come_and_go(address, kStart);
    EXPECT_EQ(table.enter(7, kStart, unless_flapping()).verdict, Verdict::held_off)
        << "addresses that came once have pushed it out";
    // A window later they are over, and others take their places.
    const Nanos later = kStart + kRule.window;
    for (uint32_t address = 100'000; address < 100'000 + kAddressEntriesMin / 2; ++address)
        EXPECT_EQ(table.enter(address, later, unless_flapping()).verdict, Verdict::counted);
    EXPECT_LE(table.entries_used(), kAddressEntriesMin);
    EXPECT_EQ(table.enter(7, later, unless_flapping()).verdict, Verdict::held_off);
}

TEST(AddressTable, WithoutAddressSpaceNoneIsCounted) {
    HeapPages pages;
    pages.fail_after(0);
    AddressTable table(pages, 100);
    EXPECT_FALSE(table.ok());
    EXPECT_EQ(table.enter(7, kStart, at_most(1)).verdict, Verdict::uncounted);
    EXPECT_EQ(table.connections(7), 0u);
}

// Random floods beside a map: what an address may is what the map says, whatever others do.
TEST(AddressTable, AgreesWithAMap) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        HeapPages pages;
        AddressTable table(pages, 256);
        Random random(seed);
        std::map<uint32_t, uint32_t> live;
        const auto most = static_cast<uint32_t>(random.between(1, 5));
        for (int step = 0; step < 5'000; ++step) {
            // One address in four is the flooder's.
            const auto address =
                random.chance(1, 4) ? 1 : static_cast<uint32_t>(random.between(2, 200));
            if (random.chance(1, 2)) {
                const Verdict verdict = table.enter(address, kStart + step, at_most(most)).verdict;
                ASSERT_EQ(verdict == Verdict::counted, live[address] < most) << seed;
                live[address] += verdict == Verdict::counted;
            } else if (live[address] > 0) {
                table.leave(address);
                --live[address];
            }
            ASSERT_EQ(table.connections(address), live[address]) << seed;
        }
    }
}

// Threads that come and go from few addresses, and many that are new: at the end no count is left,
// and meanwhile no address has more than it may, but for what two entries of one instant add.
TEST(AddressTable, ThreadsLeaveNoCountBehind) {
    HeapPages pages;
    AddressTable table(pages, 64);
    constexpr uint32_t kThreads = 4, kFew = 8;
    const AddressRules rules{.connections_max = 2, .flapping = kRule, .share = 1};
    std::vector<std::thread> threads;
    for (uint32_t number = 0; number < kThreads; ++number) {
        threads.emplace_back([&table, &rules, number] {
            Random random(number + 1);
            for (int step = 0; step < 20'000; ++step) {
                const auto address = random.chance(1, 2)
                                         ? static_cast<uint32_t>(random.between(1, kFew))
                                         : static_cast<uint32_t>(random.between(100, 100'000));
                if (table.enter(address, kStart + step, rules).verdict != Verdict::counted)
                    continue;
                table.join(address);
                table.part(address);
                if (random.chance(1, 2))
                    table.leave(address);
                else
                    table.leave_young(address, kStart + step, kRule);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (uint32_t address = 1; address <= 100'000; ++address)
        ASSERT_EQ(table.connections(address), 0u) << address;
    EXPECT_LE(table.entries_used(), kAddressEntriesMin);
}

// Two reactors that are passed the same at once must not both close one: of two newcomers, one has
// left again while their messages were on their way.
TEST(AddressTable, AsManyGiveWayAsAreTooMany) {
    constexpr uint32_t kShare = 2, kRounds = 20'000;
    HeapPages pages;
    AddressTable table(pages, 64);
    table.enter(7, kStart, at_most(9));
    std::atomic<uint32_t> begun{0}, done{0}, parted{0};
    const auto wait_for = [](const std::atomic<uint32_t>& count, uint32_t round) {
        for (uint32_t looks = 1; count < round; ++looks)
            if (looks % 1'000 == 0) std::this_thread::yield();
    };
    std::thread other([&] {
        for (uint32_t round = 1; round <= kRounds; ++round) {
            wait_for(begun, round);
            parted += table.part_above(7, kShare);
            done = round;
        }
    });
    uint32_t wrong = 0;
    for (uint32_t round = 1; round <= kRounds; ++round) {
        while (table.sharing(7) <= kShare) table.join(7);
        parted = 0;
        begun = round;
        // The other sees that later, by about as much.
        for (uint32_t looks = round % 128; looks > 0 && done < round; --looks) continue;
        parted += table.part_above(7, kShare);
        wait_for(done, round);
        wrong += parted != 1 || table.sharing(7) != kShare;
    }
    other.join();
    EXPECT_EQ(wrong, 0u);
}

// ------------------------------------------------------------------------------ lists by address

TEST(AddressLists, AgreeWithDeques) {
    constexpr uint32_t kPlaces = 300;
    HeapPages pages;
    AddressLists lists(pages, kPlaces);
    EXPECT_EQ(lists.oldest(7), kNoIndex);
    ASSERT_TRUE(lists.turn_on());
    Random random(1);
    std::map<uint32_t, std::deque<Index>> expected;
    std::map<Index, uint32_t> address_of;
    for (int step = 0; step < 50'000; ++step) {
        const auto index = static_cast<Index>(random.below(kPlaces));
        if (const auto in = address_of.find(index); in != address_of.end()) {
            std::erase(expected[in->second], index);
            address_of.erase(in);
            lists.remove(index);
        } else {
            const auto address = static_cast<uint32_t>(random.between(1, 12));
            expected[address].push_back(index);
            address_of[index] = address;
            lists.add(index, address);
        }
        for (const auto& [address, list] : expected)
            ASSERT_EQ(lists.oldest(address), list.empty() ? kNoIndex : list.front());
    }
    EXPECT_GT(lists.memory_bytes(), kPlaces * AddressLists::kBytesEach);
}

TEST(AddressLists, WithoutAddressSpaceTheyAreOff) {
    HeapPages pages;
    AddressLists lists(pages, 8);
    pages.fail_after(0);
    EXPECT_FALSE(lists.turn_on());
    EXPECT_FALSE(lists.on());
    EXPECT_EQ(lists.memory_bytes(), 0u);
}

}  // namespace
}  // namespace pulse
