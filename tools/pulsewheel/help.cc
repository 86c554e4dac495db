// Words about flags: for a terminal, and as a manual.
#include "tools/pulsewheel/help.h"

#include <algorithm>
#include <vector>

#include "net/protocols/protocol.h"

namespace pulse::serve {
namespace {

struct RequestFlag {
    std::string_view name, value, about;
};
constexpr std::string_view kProgram = "This program";
constexpr RequestFlag kRequestFlags[] = {
    {"config", "FILE", "Read settings from a TOML file whose keys are the flags' names."},
    {"check-config", "",
     "Check everything given, and whether this machine can do it; print errors, and exit."},
    {"print-config", "", "Print the settings in force as a file for --config, and exit."},
    {"generate", kGenerateKinds,
     "Print the man page, the completion of a shell, or a commented file for --config, and exit."},
    {"version", "", "Print the version, and exit."},
    {"help", "", "Print this, and exit."},
};

constexpr std::string_view kAbout =
    "holds very many mostly silent connections, and evicts dead peers";
constexpr std::string_view kExamples =
    "  pulsewheel --listen tcp://127.0.0.1:9000\n"
    "  pulsewheel --listen auto://*:9000 --max-connections 1M --stats-interval 1s\n"
    "  pulsewheel --heartbeat-interval 5s --on-message echo --print-config > pulsewheel.toml\n"
    "  pulsewheel --config pulsewheel.toml --check-config\n";
constexpr std::string_view kValues =
    "TIME is 250ms, 30s, 2m or 1h; SIZE is 4096, 64KiB or 1MiB; RATE is 1000/s; N is 50000, "
    "50k or 1M.\n"
    "In [ ]: the default. Each flag is also a key of the --config file\n"
    "(heartbeat-timeout = \"90s\") and a variable (PULSEWHEEL_HEARTBEAT_TIMEOUT=90s);\n"
    "a variable overrides the file, and a flag overrides both.\n";
constexpr std::string_view kExitCodes =
    "0 ok, 1 could not start, 2 not understood, 3 a drain was cut short.";
// Of a page alone: where a package puts things.
constexpr std::string_view kFiles =
    "  /etc/pulsewheel/pulsewheel.toml  settings of the service: pulsewheel --generate config\n"
    "  pulsewheel.service               systemctl start, stop (drains), reload (SIGHUP)\n"
    "  pulsewheel.socket                sockets that the service manager hands over\n";

std::string signals() {
    std::vector<std::string> live;
    for (const Setting& setting : settings())
        if (setting.reload == ReloadKind::live) live.emplace_back(setting.name);
    return "SIGHUP reads all of them again and applies, if all are right: " + joined(live, ", ") +
           ". It names what else has changed: that waits for a restart. SIGUSR1 opens the log and "
           "statistics files anew. SIGTERM and SIGINT drain; the second one stops at once.";
}

void append_flag(std::string& out, const manual::Flag& flag) {
    constexpr size_t kAboutColumn = 34;
    std::string head = "  --" + flag.name;
    if (!flag.value.empty()) head += " " + flag.value;
    head.resize(std::max(head.size() + 2, kAboutColumn), ' ');
    out += head;
    const std::string indent(kAboutColumn, ' ');
    if (head.size() > kAboutColumn) out += "\n" + indent;
    append_wrapped(out, flag.about, indent);
}

}  // namespace

void append_wrapped(std::string& out, std::string_view text, std::string_view indent) {
    constexpr size_t kColumns = 96;
    size_t column = indent.size();
    while (!text.empty()) {
        const size_t end = std::min(text.find(' '), text.size());
        if (column > indent.size() && column + 1 + end > kColumns) {
            out.append("\n").append(indent);
            column = indent.size();
        } else if (column > indent.size()) {
            out += ' ';
            ++column;
        }
        out += text.substr(0, end);
        column += end;
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    out += '\n';
}

std::string about(const Setting& setting) {
    constexpr std::string_view kSchemes = "{schemes}";
    std::string text(setting.about);
    const size_t at = text.find(kSchemes);
    if (at != text.npos) text.replace(at, kSchemes.size(), scheme_help());
    return text;
}

manual::Manual server_manual(const ServerOptions& defaults) {
    manual::Manual manual;
    manual.program = "pulsewheel";
    manual.about = kAbout;
    for (const Setting& setting : settings()) {
        if (manual.groups.empty() || manual.groups.back().title != setting.group)
            manual.groups.push_back({std::string(setting.group), {}});
        const std::string standard = joined(setting.get(defaults), ", ");
        const bool shows_default = setting.kind != SettingKind::flag && !standard.empty();
        manual.groups.back().flags.push_back(
            {std::string(setting.name), "", std::string(setting.value),
             about(setting) + (shows_default ? " [" + standard + "]" : "")});
    }
    manual.groups.push_back({std::string(kProgram), {}});
    for (const RequestFlag& flag : kRequestFlags) {
        manual.groups.back().flags.push_back({std::string(flag.name),
                                              flag.name == "help" ? "h" : "",
                                              std::string(flag.value), std::string(flag.about)});
    }
    manual.sections = {{"Values", std::string(kValues)},
                       {"Signals", signals()},
                       {"Exit codes", std::string(kExitCodes)},
                       {"Files", std::string(kFiles)},
                       {"Examples", std::string(kExamples)}};
    return manual;
}

std::string help_text(const ServerOptions& defaults) {
    const manual::Manual manual = server_manual(defaults);
    std::string out = manual.program + " - " + manual.about + "\n\n";
    out += kExamples;
    for (const manual::Group& group : manual.groups) {
        out += "\n" + group.title + ":\n";
        for (const manual::Flag& flag : group.flags) append_flag(out, flag);
    }
    out.append("\n").append(kValues).append("\n");
    append_wrapped(out, signals(), "");
    return out.append("\nExit codes: ").append(kExitCodes).append("\n");
}

}  // namespace pulse::serve
