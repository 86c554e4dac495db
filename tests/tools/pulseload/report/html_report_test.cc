// The page: well formed, self-contained, whole for good, bad and empty runs, and deaf to what
// hostile text asks of it. And the arithmetic under its plots.
#include "tools/pulseload/report/html_report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tools/pulseload/report/markup.h"
#include "tools/pulseload/report/plot.h"

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

size_t count_of(const std::string& text, std::string_view part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

// Empty if every tag is closed by its own, in order; else what is wrong.
std::string why_malformed(const std::string& html) {
    std::vector<std::string> open;
    for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
        if (html.compare(at, 2, "<!") == 0) {
            at = html.find('>', at);
            continue;
        }
        const size_t end = html.find('>', at);
        if (end == std::string::npos) return "a tag without an end";
        const std::string tag = html.substr(at + 1, end - at - 1);
        if (count_of(tag, "\"") % 2 != 0) return "quotes in <" + tag + ">";
        if (tag.find('<') != std::string::npos) return "a tag within <" + tag + ">";
        at = end;
        const std::string name = tag.substr(0, tag.find_first_of(" \n/", tag[0] == '/' ? 1 : 0));
        if (tag.back() == '/' || name == "meta") continue;
        if (tag[0] != '/') {
            open.push_back(name);
            // A style sheet has its own rules.
            if (name == "style") at = html.find("</style>", at);
            continue;
        }
        if (open.empty() || "/" + open.back() != name)
            return "<" + name + "> closes <" + (open.empty() ? "" : open.back()) + ">";
        open.pop_back();
    }
    return open.empty() ? "" : "<" + open.back() + "> is never closed";
}

std::string page_of(const RunResult& run) {
    const auto objectives = parse_objectives("p99<10ms,recovery<1s,message.p50<1h");
    return html_page(run, judge_validity(run), judge(*objectives, run));
}

void expect_self_contained(const std::string& html) {
    for (const std::string_view part :
         {"<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "javascript:"})
        EXPECT_EQ(html.find(part), std::string::npos) << part;
    EXPECT_NE(html.find("Content-Security-Policy\" content=\"default-src 'none'"),
              std::string::npos);
}

TEST(HtmlReport, IsWellFormedAndSelfContained) {
    const std::string html = page_of(test::plausible_result());
    EXPECT_EQ(why_malformed(html), "");
    expect_self_contained(html);
    EXPECT_LT(html.size(), 400'000u);
    EXPECT_NE(why_malformed("<p><b></p></b>"), "");
    EXPECT_NE(why_malformed("<p>"), "");
    EXPECT_NE(why_malformed("<p class=\"a>b</p>"), "");
}

TEST(HtmlReport, ShowsEveryPlotTableAndTile) {
    const RunResult run = test::plausible_result();
    const std::string html = page_of(run);
    for (const std::string_view title :
         {"Connections", "Heartbeats a second", "Heartbeat latency", "Eviction delay",
          "Comings and goings", "Connect latency", "Message latency", "CPU", "Server memory",
          "Memory a connection", "Lateness of the generator"})
        EXPECT_EQ(count_of(html, "<figcaption><h3>" + std::string(title) + "</h3>"), 1u) << title;
    EXPECT_EQ(count_of(html, "<svg viewBox=\"0 0 1000 1000\""), 11u);
    EXPECT_EQ(count_of(html, "role=\"img\" aria-label=\""), 11u);
    for (const std::string_view heading :
         {"What happened", "Objectives", "Over time", "Latencies", "Silenced peers", "Storms",
          "What went wrong", "How it was run"})
        EXPECT_EQ(count_of(html, "<h2>" + std::string(heading) + "</h2>"), 1u) << heading;
    EXPECT_NE(html.find("<strong>Valid</strong>"), std::string::npos);
    EXPECT_NE(html.find("<li>recovery&lt;1s: 8.4 s</li>"), std::string::npos);
    EXPECT_NE(html.find("<span>False evictions</span><b>0</b>"), std::string::npos);
    EXPECT_NE(html.find(">deadline</span>"), std::string::npos);
    for (const std::string_view part :
         {"<span class=\"yname\">latency (log scale)</span>",
          "<span class=\"yname\">connections</span><span class=\"xname\">time since the start "
          "(min:s)</span>",
          "<span class=\"xname\">time from the deadline</span>", "<td>4003 idle_timeout</td>",
          "Target: ws://127.0.0.1:9000 · pulsewheel 0.1.0, io_uring, process 4711",
          "<td>heartbeat-timeout</td><td class=\"wide\">30s</td>", "<td>CPU</td>"})
        EXPECT_NE(html.find(part), std::string::npos) << part;
    // Percentiles differ without colour, in the legend as in the plot.
    for (const std::string_view line : {"s5 d0", "s4 d1", "s2 d2", "s1 d3", "s0 d4"})
        EXPECT_GE(count_of(html, "<path class=\"line " + std::string(line) + "\""), 4u) << line;
    EXPECT_NE(html.find("reconnect=full-jitter --server-pid 4711</pre>"), std::string::npos);
}

TEST(HtmlReport, NamesWhatIsWrong) {
    RunResult run = test::plausible_result();
    run.cut_short = true;
    run.cut_short_by = "SIGINT";
    run.generator.made = 100;
    run.detection.false_evictions = 7;
    Detection::Row& mute = run.detection.rows[static_cast<size_t>(Behaviour::mute)];
    mute.early = 100;
    mute.evicted = 500;
    mute.early_by.record(15 * kSecond, 100);
    const std::string html = page_of(run);
    EXPECT_EQ(why_malformed(html), "");
    for (const std::string_view part :
         {"<strong>INCOMPLETE: the numbers are not of the run", "<li>It made 100 of",
          "<strong>Cut short</strong>", "<span>False evictions</span><b>7</b>",
          "<td class=\"bad\">100</td>", "-15.0 s"})
        EXPECT_NE(html.find(part), std::string::npos) << part;
    EXPECT_EQ(html.find("<strong>Valid</strong>"), std::string::npos);
}

TEST(HtmlReport, ATargetThatWentAwayIsRed) {
    RunResult run = test::plausible_result();
    run.target_gone_s = 4.25;
    run.target_gone = "its process ended";
    run.counts.cut_off = run.detection.cut_off = 12;
    run.ends->lost = 12;
    const std::string html = page_of(run);
    EXPECT_EQ(why_malformed(html), "");
    for (const std::string_view part :
         {"<div class=\"verdict bad\"><strong>INCOMPLETE: ", "<li>The target went away 4.2 s",
          "<li class=\"bad\"><span>Cut off</span><b>12</b>"})
        EXPECT_NE(html.find(part), std::string::npos) << part;
    EXPECT_EQ(html.find("<strong>Valid</strong>"), std::string::npos);
    EXPECT_EQ(html.find("Raise the target"), std::string::npos);
}

TEST(HtmlReport, IsWholeForAnEmptyRun) {
    const std::string html = html_page(RunResult{}, Verdict{}, {});
    EXPECT_EQ(why_malformed(html), "");
    expect_self_contained(html);
    EXPECT_EQ(count_of(html, "<svg "), 0u);
    EXPECT_EQ(count_of(html, "<figure"), 0u);
    EXPECT_NE(html.find("none were sent."), std::string::npos);
    RunResult one_second;
    one_second.samples.resize(1);
    one_second.samples[0].at_s = 1;
    EXPECT_EQ(why_malformed(page_of(one_second)), "");
    EXPECT_EQ(page_of(one_second).find("nan"), std::string::npos);
    one_second.samples[0].at_s = 0;
    EXPECT_EQ(page_of(one_second).find("inf"), std::string::npos);
}

TEST(HtmlReport, HostileTextIsEscaped) {
    const std::string evil = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;\x01";
    RunResult run = test::plausible_result();
    run.version = run.command_line = run.started_at = run.machine = evil;
    run.settings = {{evil, evil}};
    run.protocols = run.behaviours = {{evil, 1}};
    run.errors = {evil};
    run.storms[0].what = evil;
    run.detection.server_closes = {{evil, 1}};
    const std::string html =
        html_page(run, {RunState::invalid, {evil}, {evil}}, {{evil, evil, true, evil}});
    EXPECT_EQ(why_malformed(html), "");
    EXPECT_EQ(html.find("<script"), std::string::npos);
    EXPECT_EQ(html.find("<img"), std::string::npos);
    EXPECT_EQ(html.find('\x01'), std::string::npos);
    EXPECT_NE(html.find("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;"), std::string::npos);
    EXPECT_EQ(escaped("a\n\tb\x7f\xff"), "a\n\tb\\x7f\\xff");
}

TEST(HtmlReport, AnHourIsThinnedAndKeepsItsWorst) {
    RunResult run = test::plausible_result();
    const std::vector<Sample> minutes = run.samples;
    run.samples.clear();
    for (int second = 0; second < 3'600; ++second) {
        run.samples.push_back(minutes[static_cast<size_t>(second) % 100]);
        run.samples.back().at_s = second + 1;
        run.samples.back().lateness_max = second == 1'234 ? 7 * kSecond : 50'000;
        if (second != 2'345) continue;
        LatencyPoint& worst = run.samples.back().latency[static_cast<size_t>(Timed::heartbeat)];
        worst.p99 = 8 * kSecond;
        worst.max = 9 * kSecond;
    }
    const std::string html = page_of(run);
    EXPECT_EQ(why_malformed(html), "");
    EXPECT_LT(html.size(), 600'000u);
    EXPECT_NE(html.find("latest: from 50 us to 7.00 s."), std::string::npos);
    EXPECT_NE(html.find(" to 8.00 s. p90: "), std::string::npos);
    EXPECT_NE(html.find(" to 9.00 s. p99.9: "), std::string::npos);
    EXPECT_NE(html.find(">1:00:00</span>"), std::string::npos);
}

TEST(HtmlReport, ASecondCutShortByItsPhaseMakesNoRateOfItsOwn) {
    RunResult run;
    const double ends[] = {1, 2, 2.01, 3, 4};
    for (const double at_s : ends) {
        Sample sample;
        sample.at_s = at_s;
        sample.phase = at_s > 2 ? Phase::hold : Phase::ramp;
        sample.counts.pongs = static_cast<uint64_t>(1'000 * at_s) + (at_s == 2.01 ? 90 : 0);
        run.samples.push_back(sample);
    }
    const std::string html = page_of(run);
    EXPECT_NE(html.find("heartbeats: from 910/s to 1,088/s."), std::string::npos)
        << html.substr(html.find("aria-label=\"Heartbeats"), 200);
    EXPECT_NE(html.find(">ramp</span>"), std::string::npos);
}

TEST(HtmlReport, NamesTheFileThatItCouldNotWrite) {
    const Result<void> written = write_html("/nowhere/a.html", RunResult{}, Verdict{}, {});
    ASSERT_FALSE(written);
    EXPECT_NE(written.error().find("'/nowhere/a.html'"), std::string::npos);
}

// ------------------------------------------------------------------------------------------ plots

std::string human_number(double value) { return std::to_string(static_cast<int>(value)); }

LinePlot small_plot(std::vector<double> values) {
    LinePlot plot;
    plot.title = "T";
    plot.series.push_back({.name = "a", .values = std::move(values)});
    for (size_t at = 0; at < plot.series[0].values.size(); ++at)
        plot.at_s.push_back(static_cast<double>(at));
    plot.format = human_number;
    return plot;
}

TEST(Plot, DrawsValuesWhereTheyBelong) {
    const std::string html = draw(small_plot({0, 5, 10}));
    EXPECT_NE(html.find("d=\"M0.0 1000.0h0L500.0 500.0L1000.0 0.0\""), std::string::npos) << html;
    EXPECT_NE(html.find("<span style=\"top:0.00%\">10</span>"), std::string::npos);
    EXPECT_NE(html.find("data-tip=\"0:01\na: 5\""), std::string::npos);
    EXPECT_NE(html.find("aria-label=\"T over time. a: from 0 to 10.\""), std::string::npos);
    LinePlot log = small_plot({10, 100, 1'000});
    log.scale = Scale::log;
    EXPECT_NE(draw(log).find("d=\"M0.0 1000.0h0L500.0 500.0L1000.0 0.0\""), std::string::npos);
}

TEST(Plot, BreaksWhereThereIsNoValue) {
    LinePlot plot = small_plot({0, 10, NAN, 10, NAN, 0});
    plot.series[0].filled = true;
    const std::string html = draw(plot);
    EXPECT_NE(html.find("d=\"M0.0 1000.0h0L200.0 0.0M600.0 0.0h0M1000.0 1000.0h0\""),
              std::string::npos)
        << html;
    EXPECT_NE(html.find("d=\"M0.0 1000.0L200.0 0.0L200.0 1000L0.0 1000ZM600.0 0.0L600.0 1000"),
              std::string::npos)
        << html;
    EXPECT_EQ(html.find("nan"), std::string::npos);
    LinePlot log = small_plot({NAN, NAN});
    log.scale = Scale::log;
    EXPECT_EQ(draw(log).find("nan"), std::string::npos);
    EXPECT_EQ(draw(small_plot({})), "");
}

TEST(Plot, AValueAloneIsADotAndWholeNumbersHaveNoStepsBetween) {
    LinePlot plot = small_plot({0, 1, NAN, 1, NAN});
    plot.integer = true;
    const std::string html = draw(plot);
    EXPECT_NE(html.find("<path class=\"dot s0\" d=\"M750.0 0.0h0\"/>"), std::string::npos) << html;
    EXPECT_EQ(count_of(html, "<span style=\"top:"), 2u) << html;
    plot.series[0].values = {0, 3, 2, 3, 1};
    EXPECT_EQ(count_of(draw(plot), "<span style=\"top:"), 4u);
    EXPECT_EQ(draw(plot).find("dot"), std::string::npos);
    plot.series[0].values = {0, 300, 2, 3, 1};
    EXPECT_EQ(count_of(draw(plot), "<span style=\"top:"), 4u);  // 0, 100, 200, 300
}

TEST(Plot, StacksBars) {
    BarPlot plot;
    plot.title = "T";
    plot.width = 10;
    plot.from = -10;
    plot.series = {{.name = "a", .values = {0, 5}}, {.name = "b", .color = 1, .values = {0, 5}}};
    plot.marks = {{0, "deadline"}};
    plot.format = human_number;
    const std::string html = draw(plot);
    EXPECT_NE(html.find("<rect class=\"bar s0\" x=\"540.0\" y=\"500.0\" width=\"420.0\" "
                        "height=\"500.0\"/><rect class=\"bar s1\" x=\"540.0\" y=\"0.0\" "),
              std::string::npos)
        << html;
    EXPECT_NE(html.find("<path class=\"mark\" d=\"M500.0 0V1000\"/>"), std::string::npos);
    EXPECT_NE(html.find("aria-label=\"T. 0 to 10\na: 5\nb: 5.\""), std::string::npos) << html;
}

TEST(Plot, AxesHaveRoundSteps) {
    EXPECT_EQ(axis_steps(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
    EXPECT_EQ(axis_steps(0, 1'001, 5), (std::vector<double>{0, 250, 500, 750, 1'000, 1'250}));
    EXPECT_EQ(axis_steps(-3, 7, 5), (std::vector<double>{-4, -2, 0, 2, 4, 6, 8}));
    EXPECT_EQ(log_steps(300, 4'000), (std::vector<double>{200, 500, 1'000, 2'000, 5'000}));
    EXPECT_EQ(log_steps(100, 100), (std::vector<double>{100, 200}));
    const std::vector<double> wide = log_steps(150, 6e7);
    EXPECT_EQ(wide.front(), 100);
    EXPECT_EQ(wide.back(), 1e8);
    EXPECT_LE(wide.size(), 9u);
    for (const double low : {1.0, 3.0, 99.0, 1e3, 123'456.0}) {
        for (const double high : {low, low * 1.5, low * 40, low * 9'999, low * 1e7}) {
            const std::vector<double> steps = log_steps(low, high);
            EXPECT_LE(steps.front(), low);
            EXPECT_GE(steps.back(), high);
            EXPECT_GT(steps.size(), 1u);
            EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
        }
    }
    EXPECT_EQ(clock_label(0), "0:00");
    EXPECT_EQ(clock_label(725), "12:05");
    EXPECT_EQ(clock_label(3'600), "1:00:00");
}

}  // namespace
}  // namespace pulse::load
