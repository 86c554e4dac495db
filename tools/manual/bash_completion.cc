// Completion for bash, without its bash-completion package.
#include "tools/manual/manual.h"
#include "tools/manual/words.h"

namespace pulse::manual {
namespace {

// Names of a flag as they are written.
std::string spellings(const Flag& flag, std::string_view separator) {
    std::string out = "--" + flag.name;
    if (!flag.short_name.empty()) out.append(separator).append("-").append(flag.short_name);
    return out;
}

// What stands behind a flag, one branch each. `command`: of which one, or empty.
std::string values(const std::vector<Group>& groups, const std::string& command) {
    std::string out;
    for (const Group& group : groups) {
        for (const Flag& flag : group.flags) {
            if (flag.value.empty()) continue;
            std::string pattern = command + ":--" + flag.name;
            if (!flag.short_name.empty()) pattern += "|" + command + ":-" + flag.short_name;
            std::string reply;
            if (is_file(flag.value)) reply = "compopt -o filenames 2>/dev/null; REPLY -f; ";
            std::string words;
            for (const std::string& word : words_of(flag.value))
                words.append(words.empty() ? "" : " ").append(word);
            if (!words.empty()) reply = "REPLY -W " + shell_quoted(words) + "; ";
            out += "        " + pattern + ") " + reply + "return ;;\n";
        }
    }
    return out;
}

std::string names(const std::vector<Group>& groups) {
    std::string out;
    for (const Group& group : groups)
        for (const Flag& flag : group.flags)
            out.append(out.empty() ? "" : " ").append(spellings(flag, " "));
    return out;
}

std::string commands(const Manual& manual, std::string_view separator) {
    std::string out;
    for (const Command& command : manual.commands)
        out.append(out.empty() ? "" : separator).append(command.name);
    return out;
}

}  // namespace

std::string bash_completion(const Manual& manual) {
    const std::string function = "_" + manual.program;
    std::string out = function + "() {\n" +
                      R"(    local word= command= current=${COMP_WORDS[COMP_CWORD]}
    local flag=${COMP_WORDS[COMP_CWORD-1]}
    # bash splits --flag=value into three words.
    [[ $flag == = ]] && flag=${COMP_WORDS[COMP_CWORD-2]}
    [[ $current == = ]] && current=
    COMPREPLY=()
)";
    if (!manual.commands.empty()) {
        out += "    for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n        case $word in " +
               commands(manual, "|") + ") command=$word; break ;; esac\n    done\n";
    }
    out += "    case $command:$flag in\n" + values(manual.groups, "");
    for (const Command& command : manual.commands) out += values(command.groups, command.name);
    out += "    esac\n    case $command in\n";
    for (const Command& command : manual.commands) {
        out += "        " + command.name + ") REPLY -W " + shell_quoted(names(command.groups)) +
               "; return ;;\n";
    }
    const std::string first = commands(manual, " ");
    out += "    esac\n    REPLY -W " +
           shell_quoted(names(manual.groups) + (first.empty() ? "" : " " + first)) + "\n}\n";
    const std::string reply = function + "_reply";
    return "# Completion of " + manual.program + " for bash, made by " + manual.program +
           " --generate bash\n" + reply +
           "() { mapfile -t COMPREPLY < <(compgen \"${@:2}\" -- \"$1\"); }\n" +
           replace_all(out, "REPLY -", reply + " \"$current\" -") + "complete -F " + function +
           " " + manual.program + "\n";
}

}  // namespace pulse::manual
