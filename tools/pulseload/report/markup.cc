// Printable text with the characters that HTML gives a meaning as references.
#include "tools/pulseload/report/markup.h"

#include "proto/printable.h"

namespace pulse::load {

std::string escaped(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (const char c : printable_lines(text)) {
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
            default:
                out += c;
        }
    }
    return out;
}

}  // namespace pulse::load
