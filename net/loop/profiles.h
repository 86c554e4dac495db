// What Connection::profile holds: one of two places of a profile (Connections::place_of), which can
// be asked for, or is a level of adaptive intervals (core/heartbeat/adaptive.h).
#pragma once

#include <cstdint>

#include "core/connection.h"
#include "core/limits.h"
#include "net/loop/limits.h"

namespace pulse {

constexpr uint8_t profile_at(uint8_t place) {
    return static_cast<uint8_t>(place % kRetunedProfiles);
}
constexpr bool is_adaptive(uint8_t place) { return profile_at(place) >= kAskedProfiles; }
// Requires: is_adaptive(place).
constexpr uint8_t level_at(uint8_t place) {
    return static_cast<uint8_t>(profile_at(place) - kAskedProfiles);
}
constexpr uint8_t profile_of_level(uint8_t level) {
    return static_cast<uint8_t>(kAskedProfiles + level);
}
// It is a side connection (net/loop/sides.cc), from its hello on.
constexpr bool is_side(const Connection& connection) {
    return profile_at(connection.profile) == kProfileSide;
}
// What was asked for: adaptive intervals are of those that asked for none.
constexpr uint8_t asked_profile(uint8_t place) {
    return is_adaptive(place) ? kProfileDefault : profile_at(place);
}

}  // namespace pulse
