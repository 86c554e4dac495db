// Text that is safe inside an HTML page, wherever it came from.
#pragma once

#include <string>
#include <string_view>

namespace pulse::load {

// For content and for attributes in double quotes: printable (printable.h), and & < > " ' become
// references. Line feeds and tabs are kept.
std::string escaped(std::string_view text);

}  // namespace pulse::load
