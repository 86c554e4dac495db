// What happens, drawn span by span, and the networks of the table.
#include "bench/heartbeat/world.h"

#include <cmath>

#include "core/random.h"

namespace pulse::study {
namespace {

double fraction(Random& random) {
    return (static_cast<double>(random.below(uint64_t{1} << 52)) + 0.5) / 4'503'599'627'370'496.0;
}
double exponential(Random& random, double mean) { return -mean * std::log(fraction(random)); }

// Spans of a mean length, a mean time apart.
template <class Length>
std::vector<Span> spans(uint64_t seed, double every_s, double end_s, Length&& length) {
    std::vector<Span> all;
    if (every_s == 0) return all;
    Random random(seed);
    for (double at = exponential(random, every_s); at < end_s;) {
        const double to = at + length(random);
        all.push_back({at, to});
        at = to + exponential(random, every_s);
    }
    return all;
}

}  // namespace

World draw_world(const Scenario& scenario, uint64_t seed, double days) {
    World world{.scenario = &scenario, .seed = seed, .days = days, .outages = {}, .off = {},
                .stalls = {}, .moves = {}};
    const double end_s = days * 86'400;
    const Network& first = scenario.networks.front();
    world.outages =
        spans(mix64(seed) ^ 1, first.outage_every_s, end_s,
              [&](Random& random) { return exponential(random, first.outage_s); });
    world.off = spans(mix64(seed) ^ 2, scenario.off_every_s, end_s,
                      [](Random& random) { return exponential(random, 600); });
    world.stalls = spans(mix64(seed) ^ 3, scenario.stall_every_s, end_s,
                         [&](Random& random) { return scenario.stall_s * fraction(random); });
    if (scenario.moves_every_s == 0) return world;
    Random random(mix64(seed) ^ 4);
    const auto networks = static_cast<uint32_t>(scenario.networks.size());
    uint32_t network = 0;
    for (double at = exponential(random, scenario.moves_every_s); at < end_s;
         at += exponential(random, scenario.moves_every_s)) {
        network = (network + 1) % networks;
        world.moves.push_back({at, network, random.chance(4, 5)});
    }
    return world;
}

const std::vector<Scenario>& scenarios() {
    const auto nat = [](std::string_view name, double forgets_s) {
        return Scenario{.name = name, .networks = {{.forgets_s = forgets_s}}};
    };
    static const std::vector<Scenario> kAll = {
        {.name = "good Wi-Fi", .networks = {{.round_trip_s = 0.02}}},
        {.name = "lossy mobile",
         .networks = {{.forgets_s = 1'800,
                       .round_trip_s = 0.15,
                       .outage_every_s = 600,
                       .outage_s = 12}}},
        nat("NAT 65 s", 65),
        nat("NAT 190 s", 190),
        nat("NAT 320 s", 320),
        nat("NAT 880 s", 880),
        {.name = "moving",
         .networks = {{.outage_every_s = 1'800, .outage_s = 10},
                      {.forgets_s = 320, .round_trip_s = 0.1},
                      {.forgets_s = 1'250, .round_trip_s = 0.1}},
         .moves_every_s = 2'400},
        {.name = "server stalls",
         .networks = {{}},
         .stall_every_s = 1'800,
         .stall_s = 20},
    };
    return kAll;
}

}  // namespace pulse::study
