// What happens to one device in some days, drawn from a seed: outages, moves to another network,
// times at which it is switched off, and stalls of its server. The same for each way of beating.
// Times in seconds.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace pulse::study {

// A network that a device may be on. A connection through it that was silent for longer than
// `forgets_s` is lost; 0: none is.
struct Network {
    double forgets_s = 0;
    double round_trip_s = 0.04;  // median; exponential beyond it
    double outage_every_s = 0;   // 0: there are none
    double outage_s = 0;         // mean, exponential
};

struct Scenario {
    std::string_view name;
    std::vector<Network> networks;  // a device that moves takes the next
    double moves_every_s = 0;       // 0: never
    double off_every_s = 6 * 3'600;
    double stall_every_s = 0;  // of the server; 0: never
    double stall_s = 0;        // longest, evenly from 0
};

struct Span {
    double from;
    double to;
};

struct Move {
    double at;
    uint32_t network;  // from then on
    bool noticed;      // by the device, at once; else when a heartbeat fails
};

struct World {
    const Scenario* scenario;
    uint64_t seed;
    double days;
    std::vector<Span> outages, off, stalls;  // in order, apart from each other
    std::vector<Move> moves;
};

World draw_world(const Scenario& scenario, uint64_t seed, double days);

// The networks of the table: good Wi-Fi, lossy mobile, NATs, moving devices, stalls of the server.
const std::vector<Scenario>& scenarios();

}  // namespace pulse::study
