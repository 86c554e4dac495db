// The table of settings, walked twice over.
#include "tools/pulsewheel/reload.h"

#include "tools/pulsewheel/settings.h"

namespace pulse::serve {
namespace {

std::string shown(const std::vector<std::string>& values) {
    const std::string text = joined(values);
    return text.empty() ? "none" : text;
}

}  // namespace

std::string Change::text() const {
    return std::string(setting).append(": ").append(before).append(" -> ").append(after);
}

Result<Reload> plan_reload(const ServerOptions& running, const ServerOptions& fresh,
                           const Origins& origins) {
    Reload reload{.options = running, .applied = {}, .deferred = {}};
    for (const Setting& setting : settings()) {
        const std::vector<std::string> before = setting.get(running);
        const std::vector<std::string> after = setting.get(fresh);
        if (after == before) continue;
        const Change change{setting.name, shown(before), shown(after)};
        if (setting.reload == ReloadKind::restart) {
            reload.deferred.push_back(change);
            continue;
        }
        reload.applied.push_back(change);
        if (setting.clear != nullptr) setting.clear(reload.options);
        for (const std::string& value : after) {
            if (Result<void> set = setting.set(reload.options, value); !set)
                return Error{origin_of(origins, setting.name) + ": " + set.error()};
        }
    }
    if (Result<void> fits = check_between(reload.options, origins); !fits)
        return Error{fits.error()};
    return reload;
}

}  // namespace pulse::serve
