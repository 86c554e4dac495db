// Which reactor gets the next connections, in made-up servers: the kernel's draw is a seed.
#include "core/accept_shares.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/limits.h"
#include "core/random.h"

namespace pulse {
namespace {

// Reactors, and a kernel that gives them connections by their shares.
struct MadeUpServer {
    explicit MadeUpServer(uint32_t reactors, uint32_t limit = UINT32_MAX, uint64_t seed = 1)
        : shares(reactors), loads(reactors, {.limit = limit}), queued(reactors), random(seed) {}

    // Connections come; `lag` of them are drawn before the first is accepted.
    void come(uint64_t count, uint64_t lag = 0) {
        for (uint64_t i = 0; i < count; ++i) {
            ++queued[draw()];
            if (i % (lag + 1) == lag) accept();
        }
        accept();
    }
    void accept() {
        uint64_t came = 0, live = 0;
        for (size_t i = 0; i < loads.size(); ++i) {
            if (i == stuck) continue;
            loads[i].came += queued[i];
            refused += queued[i] - std::min(queued[i], loads[i].limit - loads[i].live);
            loads[i].live += std::min(queued[i], loads[i].limit - loads[i].live);
            queued[i] = 0;
        }
        for (const ReactorLoad& load : loads) came += load.came, live += load.live;
        if (came - looked_at < AcceptShares::look_every(live)) return;
        looked_at = came;
        changes += shares.update(loads);
    }
    size_t draw() {
        const auto& by = shares.shares();
        uint64_t place = random.below(std::accumulate(by.begin(), by.end(), uint64_t{0}));
        size_t reactor = 0;
        while (place >= by[reactor]) place -= by[reactor++];
        return reactor;
    }
    double imbalance() const {
        uint64_t most = 0, all = 0;
        for (const ReactorLoad& load : loads) {
            most = std::max<uint64_t>(most, load.live);
            all += load.live;
        }
        return static_cast<double>(most * loads.size()) / static_cast<double>(all);
    }

    AcceptShares shares;
    std::vector<ReactorLoad> loads;
    std::vector<uint32_t> queued;
    Random random;
    size_t stuck = SIZE_MAX;
    uint64_t looked_at = 0, changes = 0, refused = 0;
};

TEST(AcceptShares, AreEvenBeforeAnythingIsKnown) {
    const AcceptShares shares(3);
    EXPECT_EQ(std::vector<uint32_t>(shares.shares().begin(), shares.shares().end()),
              std::vector<uint32_t>(3, shares.shares()[0]));
    EXPECT_GT(shares.shares()[0], 0u);
}

TEST(AcceptShares, ReactorsBecomeAndStayEven) {
    for (const uint32_t reactors : {2u, 3u, 4u, 16u, 64u}) {
        for (uint64_t seed = 1; seed <= 20; ++seed) {
            MadeUpServer server(reactors, UINT32_MAX, seed);
            server.come(reactors * 250);
            EXPECT_LE(server.imbalance(), 1.1) << reactors << " reactors, seed " << seed;
            server.come(reactors * 5'000);
            EXPECT_LE(server.imbalance(), 1.05) << reactors << " reactors, seed " << seed;
        }
    }
}

TEST(AcceptShares, ABurstThatIsAcceptedLateDoesNotUpsetThem) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        MadeUpServer server(4, UINT32_MAX, seed);
        server.come(1'000);
        server.come(2'000, 300);
        EXPECT_LE(server.imbalance(), 1.15) << seed;
        server.come(1'000);
        EXPECT_LE(server.imbalance(), 1.1) << seed;
    }
}

TEST(AcceptShares, WhoHasLostConnectionsGetsMoreOfTheNext) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        MadeUpServer server(4, UINT32_MAX, seed);
        server.come(2'000);
        const uint32_t left = server.loads[2].live / 3;
        server.loads[2].live -= left;
        server.come(left);
        EXPECT_LE(server.imbalance(), 1.1) << seed;
        server.come(2 * left);
        EXPECT_LE(server.imbalance(), 1.06) << seed;
        EXPECT_GE(server.loads[2].live * 1.1, server.loads[0].live) << seed;
    }
}

TEST(AcceptShares, NoneGetsMoreThanAMultipleOfTheMean) {
    AcceptShares shares(8);
    std::vector<ReactorLoad> loads(8, {.live = 1'000, .limit = 100'000, .came = 1'000});
    loads[3].live = 0;
    EXPECT_TRUE(shares.update(loads));
    uint64_t whole = 0;
    for (const uint32_t share : shares.shares()) whole += share;
    EXPECT_GT(shares.shares()[3], shares.shares()[0]);
    // The others lack nothing but what is to come.
    EXPECT_LE(shares.shares()[3], whole * kAcceptShareMax / 8 + 1);
    EXPECT_GT(shares.shares()[0] * 20, whole) << "by which the others see that it accepts";
}

TEST(AcceptShares, AFullOneGetsNoneUntilItHasRoom) {
    MadeUpServer server(2, 1'000);
    server.loads[0].live = server.loads[0].limit = 100;
    server.come(200);
    EXPECT_EQ(server.shares.shares()[0], 0u);
    const uint64_t refused = server.refused;
    server.come(300);
    EXPECT_EQ(server.refused, refused);
    server.loads[0].limit = 1'000;
    server.come(100);
    EXPECT_GT(server.shares.shares()[0], 0u);
    EXPECT_GT(server.loads[0].live, 100u);
}

TEST(AcceptShares, TheirSumFitsInto32BitsHoweverManyAreHeld) {
    AcceptShares shares(256);
    std::vector<ReactorLoad> loads(
        256, {.live = 0, .limit = kConnectionsPerReactorMax, .came = uint64_t{1} << 40});
    for (size_t i = 0; i < 128; ++i) loads[i].live = kConnectionsPerReactorMax - 1;
    EXPECT_TRUE(shares.update(loads));
    uint64_t whole = 0;
    for (const uint32_t share : shares.shares()) whole += share;
    EXPECT_LE(whole, UINT32_MAX);
    EXPECT_GT(shares.shares()[200], shares.shares()[0]);
}

TEST(AcceptShares, WhereAllAreFullTheyAreEven) {
    AcceptShares shares(2);
    const std::vector<ReactorLoad> loads(2, {.live = 7, .limit = 7, .came = 100});
    shares.update(loads);
    EXPECT_EQ(shares.shares()[0], shares.shares()[1]);
    EXPECT_GT(shares.shares()[0], 0u);
}

TEST(AcceptShares, AStuckOneGetsLittleThoughItHoldsLeastAndComesBack) {
    MadeUpServer server(4);
    server.come(2'000);
    server.stuck = 1;
    server.loads[1].live = 100;
    server.come(2'000);
    const uint32_t waiting = server.queued[1];
    EXPECT_LE(waiting, 500u) << "its share, had it not been stuck";
    server.come(4'000);
    EXPECT_LE(server.queued[1] - waiting, 4'000u / 4 / 8);
    EXPECT_GT(server.queued[1], waiting) << "some, by which it is seen to go on";
    server.stuck = SIZE_MAX;
    server.come(8'000);
    EXPECT_LE(server.imbalance(), 1.1);
}

TEST(AcceptShares, HoldStillWhileAllIsEven) {
    MadeUpServer server(4);
    server.come(100'000);
    const uint64_t before = server.changes;
    server.come(400'000);
    EXPECT_LE(server.changes - before, 40u) << "programs for 400,000 connections";
}

}  // namespace
}  // namespace pulse
