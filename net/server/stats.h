// What the whole server reports of itself at one moment: a line for a terminal, an object for a
// script. Sums of all reactors, and each apart.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/types.h"
#include "net/loop/reactor_stats.h"

namespace pulse {

// Of --stats-json; net/README.md lists the members. Within a number members are only added.
inline constexpr std::string_view kStatsSchema = "pulsewheel/2";

struct ServerStats {
    Nanos at = 0;       // monotonic
    Nanos wall_at = 0;  // the same instant since 1970
    Nanos uptime = 0;
    int pid = 0;
    std::string backend;
    std::vector<std::string> listening;
    std::vector<std::pair<std::string, std::string>> settings;  // by the names of flags
    Nanos wall_started_at = 0;  // since 1970; the same in all of a process
    uint64_t rss_bytes = 0;
    uint64_t virtual_bytes = 0;
    // Of the table that the main thread has; reactors may have others. 0: not known.
    uint64_t descriptors = 0;
    uint64_t descriptors_max = 0;  // of each table
    // What the machine, its control groups and the limits of the process leave. 0: not known.
    uint64_t memory_available_bytes = 0;
    Nanos cpu_user = 0;
    Nanos cpu_system = 0;
    ReactorStats total;
    std::vector<ReactorStats> reactors;

    // The members that are about the process, and not about reactors.
    nlohmann::ordered_json process_json() const;
    // Connections of the reactor that holds most, by the mean of all; 1 where none are held.
    double imbalance() const;
    // One object: totals since the start, distributions with percentiles, each reactor apart.
    std::string json(bool last) const;
    // What a later line counts from.
    struct Moment {
        Nanos at = 0;
        Nanos cpu = 0;
        MetricsSnapshot metrics;
    };
    Moment moment() const { return {at, cpu_user + cpu_system, total.metrics}; }
    // One line: rates since `earlier` (the start, if that is empty), totals since the start, and
    // what is now.
    std::string line(const Moment& earlier) const;
};

// What the kernel reports of this process: its number, memory, descriptors and CPU time, and the
// time of day.
void read_process(ServerStats& stats);

}  // namespace pulse
