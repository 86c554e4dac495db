// Errors as objects.
#include "net/control/reply.h"

namespace pulse {

Reply error_reply(int status, std::string_view offender, std::string_view text) {
    const size_t last = text.rfind("; ");
    const std::string_view reason = text.substr(0, last);
    const std::string_view remedy =
        last == std::string_view::npos ? std::string_view{} : text.substr(last + 2);
    return error_reply(status, offender, reason, remedy);
}

}  // namespace pulse
