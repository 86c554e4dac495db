// A campaign finds the same things in any number of processes, reports which seed ended one, and
// finds what the simulator is for: every rule that is broken on purpose, within 40 seeds.
#include "tools/pulsesim/campaign.h"

#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <string>

#include "tests/support/scale.h"

namespace pulse {
namespace {

CampaignOptions small_campaign(uint32_t jobs) {
    CampaignOptions options;
    options.first_seed = 1;
    options.last_seed = 12;
    options.jobs = jobs;
    options.simulation.peers = 30;
    options.simulation.duration = 60 * kSecond;
    return options;
}

TEST(Campaign, IsTheSameInAnyNumberOfProcesses) {
    uint64_t calls = 0;
    const auto count = [&](const CampaignResult&) { ++calls; };
    const Result<CampaignResult> alone = run_campaign(small_campaign(1), count);
    const Result<CampaignResult> together = run_campaign(small_campaign(5), count);
    ASSERT_TRUE(alone && together);
    EXPECT_EQ(calls, 24u);
    EXPECT_EQ(alone->seeds, 12u);
    EXPECT_EQ(alone->hash, together->hash);
    EXPECT_EQ(alone->total.beats, together->total.beats);
    EXPECT_GT(alone->total.beats, 0u);
    EXPECT_TRUE(alone->failed.empty());
}

TEST(Campaign, NamesTheSeedsThatFailAndStopsAfterEnough) {
    CampaignOptions options = small_campaign(2);
    options.last_seed = 1'000'000;
    options.failures_max = 3;
    options.simulation.mutant = SimMutant::close_without_join;
    const Result<CampaignResult> result = run_campaign(options, [](const CampaignResult&) {});
    ASSERT_TRUE(result);
    ASSERT_GE(result->failed.size(), 3u);
    EXPECT_LT(result->seeds, 1'000u);
    SimulationOptions again = options.simulation;
    again.seed = result->failed[0].seed;
    EXPECT_EQ(simulate(again).hash, result->failed[0].hash);
    EXPECT_EQ(std::string(result->failed[0].words).substr(0, 2), "C4");
}

// In processes of its own, since a broken rule may end in an assertion. Another rule that fails
// beside it would not show that this one can.
TEST(Campaign, FindsEveryMutantWithin40SeedsByTheRuleItIsFor) {
    if (test::kSlowness > 1) GTEST_SKIP() << "what the judge finds no sanitizer changes";
    const std::map<std::string_view, std::string> rules = {
        {"drained_until_is_now", "punctual_peer_evicted"},
        {"close_without_join", "C4"},
        {"stamp_before_pause", "evicted_early"},
        {"no_send_progress", "flowing_peer_evicted"},
        {"no_reserve", "small_holder_closed"},
        {"goodbye_swallowed", "goodbye_unsaid"},
        {"answers_each", "answer_every"},
        {"answers_forgotten", "answer_every"},
        {"session_ended_early", "session_lost"},
        {"session_end_unreported", "session_kept"}};
    for (const SimMutantInfo& mutant : kSimMutantInfos) {
        CampaignOptions options;
        options.last_seed = 40;
        options.simulation.mutant = *parse_mutant(mutant.name);
        if (options.simulation.mutant == SimMutant::none) continue;
        // By what is acknowledged shorter timeouts begin, too, and evicted_early may come first.
        const bool finds_another = options.simulation.mutant == SimMutant::no_send_progress;
        options.failures_max = finds_another ? 4 : 1;
        ASSERT_TRUE(rules.contains(mutant.name)) << mutant.name << " has no rule here";
        const Result<CampaignResult> result = run_campaign(options, [](const CampaignResult&) {});
        ASSERT_TRUE(result);
        ASSERT_FALSE(result->failed.empty()) << mutant.name << ": " << mutant.text;
        std::string words;
        for (const SeedResult& failed : result->failed) words += failed.words;  // whole lines
        EXPECT_TRUE(words.empty() || words.back() == '\n') << "a line is not whole: " << words;
        EXPECT_NE(words.find(rules.at(mutant.name) + " at "), std::string::npos)
            << mutant.name << ": " << mutant.text << "\n"
            << words;
    }
}

TEST(Campaign, AWorkerThatDiesIsReportedWithItsSeed) {
    CampaignOptions options = small_campaign(2);
    options.simulation.peers = 0;  // an assertion of simulate()
    options.failures_max = 2;
    const Result<CampaignResult> result = run_campaign(options, [](const CampaignResult&) {});
    ASSERT_TRUE(result);
    ASSERT_GE(result->failed.size(), 2u);
    EXPECT_EQ(result->failed[0].signal, SIGABRT);
    EXPECT_GE(result->failed[0].seed, 1u);
    EXPECT_LT(result->failed[0].seed, result->failed[1].seed);
}

TEST(Campaign, ATraceThatCannotBeWrittenIsAnError) {
    CampaignOptions options = small_campaign(1);
    options.trace = "/nowhere/trace";
    const Result<CampaignResult> result = run_campaign(options, [](const CampaignResult&) {});
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().find("--trace /nowhere/trace"), std::string::npos);
}

}  // namespace
}  // namespace pulse
