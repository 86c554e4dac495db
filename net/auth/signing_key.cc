// Signatures by OpenSSL's EVP.
#include "net/auth/signing_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "net/auth/limits.h"

namespace pulse {
namespace {

template <class T, void (*kFree)(T*)>
struct Freer {
    void operator()(T* it) const { kFree(it); }
};
template <class T, void (*kFree)(T*)>
using Owned = std::unique_ptr<T, Freer<T, kFree>>;

using Number = Owned<BIGNUM, BN_free>;
using Digest = Owned<EVP_MD_CTX, EVP_MD_CTX_free>;
using Builder = Owned<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using Parameters = Owned<OSSL_PARAM, OSSL_PARAM_free>;
using KeyContext = Owned<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using EcdsaSignature = Owned<ECDSA_SIG, ECDSA_SIG_free>;

constexpr size_t kSha256Bytes = 32;
constexpr size_t kP256Bytes = 32;
// A sequence of two integers of up to 33 bytes.
constexpr size_t kP256DerBytesMax = 2 + 2 * (2 + kP256Bytes + 1);
constexpr size_t kEd25519Bytes = 32;
constexpr size_t kRsaExponentBytesMax = 8;

const Error kNoMemory{"OpenSSL found no memory for the key; give the process more"};

Number number_of(std::span<const uint8_t> bytes) {
    return Number(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
}

evp_pkey_st* build(const char* kind, OSSL_PARAM_BLD* builder) {
    const Parameters parameters(OSSL_PARAM_BLD_to_param(builder));
    const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
    EVP_PKEY* key = nullptr;
    if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1) return nullptr;
    if (EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
        return nullptr;
    return key;
}

bool is_p256(const EVP_PKEY* key) {
    std::array<char, 32> group{};
    size_t bytes = 0;
    if (EVP_PKEY_get_group_name(key, group.data(), group.size(), &bytes) != 1) return false;
    return std::string_view(group.data(), bytes) == "prime256v1";
}

// Two numbers of 32 bytes (RFC 7518 section 3.4) to what OpenSSL reads. 0: it cannot be one.
size_t to_der(std::span<const uint8_t> signature, std::array<uint8_t, kP256DerBytesMax>& der) {
    if (signature.size() != 2 * kP256Bytes) return 0;
    const EcdsaSignature pair(ECDSA_SIG_new());
    Number r = number_of(signature.first(kP256Bytes));
    Number s = number_of(signature.last(kP256Bytes));
    if (!pair || !r || !s || ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return 0;
    static_cast<void>(r.release());
    static_cast<void>(s.release());
    uint8_t* end = der.data();
    const int bytes = i2d_ECDSA_SIG(pair.get(), &end);
    return bytes > 0 ? static_cast<size_t>(bytes) : 0;
}

const uint8_t* bytes_of(std::string_view text) {
    return reinterpret_cast<const uint8_t*>(text.data());
}

}  // namespace

struct SigningKey::Secret {
    explicit Secret(std::span<const uint8_t> from) : bytes(from.begin(), from.end()) {}
    ~Secret() { OPENSSL_cleanse(bytes.data(), bytes.size()); }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    std::vector<uint8_t> bytes;
};

Result<SigningKey> SigningKey::from_secret(std::span<const uint8_t> secret, std::string key_id) {
    if (secret.size() < kSecretBytesMin || secret.size() > kSecretBytesMax) {
        return Error{"a secret of HS256 has " + std::to_string(kSecretBytesMin) + " to " +
                     std::to_string(kSecretBytesMax) + " bytes, and this one has " +
                     std::to_string(secret.size()) + "; make one with: openssl rand -hex 32"};
    }
    SigningKey key(JwtAlgorithm::hs256, std::move(key_id));
    key.secret_ = std::make_shared<const Secret>(secret);
    return key;
}

Result<SigningKey> SigningKey::from_public_key(evp_pkey_st* public_key, std::string key_id) {
    const std::shared_ptr<evp_pkey_st> owned(public_key, EVP_PKEY_free);
    if (!owned) return kNoMemory;
    SigningKey key(JwtAlgorithm::other, std::move(key_id));
    key.public_key_ = owned;
    const int bits = EVP_PKEY_get_bits(public_key);
    switch (EVP_PKEY_get_base_id(public_key)) {
        case EVP_PKEY_RSA:
            if (bits < kRsaBitsMin || bits > kRsaBitsMax) {
                return Error{"an RSA key has " + std::to_string(kRsaBitsMin) + " to " +
                             std::to_string(kRsaBitsMax) + " bits, and this one has " +
                             std::to_string(bits) + "; make one with: openssl genrsa 2048"};
            }
            key.algorithm_ = JwtAlgorithm::rs256;
            return key;
        case EVP_PKEY_EC:
            if (!is_p256(public_key)) {
                return Error{
                    "an elliptic curve is P-256 (prime256v1), and this one is another; make a key "
                    "with: openssl ecparam -name prime256v1 -genkey"};
            }
            key.algorithm_ = JwtAlgorithm::es256;
            return key;
        case EVP_PKEY_ED25519:
            key.algorithm_ = JwtAlgorithm::eddsa;
            return key;
        default:
            return Error{"the key is not one of RSA, P-256 or Ed25519; give one of those"};
    }
}

Result<SigningKey> SigningKey::from_rsa(std::span<const uint8_t> modulus,
                                        std::span<const uint8_t> exponent, std::string key_id) {
    const Number n = number_of(modulus);
    const Number e = number_of(exponent);
    const Builder builder(OSSL_PARAM_BLD_new());
    if (!n || !e || !builder) return kNoMemory;
    const bool odd = BN_is_odd(e.get()) == 1 && BN_is_one(e.get()) != 1;
    if (exponent.size() > kRsaExponentBytesMax || !odd)
        return Error{"the exponent of an RSA key is odd, above 1 and below 2^64; give AQAB"};
    if (OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1)
        return kNoMemory;
    evp_pkey_st* const key = build("RSA", builder.get());
    ERR_clear_error();
    if (key == nullptr) return Error{"n and e are not an RSA key; give those of one"};
    return from_public_key(key, std::move(key_id));
}

// As X.509 writes it (RFC 5480): what says P-256, and the point behind it.
Result<SigningKey> SigningKey::from_p256(std::span<const uint8_t> x, std::span<const uint8_t> y,
                                         std::string key_id) {
    constexpr uint8_t kFront[] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                  0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                  0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};
    if (x.size() != kP256Bytes || y.size() != kP256Bytes)
        return Error{"x and y of P-256 have 32 bytes each; pad them with zeros in front"};
    std::array<uint8_t, sizeof kFront + 2 * kP256Bytes> der;
    uint8_t* const behind = std::copy(std::begin(kFront), std::end(kFront), der.data());
    std::copy(y.begin(), y.end(), std::copy(x.begin(), x.end(), behind));
    const uint8_t* at = der.data();
    evp_pkey_st* const key = d2i_PUBKEY(nullptr, &at, der.size());
    ERR_clear_error();
    if (key == nullptr) return Error{"x and y are not a point of P-256; give those of a key"};
    return from_public_key(key, std::move(key_id));
}

Result<SigningKey> SigningKey::from_ed25519(std::span<const uint8_t> x, std::string key_id) {
    if (x.size() != kEd25519Bytes) return Error{"x of Ed25519 has 32 bytes; give all of them"};
    return from_public_key(
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, x.data(), x.size()),
        std::move(key_id));
}

std::string_view SigningKey::algorithm_name() const {
    switch (algorithm_) {
        case JwtAlgorithm::hs256:
            return "HS256";
        case JwtAlgorithm::rs256:
            return "RS256";
        case JwtAlgorithm::es256:
            return "ES256";
        case JwtAlgorithm::eddsa:
            return "EdDSA";
        case JwtAlgorithm::other:
            break;
    }
    return "none";
}

uint32_t SigningKey::cost_us() const {
    switch (algorithm_) {
        case JwtAlgorithm::hs256:
            return 2;
        case JwtAlgorithm::rs256:  // 17 with 2,048 bits, 51 with 4,096
            return 17 + static_cast<uint32_t>(EVP_PKEY_get_bits(public_key_.get()) - 2'048) / 60;
        case JwtAlgorithm::es256:
            return 45;
        case JwtAlgorithm::eddsa:
            return 66;
        case JwtAlgorithm::other:
            break;
    }
    return 0;
}

bool SigningKey::verify(std::string_view text, std::span<const uint8_t> signature) const {
    if (algorithm_ == JwtAlgorithm::hs256) {
        std::array<uint8_t, kSha256Bytes> expected;
        const auto& key = secret_->bytes;
        return signature.size() == expected.size() &&
               HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(text),
                    text.size(), expected.data(), nullptr) != nullptr &&
               CRYPTO_memcmp(expected.data(), signature.data(), expected.size()) == 0;
    }
    std::array<uint8_t, kP256DerBytesMax> der;
    if (algorithm_ == JwtAlgorithm::es256) {
        const size_t bytes = to_der(signature, der);
        if (bytes == 0) return false;
        signature = {der.data(), bytes};
    }
    const EVP_MD* const hash = algorithm_ == JwtAlgorithm::eddsa ? nullptr : EVP_sha256();
    const Digest context(EVP_MD_CTX_new());
    const bool right =
        context &&
        EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, public_key_.get()) == 1 &&
        EVP_DigestVerify(context.get(), signature.data(), signature.size(), bytes_of(text),
                         text.size()) == 1;
    // What a wrong signature leaves in this thread's queue of errors is of no use.
    if (!right) ERR_clear_error();
    return right;
}

}  // namespace pulse
