// Completion for fish.
#include "tools/manual/manual.h"
#include "tools/manual/words.h"

namespace pulse::manual {
namespace {

// fish has backslashes within single quotes, too.
std::string quoted(std::string_view text) {
    return "'" + replace_all(replace_all(std::string(text), "\\", "\\\\"), "'", "\\'") + "'";
}

std::string lines_of(const std::string& program, const std::vector<Group>& groups,
                     const std::string& condition) {
    std::string out;
    for (const Group& group : groups) {
        for (const Flag& flag : group.flags) {
            out += "complete -c " + program + condition + " -l " + flag.name;
            if (!flag.short_name.empty()) out += " -s " + flag.short_name;
            std::string words;
            for (const std::string& word : words_of(flag.value))
                words.append(words.empty() ? "" : " ").append(word);
            if (is_file(flag.value))
                out += " -r -F";
            else if (!flag.value.empty())
                out += words.empty() ? " -x" : " -x -a " + quoted(words);
            out += " -d " + quoted(first_sentence(flag.about)) + "\n";
        }
    }
    return out;
}

}  // namespace

std::string fish_completion(const Manual& manual) {
    std::string out = "# Completion of " + manual.program + " for fish, made by " + manual.program +
                      " --generate fish\ncomplete -c " + manual.program + " -f\n";
    const std::string first = " -n __fish_use_subcommand";
    out += lines_of(manual.program, manual.groups, manual.commands.empty() ? "" : first);
    for (const Command& command : manual.commands) {
        out += "complete -c " + manual.program + first + " -a " + command.name + " -d " +
               quoted(first_sentence(command.about)) + "\n";
        out += lines_of(manual.program, command.groups,
                        " -n '__fish_seen_subcommand_from " + command.name + "'");
    }
    return out;
}

}  // namespace pulse::manual
