// The heartbeat policy, event by event.
#include "core/heartbeat_policy.h"

namespace pulse {
namespace {

// Ticks from the last proof to the first probe. Spread ones are Fibonacci hashing of the place: any
// run of neighbouring places, as a storm takes them, covers the interval evenly, and nothing is
// remembered. From 1 on, lest the only connection of a quiet server be probed on its first tick.
uint32_t first_probe_after(uint32_t heard, Index index, const HeartbeatConfig& config) {
    if ((heard & kHeardFirst) == 0) return config.interval_ticks + config.grace_ticks;
    const uint32_t fraction = (index + 1) * 2'654'435'769u;
    return 1 + static_cast<uint32_t>((uint64_t{fraction} * config.interval_ticks) >> 32);
}

// What is remembered, told apart, and what follows from it.
struct Silence {
    Tick heard_tick;
    uint32_t sent;
    Tick probe_at;  // the next probe
    Tick evict_at;
    bool probes_left;

    Silence(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config)
        : heard_tick(restore_tick(heard & kStoredTickMask, now)),
          sent(probes_sent(heard)),
          probe_at(heard_tick + first_probe_after(heard, index, config) +
                   uint64_t{sent} * config.interval_ticks),
          evict_at(heard_tick + config.timeout_ticks),
          probes_left(config.probe && sent < kProbesMax && probe_at < evict_at) {}

    Tick deadline() const { return probes_left ? probe_at : evict_at; }
};

HeartbeatStep look(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config) {
    const Silence silence(heard, index, now, config);
    const Tick deadline = silence.deadline();
    if (now < deadline) return {Verdict::rearm, heard, deadline};
    if (!silence.probes_left) return {Verdict::evict, heard, now};
    const uint64_t late = now - silence.probe_at;
    const uint64_t discount = late > config.interval_ticks / 4 ? late : 0;
    const uint32_t heard_now = (heard & kHeardFirst) | heard_at(silence.heard_tick + discount) |
                               ((silence.sent + 1) << kHeardProbeShift);
    const Tick next = Silence(heard_now, index, now, config).deadline();
    return {Verdict::probe, heard_now, next > now ? next : now + 1};
}

bool proves(HeartbeatEvent event, Liveness liveness) {
    if (liveness == Liveness::none) return false;
    return event == HeartbeatEvent::proof || liveness == Liveness::any;
}

}  // namespace

Tick heartbeat_evict_at(uint32_t heard, Tick now, const HeartbeatConfig& config) {
    return restore_tick(heard & kStoredTickMask, now) + config.timeout_ticks;
}

Tick heartbeat_deadline(uint32_t heard, Index index, Tick now, const HeartbeatConfig& config) {
    return Silence(heard, index, now, config).deadline();
}

HeartbeatStep heartbeat_step(uint32_t heard, HeartbeatEvent event, Index index, Tick now,
                             const HeartbeatConfig& config) {
    switch (event) {
        case HeartbeatEvent::look:
            return look(heard, index, now, config);
        case HeartbeatEvent::connected:
            heard = connected_at(now);
            break;
        case HeartbeatEvent::frame:
        case HeartbeatEvent::proof:
            if (proves(event, config.liveness)) heard = heard_at(now);
            break;
    }
    return {Verdict::rearm, heard, heartbeat_deadline(heard, index, now, config)};
}

}  // namespace pulse
