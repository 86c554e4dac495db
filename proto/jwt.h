// JSON Web Tokens in their compact form (RFC 7515, RFC 7519): bytes to header and claims. Nothing
// here knows keys: whether a signature is right is net/auth/'s.
//
//     split(token)            three parts, base64url decoded
//     header(), then claims() what they say; claims only once the signature was found right
//
// What an object must be: UTF-8, at most kTokenBytesMax bytes and kJsonDepthMax deep, nothing
// behind it, no key twice, at most kTokenKeysMax keys. Keys that nothing reads are passed over.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "core/auth_failure.h"
#include "proto/labels.h"
#include "proto/limits.h"

namespace pulse {

// Those that keys of this server may have; `other` is any that the header names besides.
enum class JwtAlgorithm : uint8_t { other, hs256, rs256, es256, eddsa };

struct JwtHeader {
    JwtAlgorithm algorithm = JwtAlgorithm::other;
    std::string_view key_id;  // empty: it names none
};

struct JwtClaims {
    std::string_view subject;  // never empty
    std::string_view device;
    std::string_view token_id;
    std::span<const Label> labels;
    bool has_audience = false;
    std::span<const std::string_view> audiences;
    // Seconds since 1970, a fraction left out.
    std::optional<int64_t> expires_at;
    std::optional<int64_t> not_before;
};

// Whether a text may name a user, a device or a label: no control character (C0, DEL, C1), so that
// it is safe in a log line.
bool is_name(std::string_view utf8_text);

// One a reactor. What it gives out are views into it, valid until the next split().
class JwtParser {
  public:
    JwtParser();
    ~JwtParser();
    JwtParser(const JwtParser&) = delete;
    JwtParser& operator=(const JwtParser&) = delete;

    // Fails with malformed or too_long. `token` must stay for as long as signed_text() is used.
    AuthFailure split(std::string_view token);
    // What was signed: the first two parts as they were written, and the dot between them.
    std::string_view signed_text() const { return signed_text_; }
    std::span<const uint8_t> signature() const { return signature_; }

    // Each once. Requires: split() returned none. Fails with malformed, duplicate_key, bad_header.
    AuthFailure header(JwtHeader& header);
    // Fails with malformed, duplicate_key, bad_claims.
    AuthFailure claims(JwtClaims& claims);

  private:
    struct Implementation;
    std::unique_ptr<Implementation> implementation_;
    std::string_view signed_text_;
    std::span<const uint8_t> signature_;
};

}  // namespace pulse
