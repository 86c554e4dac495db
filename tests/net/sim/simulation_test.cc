// Small campaigns of whole simulated servers. The long campaign is `make sim`; that the simulator
// sees what it is for is proven in tests/tools/pulsesim/campaign_test.cc.
#include "net/sim/simulation.h"

#include <gtest/gtest.h>

#include "tests/support/scale.h"

namespace pulse {
namespace {

SimulationOptions small_world(uint64_t seed) {
    return {.seed = seed, .peers = 60, .duration = 180 * kSecond};
}

std::string replay(const SimulationVerdict& verdict,
                   const std::string& world = "--minutes 3 --peers 60") {
    std::string text = "build/pulsesim " + world + " --seed " + std::to_string(verdict.seed) +
                       "\nfaults " + describe_faults(verdict.faults);
    for (const Violation& each : verdict.broken) {
        text += "\n" + each.rule + " at " + std::to_string(each.at) + ": " + each.what;
    }
    return text;
}

TEST(Simulation, InvariantsHoldInManyWorlds) {
    SimClientCounts clients;
    uint64_t evicted = 0, overload_by_lag = 0, overload_by_memory = 0, overload_left = 0;
    for (uint64_t seed = 1; seed <= test::scaled(300); ++seed) {
        const SimulationVerdict verdict = simulate(small_world(seed));
        EXPECT_TRUE(verdict.ok()) << replay(verdict);
        overload_by_lag += verdict.overload_by_lag;
        overload_by_memory += verdict.overload_by_memory;
        overload_left += verdict.overload_left;
        EXPECT_EQ(verdict.evicted, verdict.clients.evictions) << "seed " << seed;
        clients.beats += verdict.clients.beats;
        clients.answers += verdict.clients.answers;
        evicted += verdict.evicted;
    }
    // Worlds in which nothing happens prove nothing.
    EXPECT_GT(clients.beats, test::scaled(100'000));
    EXPECT_GT(clients.answers, test::scaled(50'000));
    EXPECT_GT(evicted, test::scaled(2'000));
    // Lag that lasts is rare: of 300 worlds it moved a step six times.
    if (test::scaled(300) == 300) {
        EXPECT_GT(overload_by_lag, 0u);
    }
    EXPECT_GT(overload_by_memory, test::scaled(100));
    EXPECT_GT(overload_left, test::scaled(50));
}

TEST(Simulation, InvariantsHoldUnderEachFaultAlone) {
    for (size_t fault = 0; fault < kFaults; ++fault) {
        SimulationOptions options = small_world(1'000 + fault);
        options.faults = FaultSet().set(fault);
        const SimulationVerdict verdict = simulate(options);
        EXPECT_TRUE(verdict.ok()) << kFaultInfos[fault].name << "\n" << replay(verdict);
    }
}

TEST(Simulation, InvariantsHoldUnderAllFaultsAtOnce) {
    for (uint64_t seed = 1; seed <= test::scaled(20); ++seed) {
        SimulationOptions options = small_world(2'000 + seed);
        options.faults = FaultSet().set();
        const SimulationVerdict verdict = simulate(options);
        EXPECT_TRUE(verdict.ok()) << replay(verdict);
    }
}

TEST(Simulation, TheSameSeedIsTheSameRun) {
    for (uint64_t seed = 1; seed <= 5; ++seed) {
        const SimulationVerdict first = simulate(small_world(seed));
        const SimulationVerdict second = simulate(small_world(seed));
        EXPECT_EQ(first.hash, second.hash);
        EXPECT_EQ(first.events, second.events);
        EXPECT_NE(first.hash, simulate(small_world(seed + 100)).hash);
    }
}

TEST(SimFaults, NamesAreReadAndWritten) {
    EXPECT_EQ(parse_faults("none")->count(), 0u);
    EXPECT_EQ(parse_faults("all")->count(), kFaults);
    EXPECT_EQ(describe_faults(*parse_faults("stall,reset")), "reset,stall");
    EXPECT_EQ(describe_faults(*parse_faults("none")), "none");
    const Result<FaultSet> wrong = parse_faults("stall,rest");
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().find("'rest'"), std::string::npos);
    EXPECT_NE(wrong.error().find("--list-faults"), std::string::npos);
}

TEST(SimFaults, MutantsAreNamed) {
    EXPECT_EQ(*parse_mutant("none"), SimMutant::none);
    EXPECT_EQ(*parse_mutant("stamp_before_pause"), SimMutant::stamp_before_pause);
    const Result<SimMutant> wrong = parse_mutant("stamp");
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().find("'stamp' is not a mutant"), std::string::npos);
    EXPECT_NE(wrong.error().find("drained_until_is_now"), std::string::npos);
}

TEST(SimFaults, EachRunLeavesSomeOut) {
    FaultSet seen_present, seen_absent;
    for (uint64_t seed = 1; seed <= 64; ++seed) {
        Random random(seed);
        const FaultPlan plan = draw_faults(random, FaultSet().set());
        EXPECT_LT(plan.present.count(), kFaults);
        seen_present |= plan.present;
        seen_absent |= ~plan.present;
    }
    EXPECT_TRUE(seen_present.all());
    EXPECT_TRUE(seen_absent.all());
}

}  // namespace
}  // namespace pulse
