// Text that is safe to show, wherever it came from: the one function that everything passes which a
// peer sent or a user named, before it is in an output for people. JSON has json::write_escaped().
#pragma once

#include <string>
#include <string_view>

namespace pulse {

// Valid UTF-8 without control characters. Bytes that are not UTF-8, C0, DEL and C1 controls are
// written \xNN, marks that turn the direction of text and separators of lines \uNNNN. Applied twice
// it changes nothing more.
std::string printable(std::string_view text);
// The same for a text of several lines: line feeds and tabs are kept.
std::string printable_lines(std::string_view text);

}  // namespace pulse
