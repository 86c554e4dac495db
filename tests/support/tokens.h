// Tokens made by a test: keys of each kind, fresh in each process, and what they sign.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

struct evp_pkey_st;

namespace pulse::test {

// base64url without padding, written a bit at a time: the oracle of proto/base64url.h.
std::string base64url(std::span<const uint8_t> bytes);
std::string base64url(std::string_view text);

// What an issuer has.
class Issuer {
  public:
    enum class Kind : uint8_t { hs256, rs256, es256, eddsa };
    static constexpr Kind kKinds[] = {Kind::hs256, Kind::rs256, Kind::es256, Kind::eddsa};

    explicit Issuer(Kind kind, uint32_t rsa_bits = 2048);
    // HS256 with this secret.
    explicit Issuer(std::string secret) : kind_(Kind::hs256), secret_(std::move(secret)) {}
    std::string_view algorithm() const;
    // What the server is given as --auth-jwt-key: a secret, or PEM.
    std::string key_file() const;
    std::string private_pem() const;
    // A JWK with this kid; empty: without. `more` are further members, each with a comma in front.
    std::string jwk(const std::string& kid, const std::string& more = {}) const;
    // The signature of any text, as RFC 7515 wants it.
    std::string sign(std::string_view text) const;
    // header.claims.signature
    std::string token(const std::string& header, const std::string& claims) const;
    // {"alg":ALGORITHM,"typ":"JWT"} with the kid, if any.
    std::string token(const std::string& claims) const;
    std::string token_with_kid(const std::string& kid, const std::string& claims) const;

  private:
    Kind kind_;
    std::string secret_;
    std::shared_ptr<evp_pkey_st> key_;
};

}  // namespace pulse::test
