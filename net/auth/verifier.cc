// The order of the checks is the header's.
#include "net/auth/verifier.h"

#include <algorithm>
#include <utility>

#include "net/auth/limits.h"

namespace pulse {
void TokenVerifier::use(std::shared_ptr<const Credentials> credentials) {
    credentials_ = std::move(credentials);
    verified_.clear();
}

TokenVerdict TokenVerifier::verify(std::string_view token, UnixSeconds now) {
    TokenVerdict verdict;
    if (token.size() > kTokenBytesMax) {
        verdict.failure = AuthFailure::too_long;
        return verdict;
    }
    const Sha256 hash = sha256(token);
    if (const Identity* const known = credentials_->tokens.find(hash); known != nullptr) {
        verdict.identity = *known;
        if (now >= known->expires_at) verdict.failure = AuthFailure::expired;
    } else if (credentials_->keys.empty()) {
        verdict.failure = AuthFailure::unknown_token;
    } else {
        verdict.failure = verify_jwt(token, hash, now, verdict);
    }
    if (verdict.ok() && revoked_.contains(number_of(verdict.identity.token_id)))
        verdict.failure = AuthFailure::revoked;
    if (!verdict.ok()) verdict.identity = {};
    return verdict;
}

AuthFailure TokenVerifier::verify_jwt(std::string_view token, const Sha256& hash, UnixSeconds now,
                                      TokenVerdict& verdict) {
    AuthFailure failure = parser_.split(token);
    // Of a server that has static tokens, too, what has not two dots is meant as one.
    if (failure == AuthFailure::malformed && std::ranges::count(token, '.') < 2 &&
        credentials_->tokens.size() > 0)
        return AuthFailure::unknown_token;
    if (failure != AuthFailure::none) return failure;
    if (!verified_.contains(hash)) {
        JwtHeader header;
        failure = parser_.header(header);
        if (failure == AuthFailure::none) failure = check_signature(header, verdict);
        if (failure != AuthFailure::none) return failure;
        verified_.add(hash);
    }
    JwtClaims claims;
    failure = parser_.claims(claims);
    return failure == AuthFailure::none ? judge(claims, now, verdict.identity) : failure;
}

// The key is found by the token's `kid`, where keys have any; its algorithm must be the token's.
AuthFailure TokenVerifier::check_signature(const JwtHeader& header, TokenVerdict& verdict) {
    AuthFailure failure = AuthFailure::unknown_key;
    size_t tries = 0;
    for (const SigningKey& key : credentials_->keys) {
        // A key without a kid is for any token; a token without one, for any key.
        const bool named = !header.key_id.empty() && !key.key_id().empty();
        if (named && key.key_id() != header.key_id) continue;
        if (key.algorithm() != header.algorithm) {
            if (failure == AuthFailure::unknown_key) failure = AuthFailure::wrong_algorithm;
            continue;
        }
        if (tries++ == kKeyTriesMax) break;
        verdict.cost_us += key.cost_us();
        if (key.verify(parser_.signed_text(), parser_.signature())) return AuthFailure::none;
        failure = AuthFailure::bad_signature;
    }
    return failure;
}

AuthFailure TokenVerifier::judge(const JwtClaims& claims, UnixSeconds now,
                                 Identity& identity) const {
    identity = {.user = claims.subject,
                .device = claims.device,
                .labels = claims.labels,
                .token_id = claims.token_id};
    if (claims.expires_at) identity.expires_at = *claims.expires_at + kTokenLeewayS;
    if (now >= identity.expires_at) return AuthFailure::expired;
    if (claims.not_before && now < *claims.not_before - kTokenLeewayS)
        return AuthFailure::not_yet_valid;
    return is_for_us(claims) ? AuthFailure::none : AuthFailure::wrong_audience;
}

bool TokenVerifier::is_for_us(const JwtClaims& claims) const {
    const auto& ours = credentials_->audiences;
    if (!claims.has_audience) return ours.empty();
    return std::ranges::any_of(claims.audiences, [&](std::string_view audience) {
        return std::ranges::find(ours, audience) != ours.end();
    });
}

}  // namespace pulse
