// Which text a kind is.
#include "tools/manual/manual.h"

#include <algorithm>

namespace pulse::manual {

std::vector<std::string> words_of(std::string_view value) {
    std::vector<std::string> words;
    if (value.find('|') == value.npos) return words;
    for (;;) {
        const size_t end = std::min(value.find('|'), value.size());
        const std::string_view word = value.substr(0, end);
        if (std::ranges::none_of(word, [](char c) { return c >= 'A' && c <= 'Z'; }))
            words.emplace_back(word);
        if (end == value.size()) return words;
        value.remove_prefix(end + 1);
    }
}

Result<std::string> generate(const Manual& manual, std::string_view kind) {
    if (kind == "man") return man_page(manual);
    if (kind == "bash") return bash_completion(manual);
    if (kind == "zsh") return zsh_completion(manual);
    if (kind == "fish") return fish_completion(manual);
    return Error{"--generate '" + std::string(kind) + "' is not known here; write one of " +
                 std::string(kKinds)};
}

}  // namespace pulse::manual
