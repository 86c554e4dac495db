// Rows of the table, and their text.
#include "bench/heartbeat/table.h"

#include <fmt/format.h>

#include <algorithm>

namespace pulse::study {
namespace {

double median(std::vector<double> of) {
    if (of.empty()) return 0;
    const auto middle = of.begin() + static_cast<std::ptrdiff_t>(of.size() / 2);
    std::ranges::nth_element(of, middle);
    return *middle;
}

void add(Row& row, Outcome outcome) {
    Outcome& sum = row.sum;
    sum.on_s += outcome.on_s;
    sum.packets += outcome.packets;
    sum.lost_forgotten += outcome.lost_forgotten;
    sum.lost_given_up += outcome.lost_given_up;
    sum.lost_evicted += outcome.lost_evicted;
    sum.trials += outcome.trials;
    sum.detection_s.insert(sum.detection_s.end(), outcome.detection_s.begin(),
                           outcome.detection_s.end());
    row.intervals_s.push_back(outcome.interval_s);
    row.settled_s.push_back(outcome.settled_s);
    row.settled_after.push_back(static_cast<double>(outcome.settled_after));
    if (outcome.found_s == 0) return;
    row.found_s.push_back(outcome.found_s);
    row.found_at_s.push_back(outcome.found_at_s);
    row.found_after.push_back(static_cast<double>(outcome.found_after));
    row.found_trials.push_back(static_cast<double>(outcome.found_trials));
}

Row run_row(const Scenario& scenario, const Contender& contender, uint32_t devices, uint32_t days,
            uint64_t first_seed) {
    Row row{&scenario, &contender, {}, {}, {}, {}, {}, {}, {}, {}};
    for (uint64_t seed = first_seed; seed < first_seed + devices; ++seed) {
        Knowledge knowledge;
        knowledge.levels.turn_on();
        knowledge.reports.turn_on();
        const auto live = [&](uint64_t of) {
            const World world = draw_world(scenario, of, days);
            return run_device(world, *contender.make(knowledge));
        };
        if (contender.knows) live(1'000'000 + seed);
        add(row, live(seed));
    }
    return row;
}

}  // namespace

double Row::truth_s() const {
    const double forgets_s = scenario->networks.front().forgets_s;
    const double most_s = static_cast<double>(kNatSilenceMaxNs) / kSecond;
    return forgets_s == 0 ? most_s : std::min(forgets_s, most_s);
}

std::vector<Row> run_rows(uint32_t devices, uint32_t days, uint64_t first_seed,
                          bool (*wants)(const Contender& contender)) {
    std::vector<Row> rows;
    for (const Scenario& scenario : scenarios()) {
        for (const Contender& contender : contenders()) {
            if (wants != nullptr && !wants(contender)) continue;
            rows.push_back(run_row(scenario, contender, devices, days, first_seed));
        }
    }
    return rows;
}

std::vector<std::string> table_rows(const std::vector<Row>& rows) {
    std::vector<std::string> lines;
    for (const Row& row : rows) {
        const Outcome& sum = row.sum;
        const double device_days = sum.on_s / 86'400;
        lines.push_back(fmt::format(
            "| {} | {} | {:.0f} s | {:.1f} | {:.2f} | {:.2f} | {:.2f} "
            "| {:.0f} s | {:.1f} h | {:.0f} |",
            row.scenario->name, row.contender->name, median(sum.detection_s),
            static_cast<double>(sum.packets) / (sum.on_s / 3'600),
            static_cast<double>(sum.lost_forgotten) / device_days,
            static_cast<double>(sum.lost_given_up) / device_days,
            static_cast<double>(sum.lost_evicted) / device_days, median(row.intervals_s),
            median(row.settled_s) / 3'600, median(row.settled_after)));
    }
    return lines;
}

// Where a device moves there is not one truth.
std::vector<std::string> search_rows(const std::vector<Row>& rows) {
    std::vector<std::string> lines;
    for (const Row& row : rows) {
        if (row.found_s.empty() || row.scenario->networks.size() > 1) continue;
        const auto [least, most] = std::ranges::minmax(row.found_s);
        lines.push_back(fmt::format(
            "| {} | {} | {} of {} | {:.3f} to {:.3f} | {:.0f} | {:.0f}, {:.0f} "
            "| {:.2f} h, {:.2f} h | {} |",
            row.scenario->name, row.contender->name, row.found_s.size(), row.intervals_s.size(),
            least / row.truth_s(), most / row.truth_s(), std::ranges::max(row.found_after),
            median(row.found_trials), std::ranges::max(row.found_trials),
            median(row.found_at_s) / 3'600,
            std::ranges::max(row.found_at_s) / 3'600, row.sum.lost_forgotten));
    }
    return lines;
}

}  // namespace pulse::study
