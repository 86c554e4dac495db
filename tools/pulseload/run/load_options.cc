// Defaults that follow from other options.
#include "tools/pulseload/run/load_options.h"

#include <algorithm>

namespace pulse::load {

bool LoadOptions::speaks_tls() const {
    return !tcp_only && std::ranges::any_of(targets, &Target::tls);
}

Mix LoadOptions::effective_mix() const {
    if (mix) return *mix;
    Mix own;
    const std::string_view scheme = targets.empty() ? "ws" : targets.front().scheme;
    const Wire wire = scheme == "tcp"  ? Wire::tcp
                      : scheme == "jsonl" ? Wire::jsonl
                                                : Wire::ws;
    own.of[static_cast<size_t>(wire)] = 1;
    return own;
}

Behaviours LoadOptions::effective_behaviours() const {
    if (behaviours) return *behaviours;
    Behaviours all_beat;
    all_beat.of[static_cast<size_t>(Behaviour::beat)] = 1;
    return all_beat;
}

}  // namespace pulse::load
