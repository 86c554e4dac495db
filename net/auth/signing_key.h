// A key that tokens are checked with. Its algorithm is its own and never the token's: what a header
// names must be the same, or the token is refused (RFC 8725 section 3.1).
//
// Immutable, and used by all reactors at once. Secrets are wiped when the last copy goes.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "proto/jwt.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace pulse {

class SigningKey {
  public:
    // HS256. Fails where it is shorter than kSecretBytesMin or longer than kSecretBytesMax.
    static Result<SigningKey> from_secret(std::span<const uint8_t> secret, std::string key_id = {});
    // RS256 of RSA, ES256 of P-256, EdDSA of Ed25519; takes the ownership. Fails with any other
    // kind, and with RSA that is too short or too long.
    static Result<SigningKey> from_public_key(evp_pkey_st* key, std::string key_id = {});
    // From the members of a JWK (RFC 7518 section 6, RFC 8037), base64url decoded.
    static Result<SigningKey> from_rsa(std::span<const uint8_t> modulus,
                                       std::span<const uint8_t> exponent, std::string key_id);
    static Result<SigningKey> from_p256(std::span<const uint8_t> x, std::span<const uint8_t> y,
                                        std::string key_id);
    static Result<SigningKey> from_ed25519(std::span<const uint8_t> x, std::string key_id);

    JwtAlgorithm algorithm() const { return algorithm_; }
    // Empty: it has none.
    const std::string& key_id() const { return key_id_; }
    // "HS256" and so on.
    std::string_view algorithm_name() const;

    // What verify() takes, about, in microseconds of CPU (bench/README.md, "Tokens").
    uint32_t cost_us() const;

    // Whether `signature` is this key's of `text`. Any thread.
    bool verify(std::string_view text, std::span<const uint8_t> signature) const;

  private:
    struct Secret;
    SigningKey(JwtAlgorithm algorithm, std::string key_id)
        : algorithm_(algorithm), key_id_(std::move(key_id)) {}

    JwtAlgorithm algorithm_;
    std::string key_id_;
    std::shared_ptr<evp_pkey_st> public_key_;
    std::shared_ptr<const Secret> secret_;
};

}  // namespace pulse
