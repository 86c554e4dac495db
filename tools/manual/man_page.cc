// A page of section 1, in the macros of man(7), which groff and mandoc both read.
#include <cctype>

#include "core/version.h"
#include "tools/manual/manual.h"
#include "tools/manual/words.h"

namespace pulse::manual {
namespace {

// Characters that roff would read as something else, or print as another.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '\\':
                out += "\\e";
                break;
            case '-':
                out += "\\-";
                break;
            case '~':
                out += "\\(ti";
                break;
            case '^':
                out += "\\(ha";
                break;
            case '`':
                out += "\\(ga";
                break;
            case '\'':
                out += "\\(aq";
                break;
            case '"':
                out += "\\(dq";
                break;
            default:
                out += c;
        }
    }
    return out;
}

// A line of text: a period at its beginning would be a macro.
std::string line_of(std::string_view text) {
    const std::string out = escaped(text);
    return (out.starts_with('.') ? "\\&" : "") + out + "\n";
}

std::string upper(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return out;
}

std::string header(std::string_view macro, std::string_view title) {
    return "." + std::string(macro) + " \"" + escaped(title) + "\"\n";
}

// Paragraphs as they come, and indented lines in a block as they are.
std::string body(std::string_view text) {
    std::string out;
    bool kept = false;
    bool gap = false;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.empty()) {
            gap = !out.empty();
            continue;
        }
        const bool indented = line.starts_with(' ');
        if (kept && !indented) out += ".fi\n.RE\n";
        if (!kept && gap) out += ".PP\n";
        if (!kept && indented) out += ".RS 0\n.nf\n";
        if (kept && indented && gap) out += "\n";
        out += line_of(indented ? line.substr(std::min<size_t>(line.find_first_not_of(' '), 2))
                                : line);
        kept = indented;
        gap = false;
    }
    return kept ? out + ".fi\n.RE\n" : out;
}

std::string flags_of(const std::vector<Group>& groups) {
    std::string out;
    for (const Group& group : groups) {
        out += header("SS", group.title);
        for (const Flag& flag : group.flags) {
            out += ".TP\n";
            if (!flag.short_name.empty()) out += "\\fB\\-" + escaped(flag.short_name) + "\\fR, ";
            out += "\\fB\\-\\-" + escaped(flag.name) + "\\fR";
            if (!flag.value.empty()) out += " \\fI" + escaped(flag.value) + "\\fR";
            out += "\n" + line_of(replace_all(flag.about, "\n", " "));
        }
    }
    return out;
}

std::string operands_of(const std::vector<std::string>& operands) {
    std::string out;
    for (const std::string& operand : operands) out += " \\fI" + escaped(operand) + "\\fR";
    return out;
}

std::string synopsis(const Manual& manual) {
    const std::string flags = " [\\fIFLAG\\fR]...";
    std::string out = "\\fB" + escaped(manual.program) + "\\fR" + flags;
    if (!manual.commands.empty()) out += " \\fICOMMAND\\fR" + flags;
    return out + operands_of(manual.operands) + "\n";
}

}  // namespace

std::string man_page(const Manual& manual) {
    std::string out = ".\\\" Made by " + escaped(manual.program) + " \\-\\-generate man\n";
    // Without a date, so that one source makes one page.
    out += ".TH " + upper(manual.program) + " 1 \"\" \"Pulsewheel " + std::string(kVersion) +
           "\" \"Pulsewheel\"\n";
    out += header("SH", "NAME") + escaped(manual.program) + " \\- " +
           escaped(first_sentence(manual.about)) + "\n";
    out += header("SH", "SYNOPSIS") + synopsis(manual);
    out += header("SH", "DESCRIPTION") + line_of(replace_all(manual.about, "\n", " "));
    if (!manual.commands.empty()) out += header("SH", "COMMANDS");
    for (const Command& command : manual.commands) {
        out += ".TP\n\\fB" + escaped(command.name) + "\\fR" + operands_of(command.operands) + "\n" +
               line_of(replace_all(command.about, "\n", " "));
    }
    out += header("SH", "OPTIONS") + flags_of(manual.groups);
    for (const Command& command : manual.commands) {
        const std::string flags = flags_of(command.groups);
        if (flags.empty()) continue;
        out += header("SH", "OPTIONS OF " + upper(command.name)) + flags;
    }
    for (const Section& section : manual.sections)
        out += header("SH", upper(section.title)) + body(section.text);
    return out;
}

}  // namespace pulse::manual
