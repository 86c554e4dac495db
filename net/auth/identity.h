// Who a token says that its bearer is.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "core/auth_failure.h"
#include "proto/labels.h"

namespace pulse {

using UnixSeconds = int64_t;  // since 1970, by the wall clock
inline constexpr UnixSeconds kNeverExpires = std::numeric_limits<UnixSeconds>::max();

struct Identity {
    std::string_view user;
    std::string_view device;                 // empty: the token leaves it to the hello
    std::span<const Label> labels;           // empty: likewise
    std::string_view token_id;               // what it is revoked by; empty: it cannot be
    UnixSeconds expires_at = kNeverExpires;  // the first second at which it is not valid any more
};

struct TokenVerdict {
    AuthFailure failure = AuthFailure::none;
    Identity identity;  // with none; views that are valid until the verifier's next call
    // Of time on this thread: what a check of a signature took, in microseconds, about; else 0.
    uint32_t cost_us = 0;
    bool ok() const { return failure == AuthFailure::none; }
};

}  // namespace pulse
