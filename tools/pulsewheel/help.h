// What the server says about its flags: --help, and the manual that man page and completions are
// made of, both from the table of settings and the one of the flags that are not settings.
#pragma once

#include <string>
#include <string_view>

#include "net/server/options.h"
#include "tools/manual/manual.h"
#include "tools/pulsewheel/settings.h"

namespace pulse::serve {

// What --generate takes: the kinds of a manual, and the commented file for --config.
inline constexpr std::string_view kGenerateKinds = "man|bash|zsh|fish|config";

// What a setting is for, whole.
std::string about(const Setting& setting);

// `defaults`: what holds if nothing is given.
manual::Manual server_manual(const ServerOptions& defaults);
std::string help_text(const ServerOptions& defaults);

// Lines of at most 96 columns, broken between words; `indent` begins all but the first.
void append_wrapped(std::string& out, std::string_view text, std::string_view indent);

}  // namespace pulse::serve
