// What a reactor works by: the operator's options, what follows from them, and what surrounds it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/address_table.h"
#include "core/heartbeat_policy.h"
#include "core/limits.h"
#include "core/mailbox.h"
#include "core/sessions/directory.h"
#include "core/shared_pace.h"
#include "core/sip_hash.h"
#include "core/time.h"
#include "net/loop/admission.h"
#include "net/loop/balance.h"
#include "net/loop/cohort_use.h"
#include "net/loop/limits.h"
#include "net/loop/log_event.h"
#include "net/loop/loop_options.h"
#include "net/loop/trace_queue.h"
#include "proto/codec.h"

namespace pulse {

struct ReactorConfig {
    // In force; shared by all reactors. Never null.
    std::shared_ptr<const LoopOptions> options;

    // What follows from the options, made by make_reactor_config() and nowhere else.
    TickClock clock;
    HeartbeatProfiles profiles{};            // kProfileGreeting, kProfileClosing, then heartbeats
    std::vector<std::string> profile_names;  // by profile; what a hello may ask for
    uint32_t interval_ms[kHeartbeatProfilesMax] = {};  // what the peer is told of each profile
    uint32_t timeout_ms[kHeartbeatProfilesMax] = {};
    CodecLimits limits;
    DirectoryConfig directory;    // of this reactor's shard
    uint32_t ledger_entries = 0;  // of this reactor; the debug log may want more
    size_t resume_bytes = 0;      // of this reactor's windows

    // What surrounds the reactor.
    uint32_t number = 0;             // which reactor; the first part of a connection's public name
    Admission* admission = nullptr;  // the server's; outlives the reactor
    // The server's, likewise; null: nothing is limited by address, or by user.
    AddressTable* addresses = nullptr;
    AddressTable* users = nullptr;
    Balance* balance = nullptr;  // the server's, likewise; null: connections are not shared out
    CohortUse* cohort_use = nullptr;  // the server's, likewise; null: there is but one reactor
    // How fast all reactors say a drain's goodbyes; the server's, likewise. Null, or without a
    // rate: each says its own evenly over the window.
    SharedPace* drain_pace = nullptr;
    SipKey probe_key{};  // secret; what --liveness roundtrip makes its probes from
    SipKey user_key{};   // secret, the same in all reactors: which has which user
    // Of all reactors by number, and this one's lane in them; they outlive the reactor. Empty:
    // there is no other.
    std::span<Mailbox* const> mailboxes{};
    uint32_t sender = 0;
    // Where traces go; the server's, likewise. Null: none is made.
    TraceQueue* traces = nullptr;
    SipKey trace_key{};  // secret; what ids of traces are made from
    // The wall clock, by which tokens expire: nanoseconds since 1970. Requires: there is one where
    // the options have credentials.
    std::function<Nanos()> wall_clock;
    // Gets a line for each peer that is accepted, is refused or ends, while the log level is
    // debug, on the reactor's thread; empty: no line is ever made.
    std::function<void(const std::string& line)> debug;
    // Gets the events of the connections that are logged (--log-connections), likewise; empty: no
    // event is ever made.
    std::function<void(const LogEvent& event)> event;
    // Gets what an operator should know at any level, seldom (net/loop/notices.h), likewise.
    std::function<void(const std::string& line)> warn;

    // The same in every server.
    size_t buffer_reserve_bytes = kBufferReservePerReactor;
    uint32_t retry_after_ms = 1'000;  // the hint in refusals
};

// The entries of one ledger, where `entries` are asked for of `reactors` reactors together.
constexpr uint32_t ledger_share(uint32_t entries, uint32_t reactors) {
    return (entries + reactors - 1) / reactors;
}

// The config of one of `reactors` reactors that share what `options` grant to all of them; what
// surrounds it is the caller's to fill in. Heartbeats are `stretch` times as long as the options
// say, but for those whose timeout would be too long. Requires: options are consistent (flags.h).
ReactorConfig make_reactor_config(std::shared_ptr<const LoopOptions> options, uint32_t reactors = 1,
                                  int64_t stretch = 1);

}  // namespace pulse
