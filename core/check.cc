// The one way in which this program stops itself.
#include "core/check.h"

#include <cstdio>
#include <cstdlib>

namespace pulse {

void assertion_failed(const char* expression, const char* file, int line) {
    std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, expression);
    std::abort();
}

}  // namespace pulse
