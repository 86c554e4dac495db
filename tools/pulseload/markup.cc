// A switch over the characters that HTML gives a meaning.
#include "tools/pulseload/markup.h"

namespace pulse::load {

std::string escaped(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char c : text) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            case '\'':
                out += "&#39;";
                break;
            default: {
                const auto octet = static_cast<unsigned char>(c);
                const bool control = (octet < 0x20 && c != '\n' && c != '\t') || octet == 0x7f;
                control ? out += "&#xFFFD;" : out += c;
            }
        }
    }
    return out;
}

}  // namespace pulse::load
