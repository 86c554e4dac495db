// Parked bytes: what they cost (the pool's classes double, and a read is as large as fits its
// class), in which order they come back, and what it takes to drop some.
#include "net/loop/parking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <vector>

#include "core/random.h"
#include "net/io/limits.h"
#include "net/loop/limits.h"

namespace pulse::test {
namespace {

// Held by the pool for a read of so many bytes that nothing of was decoded.
size_t held_for(size_t read_bytes) {
    BufferPool buffers(kBufferedBytesDefault);
    Parking parking(buffers);
    const std::vector<uint8_t> bytes(read_bytes, 'x');
    const BufferPool::Handle handle = parking.keep(0, 0, bytes);
    EXPECT_NE(handle, 0u);
    EXPECT_EQ(parking.rest(handle, kReceiveFrontBytes).size(), read_bytes);
    const size_t held = buffers.held_bytes();
    buffers.release(handle);
    return held;
}

TEST(Parking, AFullReadOfEpollFitsItsSizeClass) {
    EXPECT_EQ(held_for(kReceiveBufferBytes), size_t{64} * 1024);
    EXPECT_EQ(held_for(kReceiveBufferBytes), kReceiveFrontBytes + kReceiveBufferBytes);
}

TEST(Parking, AFullReadOfIoUringFitsItsSizeClass) {
    constexpr size_t kRead = kUringReceiveBufferBytes - kReceiveFrontBytes - kReceivePadBytes;
    EXPECT_EQ(held_for(kRead), kUringReceiveBufferBytes);
}

// Against a plain list: who is parked, in which order they come back, and that all is given back.
TEST(Parking, ComesBackInOrderWithoutThoseThatWereDropped) {
    for (uint64_t seed = 1; seed <= 50; ++seed) {
        Random random(seed);
        BufferPool buffers(kBufferedBytesDefault);
        Parking parking(buffers);
        std::deque<Index> expected;
        for (int step = 0; step < 500; ++step) {
            const auto index = static_cast<Index>(random.below(40));
            const bool is_parked = std::ranges::find(expected, index) != expected.end();
            if (random.below(3) == 0) {
                parking.drop(index);
                std::erase(expected, index);
            } else if (random.below(4) == 0 && !expected.empty()) {
                const Parking::Entry entry = parking.pop();
                ASSERT_EQ(entry.index, expected.front()) << "seed " << seed;
                expected.pop_front();
                parking.release(entry);
            } else if (!is_parked) {
                const std::vector<uint8_t> bytes(1 + random.below(600));
                parking.push({.index = index, .bytes = parking.keep(index, 0, bytes)});
                expected.push_back(index);
            }
            ASSERT_EQ(parking.size(), expected.size());
            ASSERT_EQ(parking.empty(), expected.empty());
            ASSERT_EQ(buffers.taken(), expected.size());
        }
    }
}

// Dropping the last of many takes as long as dropping the first. With a search of the list it was
// 2.2 s against 0.6 ms for all of them, which a busy machine does not blur.
TEST(Parking, ADropDoesNotSearch) {
    constexpr Index kParked = 60'000;
    const auto time_to_drop_all = [](bool from_behind) {
        BufferPool buffers(kBufferedBytesDefault);
        Parking parking(buffers);
        for (Index index = 0; index < kParked; ++index) parking.push({.index = index});
        const auto began = std::chrono::steady_clock::now();
        for (Index i = 0; i < kParked; ++i) parking.drop(from_behind ? kParked - 1 - i : i);
        EXPECT_TRUE(parking.empty());
        return std::chrono::steady_clock::now() - began;
    };
    const auto forward = time_to_drop_all(false);
    const auto backward = time_to_drop_all(true);
    EXPECT_LT(backward, 40 * forward + std::chrono::milliseconds(20));
}

}  // namespace
}  // namespace pulse::test
