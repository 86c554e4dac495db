// Whose a token is: every algorithm, every byte of a token changed, keys that are mixed up, the
// edges of time, and what is forgotten at a reload.
#include "net/auth/verifier.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "core/random.h"
#include "net/auth/failure_limiter.h"
#include "net/auth/key_file.h"
#include "net/auth/limits.h"

#include "tests/support/scale.h"
#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

constexpr SipKey kKey{1, 2};
constexpr UnixSeconds kNow = 1'800'000'000;

std::shared_ptr<Credentials> with_keys(const std::string& key_file) {
    auto credentials = std::make_shared<Credentials>();
    Result<KeyFile> keys = parse_key_file(key_file);
    EXPECT_TRUE(keys) << keys.error();
    credentials->keys = keys->keys;
    return credentials;
}

class Verifier : public testing::Test {
  protected:
    void use(const std::string& key_file) { verifier_.use(with_keys(key_file)); }
    AuthFailure failure(const std::string& token, UnixSeconds now = kNow) {
        return verifier_.verify(token, now).failure;
    }
    TokenVerifier verifier_{kKey};
};

std::string claims(const std::string& more = {}) { return R"({"sub":"ann")" + more + "}"; }
std::string seconds(UnixSeconds at) { return std::to_string(at); }

TEST_F(Verifier, KnowsTheUserOfEachAlgorithm) {
    for (const Issuer::Kind kind : Issuer::kKinds) {
        const Issuer issuer(kind), stranger(kind);
        use(issuer.key_file());
        const std::string token = issuer.token(
            R"({"sub":"ann","device":"ios","labels":{"ring":"canary"},"jti":"t-1","exp":)" +
            seconds(kNow + 60) + "}");
        for (const bool cached : {false, true}) {
            const TokenVerdict verdict = verifier_.verify(token, kNow);
            ASSERT_TRUE(verdict.ok()) << describe(verdict.failure).word;
            EXPECT_EQ(verdict.cost_us == 0, cached) << "the second is known";
            EXPECT_EQ(verdict.identity.user, "ann");
            EXPECT_EQ(verdict.identity.device, "ios");
            ASSERT_EQ(verdict.identity.labels.size(), 1u);
            EXPECT_EQ(verdict.identity.labels[0].value, "canary");
            EXPECT_EQ(verdict.identity.token_id, "t-1");
            EXPECT_EQ(verdict.identity.expires_at, kNow + 60 + kTokenLeewayS);
        }
        EXPECT_EQ(failure(stranger.token(claims())), AuthFailure::bad_signature);
    }
}

// With each byte of it changed: to each neighbour in bits, and to a few others.
TEST_F(Verifier, RefusesATokenOfWhichAnyByteIsChanged) {
    for (const Issuer::Kind kind : Issuer::kKinds) {
        const Issuer issuer(kind);
        use(issuer.key_file());
        const std::string token = issuer.token(claims(R"(,"exp":)" + seconds(kNow + 60)));
        ASSERT_EQ(failure(token), AuthFailure::none);
        const size_t step = kSlowness > 1 ? 7 : 1;
        for (size_t at = 0; at < token.size(); at += step) {
            for (const int flip : {1, 2, 4, 8, 16, 32, 64, 128}) {
                std::string changed = token;
                changed[at] = static_cast<char>(changed[at] ^ flip);
                ASSERT_NE(failure(changed), AuthFailure::none) << at << " " << changed;
            }
            std::string shorter = token;
            shorter.erase(at, 1);
            ASSERT_NE(failure(shorter), AuthFailure::none) << shorter;
        }
        EXPECT_EQ(failure(token), AuthFailure::none);
    }
}

// RFC 8725 section 2.1: the algorithm is the key's.
TEST_F(Verifier, TakesTheAlgorithmFromTheKey) {
    const Issuer rsa(Issuer::Kind::rs256), secret(Issuer::Kind::hs256);
    use(rsa.key_file());
    EXPECT_EQ(failure(secret.token(claims())), AuthFailure::wrong_algorithm);
    for (const char* algorithm : {"none", "None", "NONE", "HS256", "ES256", "RS512", "PS256", ""})
        EXPECT_EQ(failure(rsa.token(R"({"alg":")" + std::string(algorithm) + "\"}", claims())),
                  AuthFailure::wrong_algorithm)
            << algorithm;
    // A token signed by HMAC with the text of the public key as its secret.
    const SigningKey forged = *SigningKey::from_secret(
        {reinterpret_cast<const uint8_t*>(rsa.key_file().data()), rsa.key_file().size()});
    EXPECT_EQ(forged.algorithm_name(), "HS256");
    // Unsecured, as RFC 7519 section 6.1 has it.
    EXPECT_EQ(failure("eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6"
                      "Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."),
              AuthFailure::malformed);
    use(secret.key_file());
    EXPECT_EQ(failure(rsa.token(claims())), AuthFailure::wrong_algorithm);
}

TEST_F(Verifier, FindsTheKeyByItsId) {
    const Issuer first(Issuer::Kind::rs256), second(Issuer::Kind::rs256);
    const Issuer curve(Issuer::Kind::es256), stranger(Issuer::Kind::rs256);
    use(R"({"keys":[)" + first.jwk("1") + "," + second.jwk("2") + "," + curve.jwk("3") + "]}");
    EXPECT_EQ(failure(first.token_with_kid("1", claims())), AuthFailure::none);
    EXPECT_EQ(failure(second.token_with_kid("2", claims())), AuthFailure::none);
    EXPECT_EQ(failure(curve.token_with_kid("3", claims())), AuthFailure::none);
    EXPECT_EQ(failure(first.token_with_kid("2", claims())), AuthFailure::bad_signature);
    EXPECT_EQ(failure(first.token_with_kid("3", claims())), AuthFailure::wrong_algorithm);
    EXPECT_EQ(failure(first.token_with_kid("4", claims())), AuthFailure::unknown_key);
    // Without a kid each key of the algorithm may be meant.
    EXPECT_EQ(failure(second.token(claims())), AuthFailure::none);
    EXPECT_EQ(failure(stranger.token(claims())), AuthFailure::bad_signature);
    // Where the key has none, the token's is passed over.
    use(first.key_file());
    EXPECT_EQ(failure(first.token_with_kid("any", claims())), AuthFailure::none);
}

TEST_F(Verifier, TriesFewKeys) {
    std::string keys;
    std::vector<Issuer> issuers;
    for (size_t at = 0; at <= kKeyTriesMax; ++at) {
        issuers.emplace_back(Issuer::Kind::es256);
        keys += (at > 0 ? "," : "") + issuers.back().jwk(std::to_string(at));
    }
    use(R"({"keys":[)" + keys + "]}");
    EXPECT_EQ(failure(issuers[kKeyTriesMax - 1].token(claims())), AuthFailure::none);
    EXPECT_EQ(failure(issuers[kKeyTriesMax].token(claims())), AuthFailure::bad_signature);
    EXPECT_EQ(failure(issuers[kKeyTriesMax].token_with_kid("4", claims())), AuthFailure::none);
}

TEST_F(Verifier, EdgesOfTime) {
    const Issuer issuer(Issuer::Kind::hs256);
    use(issuer.key_file());
    const std::string until = issuer.token(claims(R"(,"exp":)" + seconds(kNow)));
    EXPECT_EQ(failure(until, kNow + kTokenLeewayS - 1), AuthFailure::none);
    EXPECT_EQ(failure(until, kNow + kTokenLeewayS), AuthFailure::expired);
    EXPECT_EQ(failure(until, kNow - 1'000'000), AuthFailure::none);
    const std::string from = issuer.token(claims(R"(,"nbf":)" + seconds(kNow)));
    EXPECT_EQ(failure(from, kNow - kTokenLeewayS - 1), AuthFailure::not_yet_valid);
    EXPECT_EQ(failure(from, kNow - kTokenLeewayS), AuthFailure::none);
    EXPECT_EQ(verifier_.verify(from, kNow).identity.expires_at, kNeverExpires);
    EXPECT_EQ(failure(issuer.token(claims(R"(,"exp":0)"))), AuthFailure::expired);
    EXPECT_EQ(failure(issuer.token(claims(R"(,"exp":1e12)"))), AuthFailure::none);
}

TEST_F(Verifier, AudienceMustBeOurs) {
    const Issuer issuer(Issuer::Kind::hs256);
    const std::string none = issuer.token(claims());
    const std::string one = issuer.token(claims(R"(,"aud":"chat")"));
    const std::string list = issuer.token(claims(R"(,"aud":["mail","chat"])"));
    const std::string other = issuer.token(claims(R"(,"aud":"mail")"));
    const std::string empty = issuer.token(claims(R"(,"aud":[])"));
    const auto wanted = with_keys(issuer.key_file());
    verifier_.use(wanted);
    EXPECT_EQ(failure(none), AuthFailure::none);
    // RFC 7519 section 4.1.3: a server that is not in it refuses it, and this one has no name.
    EXPECT_EQ(failure(one), AuthFailure::wrong_audience);
    EXPECT_EQ(failure(empty), AuthFailure::wrong_audience);
    const auto named = with_keys(issuer.key_file());
    named->audiences = {"push", "chat"};
    verifier_.use(named);
    EXPECT_EQ(failure(one), AuthFailure::none);
    EXPECT_EQ(failure(list), AuthFailure::none);
    EXPECT_EQ(failure(none), AuthFailure::wrong_audience);
    EXPECT_EQ(failure(other), AuthFailure::wrong_audience);
}

TEST_F(Verifier, WhatWasVerifiedIsStillJudgedAndForgottenWithTheKeys) {
    const Issuer issuer(Issuer::Kind::es256), next(Issuer::Kind::es256);
    use(issuer.key_file());
    const std::string token = issuer.token(claims(R"(,"jti":"t-1","exp":)" + seconds(kNow + 100)));
    EXPECT_EQ(failure(token), AuthFailure::none);
    EXPECT_EQ(verifier_.verify(token, kNow).cost_us, 0u);
    EXPECT_EQ(failure(token, kNow + 200), AuthFailure::expired);
    verifier_.revoke("t-2");
    EXPECT_EQ(failure(token), AuthFailure::none);
    verifier_.revoke("t-1");
    EXPECT_EQ(failure(token), AuthFailure::revoked);
    EXPECT_EQ(verifier_.verify(token, kNow).identity.user, "");
    const std::string other = issuer.token(claims());
    EXPECT_EQ(failure(other), AuthFailure::none);
    use(next.key_file());
    EXPECT_EQ(failure(other), AuthFailure::bad_signature);
    use(issuer.key_file());
    EXPECT_EQ(failure(token), AuthFailure::revoked) << "a reload does not bring it back";
}

TEST_F(Verifier, SizeAndForm) {
    const Issuer issuer(Issuer::Kind::hs256);
    use(issuer.key_file());
    EXPECT_EQ(failure(""), AuthFailure::malformed);
    EXPECT_EQ(failure("abc"), AuthFailure::malformed);
    EXPECT_EQ(failure(std::string(kTokenBytesMax + 1, 'a')), AuthFailure::too_long);
    EXPECT_EQ(failure(issuer.token(claims(R"(,"x":")" + std::string(2'900, 'x') + "\""))),
              AuthFailure::none);
    EXPECT_EQ(failure(issuer.token(R"({"sub":"a","sub":"b"})")), AuthFailure::duplicate_key);
    EXPECT_EQ(failure(issuer.token("[]")), AuthFailure::malformed);
    EXPECT_EQ(failure(issuer.token(R"({"iss":"joe"})")), AuthFailure::bad_claims);
}

TEST_F(Verifier, StaticTokensBesideSignedOnes) {
    const std::string word(32, 'w');
    const Issuer issuer(Issuer::Kind::eddsa);
    const auto credentials = with_keys(issuer.key_file());
    Result<StaticTokens> tokens = StaticTokens::parse(
        word + " user=bob device=d labels=ring=eu id=b-1 expires=2027-01-15T08:00:00Z\n", kKey);
    ASSERT_TRUE(tokens) << tokens.error();
    credentials->tokens = std::move(*tokens);
    verifier_.use(credentials);
    const TokenVerdict verdict = verifier_.verify(word, kNow - 1);
    ASSERT_TRUE(verdict.ok());
    EXPECT_EQ(verdict.identity.user, "bob");
    EXPECT_EQ(verdict.identity.labels[0].name, "ring");
    EXPECT_EQ(failure(word, kNow), AuthFailure::expired) << "2027-01-15T08:00:00Z is 1800000000";
    EXPECT_EQ(failure(std::string(32, 'x')), AuthFailure::unknown_token);
    EXPECT_EQ(failure("a-static.one-that-is-not-known"), AuthFailure::unknown_token);
    EXPECT_EQ(failure("a.b.c.d"), AuthFailure::malformed);
    EXPECT_EQ(failure(issuer.token(claims())), AuthFailure::none);
    verifier_.revoke("b-1");
    EXPECT_EQ(failure(word, kNow - 1), AuthFailure::revoked);
    verifier_.use(std::make_shared<Credentials>());
    EXPECT_EQ(failure(word), AuthFailure::unknown_token);
}

// More than there is room for: what is right stays right.
TEST_F(Verifier, CacheIsBounded) {
    VerifiedTokens verified;
    Random random(3);
    const auto hash = [&] {
        Sha256 bytes;
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
        return bytes;
    };
    const Sha256 first = hash();
    EXPECT_FALSE(verified.contains(first));
    verified.add(first);
    EXPECT_TRUE(verified.contains(first));
    std::vector<Sha256> added;
    for (size_t at = 0; at < 2 * kVerifiedTokensKept; ++at) {
        added.push_back(hash());
        verified.add(added.back());
        ASSERT_TRUE(verified.contains(added.back()));
        ASSERT_FALSE(verified.contains(hash()));
    }
    size_t kept = 0;
    for (const Sha256& each : added) kept += verified.contains(each);
    EXPECT_GT(kept, kVerifiedTokensKept / 2);
    EXPECT_LE(kept, kVerifiedTokensKept);
    verified.clear();
    EXPECT_FALSE(verified.contains(added.back()));
}

TEST(RevokedTokens, ForgetTheOldest) {
    RevokedTokens revoked;
    EXPECT_FALSE(revoked.contains(0));
    for (size_t at = 1; at <= kRevokedTokensMax; ++at) revoked.add(at);
    revoked.add(1);
    EXPECT_TRUE(revoked.contains(1));
    revoked.add(kRevokedTokensMax + 1);
    EXPECT_FALSE(revoked.contains(1));
    EXPECT_TRUE(revoked.contains(2) && revoked.contains(kRevokedTokensMax + 1));
    EXPECT_EQ(revoked.size(), kRevokedTokensMax);
}

TEST(FailureLimiter, CountsFailuresOfAnAddress) {
    FailureLimiter limiter;
    Nanos now = 5 * kSecond;
    EXPECT_TRUE(limiter.allows(7, now));
    for (uint32_t at = 0; at < kAuthFailuresBurst; ++at) {
        EXPECT_TRUE(limiter.allows(7, now)) << at;
        limiter.failed(7, now);
    }
    EXPECT_FALSE(limiter.allows(7, now));
    EXPECT_TRUE(limiter.allows(8, now)) << "another address";
    EXPECT_TRUE(limiter.allows(0, now)) << "no address";
    now += kSecond / kAuthFailuresPerSecond;
    EXPECT_TRUE(limiter.allows(7, now));
    limiter.failed(7, now);
    EXPECT_FALSE(limiter.allows(7, now));
    now += kAuthFailuresBurst * kSecond;
    EXPECT_TRUE(limiter.allows(7, now));
}

// As many addresses as there are cannot make the table forget one that goes on.
TEST(FailureLimiter, TableIsBounded) {
    FailureLimiter limiter;
    Random random(5);
    Nanos now = 0;
    for (size_t at = 0; at < 4 * kAuthFailureAddresses; ++at) {
        limiter.failed(static_cast<uint32_t>(random.next()) | 1, now);
        if (at % 16 == 0) limiter.failed(2, now);
        now += kMillisecond;
    }
    EXPECT_FALSE(limiter.allows(2, now));
}

}  // namespace
}  // namespace pulse::test
