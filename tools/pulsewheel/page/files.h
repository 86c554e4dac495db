// The files of the live page, which are inside the program.
#pragma once

#include <span>

#include "net/control/target.h"

namespace pulse::serve {

std::span<const PageFile> page_files();

}  // namespace pulse::serve
