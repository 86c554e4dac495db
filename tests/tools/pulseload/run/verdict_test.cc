// A run is invalid for each of its reasons, at their bounds, and never for lack of data; and what
// became of its connections is in the verdict.
#include "tools/pulseload/run/verdict.h"

#include <gtest/gtest.h>

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

void record(RunResult& run, Timed timed, Nanos value, uint32_t times) {
    run.latency[static_cast<size_t>(timed)].record(value, times);
}

TEST(Verdict, ARunWithoutDataIsNotInvalid) {
    const Verdict verdict = judge_validity(RunResult{});
    EXPECT_TRUE(verdict.valid());
    EXPECT_TRUE(verdict.evidence.empty());
    EXPECT_TRUE(verdict.remedies.empty());
}

TEST(Verdict, AHealthyRunIsValid) {
    const Verdict verdict = judge_validity(test::plausible_result());
    EXPECT_TRUE(verdict.valid()) << verdict.evidence.at(0);
}

TEST(Verdict, LessThanWasIntendedIsInvalid) {
    RunResult run;
    run.generator.intended = 10'000;
    run.generator.made = 9'500;
    EXPECT_TRUE(judge_validity(run).valid());
    run.generator.made = 9'499;
    const Verdict verdict = judge_validity(run);
    EXPECT_FALSE(verdict.valid());
    ASSERT_EQ(verdict.evidence.size(), 1u);
    EXPECT_EQ(verdict.evidence[0].substr(0, 72),
              "It made 9,499 of the 10,000 connects and sends that the schedule held (9");
    ASSERT_EQ(verdict.remedies.size(), 1u);
    EXPECT_NE(verdict.remedies[0].find("--connect-rate"), std::string::npos);
}

TEST(Verdict, LatencyThatIsMostlyItsOwnIsInvalid) {
    for (const auto& [intended, service, name] :
         {std::tuple{Timed::heartbeat, Timed::heartbeat_service, "heartbeat"},
          std::tuple{Timed::message, Timed::message_service, "message"},
          std::tuple{Timed::connect, Timed::connect_service, "connect"}}) {
        RunResult run;
        record(run, intended, 10 * kMillisecond, 100);
        record(run, service, 3 * kMillisecond, 100);
        run.generator.lateness.record(7 * kMillisecond, 100);
        const Verdict verdict = judge_validity(run);
        EXPECT_FALSE(verdict.valid()) << name;
        ASSERT_EQ(verdict.evidence.size(), 1u);
        EXPECT_NE(verdict.evidence[0].find(std::string("Of the ") + name + " latency at p99 (10.0"),
                  std::string::npos)
            << verdict.evidence[0];
        EXPECT_NE(verdict.evidence[0].find("7.00 ms passed before"), std::string::npos)
            << verdict.evidence[0];
    }
}

TEST(Verdict, ASlowServerIsNotTheGeneratorsFault) {
    RunResult run;
    record(run, Timed::heartbeat, 900 * kMillisecond, 100'000);
    record(run, Timed::heartbeat_service, 880 * kMillisecond, 100'000);
    EXPECT_TRUE(judge_validity(run).valid());
    // Half of it is not more than half; under a millisecond is the scheduler's noise; and 99
    // values have no 99th percentile.
    RunResult half;
    record(half, Timed::heartbeat, 4'000'000, 1'000);
    record(half, Timed::heartbeat_service, 2'000'000, 1'000);
    EXPECT_TRUE(judge_validity(half).valid());
    RunResult small;
    record(small, Timed::heartbeat, 1'100'000, 1'000);
    record(small, Timed::heartbeat_service, 100'000, 1'000);
    EXPECT_TRUE(judge_validity(small).valid());
    RunResult few;
    record(few, Timed::heartbeat, 40'000'000, 99);
    record(few, Timed::heartbeat_service, 100'000, 99);
    EXPECT_TRUE(judge_validity(few).valid());
    record(few, Timed::heartbeat, 40'000'000, 1);
    record(few, Timed::heartbeat_service, 100'000, 1);
    EXPECT_FALSE(judge_validity(few).valid());
}

TEST(Verdict, AThreadWithoutReserveIsInvalid) {
    RunResult run;
    run.generator.threads = 1;
    run.generator.cores = 4;
    run.held_s = 10;
    run.generator.busiest_thread = 0.95;
    EXPECT_TRUE(judge_validity(run).valid());
    run.generator.busiest_thread = 0.96;
    const Verdict fewer_threads = judge_validity(run);
    EXPECT_FALSE(fewer_threads.valid());
    EXPECT_NE(fewer_threads.evidence.at(0).find("96 % of a core"), std::string::npos);
    EXPECT_EQ(fewer_threads.remedies.at(0), "Give it more threads: --threads.");
    run.generator.threads = 4;
    EXPECT_NE(judge_validity(run).remedies.at(0).find("more cores"), std::string::npos);
    run.held_s = 0;  // it did not hold, so nothing is known of the hold
    EXPECT_TRUE(judge_validity(run).valid());
}

TEST(Verdict, EvidenceAddsUpAndRemediesAppearOnce) {
    RunResult run;
    run.generator.intended = 10;
    run.generator.made = 1;
    for (const Timed timed : {Timed::heartbeat, Timed::connect}) record(run, timed, kSecond, 100);
    record(run, Timed::heartbeat_service, kMillisecond, 100);
    record(run, Timed::connect_service, kMillisecond, 100);
    const Verdict verdict = judge_validity(run);
    EXPECT_EQ(verdict.evidence.size(), 3u);
    EXPECT_EQ(verdict.remedies.size(), 2u);
}

// -------------------------------------------------------------------------------- the outcome

TEST(Verdict, ARunInWhichNothingOpenedIsNotConnected) {
    RunResult run;
    run.target = "ws://127.0.0.1:1";
    run.wanted = 3;
    run.counts.connects = run.counts.connect_failures = 3;
    run.errors = {"connect: Connection refused (3 times)"};
    run.generator.intended = 10;  // is not judged: there is nothing to distort
    const Verdict verdict = judge_validity(run);
    EXPECT_EQ(verdict.state, RunState::not_connected);
    EXPECT_EQ(verdict.evidence.at(0),
              "Not one connection to ws://127.0.0.1:1 opened in 3 tries: connect: Connection "
              "refused (3 times).");
    run.counts.connected = 1;
    EXPECT_NE(judge_validity(run).state, RunState::not_connected);
}

TEST(Verdict, FewerHeldThanAskedForIsIncomplete) {
    RunResult run = test::plausible_result();
    run.ends->there -= 5;
    run.ends->lost = 5;
    run.detection.codes = {{0, 2}, {1001, 3}, {4003, 920}};
    const Verdict verdict = judge_validity(run);
    EXPECT_EQ(verdict.state, RunState::incomplete);
    EXPECT_EQ(verdict.evidence.at(0),
              "5 of 100,000 connections that were asked for were not there at the end: 6,400 "
              "refused, 2 ended by the target without a goodbye, "
              "3 closed by the target with 1001 going away.");
}

TEST(Verdict, ACutShortRunAndATargetThatWentAwayAreIncomplete) {
    RunResult run = test::plausible_result();
    run.cut_short = true;
    run.cut_short_by = "SIGHUP";
    EXPECT_EQ(judge_validity(run).state, RunState::incomplete);
    EXPECT_EQ(judge_validity(run).evidence.at(0), "It was cut short by SIGHUP after 120.0 s.");
    run.cut_short = false;
    run.target_gone_s = 4.25;
    run.target_gone = "its process ended";
    run.counts.cut_off = 12;
    EXPECT_EQ(judge_validity(run).evidence.at(0),
              "The target went away 4.2 s after the start (its process ended); 12 connections "
              "ended without a goodbye.");
}

TEST(Verdict, AGapOfItsOwnIsInvalidAndComesBeforeIncomplete) {
    RunResult run = test::plausible_result();
    run.generator.gap_max = kGapMax;
    EXPECT_TRUE(judge_validity(run).valid());
    run.generator.gap_max = kGapMax + 1;
    EXPECT_EQ(judge_validity(run).state, RunState::invalid);
    run.ends->lost = 1;
    EXPECT_EQ(judge_validity(run).state, RunState::invalid);
    EXPECT_EQ(judge_validity(run).evidence.size(), 2u);
    // A bottleneck does not hide that the run is not the one that was asked for.
    run.generator.gap_max = 0;
    run.generator.made = 1;
    EXPECT_EQ(judge_validity(run).state, RunState::incomplete);
    EXPECT_EQ(judge_validity(run).evidence.size(), 2u);
    RunResult silent = test::plausible_result();
    silent.detection.own_silences = 7;
    EXPECT_EQ(judge_validity(silent).state, RunState::invalid);
    RunResult untimed = test::plausible_result();
    untimed.generator.untimed = 1;
    EXPECT_EQ(judge_validity(untimed).state, RunState::invalid);
}

}  // namespace
}  // namespace pulse::load
