// A table of flags and of what each needs.
#include "tools/pulseload/options_check.h"

#include <algorithm>

#include "core/units.h"
#include "tools/pulseload/run/client_speech.h"

namespace pulse::load {
namespace {

using Given = std::function<bool(std::string_view)>;

bool has_behaviour(const LoadOptions& options, Behaviour behaviour) {
    return options.effective_behaviours().of[static_cast<size_t>(behaviour)] > 0;
}

bool has_storm(const LoadOptions& options, StormPlan::Kind kind) {
    return std::ranges::any_of(options.storms,
                               [&](const StormPlan& storm) { return storm.kind == kind; });
}

bool silences(const LoadOptions& options) {
    return has_behaviour(options, Behaviour::mute) || has_behaviour(options, Behaviour::vanish) ||
           has_storm(options, StormPlan::Kind::silence) ||
           has_storm(options, StormPlan::Kind::vanish);
}

bool reconnects(const LoadOptions& options) {
    return options.reconnect != Reconnect::never || has_storm(options, StormPlan::Kind::kill);
}

// A flag, whether something in this run uses it, and what to report where nothing does.
struct Need {
    std::string_view flag;
    bool used;
    std::string_view reason;
};

// Of a name in a ClientHello; OpenSSL takes no longer one.
constexpr size_t kServerNameBytesMax = 255;
constexpr std::string_view kPlain =
    "has no effect without TLS; give a target wss://, or one with tls+ before its scheme, and "
    "leave out --tcp-only";

std::string without_effect(const LoadOptions& options, const Given& given) {
    const Mix mix = options.effective_mix();
    const bool hello =
        options.hello || options.users > 0 || has_behaviour(options, Behaviour::duplicate_login);
    const bool speaks = !options.tcp_only;
    const bool asks =
        options.answer_every > 1 && mix.total() > mix.of[static_cast<size_t>(Wire::ws)];
    const bool find = !options.find_max.empty();
    const bool one_run = !find;
    const bool has_requests =
        speaks &&
        mix.of[static_cast<size_t>(Wire::ws)] + mix.of[static_cast<size_t>(Wire::ws_json)] > 0;
    const bool has_ports = std::ranges::any_of(
        options.targets, [](const Target& target) { return target.unix_path.empty(); });
    constexpr std::string_view kNoRequest =
        "has no effect without WebSocket clients; give a ws:// target or a --mix with ws";
    const bool tls = options.speaks_tls();
    constexpr std::string_view kSilent = "has no effect with --tcp-only; leave one of them out";
    constexpr std::string_view kSearch = "has no effect with --find-max; leave one of them out";
    constexpr std::string_view kRounds =
        "holds one run, and --repeat makes several; use --json, which has all";
    constexpr std::string_view kTargets =
        "is one server's, and --repeat compares several targets; leave it out";
    const Need needs[] = {
        {"--flap-interval", has_behaviour(options, Behaviour::flapper),
         "has no effect without flappers; give --behaviour flapper=N"},
        {"--message-bytes", options.message_rate || options.find_rate,
         "has no effect without messages; give --message-rate"},
        {"--answer-every", speaks && options.heartbeat_interval > 0,
         "has no effect where no client beats; leave out what keeps them from it"},
        {"--profile", hello || asks || (!options.no_hello && options.expect_timeout == 0),
         "has no effect where no client sends a hello; give --hello"},
        {"--tolerance", silences(options),
         "has no effect where no client falls silent; give --storm, "
         "--behaviour mute=N or vanish=N"},
        {"--reconnect-base", reconnects(options),
         "has no effect where no client comes back; give --reconnect or --storm kill"},
        {"--reconnect-cap", reconnects(options),
         "has no effect where no client comes back; give --reconnect or --storm kill"},
        {"--find-rate", find, "has no effect without --find-max; give it, too"},
        {"--header", has_requests, kNoRequest},
        {"--subprotocol", has_requests, kNoRequest},
        {"--tls-verify", tls, kPlain},
        {"--tls-ca", tls, kPlain},
        {"--tls-server-name", tls, kPlain},
        {"--tls-resume", tls, kPlain},
        {"--tls-handshakes", tls, kPlain},
        {"--tls-idle", tls, kPlain},
        {"--source-ips", has_ports, "has no effect on a Unix socket; leave it out"},
        {"--heartbeat-interval", speaks || options.heartbeat_interval == 0, kSilent},
        {"--mix", speaks, kSilent},
        {"--behaviour", speaks, kSilent},
        {"--hello", speaks, kSilent},
        {"--users", speaks, kSilent},
        {"--devices", options.users > 0, "has no effect without --users; give it, too"},
        {"--message-rate", speaks, kSilent},
        {"--slo", one_run, kSearch},
        {"--csv", one_run, kSearch},
        {"--hlog", one_run, kSearch},
        {"--csv", options.repeat == 0, kRounds},
        {"--hlog", options.repeat == 0, kRounds},
        {"--server-pid", options.repeat == 0 || options.targets.size() == 1, kTargets},
        {"--server-stats", options.repeat == 0 || options.targets.size() == 1, kTargets},
        {"--progress", !options.quiet, "has no effect with --quiet; leave one of them out"},
    };
    for (const Need& need : needs) {
        if (given(need.flag) && !need.used)
            return std::string(need.flag) + ": " + std::string(need.reason);
    }
    return {};
}

std::string wrong_with_messages(const LoadOptions& options) {
    const bool chatty = has_behaviour(options, Behaviour::chatty);
    if (chatty && !options.message_rate && !options.find_rate)
        return "--behaviour chatty: has nothing to send without --message-rate; give it";
    if (!options.message_rate || chatty || has_behaviour(options, Behaviour::beat)) return {};
    return "--message-rate " + options.message_rate->text +
           ": no client of --behaviour sends messages; add chatty or beat";
}

std::string wrong_with_storms(const LoadOptions& options) {
    for (const StormPlan& storm : options.storms) {
        if (storm.at < options.duration) continue;
        return "--storm " + storm.text + ": the hold ends at " + format_duration(options.duration) +
               ", before it; give a longer --duration or an earlier storm";
    }
    return {};
}

std::string out_of_range(const LoadOptions& options) {
    if (options.message_bytes < kDataBytesMin || options.message_bytes > kBinaryPayloadBytesMax) {
        return "--message-bytes " + std::to_string(options.message_bytes) + ": must be from " +
               std::to_string(kDataBytesMin) +
               " (the instants that are measured by need room) to " +
               std::to_string(kBinaryPayloadBytesMax) + "; give another size";
    }
    if (options.answer_every == 0 || options.answer_every > kAnswerEveryMax) {
        return "--answer-every " + std::to_string(options.answer_every) + ": must be from 1 to " +
               std::to_string(kAnswerEveryMax) + "; give another number";
    }
    if (options.devices == 0) return "--devices 0: a user has one at least; give 1";
    if (options.connecting_max == 0) return "--connecting-max 0: nothing could connect; give 1";
    if (options.tls_frozen && options.tls_resume > 0) {
        return "--tls-idle frozen: skips the tickets that --tls-resume " +
               std::to_string(options.tls_resume) + " is to offer; leave one of them out";
    }
    if (options.tls_handshakes_max == 0)
        return "--tls-handshakes 0: nothing could connect; give 1";
    if (options.duration <= 0) return "--duration 0: there is nothing to see; give it time";
    return {};
}

// What is empty is a variable of a shell's that was not set, and must not turn verifying off.
std::string wrong_with_tls(const LoadOptions& options, const Given& given) {
    const std::string& name = options.tls_server_name;
    if (given("--tls-ca") && options.tls_authorities.empty())
        return "--tls-ca '': is not a file; name the authorities to trust";
    if (!given("--tls-server-name") || (!name.empty() && name.size() <= kServerNameBytesMax))
        return {};
    return "--tls-server-name '" + name + "': must have from 1 to " +
           std::to_string(kServerNameBytesMax) + " bytes; give the name of a host or an address";
}

std::string wrong_with_hellos(const LoadOptions& options) {
    if (options.hello && options.no_hello)
        return "--hello and --no-hello: contradict each other; leave one out";
    if (options.users > 0 && options.no_hello)
        return "--users and --no-hello: contradict each other; leave one out";
    const Mix mix = options.effective_mix();
    for (size_t kind = 0; kind < kWires; ++kind) {
        const auto wire = static_cast<Wire>(kind);
        if (mix.of[kind] == 0 || !options.no_hello || !options.asks_answer_every(wire)) continue;
        return "--answer-every " + std::to_string(options.answer_every) + ": " +
               std::string(name_of(wire)) +
               " clients ask for it in a hello, and --no-hello keeps them from it; leave one out";
    }
    return {};
}

std::string wrong_with_mix(const LoadOptions& options) {
    const Mix mix = options.effective_mix();
    for (const Target& target : options.targets) {
        for (size_t kind = 0; kind < kWires; ++kind) {
            const auto wire = static_cast<Wire>(kind);
            const std::string_view speaks = wire == Wire::tcp     ? "tcp"
                                            : wire == Wire::jsonl ? "jsonl"
                                                                  : "ws";
            if (mix.of[kind] == 0 || target.scheme == "auto") continue;
            if (target.scheme == speaks) continue;
            return "--mix: " + std::string(name_of(wire)) + " is not what " + target.text +
                   " speaks; give a target auto://, or another mix";
        }
    }
    return {};
}

}  // namespace

std::string find_contradiction(const LoadOptions& options, const Given& given) {
    for (const std::string& wrong : {wrong_with_hellos(options), out_of_range(options),
                                     wrong_with_mix(options), without_effect(options, given),
                                     wrong_with_tls(options, given),
                                     wrong_with_messages(options), wrong_with_storms(options)}) {
        if (!wrong.empty()) return wrong;
    }
    return {};
}

}  // namespace pulse::load
