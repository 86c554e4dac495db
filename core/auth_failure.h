// Why a token was refused: a word for counters and logs, and the sentence that the peer reads.
//
// X(word, sentence), one line each. A sentence never holds anything of a token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#define PULSE_AUTH_FAILURES(X)                                                                 \
    X(malformed, "The token is not three parts of base64url that hold JSON objects.")          \
    X(too_long, "The token is over 4096 bytes.")                                               \
    X(duplicate_key, "An object of the token has a key twice.")                                \
    X(bad_header, "The token's header has no alg, or demands what this server does not know.") \
    X(bad_claims, "A claim of the token is missing, too long or of the wrong type.")           \
    X(unknown_key, "The token was not signed by a key of this server.")                        \
    X(wrong_algorithm, "The token names another algorithm than the key's.")                    \
    X(bad_signature, "The token's signature is not the key's.")                                \
    X(unknown_token, "This server does not know the token.")                                   \
    X(expired, "The token has expired.")                                                       \
    X(not_yet_valid, "The token is not valid yet.")                                            \
    X(wrong_audience, "The token is for another audience.")                                    \
    X(revoked, "The token was revoked.")                                                       \
    X(wrong_user, "The hello names another user than the token.")                              \
    X(no_token, "This server wants a token, and there was none.")                              \
    X(several_tokens, "There is more than one token.")                                         \
    X(too_many_failures, "Too many tokens of this address were refused; come back later.")

namespace pulse {

enum class AuthFailure : uint8_t {
    none,
#define X(word, sentence) word,
    PULSE_AUTH_FAILURES(X)
#undef X
};

inline constexpr size_t kAuthFailures = 1
#define X(word, sentence) +1
    PULSE_AUTH_FAILURES(X)
#undef X
    ;

struct AuthFailureInfo {
    std::string_view word;
    std::string_view sentence;
};

inline constexpr AuthFailureInfo kAuthFailureInfos[kAuthFailures] = {
    {"none", "The token is valid."},
#define X(word, sentence) {#word, sentence},
    PULSE_AUTH_FAILURES(X)
#undef X
};

constexpr const AuthFailureInfo& describe(AuthFailure failure) {
    return kAuthFailureInfos[static_cast<size_t>(failure)];
}

}  // namespace pulse
