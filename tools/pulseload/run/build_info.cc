// Two macros of the Makefile's, in a file of its own: a new revision compiles no other.
#include "tools/pulseload/run/build_info.h"

#ifndef PULSE_GIT_REVISION
#define PULSE_GIT_REVISION "unknown"
#endif
#ifndef PULSE_BUILD_FLAGS
#define PULSE_BUILD_FLAGS "unknown"
#endif

namespace pulse::load {

const std::string_view kGitRevision = PULSE_GIT_REVISION;
#ifdef __clang__
const std::string_view kCompiler = __VERSION__;
#else
const std::string_view kCompiler = "g++ " __VERSION__;
#endif
const std::string_view kBuildFlags = PULSE_BUILD_FLAGS;

}  // namespace pulse::load
