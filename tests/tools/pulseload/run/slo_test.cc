// Objectives: what may be written, what the errors are, and when each is met.
#include "tools/pulseload/run/slo.h"

#include <gtest/gtest.h>

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

// A run whose numbers are easy: 1,000 heartbeats of 1 ms to 1 s, one a millisecond.
RunResult easy_run() {
    RunResult run;
    for (int64_t ms = 1; ms <= 1'000; ++ms)
        run.latency[static_cast<size_t>(Timed::heartbeat)].record(ms * kMillisecond);
    run.latency[static_cast<size_t>(Timed::connect)].record(500'000, 2);
    run.wanted = 100;
    run.counts.connected = 100;
    run.counts.refusals = 3;
    run.connected_s = 2;
    Sample ramp;
    ramp.at_s = 2;
    ramp.counts.open = 100;
    ramp.counts.connected = 100;
    Sample hold = ramp;
    hold.phase = Phase::hold;
    hold.at_s = 12;
    hold.counts.open = 88;
    hold.counts.pongs = 500;
    run.samples = {ramp, hold};
    run.ends = ConnectionOutcome{.there = 88, .evicted = 9, .by_kind = 0, .lost = 3};
    run.detection.timeout = 3 * kSecond;
    Detection::Row& mute = run.detection.rows[static_cast<size_t>(Behaviour::mute)];
    mute.silenced = 12;
    mute.evicted = 8;
    mute.early = 1;
    mute.missed = 2;
    mute.waiting = 1;
    mute.late_by.record(20 * kMillisecond, 8);
    run.detection.false_evictions = 4;
    run.generator.lateness.record(30'000, 100);
    return run;
}

ObjectiveResult judge_one(std::string_view text, const RunResult& run) {
    const Result<std::vector<Objective>> objectives = parse_objectives(text);
    EXPECT_TRUE(objectives) << text << ": " << (objectives ? "" : objectives.error());
    return judge(*objectives, run).at(0);
}

TEST(Objectives, OfHeartbeatsAreOfTheHoldAndOfConnectsOfAll) {
    RunResult run = easy_run();
    for (const Timed timed : {Timed::heartbeat, Timed::connect}) {
        run.hold_latency[static_cast<size_t>(timed)].record(7 * kMillisecond, 100);
    }
    EXPECT_EQ(judge_one("p99<10ms", run).measured, "7 ms");
    EXPECT_EQ(judge_one("connect.p50<10ms", run).measured, "500 us");
}

TEST(Objectives, AreMetOrMissedByTheComparison) {
    const RunResult run = easy_run();
    const struct {
        std::string_view text;
        bool met;
        std::string_view measured;
    } kRows[] = {
        {"p50<501ms", true, "500.223 ms"},
        {"p50<500.223ms", false, "500.223 ms"},
        {"p50<=500.223ms", true, "500.223 ms"},
        {"p50=500.223ms", true, "500.223 ms"},
        {"p50>=500.223ms", true, "500.223 ms"},
        {"p50>500.223ms", false, "500.223 ms"},
        {"rtt.p99.9<1s", true, "999.423 ms"},
        {"heartbeat.p99.9<999.4ms", false, "999.423 ms"},
        {"rtt.max<=1s", true, "1 s"},
        {"rtt.min<=1ms", true, "1 ms"},
        {"mean<501ms", true, "500.5 ms"},
        {"connect.p50<1ms", true, "500 us"},
        {"connect.p100=500us", true, "500 us"},
        {"lateness.p99<1ms", true, "30 us"},
        {"eviction-delay.max<=20ms", true, "20 ms"},
        {"false-evictions=0", false, "4"},
        {"false-evictions<=4", true, "4"},
        {"missed-evictions=2", true, "2"},
        {"early-evictions=0", false, "1"},
        {"refused=0", false, "3"},
        {"connect-failures=0", true, "0"},
        {"lost=3", true, "3"},  // 100 asked for, 88 there, 9 silenced ones evicted
        {"connected>=100", true, "100"},
        {"connect-rate>49/s", true, "50/s"},
        {"connect-rate>20000/s", false, "50/s"},
        {"heartbeat-rate>=3000/m", true, "50/s"},
    };
    for (const auto& row : kRows) {
        const ObjectiveResult result = judge_one(row.text, run);
        EXPECT_EQ(result.met, row.met) << row.text;
        EXPECT_EQ(result.measured, row.measured) << row.text;
        EXPECT_EQ(result.objective, row.text);
        EXPECT_EQ(result.why, "");
    }
}

TEST(Objectives, OfWhatWasNotMeasuredAreMissedWithAReason) {
    const RunResult nothing;
    const struct {
        std::string_view text;
        std::string_view why;
    } kRows[] = {
        {"p99<1h", "no heartbeat was answered"},
        {"message.max<1s", "no message came back"},
        {"connect.p50<1ms", "nothing connected"},
        {"connect-rate<1/s", "nothing connected"},
        {"heartbeat-rate<1/s", "the run ended before the hold"},
        {"false-evictions=0", "the server's timeout is not known"},
        {"missed-evictions=0",
         "no silenced peer came to its deadline, or the server's timeout is not known"},
        {"lost=0", "the run ended before the hold"},
        {"recovery<1m", "no storm let its clients come back"},
    };
    for (const auto& row : kRows) {
        const ObjectiveResult result = judge_one(row.text, nothing);
        EXPECT_FALSE(result.met) << row.text;
        EXPECT_EQ(result.measured, "") << row.text;
        EXPECT_EQ(result.why, row.why) << row.text;
    }
    EXPECT_TRUE(judge_one("refused=0", nothing).met);
    RunResult few;
    Histogram& beats = few.latency[static_cast<size_t>(Timed::heartbeat)];
    beats.record(kMillisecond, 2);
    EXPECT_TRUE(judge_one("p50<2ms", few).met);
    EXPECT_TRUE(judge_one("max<2ms", few).met);
    EXPECT_FALSE(judge_one("p99.9<2ms", few).met);
    EXPECT_EQ(judge_one("p99.9<2ms", few).why, "2 values have no such percentile, it takes 1,000");
    beats.record(kMillisecond, 997);
    EXPECT_FALSE(judge_one("p99.9<2ms", few).met);
    beats.record(kMillisecond);
    EXPECT_TRUE(judge_one("p99.9<2ms", few).met);
    // Peers were silenced, but none came to its deadline.
    RunResult run = easy_run();
    Detection::Row& mute = run.detection.rows[static_cast<size_t>(Behaviour::mute)];
    mute.evicted = mute.early = mute.missed = 0;
    EXPECT_FALSE(judge_one("missed-evictions=0", run).met);
    EXPECT_NE(judge_one("missed-evictions=0", run).why, "");
}

TEST(Objectives, AStormThatDidNotRecoverMissesEveryBound) {
    RunResult run;
    run.storms.resize(3);
    run.storms[0].recovery_s = 3.5;
    run.storms[0].tries = run.storms[1].tries = 7;  // the third one's clients were to stay away
    EXPECT_EQ(judge_one("recovery<1h", run).measured, "never");
    EXPECT_FALSE(judge_one("recovery<1h", run).met);
    run.storms[1].recovery_s = 4.5;
    EXPECT_EQ(judge_one("recovery<5s", run).measured, "4.5 s");
    EXPECT_TRUE(judge_one("recovery<5s", run).met);
}

TEST(Objectives, ComeInTheirOrderAndWithoutWhiteSpace) {
    const auto objectives = parse_objectives(" p99 < 10ms,\n\tfalse-evictions = 0 ");
    ASSERT_TRUE(objectives);
    ASSERT_EQ(objectives->size(), 2u);
    EXPECT_EQ((*objectives)[0].text, "p99<10ms");
    EXPECT_EQ((*objectives)[1].text, "false-evictions=0");
}

TEST(Objectives, AnErrorNamesTheOffenderAndWhatIsKnown) {
    const struct {
        std::string_view text;
        std::vector<std::string_view> says;
    } kRows[] = {
        {"", {"an objective is empty", "p99<10ms"}},
        {"p99<10ms,", {"an objective is empty"}},
        {"p99", {"'p99' compares with nothing", "p99<10ms"}},
        {"<10ms", {"'' in '<10ms' is not known"}},
        {"p99<10", {"in 'p99<10'", "'10' has no unit", "250ms"}},
        {"p99<", {"in 'p99<'"}},
        {"p99==10ms", {"in 'p99==10ms'", "'=10ms'"}},
        {"p101<10ms", {"'p101'", "is not known", "p99 (any pN, mean, min, max"}},
        {"p99x<10ms", {"'p99x'"}},
        {"p-1<10ms", {"'p-1'"}},
        {"p1e1<10ms", {"'p1e1'"}},
        {"rtt<10ms", {"'rtt' in 'rtt<10ms' needs a statistic, such as rtt.p99"}},
        {"connekt.p99<10ms", {"'connekt.p99'", "rtt, heartbeat, connect, message"}},
        {"refused.p99<1", {"'refused.p99'", "is not known"}},
        {"refused<1ms", {"in 'refused<1ms'", "'1ms'", "50000, 50k or 1M"}},
        {"connect-rate>20000", {"in 'connect-rate>20000'", "lacks its period"}},
        {"false-eviction=0", {"'false-eviction'", "false-evictions", "early-evictions", "lost"}},
        {"p99<10ms,refused=0,x>1", {"'x' in 'x>1'"}},
    };
    for (const auto& row : kRows) {
        const auto objectives = parse_objectives(row.text);
        ASSERT_FALSE(objectives) << row.text;
        for (const std::string_view part : row.says)
            EXPECT_NE(objectives.error().find(part), std::string::npos) << objectives.error();
    }
}

}  // namespace
}  // namespace pulse::load
