// What --auth-jwt-key FILE holds: one or several keys that tokens are checked with.
//
//     -----BEGIN PUBLIC KEY-----   PEM, one or several: RS256 (RSA), ES256 (P-256), EdDSA (Ed25519)
//     {"keys":[...]}               a JWK set (RFC 7517) of those and of HS256 (kty oct), each told
//                                  from the others by its kid; or one JWK
//     anything else                a secret of HS256; one line feed behind it is not part of it
//
// Private keys are refused: a server that checks signatures needs none.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "net/auth/signing_key.h"

namespace pulse {

struct KeyFile {
    std::vector<SigningKey> keys;  // at least one, kSigningKeysMax at most
    // It holds a secret, which others must not read.
    bool secret = false;
    // Members of a JWK set that are for something else, and passed over (RFC 7517 section 5).
    size_t passed_over = 0;
};

// The error says what is wrong, and the remedy; it holds nothing of the text.
Result<KeyFile> parse_key_file(std::string_view text);

}  // namespace pulse
