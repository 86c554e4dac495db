// The table of commands, and help made from it.
#include "tools/pulsectl/commands.h"

#include <algorithm>

#include "tools/pulsectl/actions.h"
#include "tools/pulsectl/table.h"

namespace pulse::ctl {
namespace {

constexpr std::string_view kAbout = "asks a running pulsewheel, and tells it what to do";
constexpr std::string_view kExamples =
    "  pulsectl --admin 127.0.0.1:9100 top\n"
    "  pulsectl ls --protocol ws --idle 30s --sort idle\n"
    "  pulsectl kick --address 192.0.2.0/24 --rate 500/s --reason maintenance\n"
    "  pulsectl drain\n";
constexpr std::string_view kExitCodes =
    "0 done, 1 the server refused or is not there, 2 not understood.";
constexpr std::string_view kFilterRule =
    "A flag that says \"Only\" may be given several times (not --idle, --age, --since): any of its "
    "values will do, and where several such flags are given each must hold. Labels of one name are "
    "alternatives, and each name must hold: --label ring=canary --label ring=beta --label region.";
constexpr size_t kAboutColumn = 26;

const std::vector<Flag> kFilter = {
    {"protocol", "NAME",
     "Only those that speak it: ws, jsonl, tcp, or a row such as "
     "websocket_json"},
    {"state", "STATE", "Only those in it: proxy, tls, detect, http, open, closing"},
    {"listener", "URI", "Only those of this listener, by its URI or its place (0, 1 ...)"},
    {"address", "CIDR", "Only peers of these addresses: 192.0.2.7, 10.0.0.0/8, 2001:db8::/64"},
    {"profile", "NAME", "Only those with this heartbeat profile"},
    {"idle", "TIME", "Only those that have proved no life for so long: 30s, 5m"},
    {"age", "TIME", "Only those that have been open for so long; known where --ledger is on"},
    {"user", "NAME", "Only those that are logged in as this user"},
    {"label", "NAME[=VALUE]", "Only those whose login has this label"},
    {"id", "ID", "Only this one"},
};

std::vector<Flag> with_filter(std::vector<Flag> flags) {
    flags.insert(flags.end(), kFilter.begin(), kFilter.end());
    return flags;
}

// Of connections that ended.
const std::vector<Flag> kClosedFilter = {
    {"closed", "", "List the last that ended instead, the newest first, and why"},
    {"reason", "WORD", "With --closed: only those that ended for it, such as idle_timeout"},
    {"since", "TIME", "With --closed: only those that ended in the last 5m, 2h"},
};

std::vector<Flag> with_closed(std::vector<Flag> flags) {
    flags.insert(flags.end(), kClosedFilter.begin(), kClosedFilter.end());
    return flags;
}

const Flag kAll = {"all", "", "Every connection; needed where no filter is given"};

void append_row(std::string& out, std::string head, std::string_view about) {
    head.insert(0, "  ");
    head.resize(std::max(head.size() + 2, kAboutColumn), ' ');
    out += head;
    if (head.size() > kAboutColumn) out.append("\n").append(kAboutColumn, ' ');
    append_wrapped(out, about, kAboutColumn);
}

void append_flags(std::string& out, const std::vector<Flag>& flags) {
    for (const Flag& flag : flags) {
        std::string head = "--" + std::string(flag.name);
        if (!flag.value.empty()) head.append(" ").append(flag.value);
        append_row(out, std::move(head), flag.about);
    }
}

// What they are about: connections and users, or the server.
std::vector<Command> about_connections() {
    return {
        {"ls", "", "List connections",
         "In the order of their ids, in which each that lives all the while is shown once; or "
         "the longest idle, or open, first. With --closed those that the server remembers.",
         with_filter(with_closed(
             {{"sort", "id|idle|age", "The order [id]"}, {"limit", "N|all", "How many [100]"}})),
         run_ls},
        {"count", "", "Count connections, by protocol and state", "", with_filter({}), run_count},
        {"explain",
         "ID",
         "Tell what is known of one connection, open or closed, and why it ended",
         "ID is what ls prints, and what the server told the peer in its welcome: r3-000123-9.",
         {},
         run_explain},
        {"kick", "[ID]", "Close one connection, or those that match",
         "Each gets a goodbye of code 4005 in its own protocol. With --rate, Ctrl-C ends it "
         "where it is.",
         with_filter({kAll,
                      {"rate", "RATE", "So many a second at most, such as 500/s"},
                      {"reason", "TEXT", "Said in the goodbye, at most 80 bytes"}}),
         run_kick},
        {"broadcast", "TEXT", "Send a text to those that match",
         "As application data of each protocol. Those whose handshake is not over, and those "
         "that do not read, are skipped. At most 4,096 bytes.",
         with_filter({kAll}), run_broadcast},
        {"send",
         "TEXT",
         "Send a text to one user, or to one connection",
         "To all sessions of the user. As application data of each protocol, at most 4,096 bytes.",
         {{"user", "NAME", "To this user"}, {"id", "ID", "To this connection"}},
         run_send},
        {"retune", "PROFILE", "Move those that match to a heartbeat profile",
         "realtime, standard, mobile, powersave, or default, which is what the server's flags "
         "say. Each is sent the new interval.",
         with_filter({kAll}), run_retune},
        {"revoke",
         "TOKEN_ID",
         "Refuse a token from now on, and close those that have given it",
         "The jti of a JSON Web Token, or the id of a line of --auth-token-file.",
         {},
         run_revoke},
        {"presence",
         "[USER]",
         "Show who is online, or the sessions of one user",
         "With --follow a line for each change, until Ctrl-C: first who is online, then what "
         "changes. Where changes were missed, that is said, and who is online is shown again.",
         {{"follow", "", "Go on with each change"},
          {"state", "STATE", "Only users that are online, suspect or offline"},
          {"limit", "N|all", "How many [100]"}},
         run_presence},
    };
}
std::vector<Command> about_the_server() {
    return {
        {"top",
         "",
         "Watch the reactors: a table that is renewed in place",
         "Ends with q or Ctrl-C. Where the output is not a terminal, a table an interval. Above it "
         "is a line for each anomaly that goes on (--on-anomaly of the server).",
         {{"interval", "TIME", "Between two looks [1s]"},
          {"count", "N", "End after so many tables"}},
         run_top},
        {"drain", "", "Stop the server in an orderly way, or a part of it, and show how far it is",
         "As SIGTERM; returns when the server has ended. With --listener alone that listener "
         "closes and its connections are sent goodbyes; with a filter those that match are; "
         "the others notice nothing.",
         with_filter({{"rate", "RATE", "Goodbyes a second of a part [what suits --drain-timeout]"},
                      {"no-wait", "", "Return when it has begun"}}),
         run_drain},
        {"ready",
         "",
         "Tell whether the server takes new connections",
         "Exit code 1 where it does not, with the reasons.",
         {},
         run_ready},
        {"stats", "", "Print the figures of the server", "", {}, run_stats},
        {"limits",
         "",
         "Print each limit, what is in use of it, and how often it refused",
         "USED is of the server, of the listener, or of the address that has most; - where that is "
         "not known, or the limit is off.",
         {},
         run_limits},
        {"anomalies",
         "",
         "Show what is not normal, since when and where it comes from",
         "And what was not before. The server looks for it with --on-anomaly. SPREADS is how far "
         "from normal, in usual deviations.",
         {},
         run_anomalies},
        {"policy",
         "[POLICIES|off|rollback]",
         "Print the policies for cohorts, or change them",
         "POLICIES as --policy of the server, several with semicolons between them; off: none; "
         "rollback: those before the last change, whatever brought it, so that a second one undoes "
         "the first. All until the next reload. Figures are of each hour that a session lasted, "
         "since its policy came; the last row is of all others. Those that a change concerns are "
         "moved within seconds.",
         {},
         run_policy},
        {"config",
         "",
         "Print the settings in force, and where each was given",
         "",
         {{"given", "", "Only those that were given"}},
         run_config},
        {"reload", "", "Read the settings again, as SIGHUP does", "", {}, run_reload},
        {"log-level",
         "[LEVEL]",
         "Print the log level, or set it until the next reload",
         "debug, info, warning or error.",
         {},
         run_log_level},
    };
}

}  // namespace

const std::vector<Flag>& global_flags() {
    static const std::vector<Flag> kFlags = {
        {"admin", "ADDRESS",
         "The server's --admin: HOST:PORT or unix:PATH; without it, PULSECTL_ADMIN"},
        {"token-file", "FILE",
         "Its first line is shown to a server that has --admin-token-file; without it, "
         "PULSECTL_TOKEN_FILE"},
        {"json", "", "Print the server's answer as JSON, for scripts"},
        {"generate", manual::kKinds, "Print a man page, or the completion of a shell, and exit"},
        {"version", "", "Print the version, and exit"},
        {"help", "", "Print this, or what a command takes, and exit"},
    };
    return kFlags;
}

const std::vector<Command>& commands() {
    static const std::vector<Command> kCommands = [] {
        std::vector<Command> all = about_the_server();
        const std::vector<Command> more = about_connections();
        all.insert(all.begin() + 1, more.begin(), more.end());  // behind top
        return all;
    }();
    return kCommands;
}

const Command* find_command(std::string_view name) {
    const auto found = std::ranges::find(commands(), name, &Command::name);
    return found == commands().end() ? nullptr : &*found;
}

namespace {

bool has_filter(const Command& command) {
    return std::ranges::find(command.flags, kFilter.front().name, &Flag::name) !=
           command.flags.end();
}

}  // namespace

std::string help() {
    std::string out = "pulsectl - " + std::string(kAbout) + "\n\n" + std::string(kExamples) +
                      "\nCommands (pulsectl COMMAND --help says more):\n";
    for (const Command& command : commands()) {
        std::string head(command.name);
        if (!command.argument.empty()) head.append(" ").append(command.argument);
        append_row(out, std::move(head), command.about);
    }
    out += "\nFlags, before or behind the command:\n";
    append_flags(out, global_flags());
    out.append("\nExit codes: ").append(kExitCodes).append("\n");
    return out;
}

manual::Manual manual_of_commands() {
    const auto flags_of = [](const std::vector<Flag>& flags) {
        std::vector<manual::Flag> all;
        for (const Flag& flag : flags) {
            all.push_back({std::string(flag.name), flag.name == "help" ? "h" : "",
                           std::string(flag.value), std::string(flag.about) + "."});
        }
        return all;
    };
    manual::Manual manual;
    manual.program = "pulsectl";
    manual.about = kAbout;
    manual.groups = {{"Flags", flags_of(global_flags())}};
    for (const Command& command : commands()) {
        std::string about(command.about);
        about.append(".").append(command.more.empty() ? "" : " ").append(command.more);
        if (has_filter(command)) about.append(" ").append(kFilterRule);
        manual::Command shown{std::string(command.name), about, {}, {}};
        if (!command.argument.empty()) shown.operands = {std::string(command.argument)};
        if (!command.flags.empty()) shown.groups = {{"Flags", flags_of(command.flags)}};
        manual.commands.push_back(std::move(shown));
    }
    manual.sections = {{"Exit codes", std::string(kExitCodes)},
                       {"Examples", std::string(kExamples)}};
    return manual;
}

std::string help_of(const Command& command) {
    std::string out = "pulsectl " + std::string(command.name);
    if (!command.argument.empty()) out.append(" ").append(command.argument);
    out.append(" - ");
    std::string about(command.about);
    append_wrapped(out, about + ".", 0);
    if (!command.more.empty()) append_wrapped(out.append("\n"), command.more, 0);
    if (!command.flags.empty()) append_flags(out.append("\n"), command.flags);
    if (has_filter(command)) append_wrapped(out.append("\n"), kFilterRule, 0);
    out += "\nFlags of every command:\n";
    append_flags(out, global_flags());
    return out;
}

}  // namespace pulse::ctl
