// Which Pulsewheel this is: --version, the first line of the log and the build_info metric say it.
#pragma once

#include <string_view>

namespace pulse {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace pulse
