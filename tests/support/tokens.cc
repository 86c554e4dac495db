// Signatures by OpenSSL, the other way round than net/auth/signing_key.cc.
#include "tests/support/tokens.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <array>
#include <vector>

#include "core/check.h"

namespace pulse::test {
namespace {

using Bytes = std::vector<uint8_t>;

std::string text_of(BIO* bio) {
    char* data = nullptr;
    const long bytes = BIO_get_mem_data(bio, &data);
    std::string text(data, static_cast<size_t>(bytes));
    BIO_free(bio);
    return text;
}

Bytes number(const EVP_PKEY* key, const char* name, int bytes) {
    BIGNUM* value = nullptr;
    PULSE_ASSERT(EVP_PKEY_get_bn_param(key, name, &value) == 1);
    Bytes out(static_cast<size_t>(bytes == 0 ? BN_num_bytes(value) : bytes));
    PULSE_ASSERT(BN_bn2binpad(value, out.data(), static_cast<int>(out.size())) >= 0);
    BN_free(value);
    return out;
}

// RFC 7518 section 3.4: two numbers of 32 bytes.
Bytes raw_pair(const Bytes& der) {
    const uint8_t* at = der.data();
    ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    PULSE_ASSERT(pair != nullptr);
    Bytes raw(64);
    BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw.data(), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw.data() + 32, 32);
    ECDSA_SIG_free(pair);
    return raw;
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

}  // namespace

std::string base64url(std::span<const uint8_t> bytes) {
    constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::string text;
    for (size_t bit = 0; bit < bytes.size() * 8; bit += 6) {
        uint32_t value = 0;
        for (size_t at = bit; at < bit + 6; ++at) {
            const uint32_t one = at / 8 < bytes.size() ? bytes[at / 8] >> (7 - at % 8) & 1u : 0;
            value = value << 1 | one;
        }
        text.push_back(kLetters[value]);
    }
    return text;
}
std::string base64url(std::string_view text) {
    return base64url({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

Issuer::Issuer(Kind kind, uint32_t rsa_bits) : kind_(kind) {
    EVP_PKEY* key = nullptr;
    switch (kind) {
        case Kind::hs256: {
            Bytes secret(32);
            PULSE_ASSERT(RAND_bytes(secret.data(), 32) == 1);
            secret_ = base64url(secret);
            return;
        }
        case Kind::rs256:
            key = EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", static_cast<size_t>(rsa_bits));
            break;
        case Kind::es256:
            key = EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
            break;
        case Kind::eddsa:
            key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
            break;
    }
    PULSE_ASSERT(key != nullptr);
    key_ = {key, EVP_PKEY_free};
}

std::string_view Issuer::algorithm() const {
    constexpr std::string_view kNames[] = {"HS256", "RS256", "ES256", "EdDSA"};
    return kNames[static_cast<size_t>(kind_)];
}

std::string Issuer::key_file() const {
    if (kind_ == Kind::hs256) return secret_ + "\n";
    BIO* const bio = BIO_new(BIO_s_mem());
    PULSE_ASSERT(PEM_write_bio_PUBKEY(bio, key_.get()) == 1);
    return text_of(bio);
}

std::string Issuer::private_pem() const {
    BIO* const bio = BIO_new(BIO_s_mem());
    PULSE_ASSERT(PEM_write_bio_PrivateKey(bio, key_.get(), nullptr, nullptr, 0, nullptr, nullptr) ==
                 1);
    return text_of(bio);
}

std::string Issuer::jwk(const std::string& kid, const std::string& more) const {
    std::string text = "{";
    const auto add = [&](const std::string& name, const std::string& value) {
        text += (text.size() > 1 ? "," : "") + quoted(name) + ":" + quoted(value);
    };
    switch (kind_) {
        case Kind::hs256:
            add("kty", "oct");
            add("k", base64url(secret_));
            break;
        case Kind::rs256:
            add("kty", "RSA");
            add("n", base64url(number(key_.get(), "n", 0)));
            add("e", base64url(number(key_.get(), "e", 0)));
            break;
        case Kind::es256:
            add("kty", "EC");
            add("crv", "P-256");
            add("x", base64url(number(key_.get(), "qx", 32)));
            add("y", base64url(number(key_.get(), "qy", 32)));
            break;
        case Kind::eddsa: {
            Bytes x(32);
            size_t bytes = x.size();
            PULSE_ASSERT(EVP_PKEY_get_raw_public_key(key_.get(), x.data(), &bytes) == 1);
            add("kty", "OKP");
            add("crv", "Ed25519");
            add("x", base64url(x));
            break;
        }
    }
    if (!kid.empty()) add("kid", kid);
    return text + more + "}";
}

std::string Issuer::sign(std::string_view text) const {
    const auto* const data = reinterpret_cast<const uint8_t*>(text.data());
    if (kind_ == Kind::hs256) {
        Bytes code(32);
        HMAC(EVP_sha256(), secret_.data(), static_cast<int>(secret_.size()), data, text.size(),
             code.data(), nullptr);
        return base64url(code);
    }
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    const EVP_MD* const hash = kind_ == Kind::eddsa ? nullptr : EVP_sha256();
    size_t bytes = 0;
    PULSE_ASSERT(EVP_DigestSignInit(context, nullptr, hash, nullptr, key_.get()) == 1);
    PULSE_ASSERT(EVP_DigestSign(context, nullptr, &bytes, data, text.size()) == 1);
    Bytes signature(bytes);
    PULSE_ASSERT(EVP_DigestSign(context, signature.data(), &bytes, data, text.size()) == 1);
    signature.resize(bytes);
    EVP_MD_CTX_free(context);
    return base64url(kind_ == Kind::es256 ? raw_pair(signature) : signature);
}

std::string Issuer::token(const std::string& header, const std::string& claims) const {
    const std::string text = base64url(header) + "." + base64url(claims);
    return text + "." + sign(text);
}
std::string Issuer::token(const std::string& claims) const {
    return token(R"({"alg":")" + std::string(algorithm()) + R"(","typ":"JWT"})", claims);
}
std::string Issuer::token_with_kid(const std::string& kid, const std::string& claims) const {
    return token(R"({"alg":")" + std::string(algorithm()) + R"(","kid":")" + kid + "\"}", claims);
}

}  // namespace pulse::test
