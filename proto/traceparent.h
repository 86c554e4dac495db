// The traceparent of W3C Trace Context (section 3.2), as a header of an upgrade or a member of a
// hello: version "-" trace-id "-" parent-id "-" trace-flags, in lower-case hexadecimal.
//
//     00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
#pragma once

#include <optional>
#include <string_view>

#include "core/trace.h"

namespace pulse {

// Nothing where the text is malformed, which is to be passed over. Of a version above 00 the parts
// of 00 are read, and what follows them behind a "-" is not (section 3.2.2.1).
std::optional<TraceContext> parse_traceparent(std::string_view text);

}  // namespace pulse
