// How this program was built; the Makefile compiles it in.
#pragma once

#include <string_view>

namespace pulse::load {

extern const std::string_view kGitRevision;  // "c6716b94d0a1", with "-dirty"; "unknown"
extern const std::string_view kCompiler;
extern const std::string_view kBuildFlags;

}  // namespace pulse::load
