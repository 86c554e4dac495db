// Text that is safe inside an HTML page, wherever it came from.
#pragma once

#include <string>
#include <string_view>

namespace pulse::load {

// For content and for attributes in double quotes: & < > " ' become references, control characters
// other than line feed and tab U+FFFD. Octets that are no UTF-8 are left to the browser, which
// shows them as U+FFFD.
std::string escaped(std::string_view text);

}  // namespace pulse::load
