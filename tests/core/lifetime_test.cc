// How long connections may live: its bounds, and that those which came together leave spread.
#include "core/lifetime.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <vector>

#include "core/random.h"

namespace pulse {
namespace {

TEST(Lifetime, IsWithinItsJitter) {
    for (const Nanos most : {kSecond, 4 * 3'600 * kSecond, kLifetimeMax}) {
        for (const uint32_t jitter : {0u, 1u, 25u, 100u}) {
            const Lifetime lifetime{most, jitter};
            const Nanos least = most - most / 100 * jitter;
            for (Index index = 0; index < 1'000; ++index) {
                const Nanos lives = lifetime.of(index, index % 7, index % 3);
                ASSERT_GE(lives, least) << most << " " << jitter;
                ASSERT_LE(lives, most) << most << " " << jitter;
            }
        }
    }
}

TEST(Lifetime, OfAPlaceDiffersFromOwnerToOwnerAndFromReactorToReactor) {
    const Lifetime lifetime{3'600 * kSecond, 50};
    EXPECT_NE(lifetime.of(5, 1, 0), lifetime.of(5, 2, 0));
    EXPECT_NE(lifetime.of(5, 1, 0), lifetime.of(5, 1, 1));
}

// Kolmogorov-Smirnov: the largest distance between the distribution of `values` and the uniform one
// over (0, 1).
double distance_to_uniform(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const auto count = static_cast<double>(values.size());
    double most = 0;
    for (size_t i = 0; i < values.size(); ++i) {
        const auto below = static_cast<double>(i) / count;
        most =
            std::max({most, std::abs(values[i] - below), std::abs(below + 1 / count - values[i])});
    }
    return most;
}

// A million that came in one second: their ends, less that second, over the hour of the jitter.
TEST(Lifetime, OfAMillionThatCameTogetherEndsEvenly) {
    constexpr Nanos kMost = 4 * 3'600 * kSecond, kJitter = 3'600 * kSecond;
    constexpr uint32_t kMillion = 1'000'000;
    const Lifetime lifetime{kMost, 25};
    Random random(1);
    for (const uint32_t reactors : {1u, 2u, 53u, 0u}) {
        const bool old = reactors == 0;  // places that had owners before
        std::vector<double> ends;
        for (uint32_t peer = 0; peer < kMillion; ++peer) {
            const Nanos came = Nanos{peer} * kSecond / kMillion;
            const Nanos lives =
                old ? lifetime.of(peer, static_cast<uint32_t>(random.between(1, 1'000)), 0)
                    : lifetime.of(peer / reactors, 1, peer % reactors);
            ends.push_back(static_cast<double>(came + lives - (kMost - kJitter)) /
                           static_cast<double>(kJitter + kSecond));
        }
        const double distance = distance_to_uniform(ends);
        // What random ends would stay below in 95 of 100 tries.
        const double bound = 1.36 / std::sqrt(static_cast<double>(kMillion));
        std::cout << reactors << " reactors: Kolmogorov-Smirnov distance " << distance << ", below "
                  << bound << "\n";
        EXPECT_LT(distance, bound);
    }
}

}  // namespace
}  // namespace pulse
