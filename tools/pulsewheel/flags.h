// From command line, environment and config file to the server's options, or to their errors.
//
// Every setting has one name, written three ways: --heartbeat-timeout, heartbeat-timeout = "90s" in
// the TOML file that --config names, PULSEWHEEL_HEARTBEAT_TIMEOUT in the environment. The file
// gives way to the environment, and that to the command line; a list is replaced as a whole by the
// stronger one. Unknown flags and keys are errors; unknown variables are not, because orchestrators
// make up variables by a service's name.
//
// Nothing is printed and nothing exits here. main() prints what it is given: an error goes to
// stderr with exit code 2, a text to stdout with 0.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "net/server/options.h"

namespace pulse::serve {

// Where a server without --listen listens: only this machine can reach it.
inline constexpr std::string_view kListenDefault = "auto://127.0.0.1:9000";

enum class Action : uint8_t {
    print,  // `text`: --help, --version, --generate, --print-config
    check,  // --check-config: whether this machine can do it
    serve,
};

// Where each setting that was given was given, in the words of its layer: "FILE:LINE: KEY",
// "PULSEWHEEL_KEY" or "--KEY". Errors begin with it.
using Origins = std::map<std::string_view, std::string>;
// "--KEY" of a setting that was not given.
std::string origin_of(const Origins& origins, std::string_view setting);

struct Invocation {
    Action action = Action::print;
    ServerOptions options;  // whole and consistent unless `print`
    Origins origins;
    std::string text;
    // Of a config that cannot be read again, because it came from a pipe: its text.
    std::optional<std::string> kept_config;
};

// The value of a variable, nullptr if it is not set: std::getenv, but in tests.
using Environment = std::function<const char*(const char* name)>;

// `arguments` without the program's name. An error has one line for each thing that is wrong; each
// names the flag, key (with file and line) or variable, what it was given, and a remedy.
// With `kept_config` that text is the config file's.
Result<Invocation> read_invocation(std::span<const char* const> arguments,
                                   const Environment& environment,
                                   const std::optional<std::string>& kept_config = std::nullopt);

// What must hold between settings. An error has one line for each that does not.
Result<void> check_between(const ServerOptions& options, const Origins& origins);

// The options as a TOML file that --config reads back to the same.
std::string to_toml(const ServerOptions& options);
// The same as comments, each below what its setting is for: a file to begin from.
std::string commented_toml(const ServerOptions& options);

}  // namespace pulse::serve
