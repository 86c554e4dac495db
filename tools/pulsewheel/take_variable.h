// What a service manager passes in the environment is read once and taken out, so that no child of
// this process takes it for its own.
#pragma once

#include <cstdlib>
#include <optional>
#include <string>

namespace pulse::serve {

// The value of the variable, which is unset from now on. Not thread-safe, as the environment is.
inline std::optional<std::string> take_variable(const char* name) {
    const char* value = std::getenv(name);
    if (value == nullptr) return std::nullopt;
    std::string text = value;
    unsetenv(name);
    return text;
}

}  // namespace pulse::serve
