// Rounds as text, as JSON (schema "pulseload-rounds/1") and as a page.
#pragma once

#include <deque>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/pulseload/run/rounds.h"

namespace pulse::load {

inline constexpr std::string_view kRoundsSchema = "pulseload-rounds/1";

// Tables of 80 columns.
std::string rounds_text(const std::vector<TargetRounds>& targets, bool color);
// `attempts` in the order in which they ran.
nlohmann::ordered_json rounds_json(const std::vector<TargetRounds>& targets,
                                   const std::deque<Attempt>& attempts);
// The page of a typical round of the first target, with the rounds of all above it.
std::string rounds_page(const std::vector<TargetRounds>& targets);

}  // namespace pulse::load
