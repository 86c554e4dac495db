// Borrowed buffers: who owns which bytes, what one and all of them may hold, and what is kept.
#include "core/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace pulse::test {
namespace {

constexpr size_t kNoLimit = size_t{1} << 30;
constexpr size_t kPlenty = size_t{64} << 20;

std::vector<uint8_t> filled(size_t bytes, uint8_t with) {
    std::vector<uint8_t> all(bytes);
    for (size_t i = 0; i < bytes; ++i) all[i] = static_cast<uint8_t>(with + i * 7);
    return all;
}
bool holds(BufferPool& pool, BufferPool::Handle handle, const std::vector<uint8_t>& expected) {
    return std::ranges::equal(pool.bytes(handle), expected);
}
bool put(BufferPool& pool, BufferPool::Handle handle, size_t bytes, size_t limit = kNoLimit) {
    return pool.append(handle, filled(bytes, 1), limit);
}

// --------------------------------------------------------------------------------------- handles
TEST(BufferPool, AHandleIsNotZeroAndBelongsToOneBorrower) {
    BufferPool pool(kPlenty);
    std::set<BufferPool::Handle> taken;
    for (int i = 0; i < 100; ++i) {
        const BufferPool::Handle handle = pool.take();
        EXPECT_NE(handle, 0u) << "0 means none";
        EXPECT_TRUE(taken.insert(handle).second) << "borrowed twice: " << handle;
    }
    EXPECT_EQ(pool.taken(), 100u);
    for (const BufferPool::Handle handle : taken) pool.release(handle);
    EXPECT_EQ(pool.taken(), 0u);
    std::set<BufferPool::Handle> again;
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(again.insert(pool.take()).second);
    EXPECT_EQ(again, taken) << "what was given back is given out again";
}

TEST(BufferPool, ABufferThatWasJustTakenIsEmpty) {
    BufferPool pool(kPlenty);
    for (const size_t bytes : {size_t{10}, kBufferSmallBytes, 10 * kBufferSmallBytes}) {
        const BufferPool::Handle first = pool.take();
        ASSERT_TRUE(put(pool, first, bytes));
        pool.release(first);
        const BufferPool::Handle again = pool.take();
        EXPECT_EQ(again, first);
        EXPECT_EQ(pool.size(again), 0u);
        EXPECT_TRUE(pool.bytes(again).empty());
        pool.release(again);
    }
}

TEST(BufferPool, NeighboursKeepTheirBytes) {
    BufferPool pool(kPlenty);
    std::vector<BufferPool::Handle> handles;
    std::vector<std::vector<uint8_t>> expected;
    for (uint8_t i = 0; i < 20; ++i) {
        handles.push_back(pool.take());
        expected.emplace_back();
    }
    for (size_t round = 1; round <= 40; ++round) {
        for (size_t i = 0; i < handles.size(); ++i) {
            const auto more = filled(round * 37 % 600, static_cast<uint8_t>(i * 11 + round));
            ASSERT_TRUE(pool.append(handles[i], more, kNoLimit));
            expected[i].insert(expected[i].end(), more.begin(), more.end());
        }
        pool.clear(handles[round % 20]);
        expected[round % 20].clear();
    }
    for (size_t i = 0; i < handles.size(); ++i) EXPECT_TRUE(holds(pool, handles[i], expected[i]));
}

// ---------------------------------------------------------------------------------------- growth
TEST(BufferPool, GrowthKeepsWhatThereIs) {
    BufferPool pool(kPlenty);
    const BufferPool::Handle handle = pool.take();
    std::vector<uint8_t> expected;
    for (size_t bytes = 1; bytes <= 100'000; bytes = bytes * 3 / 2 + 1) {
        const auto more = filled(bytes, static_cast<uint8_t>(bytes));
        ASSERT_TRUE(pool.append(handle, more, kNoLimit));
        expected.insert(expected.end(), more.begin(), more.end());
        ASSERT_TRUE(holds(pool, handle, expected));
        ASSERT_GE(pool.held_bytes(), pool.size(handle));
    }
    pool.truncate(handle, 1'000);
    expected.resize(1'000);
    EXPECT_TRUE(holds(pool, handle, expected));
    ASSERT_TRUE(put(pool, handle, 5));
    EXPECT_EQ(pool.size(handle), 1'005u);
}

// simdjson reads up to kReceivePadBytes behind the end; the sanitizers watch.
TEST(BufferPool, ThePaddingBehindTheBytesIsReadable) {
    BufferPool pool(kPlenty);
    for (const size_t bytes : {size_t{1}, kBufferFirstBytes, kBufferFirstBytes + 1,
                               kBufferSmallBytes, 2 * kBufferSmallBytes}) {
        const BufferPool::Handle handle = pool.take();
        ASSERT_TRUE(put(pool, handle, bytes));
        uint8_t* end = pool.bytes(handle).data() + bytes;
        std::fill(end, end + kReceivePadBytes, uint8_t{0});
        EXPECT_EQ(std::count(end, end + kReceivePadBytes, 0), ptrdiff_t{kReceivePadBytes});
        pool.release(handle);
    }
}

// ---------------------------------------------------------------------------- the limit of one
TEST(BufferPool, ABufferHoldsAsMuchAsItsLimitAndNotAByteMore) {
    BufferPool pool(kPlenty);
    const BufferPool::Handle handle = pool.take();
    EXPECT_FALSE(put(pool, handle, 101, 100));
    EXPECT_EQ(pool.size(handle), 0u);
    EXPECT_TRUE(put(pool, handle, 60, 100));
    EXPECT_FALSE(put(pool, handle, 41, 100)) << "60 are there";
    EXPECT_EQ(pool.size(handle), 60u) << "a refusal leaves it as it was";
    EXPECT_TRUE(put(pool, handle, 40, 100));
    EXPECT_FALSE(put(pool, handle, 1, 100));
    EXPECT_EQ(pool.extend(handle, 1, 50), nullptr) << "a limit that is passed already";
    EXPECT_EQ(pool.extend(handle, SIZE_MAX, SIZE_MAX), nullptr) << "the sum overflows";
    EXPECT_TRUE(put(pool, handle, 1, 101));
}

// ------------------------------------------------------------------------------ the bound of all
TEST(BufferPool, AllTogetherHoldNoMoreThanTheBound) {
    constexpr size_t kBound = 64 * 1024;
    BufferPool pool(kBound);
    std::vector<BufferPool::Handle> handles;
    size_t held = 0;
    bool refused = false;
    for (int i = 0; i < 64; ++i) {
        handles.push_back(pool.take());
        const bool got = put(pool, handles.back(), 3'000);
        held += got ? 3'000 : 0;
        refused |= !got;
        ASSERT_LE(pool.held_bytes(), kBound);
        ASSERT_LE(held, kBound);
    }
    EXPECT_TRUE(refused) << "192,000 bytes went into 65,536";
    EXPECT_GE(held, kBound / 2) << "the bound is of use";
    for (const BufferPool::Handle handle : handles) {
        EXPECT_TRUE(pool.size(handle) == 0 || pool.size(handle) == 3'000);
    }
}

TEST(BufferPool, ABufferThatMayNotGrowKeepsItsBytesAndMayGrowLater) {
    BufferPool pool(16 * 1024);
    const BufferPool::Handle small = pool.take();
    const BufferPool::Handle large = pool.take();
    ASSERT_TRUE(put(pool, small, 200));
    ASSERT_TRUE(put(pool, large, 8 * 1024));
    const auto expected = filled(200, 1);
    EXPECT_FALSE(put(pool, small, 12 * 1024));
    EXPECT_TRUE(holds(pool, small, expected));
    pool.release(large);
    EXPECT_TRUE(put(pool, small, 12 * 1024)) << "room was given back";
    EXPECT_TRUE(std::ranges::equal(pool.bytes(small).first(200), expected));
    EXPECT_LE(pool.held_bytes(), 16u * 1024);
}

TEST(BufferPool, NothingGoesIntoAPoolWithoutRoom) {
    BufferPool pool(0);
    const BufferPool::Handle handle = pool.take();
    EXPECT_FALSE(put(pool, handle, 1));
    EXPECT_TRUE(pool.append(handle, {}, 0)) << "nothing needs no room";
    EXPECT_EQ(pool.held_bytes(), 0u);
}

// ----------------------------------------------------------------------------- what is kept
TEST(BufferPool, TheNextBorrowerFindsTheFirstBlockAndNotTheLargeOne) {
    BufferPool pool(kPlenty);
    const BufferPool::Handle handle = pool.take();
    ASSERT_TRUE(put(pool, handle, kBufferFirstBytes));
    const uint8_t* block = pool.bytes(handle).data();
    pool.release(handle);
    // An allocator would hand out what was freed last.
    const std::vector<uint8_t> other(kBufferFirstBytes + kReceivePadBytes);
    ASSERT_EQ(pool.take(), handle);
    ASSERT_TRUE(put(pool, handle, kBufferFirstBytes));
    EXPECT_EQ(pool.bytes(handle).data(), block) << "a small block is kept for the next";
    ASSERT_TRUE(put(pool, handle, kBufferSmallBytes));
    EXPECT_GT(pool.held_bytes(), kBufferSmallBytes);
    pool.release(handle);
    EXPECT_EQ(pool.held_bytes() + pool.idle_bytes(), 0u) << "a large block is given back";
}

TEST(BufferPool, ClearGivesBackALargeBlockToo) {
    BufferPool pool(kPlenty);
    const BufferPool::Handle handle = pool.take();
    ASSERT_TRUE(put(pool, handle, 100 * kBufferSmallBytes));
    pool.clear(handle);
    EXPECT_EQ(pool.size(handle), 0u);
    EXPECT_LE(pool.held_bytes(), kBufferFirstBytes);
    EXPECT_EQ(pool.taken(), 1u) << "it is the borrower's still";
    ASSERT_TRUE(put(pool, handle, 10));
    EXPECT_TRUE(holds(pool, handle, filled(10, 1)));
}

TEST(BufferPool, WhatIsIdleIsNotHeldAndNotKeptBeyondItsBound) {
    BufferPool pool(64 * 1024, size_t{64} << 20);
    std::vector<BufferPool::Handle> handles;
    for (int i = 0; i < 4'000; ++i) {
        handles.push_back(pool.take());
        ASSERT_TRUE(put(pool, handles.back(), kBufferFirstBytes));
    }
    for (const BufferPool::Handle handle : handles) pool.release(handle);
    EXPECT_EQ(pool.held_bytes(), 0u);
    EXPECT_LE(pool.idle_bytes(), kIdleBufferBytesMax);
    EXPECT_GT(pool.idle_bytes(), 0u);
    const BufferPool::Handle handle = pool.take();
    EXPECT_TRUE(put(pool, handle, 30'000)) << "what others gave back can be had";
}

// ------------------------------------------------------------------------------------ shortage
constexpr size_t kMebibyte = size_t{1} << 20;

TEST(BufferPool, WhatOneMayTakeShrinksAsThePoolFills) {
    BufferPool pool(64 * kMebibyte);
    const BufferPool::Handle first = pool.take(1);
    EXPECT_FALSE(put(pool, first, 33 * kMebibyte));
    EXPECT_TRUE(pool.was_short());
    EXPECT_TRUE(put(pool, first, 32 * kMebibyte));
    size_t held = 32 * kMebibyte;
    for (size_t share = 16; share >= 1; share /= 2) {
        const BufferPool::Handle next = pool.take(2);
        EXPECT_FALSE(put(pool, next, 2 * share * kMebibyte));
        ASSERT_TRUE(put(pool, next, share * kMebibyte));
        held += share * kMebibyte;
    }
    EXPECT_EQ(pool.held_bytes(), held);
    // A share that each gets, as long as there is room at all.
    for (size_t left = 64 * kMebibyte - held; left >= kBufferShareMin; left -= kBufferShareMin)
        ASSERT_TRUE(put(pool, pool.take(3), kBufferShareMin));
    EXPECT_FALSE(put(pool, pool.take(3), 2 * kBufferSmallBytes));
}

TEST(BufferPool, SmallBuffersHaveAReserveThatLargeOnesDoNotReach) {
    constexpr size_t kReserve = 16 * kBufferSmallBytes;
    BufferPool pool(kMebibyte, kReserve);
    while (put(pool, pool.take(1), kBufferShareMin)) {
    }
    EXPECT_TRUE(pool.was_short());
    EXPECT_EQ(pool.held_bytes(), kMebibyte);
    for (int i = 0; i < 16; ++i) EXPECT_TRUE(put(pool, pool.take(2), kBufferSmallBytes)) << i;
    EXPECT_FALSE(put(pool, pool.take(2), kBufferSmallBytes));
    EXPECT_EQ(pool.held_bytes(), kMebibyte + kReserve);
}

TEST(BufferPool, TheLargestIsNamedAndOfEqualsTheOldest) {
    BufferPool pool(64 * kMebibyte);
    EXPECT_EQ(pool.largest(), 0u);
    const BufferPool::Handle small = pool.take(1);
    ASSERT_TRUE(put(pool, small, kBufferFirstBytes));
    EXPECT_EQ(pool.largest(), 0u) << "first blocks never give way";
    std::vector<BufferPool::Handle> handles;
    for (Index owner = 10; owner < 16; ++owner) {
        handles.push_back(pool.take(owner));
        ASSERT_TRUE(put(pool, handles.back(), owner % 2 == 0 ? 100'000u : 200'000u));
    }
    // 200,000 bytes: owners 11, 13, 15 in the order of their coming; then 10, 12, 14.
    for (const Index owner : {Index{11}, Index{13}, Index{15}, Index{10}, Index{12}, Index{14}}) {
        const BufferPool::Handle largest = pool.largest();
        EXPECT_EQ(pool.owner(largest), owner);
        pool.release(largest);
    }
    EXPECT_EQ(pool.largest(), 0u);
    EXPECT_EQ(pool.taken(), 1u);
}

TEST(BufferPool, WhatIsWrittenOffIsNotCountedAndComesBackOnce) {
    BufferPool pool(2 * kMebibyte);
    const BufferPool::Handle flight = pool.take(1);
    ASSERT_TRUE(put(pool, flight, kMebibyte));
    const auto expected = filled(kMebibyte, 1);
    pool.write_off(flight);
    pool.write_off(flight);
    EXPECT_EQ(pool.largest(), 0u);
    EXPECT_EQ(pool.held_bytes(), 0u);
    EXPECT_EQ(pool.written_off_bytes(), kMebibyte);
    EXPECT_TRUE(holds(pool, flight, expected)) << "the kernel may still read it";
    EXPECT_FALSE(put(pool, flight, 1)) << "it grows no more";
    EXPECT_TRUE(put(pool, pool.take(2), kMebibyte));
    pool.release(flight);
    EXPECT_EQ(pool.written_off_bytes(), 0u);
    EXPECT_EQ(pool.held_bytes(), kMebibyte);
}

// An idle buffer brings its first block back into what is held; where that does not fit it comes
// without. So a borrower that gives way always leaves room for its own goodbye.
TEST(BufferPool, ABlockThatIsUsedAgainIsWithinTheBound) {
    BufferPool pool(kMebibyte);
    std::vector<BufferPool::Handle> full, idle;
    for (size_t i = 0; i < kMebibyte / kBufferFirstBytes; ++i) full.push_back(pool.take());
    for (int i = 0; i < 4; ++i) idle.push_back(pool.take());
    for (const BufferPool::Handle handle : idle) ASSERT_TRUE(put(pool, handle, kBufferFirstBytes));
    for (const BufferPool::Handle handle : idle) pool.release(handle);
    for (const BufferPool::Handle handle : full) ASSERT_TRUE(put(pool, handle, kBufferFirstBytes));
    ASSERT_EQ(pool.held_bytes(), kMebibyte);
    ASSERT_EQ(pool.idle_bytes(), 4 * kBufferFirstBytes);
    for (int i = 0; i < 4; ++i) EXPECT_FALSE(put(pool, pool.take(), 1));
    EXPECT_EQ(pool.held_bytes(), kMebibyte);
    EXPECT_EQ(pool.idle_bytes(), 0u);
}

// The lists of equals against the obvious: buffers that grow, are emptied and given back at random.
TEST(BufferPool, TheLargestIsRightWhateverHappened) {
    BufferPool pool(size_t{256} << 20, size_t{64} << 20);
    std::vector<BufferPool::Handle> live;
    uint64_t state = 1;
    const auto random = [&](uint64_t below) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % below;
    };
    for (int step = 0; step < 20'000; ++step) {
        const uint64_t kind = random(10);
        if (live.empty() || kind < 3) {
            live.push_back(pool.take(static_cast<Index>(step)));
        } else if (kind < 7) {
            put(pool, live[random(live.size())], random(60'000));
        } else if (kind < 8) {
            pool.clear(live[random(live.size())]);
        } else {
            const size_t at = random(live.size());
            pool.release(live[at]);
            live.erase(live.begin() + static_cast<ptrdiff_t>(at));
        }
        size_t most = 0, held = 0;
        for (const BufferPool::Handle handle : live) {
            most = std::max(most, pool.capacity(handle));
            held += pool.capacity(handle);
        }
        ASSERT_EQ(pool.held_bytes(), held);
        const BufferPool::Handle largest = pool.largest();
        ASSERT_EQ(largest == 0 ? 0 : pool.capacity(largest), most > kBufferFirstBytes ? most : 0);
        if (live.size() > 300) {
            for (const BufferPool::Handle handle : live) pool.release(handle);
            live.clear();
        }
    }
}

// Many that are small are as much as a few that are large: the reserve has a share by address, too.
TEST(BufferPool, SmallBuffersCountForTheirAddress) {
    BufferPool pool(kMebibyte, 16 * kBufferSmallBytes);
    const BufferPool::Handle large = pool.take(1, 7);
    ASSERT_TRUE(put(pool, large, 128 * 1024));
    std::vector<BufferPool::Handle> many;
    for (Index owner = 100; put(pool, many.emplace_back(pool.take(owner, 8)), kBufferSmallBytes);)
        ++owner;
    EXPECT_TRUE(pool.was_short());
    EXPECT_EQ(pool.address(pool.largest()), 8u);
    EXPECT_EQ(pool.owner(pool.largest()), 100u) << "of equals the oldest";
    EXPECT_EQ(pool.largest_of(7), large);
    EXPECT_EQ(pool.held_by(8), (many.size() - 1) * kBufferSmallBytes);
    for (const BufferPool::Handle handle : many) pool.release(handle);
    EXPECT_EQ(pool.held_by(8), 0u);
    EXPECT_EQ(pool.largest(), large);
}

// One that gives way is said goodbye to: in a first block, not in the block that it gave.
TEST(BufferPool, OnlyAFirstBlockIsKept) {
    BufferPool pool(kPlenty);
    const BufferPool::Handle handle = pool.take(1, 7);
    ASSERT_TRUE(put(pool, handle, kBufferFirstBytes + 1));
    pool.release(handle);
    EXPECT_EQ(pool.idle_bytes(), 0u);
    ASSERT_EQ(pool.take(1, 7), handle);
    ASSERT_TRUE(put(pool, handle, 1));
    EXPECT_EQ(pool.held_bytes(), kBufferFirstBytes);
}

TEST(BufferPool, TheLargestIsOfTheAddressThatHoldsMost) {
    BufferPool pool(64 * kMebibyte);
    std::vector<BufferPool::Handle> many;
    for (Index owner = 0; owner < 20; ++owner) {
        many.push_back(pool.take(owner, 7));
        ASSERT_TRUE(put(pool, many.back(), owner == 4 ? 200'000u : 100'000u));
    }
    const BufferPool::Handle one = pool.take(99, 8);
    ASSERT_TRUE(put(pool, one, kMebibyte));
    EXPECT_EQ(pool.addresses(), 2u);
    EXPECT_EQ(pool.held_by(8), kMebibyte);
    EXPECT_EQ(pool.owner(pool.largest()), 4u);
    EXPECT_EQ(pool.largest_of(8), one);
    for (const BufferPool::Handle handle : many) pool.release(handle);
    EXPECT_EQ(pool.largest(), one);
    pool.release(one);
    EXPECT_EQ(pool.addresses(), 0u) << "no memory of those that hold nothing";
    EXPECT_EQ(pool.largest_of(8), 0u);
}

// The lists against sums that are made anew: buffers of a few addresses that grow, are emptied,
// written off and given back at random.
TEST(BufferPool, TheAddressThatHoldsMostIsRightWhateverHappened) {
    BufferPool pool(size_t{256} << 20, size_t{64} << 20);
    struct Live {
        BufferPool::Handle handle;
        uint32_t address;
        bool written_off;
    };
    std::vector<Live> live;
    uint64_t state = 3;
    const auto random = [&](uint64_t below) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (state >> 33) % below;
    };
    for (int step = 0; step < 20'000; ++step) {
        const uint64_t kind = random(12);
        if (live.empty() || kind < 4) {
            const auto address = static_cast<uint32_t>(random(6) * random(6));
            live.push_back({pool.take(static_cast<Index>(step), address), address, false});
        } else if (kind < 9) {
            Live& one = live[random(live.size())];
            if (!one.written_off) put(pool, one.handle, random(80'000));
        } else if (kind < 10) {
            pool.clear(live[random(live.size())].handle);
            for (Live& one : live) one.written_off &= pool.size(one.handle) > 0;
        } else {
            const size_t at = random(live.size());
            if (kind == 10 && pool.size(live[at].handle) > 0) {
                pool.write_off(live[at].handle);
                live[at].written_off = true;
            } else {
                pool.release(live[at].handle);
                live.erase(live.begin() + static_cast<ptrdiff_t>(at));
            }
        }
        std::map<uint32_t, size_t> sums, most;
        for (const Live& one : live) {
            const size_t capacity = pool.capacity(one.handle);
            if (one.written_off || capacity <= kBufferFirstBytes) continue;
            sums[one.address] += capacity;
            most[one.address] = std::max(most[one.address], capacity);
        }
        ASSERT_EQ(pool.addresses(), sums.size());
        size_t largest_sum = 0;
        for (const auto& [address, sum] : sums) {
            ASSERT_EQ(pool.held_by(address), sum);
            ASSERT_EQ(pool.capacity(pool.largest_of(address)), most[address]);
            largest_sum = std::max(largest_sum, sum);
        }
        const BufferPool::Handle largest = pool.largest();
        ASSERT_EQ(largest == 0, sums.empty());
        if (largest == 0) continue;
        const uint32_t address = pool.address(largest);
        ASSERT_GT(2 * sums[address], largest_sum);
        ASSERT_EQ(pool.capacity(largest), most[address]);
        if (live.size() > 200) {
            for (const Live& one : live) pool.release(one.handle);
            live.clear();
        }
    }
}

}  // namespace
}  // namespace pulse::test
