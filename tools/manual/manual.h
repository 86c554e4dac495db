// A program's flags, and what is said about it, as one value: man page and completions of bash, zsh
// and fish are made of it, and each program makes it of the table that it parses its command line
// by. So nothing is written twice, and `--generate KIND` of a program needs no file beside it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace pulse::manual {

struct Flag {
    std::string name;        // without dashes
    std::string short_name;  // one letter, or none
    // What is to be given, as --help calls it: "URI"; empty: nothing. Completion offers the words
    // of "one|another", but not those in capitals, and files for "FILE".
    std::string value;
    std::string about;
};

struct Group {
    std::string title;
    std::vector<Flag> flags;
};

// What a program does by a word: pulsectl's.
struct Command {
    std::string name;
    std::string about;
    std::vector<std::string> operands;  // "TEXT"
    std::vector<Group> groups;
};

// Paragraphs; lines that begin with spaces are kept as they are.
struct Section {
    std::string title;
    std::string text;
};

struct Manual {
    std::string program;
    std::string about;  // a sentence, or some
    std::vector<std::string> operands;
    std::vector<Group> groups;
    std::vector<Command> commands;
    std::vector<Section> sections;
};

// What --generate takes, as --help calls it.
inline constexpr std::string_view kKinds = "man|bash|zsh|fish";
inline constexpr std::string_view kGenerateAbout =
    "Print a man page, or the completion of a shell, and exit.";

// Those of "one|another|SIZE" that are not in capitals; none of anything without a bar.
std::vector<std::string> words_of(std::string_view value);

// One of kKinds. An error quotes what is not one.
Result<std::string> generate(const Manual& manual, std::string_view kind);

std::string man_page(const Manual& manual);
std::string bash_completion(const Manual& manual);
std::string zsh_completion(const Manual& manual);
std::string fish_completion(const Manual& manual);

}  // namespace pulse::manual
