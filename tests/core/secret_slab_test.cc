// Entries for secrets: zeros when they are taken, wiped when they are given back, used again.
#include "core/secret_slab.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace pulse {
namespace {

bool all_zero(const std::byte* start, size_t bytes) {
    return std::all_of(start, start + bytes, [](std::byte b) { return b == std::byte{0}; });
}

TEST(SecretSlab, HasNothingBeforeTheFirstIsTaken) {
    HeapPages pages;
    const SecretSlab slab(pages, 1'000'000, 144);
    EXPECT_EQ(pages.reserved_bytes(), 0u);
    EXPECT_EQ(slab.memory_bytes(), 0u);
}

TEST(SecretSlab, EntriesAreZeroOfTheirOwnAndUsedAgain) {
    HeapPages pages;
    {
        SecretSlab slab(pages, 100, 144);
        std::set<SecretSlab::Handle> handles;
        for (int entry = 0; entry < 100; ++entry) {
            const SecretSlab::Handle handle = slab.take();
            ASSERT_NE(handle, 0u);
            EXPECT_TRUE(handles.insert(handle).second);
            EXPECT_EQ(reinterpret_cast<uintptr_t>(slab.at(handle)) % 8, 0u);
            EXPECT_TRUE(all_zero(slab.at(handle), 144));
            std::fill_n(slab.at(handle), 144, static_cast<std::byte>(handle));
        }
        EXPECT_EQ(slab.take(), 0u) << "all are taken";
        EXPECT_EQ(slab.memory_bytes(), 100u * 144u);
        for (const SecretSlab::Handle handle : handles) {
            EXPECT_TRUE(std::all_of(slab.at(handle), slab.at(handle) + 144,
                                    [&](std::byte b) { return b == std::byte(handle); }));
        }
        for (const SecretSlab::Handle handle : {SecretSlab::Handle{7}, SecretSlab::Handle{50}}) {
            std::byte* const entry = slab.at(handle);
            slab.release(handle);
            EXPECT_TRUE(all_zero(entry + sizeof handle, 144 - sizeof handle)) << "wiped";
        }
        EXPECT_EQ(slab.taken(), 98u);
        for (const SecretSlab::Handle handle : {50u, 7u}) {
            EXPECT_EQ(slab.take(), handle);
            EXPECT_TRUE(all_zero(slab.at(handle), 144));
        }
    }
    EXPECT_EQ(pages.reserved_bytes(), 0u);
}

TEST(SecretSlab, WithoutAddressSpaceThereIsNone) {
    HeapPages pages;
    pages.fail_after(0);
    SecretSlab slab(pages, 100, 144);
    EXPECT_EQ(slab.take(), 0u);
    EXPECT_EQ(slab.taken(), 0u);
}

}  // namespace
}  // namespace pulse
