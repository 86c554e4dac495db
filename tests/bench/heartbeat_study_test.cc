// The table of core/README.md, "Heartbeats", is what `make heartbeat-study` prints, and what is
// promised of the server's own way of beating holds in it.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>

#include "bench/heartbeat/table.h"

#include "tests/support/scale.h"

namespace pulse::study {
namespace {

TEST(HeartbeatStudy, IsWhatTheReadmeSays) {
    // Under a sanitizer a part of it, which is another table, must run.
    if (test::kSlowness > 1) {
        EXPECT_FALSE(table_rows(run_rows(1, 1)).empty());
        return;
    }
    std::set<std::string> lines;
    std::ifstream readme("core/README.md");
    for (std::string line; std::getline(readme, line);) lines.insert(line);
    const std::vector<Row> rows = run_rows(kDevices, kDays);
    for (const auto& table : {table_rows(rows), search_rows(rows)}) {
        EXPECT_FALSE(table.empty());
        for (const std::string& row : table)
            EXPECT_TRUE(lines.contains(row)) << "core/README.md has not: " << row;
    }
    const auto is_held_out = [](const Contender& contender) {
        return contender.name.starts_with("ours, first") ||
               contender.name.starts_with("ours, network");
    };
    const std::vector<Row> held_out = run_rows(kDevices, kDays, kHeldOutSeed, is_held_out);
    EXPECT_EQ(held_out.size(), 2 * scenarios().size());
    for (const std::string& row : table_rows(held_out))
        EXPECT_TRUE(lines.contains(row)) << "core/README.md has not: " << row;
}

TEST(HeartbeatStudy, OursIsNotEvictedAndLosesNoConnectionThatItsNetworkKnows) {
    for (const Row& row : run_rows(4, 3)) {
        const std::string what =
            std::string(row.scenario->name) + ", " + std::string(row.contender->name);
        EXPECT_GT(row.sum.packets, 0u) << what;
        if (!row.contender->name.starts_with("ours")) continue;
        const auto fails = [](const Network& network) { return network.outage_every_s > 0; };
        if (std::ranges::none_of(row.scenario->networks, fails)) {
            EXPECT_EQ(row.sum.lost_evicted, 0u) << what;
        }
        const double days = row.sum.on_s / 86'400;
        EXPECT_LE(static_cast<double>(row.sum.lost_forgotten) / days, 2) << what;
        if (row.scenario->networks.size() > 1 || row.scenario->networks[0].forgets_s == 0) continue;
        for (const double interval_s : row.intervals_s)
            EXPECT_LE(interval_s, row.scenario->networks[0].forgets_s) << what;
    }
}

// What side connections find is right, soon enough, and costs no connection.
TEST(HeartbeatStudy, SideConnectionsFindWhatANetworkBears) {
    size_t searches = 0;
    const auto searches_so = [](const Contender& contender) { return contender.searches; };
    for (const Row& row : run_rows(test::kSlowness > 1 ? 2 : kDevices, 1, 1, searches_so)) {
        const std::string what =
            std::string(row.scenario->name) + ", " + std::string(row.contender->name);
        EXPECT_EQ(row.sum.lost_forgotten, 0u) << what;
        if (row.scenario->networks.size() > 1) continue;
        EXPECT_EQ(row.found_s.size(), row.intervals_s.size()) << what;
        for (size_t i = 0; i < row.found_s.size(); ++i) {
            ++searches;
            EXPECT_LE(row.found_s[i], row.truth_s()) << what;
            EXPECT_GE(row.found_s[i] * kNatFactor, row.truth_s() * 0.999) << what;
            EXPECT_LE(row.found_after[i], row.contender->knows ? 1 : 8) << what;
        }
    }
    EXPECT_GT(searches, 10u);
}

}  // namespace
}  // namespace pulse::study
