// What ways of beating cost in simulated networks, and how soon they find out: `make
// heartbeat-study` prints the tables of core/README.md, "Heartbeats".
//
//     --devices N   of each row, one a seed; default 20
//     --seed N      the first of them; default 1
//     --days N      of each device; default 7
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "bench/heartbeat/table.h"

int main(int argc, char** argv) {
    uint32_t devices = pulse::study::kDevices, days = pulse::study::kDays, first_seed = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const auto value = static_cast<uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
        if (std::strcmp(argv[i], "--devices") == 0) devices = value;
        if (std::strcmp(argv[i], "--days") == 0) days = value;
        if (std::strcmp(argv[i], "--seed") == 0) first_seed = value;
    }
    const std::vector<pulse::study::Row> rows = pulse::study::run_rows(devices, days, first_seed);
    for (const std::string& row : pulse::study::table_rows(rows)) std::cout << row << '\n';
    std::cout << '\n';
    for (const std::string& row : pulse::study::search_rows(rows)) std::cout << row << '\n';
    return 0;
}
