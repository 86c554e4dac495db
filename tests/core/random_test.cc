// The generator: known values, and ranges that are whole and even.
#include "core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/support/scale.h"

namespace pulse {
namespace {

// The published algorithm, word by word as its authors describe it.
struct Reference {
    std::array<uint64_t, 4> s;
    static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
    uint64_t next() {
        const uint64_t result = rotate(s[1] * 5, 7) * 9;
        const uint64_t t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return result;
    }
};

TEST(Random, TheReferenceGivesThePublishedValues) {
    Reference reference{{1, 2, 3, 4}};
    for (const uint64_t value :
         {uint64_t{11520}, uint64_t{0}, uint64_t{1509978240}, uint64_t{1215971899390074240},
          uint64_t{1216172134540287360}, uint64_t{607988272756665600},
          uint64_t{16172922978634559625u}, uint64_t{8476171486693032832},
          uint64_t{10595114339597558777u}, uint64_t{2904607092377533576}}) {
        EXPECT_EQ(reference.next(), value);
    }
}

TEST(Random, SplitmixGivesThePublishedValues) {
    uint64_t state = 1234567;
    for (const uint64_t value : {uint64_t{6457827717110365317}, uint64_t{3203168211198807973},
                                 uint64_t{9817491932198370423u}, uint64_t{4593380528125082431},
                                 uint64_t{16408922859458223821u}}) {
        EXPECT_EQ(mix64(state), value);
        state += 0x9e3779b97f4a7c15;
    }
}

TEST(Random, IsTheReferenceSeededBySplitmix) {
    for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{42}, UINT64_MAX}) {
        Reference reference{};
        for (uint64_t i = 0; i < 4; ++i) reference.s[i] = mix64(seed + i * 0x9e3779b97f4a7c15);
        Random random(seed);
        for (int i = 0; i < 1'000; ++i) ASSERT_EQ(random.next(), reference.next()) << seed;
    }
}

// 6 sigma of the count in each of `bound` cells: a good generator fails once in 10^8 cells.
TEST(Random, BelowIsUniform) {
    Random random(9);
    for (const uint64_t bound : {1u, 2u, 3u, 7u, 64u, 1000u}) {
        std::vector<uint64_t> cells(bound);
        const uint64_t draws = test::scaled(500'000);
        for (uint64_t i = 0; i < draws; ++i) ++cells.at(random.below(bound));
        const double mean = static_cast<double>(draws) / static_cast<double>(bound);
        for (const uint64_t count : cells) {
            EXPECT_NEAR(static_cast<double>(count), mean, 6 * std::sqrt(mean) + 1) << bound;
        }
    }
}

TEST(Random, RangesAreWhole) {
    Random random(10);
    std::array<uint64_t, 5> seen{};
    bool highest = false;
    for (int i = 0; i < 1'000; ++i) {
        const uint64_t value = random.between(3, 7);
        ASSERT_TRUE(value >= 3 && value <= 7);
        ++seen[value - 3];
        EXPECT_EQ(random.between(5, 5), 5u);
        EXPECT_TRUE(random.chance(3, 3));
        EXPECT_FALSE(random.chance(0, 3));
        const double unit = random.unit();
        ASSERT_TRUE(unit >= 0 && unit < 1);
        highest |= random.below(UINT64_MAX) > UINT64_MAX / 4 * 3;
    }
    EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 0u);
    EXPECT_TRUE(highest);
}

TEST(Random, ServesTheStandardAlgorithms) {
    std::array<int, 50> values{};
    std::iota(values.begin(), values.end(), 0);
    std::array<int, 50> shuffled = values;
    Random random(11);
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    EXPECT_NE(shuffled, values);
    std::sort(shuffled.begin(), shuffled.end());
    EXPECT_EQ(shuffled, values);
}

}  // namespace
}  // namespace pulse
