// Several rounds: medians of the valid ones, what becomes of the others, and how that is shown.
#include "tools/pulseload/run/rounds.h"

#include <gtest/gtest.h>

#include "tools/pulseload/report/rounds_report.h"

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

// A round whose heartbeats all took that long.
Attempt round_of(Nanos latency, bool met = true) {
    Attempt made;
    made.result = test::plausible_result();
    Histogram& beats = made.result.latency[static_cast<size_t>(Timed::heartbeat)];
    beats.reset();
    beats.record(latency, 2'000);
    made.objectives = {{"p99<10ms", "some", met, ""}};
    return made;
}

TargetRounds rounds_over(const std::deque<Attempt>& attempts) {
    TargetRounds rounds{"ws://127.0.0.1:9000", {}};
    for (const Attempt& made : attempts) rounds.rounds.push_back(&made);
    return rounds;
}

const Headline* find(const std::vector<Headline>& headlines, std::string_view name) {
    for (const Headline& headline : headlines) {
        if (headline.name == name) return &headline;
    }
    return nullptr;
}

TEST(Rounds, MediansWithTheirSpread) {
    const std::deque<Attempt> attempts = {round_of(9 * kMillisecond), round_of(kMillisecond),
                                          round_of(2 * kMillisecond)};
    const std::vector<Headline> headlines = headlines_of(rounds_over(attempts));
    const Headline* p99 = find(headlines, "heartbeat p99");
    ASSERT_NE(p99, nullptr);
    EXPECT_EQ(p99->human(p99->median()), "2.00 ms");
    EXPECT_EQ(p99->human(p99->min()), "1.00 ms");
    EXPECT_EQ(p99->human(p99->max()), "9.00 ms");
    EXPECT_EQ(p99->values.size(), 3u);
    for (const char* name : {"connects", "heartbeats", "message p99", "false evictions",
                             "server CPU", "server RSS a connection"})
        EXPECT_NE(find(headlines, name), nullptr) << name;
    const Headline even{.name = "x", .unit = "1", .human = nullptr, .values = {4, 1, 2, 3}};
    EXPECT_EQ(even.median(), 2.5);
    EXPECT_EQ(&typical_round(rounds_over(attempts)), &attempts[2]);
}

TEST(Rounds, OnlyValidOnesCountAndMostMustBe) {
    std::deque<Attempt> attempts = {round_of(kMillisecond), round_of(5 * kMillisecond),
                                    round_of(7 * kMillisecond, false)};
    attempts[0].verdict = {RunState::invalid, {"a gap"}, {}};
    const TargetRounds rounds = rounds_over(attempts);
    EXPECT_EQ(state_of(rounds), RunState::valid);
    EXPECT_EQ(find(headlines_of(rounds), "heartbeat p99")->values.size(), 2u);
    EXPECT_FALSE(objectives_of(rounds).at(0).met);  // in one of two
    EXPECT_EQ(objectives_of(rounds).at(0).measured, "met in 1 of 2 valid rounds");
    attempts[1].verdict = {RunState::incomplete, {"less"}, {}};
    EXPECT_EQ(state_of(rounds), RunState::invalid);
    attempts[2].verdict = {RunState::not_connected, {"none"}, {"start it"}};
    EXPECT_EQ(state_of(rounds), RunState::not_connected);
    EXPECT_TRUE(headlines_of(rounds).empty());
    EXPECT_TRUE(objectives_of(rounds).empty());
    EXPECT_EQ(&typical_round(rounds), &attempts[0]);
}

TEST(Rounds, AreShownInEveryOutput) {
    std::deque<Attempt> attempts = {round_of(kMillisecond), round_of(2 * kMillisecond)};
    attempts[0].verdict = {RunState::invalid, {"A gap of 4 s."}, {}};
    TargetRounds rounds = rounds_over(attempts);
    rounds.target = "ws://<b>\x1b";
    const std::string text = rounds_text({rounds}, false);
    EXPECT_NE(text.find("1: invalid, 2: valid"), std::string::npos) << text;
    EXPECT_NE(text.find("A gap of 4 s."), std::string::npos) << text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    const auto json = rounds_json({rounds}, attempts);
    EXPECT_EQ(json["schema"], "pulseload-rounds/1");
    EXPECT_EQ(json["runs"].size(), 2u);
    EXPECT_EQ(json["targets"][0]["states"][0], "invalid");
    EXPECT_EQ(json["targets"][0]["headlines"]["heartbeat p99"]["unit"], "ns");
    const std::string page = rounds_page({rounds});
    EXPECT_NE(page.find("Rounds: ws://&lt;b&gt;"), std::string::npos);
    EXPECT_EQ(page.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace pulse::load
