// What is logged of a connection (--log-connections): words for people, and its facts by name for
// programs. Texts are as they came; what writes them escapes them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pulse {

struct LogEvent {
    struct Fact {
        std::string_view name;  // a literal
        std::string value;
        bool is_number = false;
    };
    std::string words;
    std::vector<Fact> facts;
};

}  // namespace pulse
