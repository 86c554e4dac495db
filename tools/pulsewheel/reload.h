// What a reload changes: the settings in force compared with those that were read again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/server/options.h"

namespace pulse::serve {

struct Reload {
    ServerOptions options;                  // in force from now on
    std::vector<std::string_view> applied;  // settings that changed and are live
    std::vector<std::string_view> waiting;  // settings that changed and wait for a restart
};

// Exactly the live settings of `fresh` over `running`. An error where they do not fit to those that
// stay, such as a heartbeat to the tick that runs; then nothing is to be applied.
Result<Reload> plan_reload(const ServerOptions& running, const ServerOptions& fresh);

}  // namespace pulse::serve
