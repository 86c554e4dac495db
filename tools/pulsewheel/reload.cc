// The table of settings, walked twice over.
#include "tools/pulsewheel/reload.h"

#include "tools/pulsewheel/flags.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {

Result<Reload> plan_reload(const ServerOptions& running, const ServerOptions& fresh) {
    Reload reload{.options = running, .applied = {}, .waiting = {}};
    for (const Setting& setting : settings()) {
        const std::vector<std::string> values = setting.get(fresh);
        if (values == setting.get(running)) continue;
        if (setting.reload == ReloadKind::restart) {
            reload.waiting.push_back(setting.name);
            continue;
        }
        reload.applied.push_back(setting.name);
        if (setting.clear != nullptr) setting.clear(reload.options);
        for (const std::string& value : values)
            if (Result<void> set = setting.set(reload.options, value); !set)
                return Error{std::string(setting.name) + ": " + set.error()};
    }
    if (Result<void> fits = check_between(reload.options); !fits) return Error{fits.error()};
    return reload;
}

}  // namespace pulse::serve
