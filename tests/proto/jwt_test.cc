// Tokens taken apart: tables of headers and claims that are right or wrong. What signatures do is
// tested in tests/net/auth/.
#include "proto/jwt.h"

#include <gtest/gtest.h>

#include <string>

#include "core/limits.h"

#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

std::string compact(const std::string& header, const std::string& claims) {
    return base64url(header) + "." + base64url(claims) + ".c2lnbmF0dXJl";
}

struct Parsed {
    AuthFailure failure = AuthFailure::none;
    JwtHeader header;
    JwtClaims claims;
};

class Jwt : public testing::Test {
  protected:
    Parsed parse(const std::string& header, const std::string& claims) {
        token_ = compact(header, claims);
        Parsed parsed;
        parsed.failure = parser_.split(token_);
        if (parsed.failure == AuthFailure::none) parsed.failure = parser_.header(parsed.header);
        if (parsed.failure == AuthFailure::none) parsed.failure = parser_.claims(parsed.claims);
        return parsed;
    }
    AuthFailure of_header(const std::string& header) {
        return parse(header, R"({"sub":"u"})").failure;
    }
    AuthFailure of_claims(const std::string& claims) {
        return parse(R"({"alg":"HS256"})", claims).failure;
    }
    JwtParser parser_;
    std::string token_;
};

TEST_F(Jwt, HasThreePartsOfBase64Url) {
    const std::string good = compact(R"({"alg":"HS256"})", R"({"sub":"u"})");
    EXPECT_EQ(parser_.split(good), AuthFailure::none);
    EXPECT_EQ(parser_.signed_text(), good.substr(0, good.rfind('.')));
    EXPECT_EQ(std::string(parser_.signature().begin(), parser_.signature().end()), "signature");
    for (const std::string& bad :
         {std::string(), std::string("."), std::string(".."), std::string("..."),
          good.substr(0, good.rfind('.')), good.substr(0, good.rfind('.') + 1), good + ".",
          good + ".YQ", "." + good, good + "=", good + "\n", " " + good, good + "%",
          std::string("a.b.c"), std::string("e30..e30")})
        EXPECT_EQ(parser_.split(bad), AuthFailure::malformed) << bad;
    EXPECT_EQ(parser_.split(std::string(kTokenBytesMax + 1, 'a')), AuthFailure::too_long);
    EXPECT_EQ(parser_.split(std::string(kTokenBytesMax, 'a')), AuthFailure::malformed);
}

TEST_F(Jwt, HeaderNamesAnAlgorithmAndAKey) {
    const std::pair<const char*, JwtAlgorithm> algorithms[] = {
        {"HS256", JwtAlgorithm::hs256}, {"RS256", JwtAlgorithm::rs256},
        {"ES256", JwtAlgorithm::es256}, {"EdDSA", JwtAlgorithm::eddsa},
        {"none", JwtAlgorithm::other},  {"None", JwtAlgorithm::other},
        {"hs256", JwtAlgorithm::other}, {"HS512", JwtAlgorithm::other},
        {"", JwtAlgorithm::other}};
    for (const auto& [name, algorithm] : algorithms) {
        const Parsed parsed =
            parse(R"({"typ":"JWT","alg":")" + std::string(name) + "\"}", R"({"sub":"u"})");
        EXPECT_EQ(parsed.failure, AuthFailure::none);
        EXPECT_EQ(parsed.header.algorithm, algorithm) << name;
        EXPECT_EQ(parsed.header.key_id, "");
    }
    EXPECT_EQ(parse(R"({"alg":"HS256","kid":"k\u0031"})", R"({"sub":"u"})").header.key_id, "k1");
}

TEST_F(Jwt, HeadersThatAreWrong) {
    const std::string long_kid(kKeyIdBytesMax + 1, 'k');
    const std::pair<std::string, AuthFailure> headers[] = {
        {R"({})", AuthFailure::bad_header},
        {R"({"typ":"JWT"})", AuthFailure::bad_header},
        {R"({"alg":256})", AuthFailure::bad_header},
        {R"({"alg":null})", AuthFailure::bad_header},
        {R"({"alg":"HS256","kid":7})", AuthFailure::bad_header},
        {R"({"alg":"HS256","kid":""})", AuthFailure::bad_header},
        {R"({"alg":"HS256","kid":")" + long_kid + "\"}", AuthFailure::bad_header},
        {R"({"alg":"HS256","crit":["exp"]})", AuthFailure::bad_header},
        {R"({"alg":"HS256","b64":false})", AuthFailure::bad_header},
        {R"({"alg":"HS256","enc":"A128GCM"})", AuthFailure::bad_header},
        {R"({"alg":"HS256","alg":"HS256"})", AuthFailure::duplicate_key},
        {R"({"alg":"HS256","\u0061lg":"none"})", AuthFailure::duplicate_key},
        {R"({"x":1,"alg":"HS256","x":2})", AuthFailure::duplicate_key},
        {R"(["HS256"])", AuthFailure::malformed},
        {R"("HS256")", AuthFailure::malformed},
        {R"({"alg":"HS256"}{})", AuthFailure::malformed},
        {R"({"alg":"HS256"} x)", AuthFailure::malformed},
        {R"({"alg":"HS256")", AuthFailure::malformed},
        {R"({"alg":"HS256)", AuthFailure::malformed},
        {"{\"alg\":\"\xff\"}", AuthFailure::malformed},
        {" {\"alg\":\"HS256\"}", AuthFailure::malformed},
        {R"({"alg":"HS256","x":)" + std::string(100, '[') + std::string(100, ']') + "}",
         AuthFailure::malformed},
    };
    for (const auto& [header, failure] : headers) EXPECT_EQ(of_header(header), failure) << header;
}

TEST_F(Jwt, ClaimsAreRead) {
    const Parsed parsed = parse(R"({"alg":"EdDSA"})",
                                R"({"iss":"joe","sub":"ann","device":"ios","jti":"t-1",)"
                                R"("aud":["a","b"],"exp":1700000000.9,"nbf":1.6e9,)"
                                R"("labels":{"ring":"canary","region":"eu"},"x":{"y":[1,{}]}})");
    ASSERT_EQ(parsed.failure, AuthFailure::none);
    const JwtClaims& claims = parsed.claims;
    EXPECT_EQ(claims.subject, "ann");
    EXPECT_EQ(claims.device, "ios");
    EXPECT_EQ(claims.token_id, "t-1");
    EXPECT_EQ(claims.expires_at, 1'700'000'000);
    EXPECT_EQ(claims.not_before, 1'600'000'000);
    EXPECT_TRUE(claims.has_audience);
    ASSERT_EQ(claims.audiences.size(), 2u);
    EXPECT_EQ(claims.audiences[1], "b");
    ASSERT_EQ(claims.labels.size(), 2u);
    EXPECT_EQ(claims.labels[0].name, "ring");
    EXPECT_EQ(claims.labels[1].value, "eu");
    const JwtClaims few = parse(R"({"alg":"EdDSA"})", R"({"sub":"ann","aud":"one"})").claims;
    EXPECT_FALSE(few.expires_at || few.not_before);
    ASSERT_EQ(few.audiences.size(), 1u);
    EXPECT_EQ(few.audiences[0], "one");
    EXPECT_FALSE(parse(R"({"alg":"EdDSA"})", R"({"sub":"ann"})").claims.has_audience);
}

TEST_F(Jwt, ClaimsThatAreWrong) {
    const auto times = [](size_t count, const std::string& what) {
        std::string text;
        for (size_t at = 0; at < count; ++at) text += what;
        return text;
    };
    std::string many_labels, many_keys;
    for (size_t at = 0; at <= kLabelsMax; ++at)
        many_labels += (at > 0 ? ",\"l" : "\"l") + std::to_string(at) + "\":\"v\"";
    for (size_t at = 0; at < kTokenKeysMax; ++at) many_keys += ",\"k" + std::to_string(at) + "\":1";
    const std::pair<std::string, AuthFailure> texts[] = {
        {R"({})", AuthFailure::bad_claims},
        {R"({"sub":""})", AuthFailure::bad_claims},
        {R"({"sub":7})", AuthFailure::bad_claims},
        {R"({"sub":"a\nb"})", AuthFailure::bad_claims},
        {R"({"sub":"a\u0085b"})", AuthFailure::bad_claims},
        {R"({"sub":"a\u007fb"})", AuthFailure::bad_claims},
        {R"({"sub":")" + std::string(kUserBytesMax + 1, 'u') + "\"}", AuthFailure::bad_claims},
        {R"({"sub":"u","device":")" + std::string(kDeviceBytesMax + 1, 'd') + "\"}",
         AuthFailure::bad_claims},
        {R"({"sub":"u","jti":")" + std::string(kTokenIdBytesMax + 1, 'j') + "\"}",
         AuthFailure::bad_claims},
        {R"({"sub":"u","jti":7})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":"1700000000"})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":-1})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":1e13})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":1e999})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":true})", AuthFailure::bad_claims},
        {R"({"sub":"u","exp":null})", AuthFailure::bad_claims},
        {R"({"sub":"u","nbf":[]})", AuthFailure::bad_claims},
        {R"({"sub":"u","aud":7})", AuthFailure::bad_claims},
        {R"({"sub":"u","aud":["a",7]})", AuthFailure::bad_claims},
        {R"({"sub":"u","aud":[)" + times(kTokenAudiencesMax, "\"a\",") + "\"a\"]}",
         AuthFailure::bad_claims},
        {R"({"sub":"u","labels":["a"]})", AuthFailure::bad_claims},
        {R"({"sub":"u","labels":{"a":1}})", AuthFailure::bad_claims},
        {R"({"sub":"u","labels":{"":"1"}})", AuthFailure::bad_claims},
        {R"({"sub":"u","labels":{"a":"1","a":"1"}})", AuthFailure::bad_claims},
        {R"({"sub":"u","labels":{)" + many_labels + "}}", AuthFailure::bad_claims},
        {R"({"sub":"u")" + many_keys + "}", AuthFailure::bad_claims},
        {R"({"sub":"u","sub":"v"})", AuthFailure::duplicate_key},
        {R"({"sub":"u","exp":1,"exp":2})", AuthFailure::duplicate_key},
        {R"({"sub":"u","z":1,"z":2})", AuthFailure::duplicate_key},
        {R"({"sub":"u"},)", AuthFailure::malformed},
        {R"({"sub":"\ud800"})", AuthFailure::bad_claims},
        {"{\"sub\":\"\xc3\"}", AuthFailure::malformed},
    };
    for (const auto& [claims, failure] : texts)
        EXPECT_EQ(of_claims(claims), failure) << claims << " " << describe(of_claims(claims)).word;
    // The longest of each.
    EXPECT_EQ(of_claims(R"({"sub":")" + std::string(kUserBytesMax, 'u') + "\"}"),
              AuthFailure::none);
    EXPECT_EQ(of_claims(R"({"sub":"u")" + many_keys.substr(0, many_keys.rfind(',')) + "}"),
              AuthFailure::none);
}

TEST_F(Jwt, EachFailureHasAWordAndASentence) {
    for (size_t at = 0; at < kAuthFailures; ++at) {
        const AuthFailureInfo& info = describe(static_cast<AuthFailure>(at));
        EXPECT_FALSE(info.word.empty());
        EXPECT_TRUE(info.sentence.ends_with('.')) << info.sentence;
        EXPECT_EQ(info.sentence.find_first_of("\"\\"), std::string_view::npos)
            << "it is quoted in WWW-Authenticate";
    }
    EXPECT_EQ(describe(AuthFailure::expired).word, "expired");
}

}  // namespace
}  // namespace pulse::test
