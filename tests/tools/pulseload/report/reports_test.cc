// What a run leaves for programs, and what it shows while it runs: JSON, CSV, the live table.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "tools/pulseload/report/csv_report.h"
#include "tools/pulseload/report/json_report.h"
#include "tools/pulseload/report/progress.h"

#include "tests/support/load_result.h"

namespace pulse::load {
namespace {

using Json = nlohmann::ordered_json;

std::string file_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::vector<ObjectiveResult> some_objectives() {
    return {{"p99<10ms", "3.341 ms", true, ""}, {"lost=0", "", false, "the run ended"}};
}

// ------------------------------------------------------------------------------------------- JSON

TEST(JsonReport, HoldsWhatTheSchemaPromises) {
    const RunResult run = test::plausible_result();
    const Json json = to_json(run, judge_validity(run), some_objectives());
    EXPECT_EQ(json["schema"], "pulseload/2");
    EXPECT_EQ(json["run"]["wanted"], 100'000);
    EXPECT_EQ(json["run"]["settings"]["seed"], "1");
    EXPECT_EQ(json["run"]["protocols"]["jsonl"], 20'000);
    EXPECT_EQ(json["run"]["behaviours"]["slow-reader"], 1'000);
    EXPECT_EQ(json["verdict"]["valid"], true);
    EXPECT_EQ(json["verdict"]["state"], "valid");
    EXPECT_EQ(json["environment"]["CPU"], "AMD EPYC");
    EXPECT_EQ(json["server_identity"]["backend"], "io_uring");
    EXPECT_EQ(json["server_identity"]["settings"]["reactors"], "6");
    EXPECT_EQ(json["objectives"][0]["measured"], "3.341 ms");
    EXPECT_EQ(json["objectives"][0]["why_not_measured"], nullptr);
    EXPECT_EQ(json["objectives"][1]["measured"], nullptr);
    EXPECT_EQ(json["objectives"][1]["why_not_measured"], "the run ended");
    EXPECT_EQ(json["counts"]["pongs"], run.counts.pongs);
    const Histogram& beats = run.latency[static_cast<size_t>(Timed::heartbeat)];
    EXPECT_EQ(json["latency"]["heartbeat"]["count"], beats.count());
    EXPECT_EQ(json["latency"]["heartbeat"]["p99_9_us"], beats.percentile(99.9) / 1'000);
    EXPECT_EQ(json["latency"]["heartbeat"]["max_us"], beats.max() / 1'000);
    EXPECT_EQ(json["rates"]["lost_connections"], 0);
    EXPECT_EQ(json["detection"]["timeout_ms"], 30'000);
    EXPECT_EQ(json["detection"]["false_evictions"], 0);
    EXPECT_EQ(json["detection"]["by_behaviour"]["vanish"]["waiting"], 20);
    EXPECT_FALSE(json["detection"]["by_behaviour"].contains("beat"));
    EXPECT_EQ(json["detection"]["all"]["evicted"], 920);
    EXPECT_EQ(json["detection"]["close_codes"]["4003"], 880);
    EXPECT_EQ(json["detection"]["server_closes"]["kicked"], 75);
    EXPECT_EQ(json["storms"][0]["recovery_s"], 8.4);
    EXPECT_EQ(json["storms"][1]["recovery_s"], nullptr);
    EXPECT_EQ(json["generator"]["intended"], 498'112);
    EXPECT_EQ(json["server"]["open"], 99'080);
    ASSERT_EQ(json["samples"].size(), run.samples.size());
    EXPECT_EQ(json["samples"][50]["phase"], "hold");
    EXPECT_EQ(json["samples"][50]["counts"]["open"], run.samples[50].counts.open);
    EXPECT_FALSE(json["samples"][119]["latency"].contains("heartbeat"));
}

TEST(JsonReport, BytesPerConnectionAreAboveTheEmptyServerOrNull) {
    RunResult run = test::plausible_result();
    Sample& last = run.samples[116];
    ASSERT_EQ(last.phase, Phase::hold);
    last.counts.open = 1'000;
    last.server.rss_empty_bytes = 6'000'000;
    last.server.rss_bytes = 6'072'500;
    last.server.kernel_bytes = 1'490'000;
    Json server = to_json(run, Verdict{}, {})["server"];
    EXPECT_EQ(server["rss_bytes"], 6'072'500);
    EXPECT_EQ(server["rss_empty_bytes"], 6'000'000);
    EXPECT_EQ(server["rss_bytes_per_connection"], 72.5);
    EXPECT_EQ(server["kernel_bytes_per_connection"], 1'490);
    last.server.kernel_bytes.reset();
    server = to_json(run, Verdict{}, {})["server"];
    EXPECT_EQ(server["kernel_bytes"], nullptr);
    EXPECT_EQ(server["kernel_bytes_per_connection"], nullptr);
    last.counts.open = 0;
    server = to_json(run, Verdict{}, {})["server"];
    EXPECT_EQ(server["rss_bytes_per_connection"], nullptr);
}

TEST(JsonReport, AnEmptyRunIsWholeAndUnmeasuredIsNull) {
    const Json json = to_json(RunResult{}, Verdict{}, {});
    EXPECT_EQ(json["server"], nullptr);
    EXPECT_EQ(json["server_identity"], nullptr);
    EXPECT_EQ(json["run"]["connected_s"], nullptr);
    EXPECT_EQ(json["rates"]["connects_per_s"], nullptr);
    EXPECT_EQ(json["detection"]["false_evictions"], nullptr);
    EXPECT_EQ(json["detection"]["server_closes"], nullptr);
    EXPECT_EQ(json["latency"]["connect"], (Json{{"count", 0}}));
    for (const char* list : {"objectives", "storms", "errors", "samples"})
        EXPECT_EQ(json[list], Json::array()) << list;
    for (const char* object : {"settings", "protocols", "behaviours"})
        EXPECT_EQ(json["run"][object], Json::object()) << object;
}

TEST(JsonReport, HostileTextIsStillJson) {
    RunResult run;
    run.command_line = "a\"b\\c\n\x01 \xff\xfe \xe2\x82";
    run.settings = {{"</script>\"", "\xc0\xaf"}};
    const std::string path = testing::TempDir() + "hostile.json";
    ASSERT_TRUE(write_json(path, run, Verdict{}, {}));
    const Json json = Json::parse(file_text(path));
    EXPECT_EQ(json["run"]["command_line"], "a\"b\\c\n\x01 \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd");
    EXPECT_TRUE(json["run"]["settings"].contains("</script>\""));
}

TEST(Reports, NameTheFileThatTheyCouldNotWrite) {
    const RunResult run = test::plausible_result();
    for (const Result<void>& written :
         {write_json("/nowhere/a", run, Verdict{}, {}), write_csv("/nowhere/a", run)}) {
        ASSERT_FALSE(written);
        EXPECT_EQ(written.error(),
                  "'/nowhere/a' cannot be written: No such file or directory; name a file in a "
                  "folder that exists, may be written to and has room");
    }
    const Result<void> full = write_csv("/dev/full", run);
    ASSERT_FALSE(full);
    EXPECT_NE(full.error().find("No space left"), std::string::npos);
}

// -------------------------------------------------------------------------------------------- CSV

std::vector<std::string> cells(const std::string& line) {
    std::vector<std::string> cells(1);
    for (const char c : line) c == ',' ? cells.emplace_back() : cells.back().append(1, c);
    return cells;
}

TEST(CsvReport, HasARowForEachSampleUnderAHeaderWithUnits) {
    RunResult run = test::plausible_result();
    run.samples[3].server.present = false;
    run.samples[4].server.kernel_bytes.reset();
    std::istringstream text(csv_text(run));
    std::vector<std::vector<std::string>> rows;
    for (std::string line; std::getline(text, line);) rows.push_back(cells(line));
    ASSERT_EQ(rows.size(), run.samples.size() + 1);
    for (const auto& row : rows) EXPECT_EQ(row.size(), rows[0].size());
    const auto cell = [&](size_t sample, std::string_view name) {
        const auto at = std::find(rows[0].begin(), rows[0].end(), name) - rows[0].begin();
        return rows.at(sample + 1).at(static_cast<size_t>(at));
    };
    EXPECT_EQ(cell(50, "at_s"), "51.000");
    EXPECT_EQ(cell(50, "phase"), "hold");
    EXPECT_EQ(cell(50, "open"), std::to_string(run.samples[50].counts.open));
    EXPECT_EQ(cell(50, "heartbeat_p99_9_us"),
              std::to_string(run.samples[50].latency[1].p999 / 1'000));
    EXPECT_EQ(cell(119, "heartbeat_p50_us"), "");
    EXPECT_EQ(cell(119, "heartbeat_count"), "0");
    EXPECT_EQ(cell(50, "server_rss_bytes"), std::to_string(run.samples[50].server.rss_bytes));
    EXPECT_EQ(cell(3, "server_rss_bytes"), "");
    EXPECT_EQ(cell(50, "server_kernel_bytes"),
              std::to_string(*run.samples[50].server.kernel_bytes));
    EXPECT_EQ(cell(4, "server_kernel_bytes"), "") << "not measured is not 0";
    EXPECT_EQ(cell(3, "server_cpu_s"), "");
}

TEST(CsvReport, OfAnEmptyRunIsTheHeader) {
    const std::string text = csv_text(RunResult{});
    EXPECT_EQ(text.substr(0, 16), "at_s,phase,open,");
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

// --------------------------------------------------------------------------------------- progress

struct Screen {
    std::FILE* file = std::tmpfile();
    ~Screen() { std::fclose(file); }
    std::string text() const {
        std::fseek(file, 0, SEEK_SET);
        std::string read(1 << 16, '\0');
        read.resize(std::fread(read.data(), 1, read.size(), file));
        return read;
    }
};

TEST(Progress, ReportsTheSecondThatPassed) {
    const RunResult run = test::plausible_result();
    const std::vector<std::string> lines =
        progress_table(run.samples[47], run.samples[46], run.wanted);
    ASSERT_EQ(lines.size(), 7u);
    EXPECT_EQ(lines[0],
              "     48.0 s  hold   [####################..........] 68,000 of 100,000 open");
    EXPECT_EQ(lines[1].substr(0, 27), "  connects       6,000/s   ");
    EXPECT_NE(lines[2].find("/s   p50 "), std::string::npos);
    EXPECT_EQ(lines[6].substr(0, 41), "  server          80.0 %   of a core, 11.");
    const std::string line = progress_line(run.samples[47], run.samples[46], run.wanted);
    EXPECT_EQ(line.substr(0, 49), "48.0 s hold: 68,000/100,000 open, 6,000 connects/");
}

TEST(Progress, OfAnEmptyRunHasNoAnswers) {
    const std::vector<std::string> lines = progress_table(Sample{}, Sample{}, 0);
    ASSERT_EQ(lines.size(), 5u);
    EXPECT_NE(lines[0].find("[..............................] 0 of 0 open"), std::string::npos);
    EXPECT_NE(lines[2].find("no answer in this second"), std::string::npos);
}

TEST(Progress, RedrawsOnATerminalAndIsQuietInAPipe) {
    const RunResult run = test::plausible_result();
    const auto show_twice = [&](Progress& progress) {
        progress.show(run.samples[50], run.samples[49], run.wanted);
        progress.show(run.samples[51], run.samples[50], run.wanted);
        Sample cut_short = run.samples[51];  // carries nothing
        cut_short.at_s += 0.01;
        progress.show(cut_short, run.samples[51], run.wanted);
        progress.finish();
    };
    Screen terminal;
    Progress table(true, false, terminal.file);
    show_twice(table);
    const std::string drawn = terminal.text();
    EXPECT_EQ(drawn.find("\x1b[7A"), drawn.rfind("\x1b[7A"));  // up once, before the second
    EXPECT_NE(drawn.find("\x1b[7A"), std::string::npos);
    EXPECT_EQ(std::count(drawn.begin(), drawn.end(), '\n'), 14);
    Screen pipe;
    Progress quiet(false, false, pipe.file);
    show_twice(quiet);
    EXPECT_EQ(pipe.text(), "");
    Screen forced;
    Progress lines(false, true, forced.file);
    show_twice(lines);
    const std::string plain = forced.text();
    EXPECT_EQ(std::count(plain.begin(), plain.end(), '\n'), 2);
    EXPECT_EQ(plain.find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace pulse::load
