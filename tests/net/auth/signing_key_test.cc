// Keys: the vectors of RFC 7515 and RFC 8037, key files of every form, and what is refused.
#include "net/auth/signing_key.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "net/auth/key_file.h"
#include "net/auth/limits.h"

#include "tests/support/tokens.h"

namespace pulse::test {
namespace {

struct Vector {
    const char* name;
    const char* jwk;
    const char* token;
};

// The claims of RFC 7515 appendix A: {"iss":"joe","exp":1300819380,...}.
#define JOE                                                                             \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb" \
    "290Ijp0cnVlfQ"
constexpr Vector kVectors[] = {
    {"RFC 7515 A.1, RFC 7519 3.1",
     R"({"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUu)"
     R"(TwjAzZr1Z9CAow"})",
     "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE
     ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"},
    {"RFC 7515 A.2",
     R"({"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mP)"
     R"(ddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2)"
     R"(jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg)"
     R"(665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2e)"
     R"(thFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"})",
     "eyJhbGciOiJSUzI1NiJ9." JOE
     ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5"
     "jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb"
     "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO"
     "YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"},
    {"RFC 7515 A.3",
     R"({"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",)"
     R"("y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})",
     "eyJhbGciOiJFUzI1NiJ9." JOE
     ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"},
    {"RFC 8037 A.4",
     R"({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})",
     "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
     ".hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"},
};

bool right(const SigningKey& key, std::string_view token) {
    JwtParser parser;
    return parser.split(token) == AuthFailure::none &&
           key.verify(parser.signed_text(), parser.signature());
}

TEST(SigningKey, VectorsOfTheRfcs) {
    for (const Vector& vector : kVectors) {
        const Result<KeyFile> file = parse_key_file(vector.jwk);
        ASSERT_TRUE(file) << vector.name << ": " << file.error();
        ASSERT_EQ(file->keys.size(), 1u);
        EXPECT_TRUE(right(file->keys[0], vector.token)) << vector.name;
        for (const Vector& other : kVectors)
            EXPECT_EQ(right(file->keys[0], other.token), &other == &vector)
                << vector.name << " and the token of " << other.name;
    }
}

TEST(SigningKey, ChecksWhatItsIssuerSigned) {
    for (const Issuer::Kind kind : Issuer::kKinds) {
        const Issuer issuer(kind), stranger(kind);
        for (const std::string& text : {issuer.key_file(), issuer.jwk("a"), issuer.jwk("")}) {
            const Result<KeyFile> file = parse_key_file(text);
            ASSERT_TRUE(file) << text << file.error();
            ASSERT_EQ(file->keys.size(), 1u);
            EXPECT_EQ(file->keys[0].algorithm_name(), issuer.algorithm());
            EXPECT_EQ(file->secret, kind == Issuer::Kind::hs256);
            EXPECT_TRUE(right(file->keys[0], issuer.token("{}")));
            EXPECT_FALSE(right(file->keys[0], stranger.token("{}")));
        }
    }
}

// No length and no padding of a signature does: empty, cut, longer, all zero, DER where raw is due.
TEST(SigningKey, RefusesSignaturesOfOtherForms) {
    for (const Issuer::Kind kind : Issuer::kKinds) {
        const Issuer issuer(kind);
        const SigningKey key = parse_key_file(issuer.key_file())->keys[0];
        JwtParser parser;
        const std::string token = issuer.token("{}");
        ASSERT_EQ(parser.split(token), AuthFailure::none);
        const std::vector<uint8_t> good(parser.signature().begin(), parser.signature().end());
        ASSERT_TRUE(key.verify(parser.signed_text(), good));
        std::vector<std::vector<uint8_t>> bad;
        for (size_t bytes = 0; bytes < good.size(); ++bytes)
            bad.emplace_back(good.begin(), good.begin() + static_cast<ptrdiff_t>(bytes));
        bad.push_back(good);
        bad.back().push_back(0);
        bad.push_back(good);
        bad.back().insert(bad.back().begin(), 0);
        bad.emplace_back(good.size(), uint8_t{0});
        bad.emplace_back(good.size(), uint8_t{0xFF});
        for (const auto& signature : bad)
            EXPECT_FALSE(key.verify(parser.signed_text(), signature)) << signature.size();
    }
}

std::string error_of(const std::string& text) {
    const Result<KeyFile> file = parse_key_file(text);
    return file ? "" : file.error();
}

TEST(KeyFile, HoldsSeveralKeys) {
    const Issuer rsa(Issuer::Kind::rs256), curve(Issuer::Kind::es256);
    const Result<KeyFile> pem = parse_key_file("# old\n" + rsa.key_file() + curve.key_file());
    ASSERT_TRUE(pem) << pem.error();
    ASSERT_EQ(pem->keys.size(), 2u);
    EXPECT_EQ(pem->keys[1].algorithm_name(), "ES256");
    const Result<KeyFile> set = parse_key_file(
        R"({"keys":[)" + rsa.jwk("a", R"(,"use":"sig","alg":"RS256")") + "," +
        curve.jwk("b", R"(,"key_ops":["verify"])") + "," + rsa.jwk("c", R"(,"use":"enc")") + "," +
        rsa.jwk("d", R"(,"alg":"PS256")") + R"(,{"kty":"EC","crv":"P-521"},{"kty":"new"}]})");
    ASSERT_TRUE(set) << set.error();
    ASSERT_EQ(set->keys.size(), 2u);
    EXPECT_EQ(set->keys[0].key_id(), "a");
    EXPECT_EQ(set->passed_over, 4u);
}

TEST(KeyFile, ASecretIsTheFileWithoutItsLastLineFeed) {
    const Issuer issuer(std::string(40, 's'));
    for (const char* end : {"", "\n", "\r\n"}) {
        const Result<KeyFile> file = parse_key_file(std::string(40, 's') + end);
        ASSERT_TRUE(file);
        EXPECT_TRUE(right(file->keys[0], issuer.token("{}")));
    }
    const Result<KeyFile> two = parse_key_file(std::string(40, 's') + "\n\n");
    EXPECT_FALSE(right(two->keys[0], issuer.token("{}")));
    EXPECT_NE(error_of(std::string(31, 's')).find("32 to 4096 bytes, and this one has 31"),
              std::string::npos);
    EXPECT_NE(error_of("").find("this one has 0"), std::string::npos);
}

// A public key, which all know, never becomes a secret of HS256; a private key is never taken.
TEST(KeyFile, RefusesKeysThatAreNotWhatTheyShouldBe) {
    const Issuer rsa(Issuer::Kind::rs256), small(Issuer::Kind::rs256, 1024);
    const std::string pem = rsa.key_file();
    const size_t body = pem.find('\n') + 1;
    const std::string der_text = pem.substr(body, pem.find("-----END") - body);
    std::string damaged = pem;
    damaged[body + 20] = damaged[body + 20] == 'A' ? 'B' : 'A';
    damaged[body + 2] = '!';
    const std::pair<std::string, const char*> files[] = {
        {rsa.private_pem(), "holds a private key"},
        {pem + rsa.private_pem(), "holds a private key"},
        {R"({"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQAB"})", "holds a private key"},
        {damaged, "damaged"},
        {pem.substr(0, pem.size() / 2), "damaged"},
        {der_text, "a public key that is not in PEM"},
        {"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 a@b.example", "not in PEM"},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a PUBLIC KEY"},
        {small.key_file(), "2048 to 4096 bits, and this one has 1024"},
        {small.jwk("a"), "2048 to 4096 bits, and this one has 1024"},
        {"{\"keys\":", "not JSON"},
        {"{}", "JSON without keys"},
        {R"({"keys":{}})", "JSON without keys"},
        {R"({"keys":[]})", "none of its keys"},
        {R"({"keys":[7]})", "not an object"},
        {R"({"keys":[{"kty":"RSA","n":"AQAB"}]})", "lacks n or e"},
        {R"({"keys":[{"kty":"RSA","n":"A+/=","e":"AQAB"}]})", "lacks n or e"},
        {R"({"keys":[{"kty":"RSA","n":"AQAB","e":"BA"}]})", "exponent"},
        {R"({"keys":[{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"}]})", "32 bytes each"},
        {R"({"keys":[{"kty":"EC","crv":"P-256","x":")" + std::string(43, 'A') + R"(","y":")" +
             std::string(43, 'A') + R"("}]})",
         "not a point of P-256"},
        {R"({"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQAB"}]})", "has 32 bytes"},
        {R"({"keys":[{"kty":"oct","k":"AQAB"}]})", "this one has 3"},
        {R"({"keys":[{"kty":"oct","k":"AQAB","kid":7}]})", "a kid of it"},
        {R"({"keys":[)" + rsa.jwk("a") + "," + rsa.jwk("a") + "]}", "one kid"},
    };
    for (const auto& [text, wanted] : files) {
        const std::string error = error_of(text);
        EXPECT_NE(error.find(wanted), std::string::npos) << wanted << ": " << error;
        EXPECT_NE(error.find("; "), std::string::npos) << error << " has no remedy";
    }
    std::string many = rsa.jwk("k");
    for (size_t at = 0; at < kSigningKeysMax; ++at) many += "," + rsa.jwk(std::to_string(at));
    EXPECT_NE(error_of(R"({"keys":[)" + many + "]}").find("over 64 keys"), std::string::npos);
}

}  // namespace
}  // namespace pulse::test
