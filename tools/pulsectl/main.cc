// pulsectl: an operator's command line for a running pulsewheel, over its admin endpoint. Exit
// codes: 0 done, 1 the server refused or is not there, 2 not understood.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "core/version.h"
#include "proto/binary.h"
#include "proto/printable.h"
#include "proto/utf8.h"
#include "tools/pulsectl/actions.h"

namespace pulse::ctl {
namespace {

// The first argument that is not UTF-8, which no JSON and no URL can carry; nullptr: all are.
const char* not_utf8(int argc, const char* const* argv) {
    for (const char* const argument : std::span(argv, static_cast<size_t>(argc)))
        if (!utf8_valid(binary::bytes_of(argument))) return argument;
    return nullptr;
}

// A command line as CLI11 reads it.
struct Line {
    std::string command;
    Request request;
    Request::Flags global;
    bool help = false, version = false;
    std::string error;
};

void add_flags(CLI::App& app, const std::vector<Flag>& flags, Request::Flags& values) {
    for (const Flag& flag : flags) {
        const std::string name(flag.name);
        if (name == "help" || name == "version" || name == "json") continue;
        if (flag.value.empty()) {
            app.add_flag_callback("--" + name, [&values, name] { values[name] = {"on"}; });
        } else {
            using Texts = std::vector<std::string>;
            app.add_option_function<Texts>(
                   "--" + name, [&values, name](const Texts& texts) { values[name] = texts; })
                ->type_size(1)
                ->allow_extra_args(false)
                ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
        }
    }
}

Line read_line(int argc, const char* const* argv) {
    Line line;
    CLI::App app;
    app.set_help_flag();
    app.require_subcommand(0, 1);
    app.add_flag("-h,--help", line.help);
    app.add_flag("--version", line.version);
    app.add_flag("--json", line.request.json);
    add_flags(app, global_flags(), line.global);
    for (const Command& command : commands()) {
        CLI::App* sub = app.add_subcommand(std::string(command.name));
        sub->set_help_flag();
        sub->add_flag("-h,--help", line.help);
        sub->add_flag("--json", line.request.json);
        add_flags(*sub, global_flags(), line.global);
        add_flags(*sub, command.flags, line.request.flags);
        if (!command.argument.empty())
            sub->add_option(std::string(command.argument), line.request.argument)
                ->type_size(1)
                ->allow_extra_args(false);
        sub->callback([&line, &command] { line.command = command.name; });
    }
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        line.error = error.what();
    }
    return line;
}

// What a flag, or else a variable, names.
std::string given(const Line& line, const std::string& flag, const char* variable) {
    const auto found = line.global.find(flag);
    if (found != line.global.end()) return found->second.back();
    const char* value = std::getenv(variable);
    return value != nullptr ? value : "";
}

int run(const Line& line) {
    const Command& command = *find_command(line.command);
    const bool needs = !command.argument.empty() && !command.argument.starts_with('[');
    if (needs && line.request.argument.empty()) {
        return usage(line.command + ": " + std::string(command.argument) +
                     " is missing; pulsectl " + line.command + " --help shows how");
    }
    const std::string address = given(line, "admin", "PULSECTL_ADMIN");
    if (address.empty()) {
        return usage(
            "--admin: no server is named; give its --admin address, or set "
            "PULSECTL_ADMIN");
    }
    const Result<AdminAddress> parsed = parse_admin_address(address);
    if (!parsed) return usage("--admin: " + parsed.error());
    std::string token;
    if (const std::string path = given(line, "token-file", "PULSECTL_TOKEN_FILE"); !path.empty()) {
        std::ifstream file(path);
        if (!std::getline(file, token))
            return usage("--token-file: " + pulse::quoted(path) +
                         " holds no line that can be read; name a file with a token");
        while (!token.empty() && (token.back() == '\r' || token.back() == ' ')) token.pop_back();
    }
    Client client(*parsed, token);
    return command.run(client, line.request);
}

}  // namespace
}  // namespace pulse::ctl

// What escapes cannot be handled here, such as no memory; it ends the program loudly.
// NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
    using namespace pulse::ctl;
    std::signal(SIGPIPE, SIG_IGN);
    if (const char* const wrong = not_utf8(argc, argv)) {
        return usage("'" + pulse::printable(wrong) +
                     "' is not UTF-8; set the terminal or the script to UTF-8");
    }
    const Line line = read_line(argc, argv);
    const Command* command = find_command(line.command);
    if (line.help) return print(command != nullptr ? help_of(*command) : help());
    if (line.version) return print("pulsectl " + std::string(pulse::kVersion) + "\n");
    if (const auto kind = line.global.find("generate"); kind != line.global.end()) {
        const pulse::Result<std::string> text =
            pulse::manual::generate(manual_of_commands(), kind->second.back());
        return text ? print(*text) : usage(text.error());
    }
    if (!line.error.empty()) return usage(line.error + "; --help shows how");
    if (command == nullptr) return usage("no command is given; --help lists them");
    return run(line);
}
