// What follows from a run's facts: sums, rates and shares that more than one report has. Pure
// functions of a RunResult; nothing where the run has no such thing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tools/pulseload/run/result.h"

namespace pulse::load {

// All behaviours' rows in one.
Detection::Row silenced_peers(const Detection& detection);

// Whether any row has a peer whose eviction could be judged.
bool any_judged(const Detection& detection);

// The last second of the hold; the last of all where there was no hold; null without samples.
const Sample* last_held(const RunResult& result);

// Where the connections that were asked for are at the end of the hold; nothing before a hold.
std::optional<ConnectionOutcome> connection_outcome(const RunResult& result);

// Connections opened a second, until all that could be were open.
std::optional<double> connect_rate(const RunResult& result);

// Handshakes of TLS a second, full ones and resumed ones each over the seconds that had any.
std::optional<double> tls_full_rate(const RunResult& result);
std::optional<double> tls_resumed_rate(const RunResult& result);

// Of the generator's own memory, likewise: TLS is kept there, too.
std::optional<double> generator_rss_per_connection(const RunResult& result);

// Pongs a second in the hold.
std::optional<double> heartbeat_rate(const RunResult& result);

// What the hold cost the server (--server-pid).
struct ServerCost {
    double cores = 0;  // used at once, on average; 0.5 is half of one
    uint64_t open = 0;
    ServerReading at_the_end;  // of the hold
};
// Bytes per connection: what the server has above its empty self, divided by what is open. Nothing
// where none is open, or what there is was not measured.
std::optional<double> rss_per_connection(const ServerReading& server, uint64_t open);
std::optional<double> kernel_per_connection(const ServerReading& server, uint64_t open);
std::optional<ServerCost> server_cost(const RunResult& result);

// What a run is judged by and reported with: of heartbeats and messages those of the hold, where it
// had any, since the storm of connecting has a row of its own; of connects and handshakes all.
const Histogram& reported_latency(const RunResult& result, Timed timed);

// So many values have a percentile: with fewer, it would be their maximum under another name. 100
// is the maximum, 0 the minimum, and one value has both.
uint64_t values_for_percentile(double percent);
// "4.07 ms"; "-" where there are too few values.
std::string human_percentile(const Histogram& histogram, double percent);

// Cores that the generator used in the hold.
std::optional<double> generator_cores(const RunResult& result);

}  // namespace pulse::load
