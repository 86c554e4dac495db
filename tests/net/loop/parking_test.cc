// What parked bytes cost: the pool's classes double, and a read is as large as fits its class.
#include "net/loop/parking.h"

#include <gtest/gtest.h>

#include <vector>

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

}  // namespace
}  // namespace pulse::test
