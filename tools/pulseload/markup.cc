// Printable text with the characters that HTML gives a meaning as references.
#include "tools/pulseload/markup.h"

#include <algorithm>

#include "tools/pulseload/printable.h"

namespace pulse::load {
namespace {

// Line feeds and tabs of plots' tips are kept.
std::string printable_lines(std::string_view text) {
    std::string shown;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find_first_of("\n\t", at), text.size());
        shown += printable(text.substr(at, end - at));
        if (end < text.size()) shown += text[end];
        at = end + 1;
    }
    return shown;
}

}  // namespace

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
