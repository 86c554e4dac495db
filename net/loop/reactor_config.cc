// From the operator's options to what the loop computes with: ticks, profiles, shares.
#include "net/loop/reactor_config.h"

#include <algorithm>
#include <utility>

#include "net/loop/profiles.h"

namespace pulse {
namespace {

uint16_t quick_ticks(TickClock clock, Nanos wanted, Nanos interval) {
    const uint32_t ticks = clock.ticks(std::min(wanted, interval));
    return static_cast<uint16_t>(std::min<uint32_t>(UINT16_MAX, ticks));
}

HeartbeatConfig heartbeat_of(Nanos interval, Nanos timeout, const LoopOptions& options,
                             TickClock clock) {
    HeartbeatConfig heartbeat;
    heartbeat.interval_ticks = clock.ticks(interval);
    heartbeat.grace_ticks = clock.ticks(probe_grace(interval, timeout));
    heartbeat.timeout_ticks = clock.ticks(timeout);
    if (options.suspect_probe > 0) {
        heartbeat.quick_ticks = quick_ticks(clock, options.suspect_probe, interval);
        heartbeat.misses = options.suspect_misses & 15;  // all of it
    }
    heartbeat.probe = options.heartbeat_probe;
    heartbeat.liveness = options.liveness;
    return heartbeat;
}

void set_profile(ReactorConfig& config, size_t profile, Nanos interval, Nanos timeout,
                 int64_t stretch) {
    if (config.clock.ticks(timeout * stretch) <= kTimeoutTicksMax) {
        interval *= stretch;
        timeout *= stretch;
    }
    config.profiles[profile] = heartbeat_of(interval, timeout, *config.options, config.clock);
    // What is slow under overload may be this server.
    if (stretch > 1) config.profiles[profile].misses = 0;
    config.interval_ms[profile] = static_cast<uint32_t>(interval / kMillisecond);
    config.timeout_ms[profile] = static_cast<uint32_t>(timeout / kMillisecond);
}
static_assert(kSuspectMissesMax <= 15);

// One that can be asked for.
void set_named_profile(ReactorConfig& config, size_t profile, const NamedProfile& named,
                       int64_t stretch) {
    set_profile(config, profile, named.interval, named.timeout, stretch);
    config.profile_names.resize(std::max(config.profile_names.size(), profile + 1));
    config.profile_names[profile] = named.name;
}

void set_adaptive_profiles(ReactorConfig& config, const AdaptiveRange& range, int64_t stretch) {
    if (!range.on()) return;
    for (uint8_t level = 0; level <= range.top(); ++level) {
        const Nanos interval = range.interval(level);
        const uint8_t profile = profile_of_level(level);
        const bool probes = config.options->heartbeat_probe;
        set_profile(config, profile, interval, adaptive_timeout(interval, probes), stretch);
        HeartbeatConfig& heartbeat = config.profiles[profile];
        if (heartbeat.quick_ticks == 0)
            heartbeat.quick_ticks = quick_ticks(config.clock, kAdaptiveProbeNs, interval);
    }
}

// Of side connections. Nothing that the server does by itself may break their silence.
void set_side_profile(ReactorConfig& config) {
    HeartbeatConfig& side = config.profiles[kProfileSide];
    side.interval_ticks = config.clock.ticks(kNatSilenceMaxNs);
    side.timeout_ticks = config.clock.ticks(kNatSilenceMaxNs + kNatSilenceSlackNs);
    side.probe = false;
    config.interval_ms[kProfileSide] = kNatSilenceMaxNs / kMillisecond;
    config.timeout_ms[kProfileSide] = (kNatSilenceMaxNs + kNatSilenceSlackNs) / kMillisecond;
}
static_assert(kProfileSide == kProfileRealtime + std::size(kNamedProfiles));
static_assert((kNatSilenceMaxNs + kNatSilenceSlackNs) >> kTickShiftMin < kTimeoutTicksMax);

// What a server keeps of users is spread over its shards, as users are. The slack is for those that
// have more than their share.
DirectoryConfig directory_of(const LoopOptions& options, uint32_t reactors) {
    DirectoryConfig directory;
    directory.duplicate = options.duplicate.rule;
    directory.same_device_max = options.duplicate.same_device_max;
    directory.per_user_max = options.max_connections_per_user;
    directory.linger = options.presence_linger;
    directory.offline_max = std::max(1u, kOfflineUsersKept / reactors);
    directory.changes_kept = std::max(kPresenceChangesKeptMin, kPresenceChangesKept / reactors);
    directory.text_bytes_max = std::max(kSessionTextBytesMin, kSessionTextBytesMax / reactors);
    return directory;
}

}  // namespace

ReactorConfig make_reactor_config(std::shared_ptr<const LoopOptions> options, uint32_t reactors,
                                  int64_t stretch) {
    ReactorConfig config;
    config.options = std::move(options);
    const LoopOptions& asked = *config.options;
    config.clock = TickClock{asked.tick_shift};
    const HeartbeatConfig deadline{.timeout_ticks = 1, .probe = false, .liveness = Liveness::none};
    config.profiles[kProfileGreeting] = config.profiles[kProfileClosing] = deadline;
    config.profiles[kProfileGreeting].timeout_ticks = config.clock.ticks(asked.handshake_timeout);
    config.profiles[kProfileClosing].timeout_ticks = config.clock.ticks(kCloseLingerNs);
    set_named_profile(config, kProfileDefault,
                      {"default", asked.heartbeat_interval, asked.heartbeat_timeout}, stretch);
    for (size_t i = 0; i < std::size(kNamedProfiles); ++i)
        set_named_profile(config, kProfileRealtime + i, kNamedProfiles[i], stretch);
    set_side_profile(config);
    set_adaptive_profiles(config, asked.heartbeat_adaptive, stretch);
    config.limits.message_bytes_max = asked.max_message_bytes;
    config.directory = directory_of(asked, reactors);
    config.ledger_entries = ledger_share(asked.ledger, reactors);
    config.resume_bytes = asked.resume_bytes / reactors;
    return config;
}

}  // namespace pulse
