// Small pieces of text that the files of a manual share.
#pragma once

#include <string>
#include <string_view>

namespace pulse::manual {

// The first sentence of `about` without its period, in one line: what a shell has room for.
inline std::string first_sentence(std::string_view about) {
    std::string text(about.substr(0, about.find(". ")));
    for (char& c : text)
        if (c == '\n') c = ' ';
    while (text.ends_with('.')) text.pop_back();
    return text;
}

inline std::string replace_all(std::string text, std::string_view from, std::string_view to) {
    for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
    return text;
}

// Within single quotes of a POSIX shell.
inline std::string shell_quoted(std::string_view text) {
    return "'" + replace_all(std::string(text), "'", "'\\''") + "'";
}

inline bool is_file(std::string_view value) { return value == "FILE"; }

}  // namespace pulse::manual
