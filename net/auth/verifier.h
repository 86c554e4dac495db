// Whether a token is right, and whose it is: one a reactor, which shares the credentials with the
// others and keeps for itself what it has found out.
//
// A token is looked up among the static ones; one that is not there, and has the form of a JWT, is
// checked in this order: form, header, key, algorithm, signature, claims, time, audience,
// revocation. Time is a parameter.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "core/sip_hash.h"
#include "net/auth/credentials.h"
#include "net/auth/identity.h"
#include "net/auth/revoked_tokens.h"
#include "net/auth/verified_tokens.h"
#include "proto/jwt.h"

namespace pulse {

class TokenVerifier {
  public:
    // `key` is secret, and the same in all reactors of a server.
    explicit TokenVerifier(const SipKey& key) : key_(key) {}

    // nullptr: authentication is off.
    void use(std::shared_ptr<const Credentials> credentials);
    bool on() const { return credentials_ != nullptr; }

    // Requires: on(). Allocates nothing but what OpenSSL does.
    TokenVerdict verify(std::string_view token, UnixSeconds now);

    // No token with this id is right from now on.
    void revoke(std::string_view token_id) { revoked_.add(number_of_token(token_id, key_)); }
    bool is_revoked(TokenNumber token) const { return revoked_.contains(token); }
    // What connections keep of a token's id.
    TokenNumber number_of(std::string_view token_id) const {
        return number_of_token(token_id, key_);
    }

    // Of what it has found out.
    size_t bytes() const { return verified_.bytes() + revoked_.bytes(); }

  private:
    AuthFailure verify_jwt(std::string_view token, const Sha256& hash, UnixSeconds now,
                           TokenVerdict& verdict);
    AuthFailure check_signature(const JwtHeader& header, TokenVerdict& verdict);
    AuthFailure judge(const JwtClaims& claims, UnixSeconds now, Identity& identity) const;
    bool is_for_us(const JwtClaims& claims) const;

    SipKey key_;
    std::shared_ptr<const Credentials> credentials_;
    JwtParser parser_;
    VerifiedTokens verified_;
    RevokedTokens revoked_;
};

}  // namespace pulse
