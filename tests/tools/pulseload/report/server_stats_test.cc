// What the server reports of itself: the line for a terminal and the object for a program, whose
// names are those of pulseload's.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "net/server/stats.h"
#include "tools/pulseload/report/json_report.h"
#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/settings.h"

#include "tests/support/load_result.h"

namespace pulse::test {
namespace {

using Json = nlohmann::ordered_json;

ServerStats stats_at(Nanos uptime, uint64_t accepted, uint64_t evicted) {
    ServerStats stats;
    stats.at = 90'000 * kSecond + uptime;  // of a machine that has been up for a day
    stats.wall_at = 1'795'754'112'345 * kMillisecond;
    stats.uptime = uptime;
    stats.cpu_user = uptime / 10;
    stats.rss_bytes = 8 << 20;
    Metrics metrics;
    metrics.add(Metric::accepted, accepted);
    metrics.add(Metric::evicted, evicted);
    stats.total.gauges.live = accepted;
    stats.total.metrics = metrics.snapshot();
    return stats;
}

// --------------------------------------------------------------------------------------- the line
TEST(ServerStats, TheFirstLineCountsFromTheStartOfTheServer) {
    const std::string line = stats_at(2 * kSecond, 17'816, 0).line({});
    EXPECT_NE(line.find("per second: +8908 -0,"), std::string::npos) << line;
    EXPECT_NE(line.find("cpu 10%"), std::string::npos) << line;
}

TEST(ServerStats, ALaterLineCountsFromTheOneBeforeAndHasRatesAndTotals) {
    const ServerStats::Moment before = stats_at(2 * kSecond, 1'000, 70).moment();
    const std::string line = stats_at(4 * kSecond, 1'500, 100).line(before);
    const size_t now = line.find("now: 1500 open, rss 8MiB");
    const size_t rates = line.find("per second: +250 -0");
    const size_t totals = line.find("since the start: 100 evicted, 0 refused");
    EXPECT_EQ(now, 0u) << line;
    EXPECT_NE(rates, std::string::npos) << line;
    EXPECT_NE(totals, std::string::npos) << line;
    EXPECT_LT(rates, totals) << line;
}

// ------------------------------------------------------------------------------------- the object
TEST(ServerStats, TheObjectSaysWhoseItIsAndWhen) {
    ServerStats stats = stats_at(345 * kMillisecond, 1, 0);
    stats.pid = 4'711;
    stats.backend = "epoll";
    stats.listening = {"ws://127.0.0.1:9000"};
    stats.reactors.resize(2);
    const Json json = Json::parse(stats.json(true));
    EXPECT_EQ(json["schema"], kStatsSchema);
    EXPECT_EQ(json["pid"], 4'711);
    EXPECT_EQ(json["at"], "2026-11-27T04:35:12.345Z");
    EXPECT_EQ(json["started_at"], "2026-11-27T04:35:12.000Z");
    EXPECT_EQ(json["uptime_s"], 0.345);
    EXPECT_EQ(json["last"], true);
    EXPECT_EQ(json["listening"][0], "ws://127.0.0.1:9000");
    EXPECT_EQ(json["reactors"].size(), 2u);
    EXPECT_FALSE(json["version"].get<std::string>().empty());
}

TEST(ServerStats, SettingsAreAllFlagsAsTheyHold) {
    const char* const arguments[] = {"--heartbeat-interval", "4s",       "--ws-origin", "https://a",
                                     "--ws-origin",          "https://b"};
    const auto invocation =
        serve::read_invocation(arguments, [](const char*) -> const char* { return nullptr; });
    ASSERT_TRUE(invocation) << invocation.error();
    ASSERT_NE(invocation->options.texts, nullptr);
    ServerStats stats;
    stats.settings = invocation->options.texts(invocation->options);
    const Json settings = Json::parse(stats.json(false))["settings"];
    EXPECT_EQ(settings.size(), serve::settings().size());
    EXPECT_EQ(settings["heartbeat-interval"], "4s");
    EXPECT_EQ(settings["heartbeat-timeout"], "12s") << "what follows from another flag";
    EXPECT_EQ(settings["ws-origin"], "https://a,https://b");
}

TEST(ServerStats, HostileTextIsStillJson) {
    ServerStats stats;
    stats.settings = {{"stats-json", "a\"\n\x01\xff"}};
    const std::string line = stats.json(false);
    EXPECT_EQ(line.find('\n'), std::string::npos) << "an object is a line";
    EXPECT_EQ(Json::parse(line)["settings"]["stats-json"], "a\"\n\x01\xef\xbf\xbd");
}

TEST(ServerStats, DistributionsHaveTheNamesOfPulseloads) {
    const auto names_of = [](const Json& object) {
        std::set<std::string> names;
        for (const auto& [name, value] : object.items()) names.insert(name);
        return names;
    };
    ServerStats stats;
    stats.total.distributions.turn_time.record(5 * kMillisecond);
    const Json total = Json::parse(stats.json(false))["total"];
    const Json ours = load::to_json(load::test::plausible_result(), {}, {})["latency"]["heartbeat"];
    EXPECT_EQ(names_of(total["turn_time"]), names_of(ours));
    EXPECT_EQ(total["turn_time"]["max_us"], 5'000);
    EXPECT_EQ(total["eviction_delay"], (Json{{"count", 0}}));
}

}  // namespace
}  // namespace pulse::test
