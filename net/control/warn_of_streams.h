// The line of a thread that ends its streams, since something was thrown.
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "net/control/target.h"

namespace pulse {

// Where there is no memory for a line either, there is none.
inline void warn_of_streams(const ControlTarget& target, std::string_view which,
                            std::string_view why) {
    try {
        std::string line("streams of ");
        target.warn(line.append(which)
                        .append(" are closed: ")
                        .append(why)
                        .append("; clients may ask again, when there is memory"));
    } catch (const std::exception&) {
    }
}

}  // namespace pulse
