// Writes a whole file, and says which one it was when that fails.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace pulse::load {

// What to say of a file that took no bytes; `error` is an errno, 0 where it was not kept.
Error unwritable(const std::string& path, int error);

// Makes or empties the file, writes, closes. A failure may leave a part of it.
Result<void> write_file(const std::string& path, std::string_view text);

}  // namespace pulse::load
