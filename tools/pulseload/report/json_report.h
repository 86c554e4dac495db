// A run as JSON, for programs: schema "pulseload/2", which README.md in this folder describes.
//
// Within version 1 members are added, never renamed or removed. Units are in the names; durations
// are whole microseconds, as they were recorded. What was not measured is null.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "tools/pulseload/run/result.h"
#include "tools/pulseload/run/slo.h"
#include "tools/pulseload/run/verdict.h"

namespace pulse::load {

inline constexpr std::string_view kJsonSchema = "pulseload/2";

nlohmann::ordered_json to_json(const RunResult& result, const Verdict& verdict,
                               const std::vector<ObjectiveResult>& objectives);

// Indented; bytes that are not UTF-8 become U+FFFD.
std::string dumped(const nlohmann::ordered_json& json);
std::string json_text(const RunResult& result, const Verdict& verdict,
                      const std::vector<ObjectiveResult>& objectives);
Result<void> write_json(const std::string& path, const RunResult& result, const Verdict& verdict,
                        const std::vector<ObjectiveResult>& objectives);

}  // namespace pulse::load
