// Pages from the kernel: zero, aligned, given back.
#include "net/io/mapped_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace pulse {
namespace {

constexpr size_t kHuge = size_t{2} << 20;
constexpr size_t kSmall = 4096;

bool all_zero(const std::byte* start, size_t bytes) {
    return std::all_of(start, start + bytes, [](std::byte b) { return b == std::byte{0}; });
}

// 4 KiB pages of [start, start + bytes) that have backing.
size_t resident_pages(std::byte* start, size_t bytes) {
    std::vector<unsigned char> resident(bytes / kSmall);
    EXPECT_EQ(mincore(start, bytes, resident.data()), 0);
    return static_cast<size_t>(
        std::count_if(resident.begin(), resident.end(), [](auto page) { return (page & 1) != 0; }));
}

TEST(MappedPages, AreZeroAndAlignedByTheirSize) {
    MappedPages pages;
    for (const size_t bytes : {size_t{1}, kSmall, 3 * kSmall + 1, kHuge - kSmall, kHuge,
                               kHuge + kSmall, 3 * kHuge + 5 * kSmall}) {
        std::byte* start = pages.reserve(bytes);
        ASSERT_NE(start, nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(start) % (bytes >= kHuge ? kHuge : kSmall), 0u);
        EXPECT_TRUE(all_zero(start, bytes));
        std::fill(start, start + bytes, std::byte{7});
        pages.release(start, bytes);
    }
}

TEST(MappedPages, AreBackedOnlyWhenTouchedAndNoLongerOnceDiscarded) {
    MappedPages pages;
    const size_t bytes = 8 * kHuge;
    std::byte* start = pages.reserve(bytes);
    ASSERT_NE(start, nullptr);
    EXPECT_EQ(resident_pages(start, bytes), 0u);
    start[kHuge] = std::byte{1};
    start[2 * kHuge] = std::byte{2};
    EXPECT_GE(resident_pages(start, bytes), 2u);
    EXPECT_EQ(resident_pages(start, kHuge), 0u);
    EXPECT_EQ(resident_pages(start + 3 * kHuge, 5 * kHuge), 0u);
    pages.discard(start + kHuge, kHuge);
    EXPECT_EQ(resident_pages(start + kHuge, kHuge), 0u);
    EXPECT_TRUE(all_zero(start + kHuge, kHuge));
    EXPECT_EQ(start[2 * kHuge], std::byte{2});
    pages.release(start, bytes);
}

// A touched byte costs a page of 4 KiB, also where the kernel backs whatever it can with huge ones.
TEST(MappedPages, SmallOnesAreBackedAPageAtATime) {
    MappedPages pages;
    const size_t bytes = 4 * kHuge + 3 * kSmall;
    std::byte* start = pages.reserve_small(bytes);
    ASSERT_NE(start, nullptr);
    EXPECT_EQ(resident_pages(start, bytes), 0u);
    for (size_t at = 0; at < bytes; at += kHuge) start[at] = std::byte{1};
    EXPECT_EQ(resident_pages(start, bytes), 5u);
    pages.release(start, bytes);
    EXPECT_EQ(pages.reserve_small(size_t{1} << 60), nullptr);
}

TEST(MappedPages, NothingOfAReservationStaysBehind) {
    MappedPages pages;
    const auto mapped_pages = [] {
        size_t total = 0;
        std::ifstream("/proc/self/statm") >> total;
        return total;
    };
    const size_t before = mapped_pages();
    for (int i = 0; i < 100; ++i) {
        const size_t bytes = 5 * kHuge + static_cast<size_t>(i) * kSmall;
        std::byte* start = pages.reserve(bytes);
        ASSERT_NE(start, nullptr);
        pages.release(start, bytes);
    }
    EXPECT_LT(mapped_pages(), before + 5 * kHuge / kSmall);
}

TEST(MappedPages, TooMuchIsNullptr) {
    MappedPages pages;
    EXPECT_EQ(pages.reserve(size_t{1} << 60), nullptr);
}

// "dd" among the flags of the mapping (proc_pid_smaps(5)).
TEST(MappedPages, SecretsAreNotDumped) {
    MappedPages pages;
    std::byte* const secret = pages.reserve_secret(3 * kSmall + 1);
    ASSERT_NE(secret, nullptr);
    EXPECT_TRUE(all_zero(secret, 4 * kSmall));
    std::ifstream maps("/proc/self/smaps");
    bool inside = false, is_dumped = true;
    for (std::string line; std::getline(maps, line);) {
        char* behind = nullptr;
        const uintptr_t from = std::strtoull(line.c_str(), &behind, 16);
        if (*behind == '-') {
            const uintptr_t to = std::strtoull(behind + 1, nullptr, 16);
            const auto at = reinterpret_cast<uintptr_t>(secret);
            inside = from <= at && at < to;
        }
        if (inside && line.starts_with("VmFlags:"))
            is_dumped = line.find(" dd") == std::string::npos;
    }
    EXPECT_FALSE(is_dumped);
    pages.release(secret, 3 * kSmall + 1);
}

}  // namespace
}  // namespace pulse
