// From the operator's options to what the loop computes with: ticks, profiles, shares.
#include "net/loop/reactor_config.h"

#include <algorithm>
#include <utility>

namespace pulse {
namespace {

HeartbeatConfig heartbeat_of(Nanos interval, Nanos timeout, const LoopOptions& options,
                             TickClock clock) {
    HeartbeatConfig heartbeat;
    heartbeat.interval_ticks = clock.ticks(interval);
    heartbeat.grace_ticks = clock.ticks(probe_grace(interval, timeout));
    heartbeat.timeout_ticks = clock.ticks(timeout);
    heartbeat.probe = options.heartbeat_probe;
    heartbeat.liveness = options.liveness;
    return heartbeat;
}

void set_profile(ReactorConfig& config, size_t profile, std::string_view name, Nanos interval,
                 Nanos timeout, int64_t stretch) {
    if (config.clock.ticks(timeout * stretch) <= kTimeoutTicksMax) {
        interval *= stretch;
        timeout *= stretch;
    }
    config.profiles[profile] = heartbeat_of(interval, timeout, *config.options, config.clock);
    config.interval_ms[profile] = static_cast<uint32_t>(interval / kMillisecond);
    config.timeout_ms[profile] = static_cast<uint32_t>(timeout / kMillisecond);
    config.profile_names.resize(std::max(config.profile_names.size(), profile + 1));
    config.profile_names[profile] = name;
}

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
    set_profile(config, kProfileDefault, "default", asked.heartbeat_interval,
                asked.heartbeat_timeout, stretch);
    for (size_t i = 0; i < std::size(kNamedProfiles); ++i) {
        const NamedProfile& named = kNamedProfiles[i];
        set_profile(config, kProfileRealtime + i, named.name, named.interval, named.timeout,
                    stretch);
    }
    config.limits.message_bytes_max = asked.max_message_bytes;
    config.directory = directory_of(asked, reactors);
    config.ledger_entries = ledger_share(asked.ledger, reactors);
    config.resume_bytes = asked.resume_bytes / reactors;
    return config;
}

}  // namespace pulse
