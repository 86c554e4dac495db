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
        EXPECT_FALSE(table_rows(1, 1).empty());
        return;
    }
    std::set<std::string> lines;
    std::ifstream readme("core/README.md");
    for (std::string line; std::getline(readme, line);) lines.insert(line);
    for (const std::string& row : table_rows(kDevices, kDays))
        EXPECT_TRUE(lines.contains(row)) << "core/README.md has not: " << row;
    for (const std::string& row : table_rows(kDevices, kDays, kHeldOutSeed)) {
        if (row.find("| ours") == std::string::npos) continue;
        EXPECT_TRUE(lines.contains(row)) << "core/README.md has not: " << row;
    }
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

}  // namespace
}  // namespace pulse::study
