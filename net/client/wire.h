// What travels besides the application's messages: a hello, the words of a close frame, the hint of
// a refused upgrade. Pure; the rest is in proto/json.h.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "core/types.h"
#include "net/client/cause.h"

namespace pulse::client {

// Who a client is. What is empty is not said.
struct Identity {
    std::string user;    // 1 to 128 bytes; none: anonymous, and the rest means nothing
    std::string device;  // at most 64
    std::vector<std::pair<std::string, std::string>> labels;  // at most 16, of 64 bytes at most
    std::string
        profile;  // of the server's heartbeat profiles: realtime, standard, mobile, powersave
};

// Fails where a server would answer a hello of this with an error; names what is wrong.
Result<void> check_identity(const Identity& identity);
Result<void> check_token(std::string_view token);

// What a hello says of a session: with an empty token that one is wanted.
struct ResumeRequest {
    std::string_view token;
    uint64_t last_seq = 0;
};

// Requires: what the checks above take. `resume`: none is said.
std::string hello_text(const Identity& identity, std::string_view token,
                       const std::optional<ResumeRequest>& resume);

// The cause that a close frame names: "moved: ws://b.example:9000; retry_after_ms=1500".
Cause cause_of_close(uint16_t code, std::string_view words);

// A Retry-After (RFC 9110 10.2.3), of seconds or of a date; `wall_now` is since 1970. None: it is
// absent or malformed, or that time is over.
std::optional<Nanos> parse_retry_after(std::string_view field, Nanos wall_now);

}  // namespace pulse::client
