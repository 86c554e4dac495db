// The summary's sentences and tables: of a good run, a bad one, an invalid one, an empty one; and
// the words that quantities are reported in.
#include "tools/pulseload/report/summary.h"

#include <gtest/gtest.h>

#include <sstream>

#include "tools/pulseload/run/derived.h"
#include "tools/pulseload/run/human.h"

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

std::string text_of(const RunResult& run, bool color = false) {
    const auto objectives = parse_objectives("p99<10ms,connect-rate>20000/s,recovery<1m");
    EXPECT_TRUE(objectives);
    return summary_text(run, judge_validity(run), judge(*objectives, run), color);
}

// Where a sentence is broken is its width's business.
std::string on_one_line(std::string_view text) {
    std::string joined(text);
    constexpr std::string_view kBreak = "\n            ";
    for (size_t at = 0; (at = joined.find(kBreak, at)) != std::string::npos;)
        joined.replace(at, kBreak.size(), " ");
    return joined;
}

::testing::AssertionResult has(const std::string& text, std::string_view part) {
    if (on_one_line(text).find(on_one_line(part)) != std::string::npos)
        return ::testing::AssertionSuccess();
    return ::testing::AssertionFailure() << "'" << part << "' is not in:\n" << text;
}

TEST(Summary, OfAGoodRun) {
    const std::string text = text_of(test::plausible_result());
    EXPECT_TRUE(
        has(text,
            "Held        99,080 of 100,000 connections were open at the end of 105.0 s, 920 "
            "silent ones evicted.\n            All were connected after 12.0 s (8,333/s). "
            "6,400 were refused.\n"));
    EXPECT_TRUE(has(text, "Heartbeats  372,683 of 372,686 were answered: half within 3"));
    EXPECT_TRUE(
        has(text, "The silent  920 of 920 were evicted after their deadline of 30s, late by"));
    EXPECT_TRUE(has(text, "0 early, 0 missed. 20 more were not due yet.\n"));
    EXPECT_TRUE(has(text, "The others  were kept"));
    EXPECT_TRUE(has(text, "The server  used 33.5 % of a core, and 13.4 MiB of memory: 79 B "));
    EXPECT_TRUE(has(text, "To trust?   yes: the generator made 99 % of its sends within 197 us"));
    EXPECT_TRUE(has(text, "Objectives  missed: connect-rate>20000/s.\n"));
    EXPECT_TRUE(has(text, "Written     page: build/run/report.html\n"));
    EXPECT_TRUE(has(text, "  heartbeat               58,500"));
    EXPECT_TRUE(has(text, "  vanish            300      280     0      0      20 "));
    EXPECT_TRUE(has(text, "    45.0 s    50,000    49,998    8.4 s "));
    EXPECT_TRUE(has(text, "  met     p99<10ms                       3."));
    EXPECT_TRUE(has(text, "  MISSED  connect-rate>20000/s           8,333/s\n"));
    EXPECT_TRUE(has(text, "connect: Connection refused (12 times)"));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(text.back(), '\n');
}

TEST(Summary, FitsATerminalOf80Columns) {
    RunResult run = test::plausible_result();
    std::istringstream lines(text_of(run));
    size_t first_table = 0;
    size_t at = 0;
    for (std::string line; std::getline(lines, line); ++at) {
        EXPECT_LE(line.size(), 80u) << line;
        EXPECT_TRUE(line.empty() || line.back() != ' ') << line;
        if (line.empty() && first_table == 0) first_table = at;
    }
    EXPECT_LE(first_table, 24u);
    EXPECT_GE(first_table, 8u);
}

// Rates are over the seconds that had any, so that a storm in the hold is not thinned.
TEST(Summary, OfHandshakes) {
    RunResult run = test::plausible_result();
    EXPECT_FALSE(has(text_of(run), "\nTLS "));
    run.tls = TlsResult{{{"TLSv1.3 TLS_AES_256_GCM_SHA384", 3'000}}, {{"bad", 2}}};
    for (size_t at = 5; at < run.samples.size(); ++at) {
        run.samples[at].counts.tls_full = at < 60 ? 1'000 : 2'000;
        run.samples[at].counts.tls_resumed = 500;
    }
    run.counts = run.samples.back().counts;
    run.counts.tls_offered = 600;
    run.counts.tls_failed = 2;
    run.latency[static_cast<size_t>(Timed::tls_handshake)].record(3 * kMillisecond, 2'500);
    run.generator.rss_empty_bytes = 1'000'000;
    run.generator.rss_bytes = 1'000'000 + 2'048 * run.samples[116].counts.open;
    const std::string text = text_of(run);
    EXPECT_TRUE(has(text,
                    "TLS         2,000 full handshakes (1,000/s), 500 resumed handshakes (500/s): "
                    "half within 3.00 ms, 99 % within 3.00 ms, the slowest took 3.00 ms. 2 failed. "
                    "The generator has 2.00 KiB for each connection."));
    EXPECT_TRUE(has(text, "  tls_handshake            2,500"));
}

TEST(Summary, OfABadRun) {
    RunResult run = test::plausible_result();
    Detection::Row& mute = run.detection.rows[static_cast<size_t>(Behaviour::mute)];
    mute.evicted -= 100;
    mute.early = 90;
    mute.missed = 10;
    mute.early_by.record(15 * kSecond, 90);
    run.detection.false_evictions = 7;
    run.cut_short = true;
    run.cut_short_by = "SIGINT";
    run.samples[116].counts.open -= 500;
    run.ends = ConnectionOutcome{.there = 98'570, .evicted = 920, .by_kind = 200, .lost = 310};
    run.counts.connect_failures = 1;
    run.behaviours = {{"beat", 99'800}, {"garbage", 200}};
    const std::string text = text_of(run);
    EXPECT_TRUE(has(text, "CUT SHORT   by SIGINT after 120.0 s"));
    EXPECT_TRUE(has(text, "98,580 of 100,000 connections"));
    EXPECT_TRUE(has(text, "evicted,\n            200 gone as planned; 310 are missing."));
    EXPECT_TRUE(has(text, " 1\n            connect failed. 6,400"));
    EXPECT_TRUE(has(text, "820 of 920 were evicted"));
    EXPECT_TRUE(has(text, "90 early, 10 missed."));
    EXPECT_TRUE(has(text, "The others  7 that beat in time were evicted: 7 false evictions.\n"));
    EXPECT_TRUE(has(text, "   15.0 s\n"));  // the most that one was early
}

TEST(Summary, OfAnInvalidRun) {
    RunResult run = test::plausible_result();
    run.generator.made = 100'000;
    const std::string text = text_of(run);
    EXPECT_TRUE(
        has(text, "INVALID     the generator distorted this run: do not use the numbers above."));
    EXPECT_TRUE(has(text, "It made 100,000 of the 498,112 connects"));
    EXPECT_TRUE(has(text, "--threads"));
    EXPECT_EQ(text.find("To trust?"), std::string::npos);
}

TEST(Summary, OfARunWithoutConnections) {
    const std::string text = text_of(RunResult{});
    EXPECT_TRUE(has(text, "Held        nothing: 0 of 0 connections were open when it ended.\n"));
    EXPECT_TRUE(has(text, "Heartbeats  none were sent.\n"));
    EXPECT_TRUE(has(text, "The silent  none were to fall silent.\n"));
    EXPECT_EQ(text.find("The others"), std::string::npos);
    EXPECT_EQ(text.find("The server"), std::string::npos);
    EXPECT_EQ(text.find("Latency"), std::string::npos);
    EXPECT_TRUE(
        has(text, "  MISSED  p99<10ms                       not measured: no heartbeat was"));
    RunResult unknown = test::plausible_result();
    unknown.detection.timeout = 0;
    EXPECT_TRUE(
        has(text_of(unknown), "940 fell silent, but the server's deadline is not known: name"));
    RunResult early = test::plausible_result();
    for (Detection::Row& row : early.detection.rows) row = {};
    early.detection.rows[2].silenced = early.detection.rows[2].waiting = 5;
    EXPECT_TRUE(has(text_of(early), "the run ended before the deadline of all 5.\n"));
}

TEST(Summary, ColoursAreOptionalAndControlCharactersAreEscaped) {
    RunResult run = test::plausible_result();
    EXPECT_TRUE(has(text_of(run, true), "\x1b[32mHeld        \x1b[0m99,080"));
    run.errors = {"evil \x1b[2J\n error"};
    run.storms[0].what = "\x1b]0;title\x07";
    run.files = {{"page", "a\nb"}};
    const std::string text = text_of(run);
    EXPECT_TRUE(has(text, "evil \\x1b[2J\\x0a error\n"));
    EXPECT_TRUE(has(text, "\\x1b]0;title\\x07\n"));
    EXPECT_TRUE(has(text, "page: a\\x0ab\n"));
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Words, AreRoundedToThreeDigits) {
    EXPECT_EQ(human_duration(0), "0 us");
    EXPECT_EQ(human_duration(312'000), "312 us");
    EXPECT_EQ(human_duration(999'499), "999 us");
    EXPECT_EQ(human_duration(999'500), "1.00 ms");
    EXPECT_EQ(human_duration(9'994'000), "9.99 ms");
    EXPECT_EQ(human_duration(9'996'000), "10.0 ms");
    EXPECT_EQ(human_duration(99'960'000), "100 ms");
    EXPECT_EQ(human_duration(999'600'000), "1.00 s");
    EXPECT_EQ(human_duration(750 * kSecond), "12 m 30 s");
    EXPECT_EQ(human_duration(-5 * kMillisecond), "-5.00 ms");
    EXPECT_EQ(human_seconds(599.9), "599.9 s");
    EXPECT_EQ(human_seconds(3'599.7), "1 h 0 m");
    EXPECT_EQ(human_seconds(11'100), "3 h 5 m");
    EXPECT_EQ(human_count(0), "0");
    EXPECT_EQ(human_count(999), "999");
    EXPECT_EQ(human_count(1'000), "1,000");
    EXPECT_EQ(human_count(UINT64_MAX), "18,446,744,073,709,551,615");
    EXPECT_EQ(human_bytes(85), "85 B");
    EXPECT_EQ(human_bytes(4'160), "4.06 KiB");
    EXPECT_EQ(human_bytes(1'023.9), "1.00 KiB");
    EXPECT_EQ(human_bytes(1.5 * 1024 * 1024 * 1024), "1.50 GiB");
    EXPECT_EQ(human_share(0), "0 %");
    EXPECT_EQ(human_share(0.00001), "0.1 %");
    EXPECT_EQ(human_share(0.934), "93.4 %");
    EXPECT_EQ(human_share(0.99999), "99.9 %");
    EXPECT_EQ(human_share(1), "100 %");
    EXPECT_EQ(without_zeros("10.0 ms"), "10 ms");
    EXPECT_EQ(without_zeros("1.50 s"), "1.5 s");
    EXPECT_EQ(without_zeros("100 us"), "100 us");
    EXPECT_EQ(without_zeros("2.0"), "2");
    EXPECT_EQ(without_zeros("0.05"), "0.05");
}

TEST(Words, APercentileOfTooFewValuesIsNotShown) {
    Histogram histogram;
    histogram.record(kMillisecond, 99);
    EXPECT_EQ(human_percentile(histogram, 99), "-");
    EXPECT_EQ(human_percentile(histogram, 98.5), "1.00 ms");
    histogram.record(kMillisecond);
    EXPECT_EQ(human_percentile(histogram, 99), "1.00 ms");
    EXPECT_EQ(human_percentile(histogram, 99.9), "-");
}

}  // namespace
}  // namespace pulse::load
