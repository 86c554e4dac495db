// The server's settings as one table: flag, TOML key and PULSEWHEEL_ variable share a row.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/types.h"
#include "net/server/options.h"

namespace pulse::serve {

// The longest heartbeat timeout and interval; the tick narrows them further (check_between()).
inline constexpr Nanos kHeartbeatTimeoutMax = 24 * 3600 * kSecond;

enum class SettingKind : uint8_t {
    text,
    number,   // TOML may give a bare integer
    boolean,  // on|off; TOML may give true or false
    flag,     // a boolean whose flag needs no value
    list,     // the flag may be repeated, TOML may give an array, a variable separates by commas
};

// What a change in the config file asks for.
enum class ReloadKind : uint8_t {
    live,     // SIGHUP applies it
    restart,  // SIGHUP names it: it waits for the next start
};

struct Setting {
    std::string_view name;   // of the flag without dashes, and of the TOML key
    std::string_view group;  // the heading in --help
    std::string_view value;  // how --help calls what is to be given
    std::string_view about;  // for --help; {schemes} stands for those of net/protocols/
    SettingKind kind;
    ReloadKind reload;
    // Reads one value (of a list, one more). The error quotes it and names a remedy.
    Result<void> (*set)(ServerOptions& options, std::string_view text);
    // What set() would read back to the same; of a list, all.
    std::vector<std::string> (*get)(const ServerOptions& options);
    void (*clear)(ServerOptions& options) = nullptr;  // of a list: before a layer's first value
    char separator = ',';                             // of a list, in a variable
};

std::span<const Setting> settings();
// The values of a setting as one text.
std::string joined(const std::vector<std::string>& values, std::string_view separator = ",");
// All of them by name, as text; the values of a list are separated by commas.
ServerOptions::Texts settings_text(const ServerOptions& options);
const Setting* find_setting(std::string_view name);

// EVENTS/PERIOD or EVENTS/PERIOD,BURST.
Result<RateLimit> parse_rate_limit(std::string_view text);

// The setting whose name is nearest to a misspelt one; empty if none is near.
std::string_view nearest_setting(std::string_view name);

}  // namespace pulse::serve
