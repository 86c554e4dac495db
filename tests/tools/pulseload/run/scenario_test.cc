// Weights, storms, and what each client becomes.
#include "tools/pulseload/run/scenario.h"

#include <gtest/gtest.h>

#include "tools/pulseload/options.h"

namespace pulse::load {
namespace {

TEST(Scenario, WeightsAreReadByName) {
    const auto mix = parse_mix("ws=70,jsonl=20,tcp=10");
    ASSERT_TRUE(mix);
    EXPECT_EQ(mix->of, (std::array<uint32_t, kWires>{70, 0, 20, 10}));
    const auto behaviours = parse_behaviours("slow-reader=1,beat=2");
    ASSERT_TRUE(behaviours);
    EXPECT_EQ(behaviours->of[static_cast<size_t>(Behaviour::slow_reader)], 1u);
    EXPECT_EQ(behaviours->total(), 3u);
}

TEST(Scenario, WeightErrorsNameTheOffender) {
    const std::pair<const char*, const char*> cases[] = {
        {"ws", "'ws' has no '='"},
        {"ws=70,mqtt=3", "'mqtt' is unknown; there is ws, ws-json, jsonl or tcp"},
        {"ws=-1", "'-1'"},
        {"ws=2000000", "'2000000' is over 1000000"},
        {"ws=0", "all weights are 0"},
        {"", "all weights are 0"},
    };
    for (const auto& [text, words] : cases) {
        const auto mix = parse_mix(text);
        ASSERT_FALSE(mix) << text;
        EXPECT_NE(mix.error().find(words), std::string::npos) << mix.error();
    }
}

// Any run of clients has the weights that were asked for, in both respects at once.
TEST(Scenario, KindsAreSpreadEvenly) {
    const auto mix = parse_mix("ws=50,jsonl=30,tcp=20");
    const auto behaviours = parse_behaviours("beat=80,mute=15,vanish=5");
    ASSERT_TRUE(mix && behaviours);
    for (const uint64_t first : {uint64_t{0}, uint64_t{12'345}, uint64_t{900'000}}) {
        constexpr int kClients = 2'000;
        int wires[kWires] = {};
        int kinds[kBehaviours] = {};
        int both = 0;
        for (uint64_t client = first; client < first + kClients; ++client) {
            const ClientKind kind = kind_of(client, *mix, *behaviours);
            ++wires[static_cast<size_t>(kind.wire)];
            ++kinds[static_cast<size_t>(kind.behaviour)];
            both += kind.wire == Wire::ws && kind.behaviour == Behaviour::mute;
        }
        EXPECT_NEAR(wires[static_cast<size_t>(Wire::ws)], 1'000, 20);
        EXPECT_NEAR(wires[static_cast<size_t>(Wire::jsonl)], 600, 20);
        EXPECT_NEAR(wires[static_cast<size_t>(Wire::tcp)], 400, 20);
        EXPECT_EQ(wires[static_cast<size_t>(Wire::ws_json)], 0);
        EXPECT_NEAR(kinds[static_cast<size_t>(Behaviour::mute)], 300, 20);
        EXPECT_NEAR(kinds[static_cast<size_t>(Behaviour::vanish)], 100, 20);
        EXPECT_NEAR(both, 150, 30);
    }
}

TEST(Scenario, StormsAreRead) {
    const auto kill = parse_storm("kill=50%@30s,reconnect=exponential");
    ASSERT_TRUE(kill) << kill.error();
    EXPECT_EQ(kill->kind, StormPlan::Kind::kill);
    EXPECT_EQ(kill->fraction, 0.5);
    EXPECT_EQ(kill->at, 30 * kSecond);
    EXPECT_EQ(kill->reconnect, Reconnect::exponential);
    const auto silence = parse_storm("silence=100k@1m");
    ASSERT_TRUE(silence) << silence.error();
    EXPECT_EQ(silence->kind, StormPlan::Kind::silence);
    EXPECT_EQ(silence->count, 100'000u);
    EXPECT_EQ(silence->fraction, 0);
    EXPECT_EQ(parse_storm("vanish=1@0")->kind, StormPlan::Kind::vanish);
}

TEST(Scenario, StormErrorsNameTheOffender) {
    const std::pair<const char*, const char*> cases[] = {
        {"kill=50%", "'50%' lacks its time"},
        {"kill=0@3s", "'0@3s'"},
        {"kill=101%@3s", "'101%@3s'"},
        {"kill=5@3", "'3'"},
        {"kill=5@3s,silence=5@3s", "one thing"},
        {"maim=5@3s", "'maim' is not a part of a storm"},
        {"reconnect=none", "has none of kill"},
        {"kill=5@3s,reconnect=politely", "'politely' is not a way to reconnect; there is never"},
        {"", "has none of kill"},
    };
    for (const auto& [text, words] : cases) {
        const auto storm = parse_storm(text);
        ASSERT_FALSE(storm) << text;
        EXPECT_NE(storm.error().find(words), std::string::npos) << storm.error();
    }
}

TEST(Scenario, EveryWayToReconnectHasItsName) {
    for (int i = 0; i <= static_cast<int>(Reconnect::hint); ++i) {
        const auto reconnect = static_cast<Reconnect>(i);
        const auto read = parse_reconnect(name_of(reconnect));
        ASSERT_TRUE(read);
        EXPECT_EQ(*read, reconnect);
    }
}

// First beats are spread over an interval.
TEST(Scenario, ByDefaultEveryClientBeatsWithinTheHold) {
    const LoadOptions defaults;
    EXPECT_GE(defaults.duration, 2 * defaults.heartbeat_interval);
}

}  // namespace
}  // namespace pulse::load
