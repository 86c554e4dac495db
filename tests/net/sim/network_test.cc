// What the simulated network does with sockets that are no longer held: each comes to its end.
#include "net/sim/network.h"

#include <gtest/gtest.h>

namespace pulse {
namespace {

constexpr uint16_t kPort = 9'000;
constexpr Nanos kStart = 1'000 * kSecond;
constexpr Nanos kPatience = 61 * kSecond;  // longer than a kernel here tries for an orphan

struct Program final : SimProgram {
    void on_socket(uint64_t) override {}
    void on_backlog(uint16_t) override {}
    void on_timer(uint64_t) override {}
};

// A server and a client, connected, on a link of 50 ms.
struct Pair {
    Program server;
    Program client;
    SimNetwork network;
    SimSocket near;
    SimSocket far;

    Pair() : network(1, slow_link(), kStart) {
        network.listen(server, kPort, 8);
        far = network.connect(client, 0, kPort, {});
        pass(kSecond);
        near = network.accept(kPort, server, 0);
    }
    static FaultPlan slow_link() {
        FaultPlan plan = no_faults();
        plan.delay_min = plan.delay_max = 50 * kMillisecond;
        plan.jitter = 0;
        return plan;
    }
    void pass(Nanos span) { network.run_until(network.clock() + span); }
    void say_goodbye() {
        const uint8_t goodbye[20] = {};
        EXPECT_EQ(network.write(near, goodbye), sizeof goodbye);
        network.close(near, false);
    }
    void host_forgets() {
        network.vanish(far);
        network.reboot(far);
    }
};

TEST(SimNetwork, AnOrphanWhosePeerIsGoneIsGivenUp) {
    Pair pair;
    pair.network.vanish(pair.far);
    pair.say_goodbye();
    pair.pass(kSecond);
    EXPECT_EQ(pair.network.orphans(pair.server), 1u);
    pair.pass(kPatience);
    EXPECT_EQ(pair.network.links(), 0u);
}

TEST(SimNetwork, AnOrphanWhosePeerForgotItIsReset) {
    Pair pair;
    pair.host_forgets();
    pair.say_goodbye();
    pair.pass(kSecond);
    EXPECT_EQ(pair.network.links(), 0u);
}

TEST(SimNetwork, AnOrphanWhosePeerForgotItBehindACutLinkIsGivenUp) {
    // In flight when the link is cut, or written later.
    for (const bool cut_first : {false, true}) {
        Pair pair;
        if (cut_first) pair.network.set_cut(pair.far, true);
        if (!cut_first) pair.say_goodbye();
        pair.network.set_cut(pair.far, true);
        pair.host_forgets();
        if (cut_first) pair.say_goodbye();
        pair.pass(kSecond);
        EXPECT_EQ(pair.network.orphans(pair.server), 1u);
        pair.pass(kPatience);
        EXPECT_EQ(pair.network.orphans(pair.server), 0u) << "cut first: " << cut_first;
        EXPECT_EQ(pair.network.links(), 0u) << "cut first: " << cut_first;
    }
}

// The link is cut while the RST is under way.
TEST(SimNetwork, AnOrphanWhoseResetIsLostIsGivenUpOrAsksAgain) {
    for (const bool heals : {false, true}) {
        Pair pair;
        pair.say_goodbye();
        pair.host_forgets();
        pair.pass(70 * kMillisecond);
        pair.network.set_cut(pair.far, true);
        pair.pass(kSecond);
        EXPECT_EQ(pair.network.orphans(pair.server), 1u);
        if (heals) pair.network.set_cut(pair.far, false);
        pair.pass(heals ? kSecond : kPatience);
        EXPECT_EQ(pair.network.orphans(pair.server), 0u) << "heals: " << heals;
        EXPECT_EQ(pair.network.links(), 0u) << "heals: " << heals;
    }
}

}  // namespace
}  // namespace pulse
