// Three layers over one table: file, environment, command line; then what must hold between fields.
#include "tools/pulsewheel/flags.h"

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <toml++/toml.h>

#include "core/time.h"
#include "core/units.h"
#include "core/version.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {
namespace {

// What the layers write into: options, which settings were given at all, and what was wrong.
struct Draft {
    ServerOptions options;
    std::set<std::string_view> given;
    std::string errors;

    void complain(std::string_view where, std::string_view what) {
        if (!errors.empty()) errors += '\n';
        errors.append(where).append(": ").append(what);
    }
    // One layer's values of one setting; `where` is how that layer calls it.
    void set(const Setting& setting, std::span<const std::string> values, std::string_view where) {
        if (setting.clear != nullptr) setting.clear(options);
        for (const std::string& value : values) {
            const Result<void> done = setting.set(options, value);
            if (!done) complain(where, done.error());
        }
        given.insert(setting.name);
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
            return draft.complain(where, quoted + " is a section; this file has none, remove it");
        return draft.complain(where, quoted + " is no setting; " +
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
        return draft.complain(named, "the value has the wrong type; write " +
                                         std::string(wanted_type(setting->kind)));
    }
    draft.set(*setting, values, named);
}

void read_file(Draft& draft, const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (!file || std::filesystem::is_directory(path)) {
        return draft.complain("--config", "'" + path + "' cannot be read; name a file that can");
    }
    text << file.rdbuf();
    const toml::parse_result parsed = toml::parse(text.str());
    if (!parsed) {
        const toml::parse_error& error = parsed.error();
        return draft.complain(path + ":" + std::to_string(error.source().begin.line),
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
        if (setting.kind == SettingKind::list) values = CLI::detail::split(value, ',');
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
};

struct RequestFlag {
    std::string_view name, value, about;
};
constexpr std::string_view kProgram = "This program";
constexpr RequestFlag kRequestFlags[] = {
    {"config", "FILE", "Read settings from a TOML file whose keys are the flags' names."},
    {"check-config", "", "Say whether everything given makes sense, and exit."},
    {"print-config", "", "Print the settings in force as a file for --config, and exit."},
    {"version", "", "Print the version, and exit."},
    {"help", "", "Print this, and exit."},
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
        return draft.complain("command line", std::string(error.what()) + "; --help shows how");
    }
    for (const auto& [name, value] : flags)
        if (!value.empty()) values[name] = {value == "true" ? "on" : value};
    bool after_unknown = false;  // what follows an unknown flag is its value, and no second mistake
    for (const std::string& extra : app.remaining()) {
        const bool is_flag = extra.starts_with("-");
        if (std::exchange(after_unknown, is_flag) && !is_flag) continue;
        const std::string bare =
            extra.starts_with("--") ? extra.substr(2, extra.find('=') - 2) : "";
        draft.complain("command line", "'" + extra + "' is " +
                                           (is_flag ? "no flag" : "no flag's value") + "; " +
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

// What follows from what was given, and what must hold between fields.
void finish(Draft& draft) {
    ServerOptions& options = draft.options;
    if (options.listen.empty()) {
        if (draft.given.contains("listen"))
            draft.complain("--listen", "no address at all; write for example tcp://127.0.0.1:9000");
        options.listen.push_back(*parse_listen_uri(kListenDefault));
    }
    for (const ListenAddress& listener : options.listen) {
        if (!listener.expects_proxy_header || !options.proxy_trusted.empty()) continue;
        draft.complain("--proxy-trusted", "nobody is trusted, so that nobody could come to '" +
                                              listener.text + "'; name the balancer's address");
        break;
    }
    const NamedProfile& profile = kNamedProfiles[options.heartbeat_profile];
    const bool own_interval = draft.given.contains("heartbeat-interval");
    if (!own_interval) options.heartbeat_interval = profile.interval;
    if (!draft.given.contains("heartbeat-timeout"))
        options.heartbeat_timeout = own_interval ? 3 * options.heartbeat_interval : profile.timeout;

    const TickClock clock{options.tick_shift};
    const Nanos longest = clock.begins(kTimeoutTicksMax);
    if (options.heartbeat_timeout < options.heartbeat_interval) {
        draft.complain("--heartbeat-timeout",
                       "'" + format_duration(options.heartbeat_timeout) +
                           "' is shorter than the interval of " +
                           format_duration(options.heartbeat_interval) +
                           ", so that nobody could ever be asked; write three intervals: " +
                           format_duration(3 * options.heartbeat_interval));
    }
    if (options.heartbeat_timeout > longest) {
        draft.complain("--heartbeat-timeout",
                       "'" + format_duration(options.heartbeat_timeout) +
                           "' is longer than a wheel of this --tick can wait; write at most " +
                           format_duration(longest / kSecond * kSecond) + ", or a longer --tick");
    }
    if (options.heartbeat_interval < 2 * clock.tick_ns()) {
        draft.complain("--heartbeat-interval", "'" + format_duration(options.heartbeat_interval) +
                                                   "' is less than two ticks; write more, or a "
                                                   "shorter --tick");
    }
    if (options.handshake_timeout > longest) {
        draft.complain("--handshake-timeout",
                       "'" + format_duration(options.handshake_timeout) +
                           "' is longer than a wheel of this --tick can wait; write at most " +
                           format_duration(longest / kSecond * kSecond));
    }
}

// Lines of at most 96 columns, broken between words, all but the first indented.
void append_wrapped(std::string& out, std::string_view text, size_t indent) {
    constexpr size_t kColumns = 96;
    size_t column = indent;
    for (const std::string& word : CLI::detail::split(std::string(text), ' ')) {
        if (column > indent && column + 1 + word.size() > kColumns) {
            out.append("\n").append(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
    }
    out += '\n';
}

void append_flag(std::string& out, std::string_view name, std::string_view value,
                 std::string_view about) {
    constexpr size_t kAboutColumn = 34;
    std::string head = "  --" + std::string(name);
    if (!value.empty()) head.append(" ").append(value);
    head.resize(std::max(head.size() + 2, kAboutColumn), ' ');
    out += head;
    if (head.size() > kAboutColumn) out.append("\n").append(kAboutColumn, ' ');
    append_wrapped(out, about, kAboutColumn);
}

std::string joined(const std::vector<std::string>& values) {
    std::string text;
    for (const std::string& value : values) text.append(text.empty() ? "" : ", ").append(value);
    return text;
}

std::string help_text() {
    Draft draft;
    finish(draft);
    std::string out =
        "pulsewheel - holds very many mostly silent connections, and lets go of dead peers\n\n"
        "  pulsewheel --listen tcp://127.0.0.1:9000\n"
        "  pulsewheel --listen auto://*:9000 --max-connections 1M --stats-interval 1s\n"
        "  pulsewheel --heartbeat-interval 5s --on-message echo --print-config > pulsewheel.toml\n"
        "  pulsewheel --config pulsewheel.toml --check-config\n";
    std::string_view group;
    for (const Setting& setting : settings()) {
        if (group != setting.group) {
            group = setting.group;
            out.append("\n").append(group).append(":\n");
        }
        const std::string standard = joined(setting.get(draft.options));
        const bool tells = setting.kind != SettingKind::flag && !standard.empty();
        append_flag(out, setting.name, setting.value,
                    std::string(setting.about) + (tells ? " [" + standard + "]" : ""));
    }
    out.append("\n").append(kProgram).append(":\n");
    for (const RequestFlag& flag : kRequestFlags)
        append_flag(out, flag.name, flag.value, flag.about);
    out +=
        "\nTIME is 250ms, 30s, 2m or 1h; SIZE is 4096, 64KiB or 1MiB; RATE is 1000/s; N is 50000, "
        "50k or 1M.\n"
        "In [ ]: what holds if nothing is said. Each flag is also a key of the --config file\n"
        "(heartbeat-timeout = \"90s\") and a variable (PULSEWHEEL_HEARTBEAT_TIMEOUT=90s); the "
        "file\n"
        "gives way to variables, and these to flags.\n"
        "Exit codes: 0 ok, 1 could not start, 2 not understood, 3 a drain was cut short.\n";
    return out;
}

}  // namespace

namespace {

// Strings always in the quotes that --help and the README use.
toml::toml_formatter in_quotes(const toml::node& node) {
    return toml::toml_formatter{
        node, toml::toml_formatter::default_flags & ~toml::format_flags::allow_literal_strings};
}

}  // namespace

std::string to_toml(const ServerOptions& options) {
    std::ostringstream out;
    out << "# Pulsewheel " << kVersion << ". pulsewheel --help says what each key means.\n";
    std::string_view group;
    for (const Setting& setting : settings()) {
        if (group != setting.group) {
            group = setting.group;
            out << "\n# " << group << "\n";
        }
        const std::vector<std::string> values = setting.get(options);
        out << setting.name << " = ";
        if (setting.kind == SettingKind::list) {
            toml::array array;
            for (const std::string& value : values) array.push_back(value);
            out << in_quotes(array);
        } else if (setting.kind == SettingKind::flag || setting.kind == SettingKind::boolean) {
            out << (values[0] == "on" ? "true" : "false");
        } else {
            out << in_quotes(toml::value<std::string>(values[0]));
        }
        out << "\n";
    }
    return out.str();
}

Result<Invocation> read_invocation(std::span<const char* const> arguments,
                                   const Environment& environment) {
    Draft draft;
    Requests requests;
    std::map<std::string_view, std::vector<std::string>> values;
    read_command_line(draft, requests, arguments, values);
    Invocation invocation;
    if (requests.help)
        invocation.text = help_text();
    else if (requests.version)
        invocation.text = "pulsewheel " + std::string(kVersion) + "\n";
    if (!invocation.text.empty()) return invocation;

    if (requests.config.empty()) {
        const char* config = environment("PULSEWHEEL_CONFIG");
        if (config != nullptr) requests.config = config;
    }
    if (!requests.config.empty()) read_file(draft, requests.config);
    read_environment(draft, environment);
    apply_command_line(draft, values);
    // Between fields that could not be read nothing can be said.
    if (draft.errors.empty()) finish(draft);
    if (!draft.errors.empty()) return Error{draft.errors};

    invocation.options = std::move(draft.options);
    invocation.options.texts = &settings_text;
    if (requests.print_config) {
        invocation.text = to_toml(invocation.options);
    } else if (requests.check_config) {
        invocation.text = "the configuration makes sense\n";
    } else {
        invocation.serve = true;
    }
    return invocation;
}

}  // namespace pulse::serve
