// Completion for zsh, by _arguments: a file of $fpath, or to be sourced.
#include "tools/manual/manual.h"
#include "tools/manual/words.h"

namespace pulse::manual {
namespace {

// In the brackets of a description.
std::string described(std::string_view about) {
    std::string text = replace_all(first_sentence(about), "\\", "\\\\");
    return replace_all(replace_all(text, "[", "\\["), "]", "\\]");
}

std::string values(const Flag& flag) {
    if (flag.value.empty()) return {};
    std::string words;
    for (const std::string& word : words_of(flag.value))
        words.append(words.empty() ? "" : " ").append(word);
    const std::string title = words.empty() ? flag.value : flag.name;
    const std::string message = ":" + replace_all(title, ":", "\\:") + ":";
    if (is_file(flag.value)) return message + "_files";
    return words.empty() ? message : message + "(" + words + ")";
}

// Each may come again: of what is not a list the last one counts.
std::string specs(const std::vector<Group>& groups, const std::string& indent) {
    std::string out;
    for (const Group& group : groups) {
        for (const Flag& flag : group.flags) {
            const std::string behind = "[" + described(flag.about) + "]" + values(flag);
            const std::string equals = flag.value.empty() ? "" : "=";
            out += " \\\n" + indent + shell_quoted("*--" + flag.name + equals + behind);
            if (!flag.short_name.empty())
                out += " \\\n" + indent + shell_quoted("*-" + flag.short_name + behind);
        }
    }
    return out;
}

}  // namespace

std::string zsh_completion(const Manual& manual) {
    const std::string function = "_" + manual.program;
    std::string out = "#compdef " + manual.program + "\n# Made by " + manual.program +
                      " --generate zsh\n" + function + "() {\n";
    if (manual.commands.empty()) {
        out += "    _arguments" + specs(manual.groups, "        ") + "\n";
    } else {
        out += "    local state line context\n    typeset -A opt_args\n    local -a commands=(\n";
        for (const Command& command : manual.commands)
            out += "        " +
                   shell_quoted(command.name + ":" +
                                replace_all(first_sentence(command.about), ":", "\\:")) +
                   "\n";
        out += "    )\n    _arguments -C" + specs(manual.groups, "        ") +
               " \\\n        '1:command:->command' '*::argument:->arguments'\n"
               "    case $state in\n"
               "        command) _describe command commands ;;\n"
               "        arguments)\n            case $words[1] in\n";
        for (const Command& command : manual.commands) {
            out += "                " + command.name + ") _arguments" +
                   specs(command.groups, "                    ") + " ;;\n";
        }
        out += "            esac ;;\n    esac\n";
    }
    // Called by the completion system as a function of $fpath; sourced, it registers itself.
    return out + "}\nif [[ $funcstack[1] == " + function + " ]]; then\n    " + function +
           " \"$@\"\nelse\n    compdef " + function + " " + manual.program + "\nfi\n";
}

}  // namespace pulse::manual
