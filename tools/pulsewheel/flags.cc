// Three layers over one table: file, environment, command line; then what must hold between fields.
#include "tools/pulsewheel/flags.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <toml++/toml.h>

#include "core/heartbeat_policy.h"
#include "core/time.h"
#include "core/units.h"
#include "core/version.h"
#include "net/control/control.h"
#include "net/protocols/listen_uri.h"
#include "net/protocols/protocol.h"
#include "proto/printable.h"
#include "tools/pulsewheel/help.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    for (;;) {
        const size_t end = std::min(text.find(separator), text.size());
        parts.emplace_back(text.substr(0, end));
        if (end == text.size()) return parts;
        text.remove_prefix(end + 1);
    }
}

// What the layers write into: options, where each given setting was given last, and errors.
struct Draft {
    ServerOptions options;
    Origins given;
    std::string errors;

    // One line each, whatever was given.
    void add_error(std::string_view where, std::string_view what) {
        if (!errors.empty()) errors += '\n';
        errors.append(printable(where)).append(": ").append(printable(what));
    }
    // One layer's values of one setting; `where` is how that layer calls it.
    void set(const Setting& setting, std::span<const std::string> values, std::string_view where) {
        if (setting.clear != nullptr) setting.clear(options);
        for (const std::string& value : values) {
            // A TOML string can hold one, and what reads C strings would see only what is before.
            if (value.find('\0') != std::string::npos) {
                add_error(where, "the value contains a NUL character; remove it");
                continue;
            }
            const Result<void> done = setting.set(options, value);
            if (!done) add_error(where, done.error());
        }
        given[setting.name] = where;
    }
};

// ------------------------------------------------------------------------------------- the file

// A TOML value as the flag would be given it. Nothing if its type cannot be one.
std::optional<std::string> flag_text(const toml::node& node, SettingKind kind) {
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* number = node.as_integer(); number != nullptr && kind == SettingKind::number)
        return std::to_string(number->get());
    const bool is_boolean = kind == SettingKind::boolean || kind == SettingKind::flag;
    if (const auto* boolean = node.as_boolean(); boolean != nullptr && is_boolean)
        return boolean->get() ? "on" : "off";
    return std::nullopt;
}

std::string_view wanted_type(SettingKind kind) {
    switch (kind) {
        case SettingKind::number:
            return "a number or a string in quotes";
        case SettingKind::boolean:
        case SettingKind::flag:
            return "true or false";
        case SettingKind::list:
            return "a string in quotes, or a list of them";
        case SettingKind::text:
            break;
    }
    return "a string in quotes";
}

std::string did_you_mean(std::string_view nearest, std::string_view before,
                         std::string_view after) {
    if (nearest.empty()) return {};
    return std::string("did you mean ").append(before).append(nearest).append(after).append("? ");
}

void read_key(Draft& draft, std::string_view key, const toml::node& node,
              const std::string& where) {
    const Setting* setting = find_setting(key);
    if (setting == nullptr) {
        const std::string quoted = "'" + std::string(key) + "'";
        if (node.is_table())
            return draft.add_error(where, quoted + " is a section; this file has none, remove it");
        return draft.add_error(where, quoted + " is not a setting; " +
                                          did_you_mean(nearest_setting(key), "'", "'") +
                                          "--help lists them all");
    }
    std::vector<std::string> values;
    const auto add = [&](const toml::node& value) {
        std::optional<std::string> text = flag_text(value, setting->kind);
        if (!text) return false;
        values.push_back(*std::move(text));
        return true;
    };
    bool fits = true;
    if (const auto* array = node.as_array(); array && setting->kind == SettingKind::list) {
        for (const toml::node& element : *array) fits = fits && add(element);
    } else {
        fits = add(node);
    }
    const std::string named = where + ": " + std::string(key);
    if (!fits) {
        return draft.add_error(named, "the value has the wrong type; write " +
                                          std::string(wanted_type(setting->kind)));
    }
    draft.set(*setting, values, named);
}

// The text of a config file, and whether it can be read again: a pipe is empty the second time.
struct ConfigText {
    std::string text;
    bool rereadable = true;
};

Result<ConfigText> load_file(const std::string& path) {
    std::error_code unknown;
    const std::filesystem::file_status status = std::filesystem::status(path, unknown);
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (!file || is_directory(status))
        return Error{"'" + path + "' cannot be read; name a file that can"};
    text << file.rdbuf();
    return ConfigText{text.str(), is_regular_file(status)};
}

void read_text(Draft& draft, const std::string& path, const std::string& text) {
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
        const toml::parse_error& error = parsed.error();
        return draft.add_error(path + ":" + std::to_string(error.source().begin.line),
                               std::string(error.description()) + "; write TOML: KEY = VALUE");
    }
    for (const auto& [key, node] : parsed.table())
        read_key(draft, key.str(), node, path + ":" + std::to_string(key.source().begin.line));
}

// ------------------------------------------------------------------------------ the environment

std::string variable_name(std::string_view setting) {
    std::string name = "PULSEWHEEL_";
    for (const char c : setting)
        name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return name;
}

void read_environment(Draft& draft, const Environment& environment) {
    for (const Setting& setting : settings()) {
        const std::string name = variable_name(setting.name);
        const char* value = environment(name.c_str());
        if (value == nullptr || *value == '\0') continue;
        std::vector<std::string> values{value};
        if (setting.kind == SettingKind::list) values = split(value, setting.separator);
        if (setting.kind == SettingKind::flag || setting.kind == SettingKind::boolean) {
            if (values[0] == "1" || values[0] == "true") values[0] = "on";
            if (values[0] == "0" || values[0] == "false") values[0] = "off";
        }
        draft.set(setting, values, name);
    }
}

// ----------------------------------------------------------------------------- the command line

// The flags that are no settings.
struct Requests {
    bool help = false, version = false, print_config = false, check_config = false;
    std::string config;
    std::string generate;
};

void read_command_line(Draft& draft, Requests& requests, std::span<const char* const> arguments,
                       std::map<std::string_view, std::vector<std::string>>& values) {
    CLI::App app;
    app.set_help_flag();
    app.allow_extras();
    app.add_flag("-h,--help", requests.help);
    app.add_flag("--version", requests.version);
    app.add_flag("--print-config", requests.print_config);
    app.add_flag("--check-config", requests.check_config);
    app.add_option("--config", requests.config);
    app.add_option("--generate", requests.generate);
    std::map<std::string_view, std::string> flags;
    for (const Setting& setting : settings()) {
        const std::string name = "--" + std::string(setting.name);
        if (setting.kind == SettingKind::flag)
            app.add_flag(name, flags[setting.name]);
        else
            app.add_option(name, values[setting.name])->type_size(1)->allow_extra_args(false);
    }
    // CLI11 wants them last first.
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    try {
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        return draft.add_error("command line", std::string(error.what()) + "; --help shows how");
    }
    for (const auto& [name, value] : flags)
        if (!value.empty()) values[name] = {value == "true" ? "on" : value};
    bool after_unknown = false;  // what follows an unknown flag is its value, and no second mistake
    for (const std::string& extra : app.remaining()) {
        const bool is_flag = extra.starts_with("-");
        if (std::exchange(after_unknown, is_flag) && !is_flag) continue;
        const std::string bare =
            extra.starts_with("--") ? extra.substr(2, extra.find('=') - 2) : "";
        draft.add_error("command line", "'" + extra + "' is " +
                                            (is_flag ? "not a flag" : "not a flag's value") + "; " +
                                            did_you_mean(nearest_setting(bare), "--", "") +
                                            "--help lists all flags");
    }
}

void apply_command_line(Draft& draft,
                        std::map<std::string_view, std::vector<std::string>>& values) {
    for (const Setting& setting : settings()) {
        std::vector<std::string>& given = values[setting.name];
        if (given.empty()) continue;
        // Of what is not a list the last one counts, so that a script's defaults can be overridden.
        if (setting.kind != SettingKind::list) given.erase(given.begin(), given.end() - 1);
        draft.set(setting, given, "--" + std::string(setting.name));
    }
}

// -------------------------------------------------------------------------------- all together

// What follows from what was given.
void derive(Draft& draft) {
    ServerOptions& options = draft.options;
    if (options.listen.empty()) {
        if (draft.given.contains("listen"))
            draft.add_error(origin_of(draft.given, "listen"),
                            "no address at all; write for example tcp://127.0.0.1:9000");
        options.listen.push_back(*parse_listen_uri(kListenDefault));
    }
    const NamedProfile& profile = kNamedProfiles[options.heartbeat_profile];
    const bool own_interval = draft.given.contains("heartbeat-interval");
    if (!own_interval) options.heartbeat_interval = profile.interval;
    if (!draft.given.contains("heartbeat-timeout"))
        options.heartbeat_timeout = own_interval ? 3 * options.heartbeat_interval : profile.timeout;
    // The longest message and the send queue follow each other, where only one is given.
    if (!draft.given.contains("send-queue-bytes")) {
        options.send_queue_bytes = std::max(kSendQueueBytesDefault, 2 * options.max_message_bytes);
    } else if (!draft.given.contains("max-message-bytes") &&
               options.on_message == OnMessage::echo) {
        options.max_message_bytes =
            std::min(kMessageBytesDefault, echoed_by(options.send_queue_bytes));
    }
    if (!draft.given.contains("buffer-bytes")) {
        options.buffer_bytes = std::max(kBufferedBytesDefault,
                                        buffers_for(options.max_message_bytes, options.on_message));
    }
}

std::string in_ms(Nanos least) {
    return format_duration((least + kMillisecond - 1) / kMillisecond * kMillisecond);
}

// Of a timeout that is too long for its setting or for a wheel of this tick. The offender is the
// interval where the timeout is derived from it.
std::optional<std::string> too_long_timeout(const ServerOptions& options, const Origins& origins) {
    const TickClock clock{options.tick_shift};
    const Nanos wheel = clock.begins(kTimeoutTicksMax) / kSecond * kSecond;
    const Nanos longest = std::min(wheel, kHeartbeatTimeoutMax);
    if (options.heartbeat_timeout <= longest) return std::nullopt;
    const bool by_wheel = wheel < kHeartbeatTimeoutMax;
    const std::string timeout = format_duration(options.heartbeat_timeout);
    const std::string limit =
        by_wheel ? "a wheel of this --tick can wait" : format_duration(kHeartbeatTimeoutMax);
    const std::string longer_tick = by_wheel ? ", a longer --tick" : "";
    if (!origins.contains("heartbeat-timeout") && origins.contains("heartbeat-interval")) {
        return origin_of(origins, "heartbeat-interval") + ": '" +
               format_duration(options.heartbeat_interval) +
               "' makes a timeout of three intervals, " + timeout + ", which is longer than " +
               limit + "; write at most " + format_duration(longest / 3 / kSecond * kSecond) +
               longer_tick + ", or a shorter --heartbeat-timeout";
    }
    return origin_of(origins, "heartbeat-timeout") + ": '" + timeout + "' is longer than " + limit +
           "; write at most " + format_duration(longest) + (by_wheel ? ", or a longer --tick" : "");
}

std::optional<std::string> wrong_heartbeats(const ServerOptions& options, const Origins& origins) {
    const TickClock clock{options.tick_shift};
    const Nanos longest = clock.begins(kTimeoutTicksMax);
    const Nanos interval = options.heartbeat_interval;
    const Nanos timeout = options.heartbeat_timeout;
    // A tick to round the interval, a tick to round the timeout.
    const Nanos least = interval + answer_time(interval) + 2 * clock.tick_ns();
    if (interval < 2 * clock.tick_ns()) {
        return origin_of(origins, "heartbeat-interval") + ": '" + format_duration(interval) +
               "' is less than two ticks; write more, or a shorter --tick";
    }
    if (timeout < least) {
        return origin_of(origins, "heartbeat-timeout") + ": '" + format_duration(timeout) +
               "' leaves too little time for an answer after an interval of " +
               format_duration(interval) + "; write at least " + in_ms(least) +
               ", or three intervals: " + format_duration(3 * interval);
    }
    if (auto too_long = too_long_timeout(options, origins)) return too_long;
    const AdaptiveRange& range = options.heartbeat_adaptive;
    if (range.on() && adaptive_timeout(range.most, options.heartbeat_probe) > longest) {
        return origin_of(origins, "heartbeat-adaptive") + ": the timeout that goes with '" +
               format_duration(range.most) +
               "' is longer than a wheel of this --tick can wait; write less, or a longer --tick";
    }
    if (options.handshake_timeout > longest) {
        return origin_of(origins, "handshake-timeout") + ": '" +
               format_duration(options.handshake_timeout) +
               "' is longer than a wheel of this --tick can wait; write at most " +
               format_duration(longest / kSecond * kSecond);
    }
    return std::nullopt;
}

// The misses follow each other as quick probes do, and have no meaning behind the timeout.
std::optional<std::string> wrong_misses(const ServerOptions& options, const Origins& origins) {
    if (options.suspect_misses == 0) return std::nullopt;
    const std::string what = origin_of(origins, "suspect-misses") + ": '" +
                             std::to_string(options.suspect_misses) + "' ";
    if (options.suspect_probe == 0)
        return what + "are of quick probes, and there are none; give --suspect-probe, such as 2s";
    const Nanos silence = options.heartbeat_timeout - options.heartbeat_interval;
    const Nanos least = kAnswerWaitNsMin + Nanos{options.suspect_misses} * options.suspect_probe;
    if (least < silence) return std::nullopt;
    return what + "probes, " + format_duration(options.suspect_probe) +
           " apart, take longer than --heartbeat-timeout leaves behind the interval, " +
           format_duration(silence) +
           "; write fewer, a shorter --suspect-probe, or a longer timeout";
}

// A close that would come before the peers have beaten as they are told, or answered a probe.
std::optional<std::string> wrong_idle(const ServerOptions& options, const Origins& origins) {
    const TickClock clock{options.tick_shift};
    const Nanos interval = options.heartbeat_interval;
    const Nanos least = interval + probe_grace(interval, options.heartbeat_timeout) +
                        answer_time(interval) + 3 * clock.tick_ns();
    for (size_t at = 0; at < kIdleClocks; ++at) {
        const IdleRule& rule = options.idle[at];
        if (!rule.on() || rule.action != IdleAction::close || rule.after >= least) continue;
        const std::string name = "idle-" + std::string(name_of(static_cast<IdleClock>(at)));
        return origin_of(origins, name) + ": '" + format_duration(rule.after) +
               "=close' leaves peers too little time for a heartbeat each " +
               format_duration(interval) + ", or to answer a probe; write at least " +
               in_ms(least) + ", a shorter --heartbeat-interval, or =event or =probe";
    }
    return std::nullopt;
}

std::optional<std::string> wrong_buffers(const ServerOptions& options, const Origins& origins) {
    const size_t least = buffers_for(options.max_message_bytes, options.on_message);
    if (options.buffer_bytes >= least) return std::nullopt;
    const std::string what = options.on_message == OnMessage::echo ? "echo" : "hold";
    return origin_of(origins, "buffer-bytes") + ": '" + format_size(options.buffer_bytes) +
           "' cannot " + what + " messages of " + format_size(options.max_message_bytes) +
           "; write at least " + format_size(least) + ", or a shorter --max-message-bytes";
}

std::optional<std::string> wrong_queues(const ServerOptions& options, const Origins& origins) {
    const size_t least = echo_bytes(options.max_message_bytes);
    if (options.on_message != OnMessage::echo || options.send_queue_bytes >= least)
        return std::nullopt;
    return origin_of(origins, "send-queue-bytes") + ": '" + format_size(options.send_queue_bytes) +
           "' cannot hold the echo of a message of " + format_size(options.max_message_bytes) +
           "; write at least " + format_size((least + 1'023) / 1'024 * 1'024) +
           ", or a shorter --max-message-bytes";
}

// A window goes out at once when its session is resumed.
std::optional<std::string> wrong_window(const ServerOptions& options, const Origins& origins) {
    const size_t most = options.send_queue_bytes / 2;
    if (options.resume_hold == 0 || options.resume_window.bytes <= most) return std::nullopt;
    return origin_of(origins, "resume-window") + ": has " +
           format_size(options.resume_window.bytes) + ", more than half of the send queue of " +
           format_size(options.send_queue_bytes) + "; write " + format_size(most / 1'024 * 1'024) +
           " at most, or a larger --send-queue-bytes";
}

std::optional<std::string> wrong_listeners(const ServerOptions& options, const Origins& origins) {
    for (const ListenAddress& listener : options.listen) {
        if (!listener.expects_proxy_header || !options.proxy_trusted.empty()) continue;
        return origin_of(origins, "proxy-trusted") +
               ": no address is trusted, so that no peer can connect to '" + listener.text +
               "'; name the balancer's address";
    }
    return std::nullopt;
}

std::optional<std::string> wrong_tls(const ServerOptions& options, const Origins& origins) {
    const auto listener = std::ranges::find_if(options.listen, &ListenAddress::tls);
    if (options.tls.on()) {
        const auto serves = [](const ListenAddress& one) { return one.tls || one.protocol == 0; };
        if (options.tls.client_ca.empty() || std::ranges::any_of(options.listen, serves))
            return std::nullopt;
    } else if (listener == options.listen.end() && options.tls.client_ca.empty()) {
        return std::nullopt;
    }
    if (listener == options.listen.end()) {
        return origin_of(origins, "tls-client-ca") +
               ": no listener speaks TLS, so that no client is asked for a certificate; give a "
               "wss:// or tls+SCHEME:// listener and --tls-cert, or do without it";
    }
    return origin_of(origins, "tls-cert") + ": a certificate is missing, which '" + listener->text +
           "' needs; name one and its key (--tls-key)";
}

std::optional<std::string> wrong_admin(const ServerOptions& options, const Origins& origins) {
    if (options.admin.empty()) return std::nullopt;
    const Result<AdminAddress> address = parse_admin_address(options.admin);
    if (!address) return origin_of(origins, "admin") + ": " + address.error();
    const Result<void> may = check_admin_access(*address, !options.admin_token_file.empty());
    if (may) return std::nullopt;
    return origin_of(origins, "admin") + ": " + may.error();
}

std::optional<std::string> wrong_anomalies(const ServerOptions& options, const Origins& origins) {
    if (options.on_anomaly != OnAnomaly::degrade || options.overload != OverloadStep::none)
        return std::nullopt;
    return origin_of(origins, "on-anomaly") +
           ": 'degrade' has no step that it may take while --overload is off; write 'log', or give "
           "--overload refuse or stretch";
}

// Strings always in the quotes that --help and the README use.
toml::toml_formatter in_quotes(const toml::node& node) {
    return toml::toml_formatter{
        node, toml::toml_formatter::default_flags & ~toml::format_flags::allow_literal_strings};
}

Result<std::string> generated(std::string_view kind, const ServerOptions& defaults) {
    if (kind == "config") return commented_toml(defaults);
    Result<std::string> text = manual::generate(server_manual(defaults), kind);
    if (!text) {
        return Error{"--generate: '" + std::string(kind) + "' is not known here; write one of " +
                     std::string(kGenerateKinds)};
    }
    return text;
}

void append_value(std::ostringstream& out, const Setting& setting,
                  const std::vector<std::string>& values) {
    if (setting.kind == SettingKind::list) {
        toml::array array;
        for (const std::string& value : values) array.push_back(value);
        out << in_quotes(array);
    } else if (setting.kind == SettingKind::flag || setting.kind == SettingKind::boolean) {
        out << (values[0] == "on" ? "true" : "false");
    } else {
        out << in_quotes(toml::value<std::string>(values[0]));
    }
}

// A key a line. As comments: each below what it is for, and without effect.
void append_settings(std::ostringstream& out, const ServerOptions& options, bool as_comments) {
    std::string_view group;
    for (const Setting& setting : settings()) {
        if (group != setting.group) {
            group = setting.group;
            out << "\n# " << group << (as_comments ? " " + std::string(90 - group.size(), '-') : "")
                << "\n";
        }
        if (as_comments) {
            std::string text = "\n# ";
            const bool is_live = setting.reload == ReloadKind::live;
            append_wrapped(text, about(setting) + (is_live ? " (live)" : ""), "# ");
            out << text << '#';
        }
        out << setting.name << " = ";
        append_value(out, setting, setting.get(options));
        out << "\n";
    }
}

}  // namespace

std::string origin_of(const Origins& origins, std::string_view setting) {
    const auto found = origins.find(setting);
    return found != origins.end() ? found->second : "--" + std::string(setting);
}

std::string to_toml(const ServerOptions& options) {
    std::ostringstream out;
    out << "# Pulsewheel " << kVersion << ". pulsewheel --help says what each key means.\n";
    append_settings(out, options, false);
    return out.str();
}

std::string commented_toml(const ServerOptions& options) {
    std::ostringstream out;
    out << "# Settings of Pulsewheel " << kVersion << ", each with its default. Remove the #\n"
        << "# of those that you change, and ask `pulsewheel --config FILE --check-config`.\n"
        << "# A reload applies those that are marked live; the others wait for a restart.\n";
    append_settings(out, options, true);
    return out.str();
}

Result<void> check_between(const ServerOptions& options, const Origins& origins) {
    std::string errors;
    for (const auto& wrong : {wrong_listeners(options, origins), wrong_heartbeats(options, origins),
                              wrong_misses(options, origins), wrong_idle(options, origins),
                              wrong_buffers(options, origins), wrong_queues(options, origins),
                              wrong_window(options, origins), wrong_tls(options, origins),
                              wrong_admin(options, origins), wrong_anomalies(options, origins)}) {
        if (wrong) errors.append(errors.empty() ? "" : "\n").append(*wrong);
    }
    if (errors.empty()) return {};
    return Error{std::move(errors)};
}

Result<Invocation> read_invocation(std::span<const char* const> arguments,
                                   const Environment& environment,
                                   const std::optional<std::string>& kept_config) {
    Draft draft;
    Requests requests;
    std::map<std::string_view, std::vector<std::string>> values;
    read_command_line(draft, requests, arguments, values);
    Invocation invocation;
    if (requests.version) invocation.text = "pulsewheel " + std::string(kVersion) + "\n";
    if (requests.help || !requests.generate.empty()) {
        Draft defaults;
        derive(defaults);
        Result<std::string> text = requests.help ? help_text(defaults.options)
                                                 : generated(requests.generate, defaults.options);
        if (!text) return Error{text.error()};
        invocation.text = *std::move(text);
    }
    if (!invocation.text.empty()) return invocation;

    if (requests.config.empty()) {
        const char* config = environment("PULSEWHEEL_CONFIG");
        if (config != nullptr) requests.config = config;
    }
    if (kept_config) {
        invocation.kept_config = kept_config;
        read_text(draft, requests.config, *kept_config);
    } else if (!requests.config.empty()) {
        Result<ConfigText> config = load_file(requests.config);
        if (config) {
            read_text(draft, requests.config, config->text);
            if (!config->rereadable) invocation.kept_config = std::move(config->text);
        } else {
            draft.add_error("--config", config.error());
        }
    }
    read_environment(draft, environment);
    apply_command_line(draft, values);
    // Fields that could not be read are not compared.
    if (draft.errors.empty()) derive(draft);
    if (draft.errors.empty()) {
        if (Result<void> fits = check_between(draft.options, draft.given); !fits)
            draft.errors = fits.error();
    }
    if (!draft.errors.empty()) return Error{draft.errors};

    invocation.options = std::move(draft.options);
    invocation.origins = std::move(draft.given);
    invocation.options.texts = &settings_text;
    if (requests.print_config)
        invocation.text = to_toml(invocation.options);
    else if (requests.check_config)
        invocation.action = Action::check;
    else
        invocation.action = Action::serve;
    return invocation;
}

}  // namespace pulse::serve
