// The table that compares ways of beating, a row for each way and network.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/heartbeat/device.h"

namespace pulse::study {

inline constexpr uint32_t kDevices = 20;  // seeds 1 to 20, on which ours was tuned
inline constexpr uint64_t kHeldOutSeed = 100'001;  // the first of as many that chose nothing
inline constexpr uint32_t kDays = 7;

// What all devices of a row come to.
struct Row {
    const Scenario* scenario;
    const Contender* contender;
    Outcome sum;                           // but for what follows
    std::vector<double> intervals_s, settled_s, settled_after;
    // Of those that search by side connections: what each found first, when, after how many.
    std::vector<double> found_s, found_at_s, found_after, found_trials;
    // That the network bears, half an hour at most.
    double truth_s() const;
};
// Of the ways of beating that `wants` wants; nullptr: of all.
std::vector<Row> run_rows(uint32_t devices, uint32_t days, uint64_t first_seed = 1,
                          bool (*wants)(const Contender& contender) = nullptr);

// As core/README.md has them: all ways of beating, and what side connections find.
std::vector<std::string> table_rows(const std::vector<Row>& rows);
std::vector<std::string> search_rows(const std::vector<Row>& rows);

}  // namespace pulse::study
