// What a reload changes: the settings in force compared with those that were read again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/server/options.h"
#include "tools/pulsewheel/flags.h"

namespace pulse::serve {

// Of one setting; a list's values are separated by commas.
struct Change {
    std::string_view setting;
    std::string before;
    std::string after;
    // "heartbeat-interval: 30s -> 20s"
    std::string text() const;
};

struct Reload {
    ServerOptions options;         // in force from now on
    std::vector<Change> applied;   // of live settings
    std::vector<Change> deferred;  // of the others: they wait for a restart
};

// Exactly the live settings of `fresh` over `running`; `origins` are those of `fresh`. An error
// where they do not fit to those that stay, such as a heartbeat to the tick that runs; then nothing
// is to be applied.
Result<Reload> plan_reload(const ServerOptions& running, const ServerOptions& fresh,
                           const Origins& origins);

}  // namespace pulse::serve
