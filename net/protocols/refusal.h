// Refusals that more than one protocol is told with: a plain HTTP answer, a binary frame, a line.
#pragma once

#include <string_view>

#include "net/protocols/protocol.h"
#include "proto/binary.h"
#include "proto/handshake.h"
#include "proto/json.h"

namespace pulse {

inline RefusalMessage http_refusal(uint16_t status, std::string_view words,
                                   uint32_t retry_after_ms = 0) {
    HttpBytes answer;
    write_http_answer(answer, status, words, false, (retry_after_ms + 999) / 1000);
    RefusalMessage text;
    text << std::string_view(answer.chars.data(), answer.count);
    return text;
}

// RFC 6585 section 4: what a peer has or does too much of. Anything else is the server's to change.
constexpr uint16_t http_status_of(CloseReason reason) {
    switch (reason) {
        case CloseReason::address_full:
        case CloseReason::address_rate:
        case CloseReason::address_share:
        case CloseReason::flapping:
        case CloseReason::message_rate:
        case CloseReason::user_message_rate:
            return 429;
        default:
            return describe(reason).code == 1008 ? 403 : 503;
    }
}

// A peer that has not spoken yet is most likely to be a browser or a proxy.
inline RefusalMessage http_refusal_for(CloseReason reason, uint32_t retry_after_ms) {
    return http_refusal(http_status_of(reason), describe(reason).text, retry_after_ms);
}

// To a peer that begins with TLS and was not heard yet: a fatal alert, internal_error (RFC 8446
// section 6), which is all that can be said before a handshake.
inline RefusalMessage tls_refusal() {
    using namespace std::string_view_literals;
    RefusalMessage alert;
    return alert << "\x15\x03\x03\x00\x02\x02\x50"sv;
}

inline RefusalMessage line_refusal(json::Object object) {
    RefusalMessage text;
    object.raw("\n");
    object.write(text.claim(object.bytes()));
    return text;
}
// To JSON lines, and to what speaks nothing that is known here.
inline RefusalMessage error_line(uint16_t code, std::string_view words) {
    return line_refusal(json::error(code, words));
}

}  // namespace pulse
