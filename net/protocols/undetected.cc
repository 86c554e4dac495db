// auto:// until the first bytes have told: nothing is decoded, and hardly anything is said.
#include "net/protocols/conversation.h"
#include "net/protocols/refusal.h"

namespace pulse {
namespace {

void error(Conversation& conversation, uint16_t, std::string_view words) {
    conversation.append(binary::bytes_of(words));
    conversation.append(binary::bytes_of("\n"));
}

}  // namespace

constinit const Protocol undetected_protocol = {
    .name = "undetected",
    .title = "any protocol, by its first bytes",
    .scheme = "auto",
    .greets_at_once = true,
    .error = error,
    .refuse = http_refusal_for,
    .reject = error_line,
};

}  // namespace pulse
