// What pulsectl can be told, as one table, of which parsing, --help, the man page and the
// completions are made.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/manual/manual.h"
#include "tools/pulsectl/client.h"

namespace pulse::ctl {

enum ExitCode { kDone = 0, kRefused = 1, kUsage = 2 };

// Of a command, or of all of them.
struct Flag {
    std::string_view name;   // without dashes
    std::string_view value;  // how --help calls what is to be given; empty: a switch
    std::string_view about;
};

// A command line that was understood.
struct Request {
    using Flags = std::map<std::string, std::vector<std::string>>;
    std::string argument;  // of the command, where it takes one
    Flags flags;           // by name, what was given, never empty; of a switch "on"
    bool json = false;

    bool has(const std::string& name) const { return flags.contains(name); }
    std::string get(const std::string& name, std::string_view otherwise = {}) const {
        const auto found = flags.find(name);
        return found == flags.end() ? std::string(otherwise) : found->second.back();
    }
    std::vector<std::string> all_of(const std::string& name) const {
        const auto found = flags.find(name);
        return found == flags.end() ? std::vector<std::string>() : found->second;
    }
};

struct Command {
    std::string_view name;
    std::string_view argument;  // "ID"; "[LEVEL]" may be left out; empty: it takes none
    std::string_view about;     // one line
    std::string_view more;      // for its own --help
    std::vector<Flag> flags;
    int (*run)(Client& client, const Request& request);
};

const std::vector<Command>& commands();
const std::vector<Flag>& global_flags();

// Which of them a name is; nullptr: none.
const Command* find_command(std::string_view name);

std::string help();
std::string help_of(const Command& command);
// What --generate prints (tools/manual/).
manual::Manual manual_of_commands();

}  // namespace pulse::ctl
